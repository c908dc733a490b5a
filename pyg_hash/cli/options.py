"""Options of the command line and settings of a training: a field of a dataclass is one option."""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, dataclass_transform, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.utils.checks import check_each, check_positive_int
from pyg_hash.utils.files import check_folder, check_writable
from pyg_hash.utils.settings import SettingError

_ENDS = 1 << 16
_PLACES = {"run", "out", "path", "file", "files", "source", "store"}
UsageError = SettingError  # the command line asks for something that does not exist; exit status 2


def option(default: Any, text: str, names: Sequence[str] = ()) -> Any:
    """A field that is an option: default or ``MISSING``, help text, names if not ``--FIELD``."""
    metadata = {"help": text, "names": names}
    if isinstance(default, dict | list):
        return field(default_factory=type(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True)
class Command(ABC):
    """A subcommand; subclasses are dataclasses of their options."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the options."""
        hints = get_type_hints(cls)
        for f in fields(cls):
            names = f.metadata["names"] or [f"--{f.name}"]
            how: dict[str, Any] = {"type": hints[f.name], "help": f.metadata["help"]}
            if f.type == "bool":
                how = {"action": "store_true", "help": f.metadata["help"]}
            elif f.default is not MISSING or f.default_factory is not MISSING:
                made = f.default_factory
                how["default"] = f.default if made is MISSING else made()
            elif names[0].startswith("-"):
                how["required"] = True
            if hints[f.name] == list[str]:
                how |= {"type": str, "nargs": "*" if "default" in how else "+"}
            parser.add_argument(*names, **how)

    @classmethod
    def of(cls, args: Namespace) -> Self:
        """The command with the options of a parsed command line; ``UsageError``: no such place."""
        values = {f.name: args[f.name] for f in fields(cls)}
        if values.get("images_root") == "":  # a variable of a script that is not set
            values["images_root"] = None
        check_folder(values.get("images_root"), "images_root")
        for name, value in values.items():
            if value in ("", [""]) and name in _PLACES:  # it would be the current folder
                raise UsageError(f"{name}: is empty; name a file or folder")
            if isinstance(value, str) and "\0" in value:
                raise UsageError(f"{name}: contains a NUL character; remove it")
        return cls(**values)

    def execute(self) -> int:
        """Do what the class says; the exit status."""
        return self._execute() or 0

    @abstractmethod
    def _execute(self) -> int | None: ...


def check_positive(**values: int) -> None:
    """Raise ``UsageError`` unless all are positive integers."""
    try:
        check_each(check_positive_int, **values)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def say(text: str) -> None:
    """Tell people something on the standard error: the standard output is the answer alone."""
    print(f"pyg-hash: {text}", file=sys.stderr)


_OURS = {  # what the first or last bytes of a file hold that a command wrote
    "encode": rb"\A\x89HDF(?!.*(pyg_hash\.features|num_bits)\0).*model\0.*[0-9a-f]{64}",
    "import": rb"\A\x89HDF.*pyg_hash\.features\0",
    "report": rb'<meta name="generator" content="pyg_hash ',
    "onnx": rb"num_features",
    "npz": rb"codes\.npy.*ids\.npy.*num_bits\.npy",
    "h5": rb"\A\x89HDF.*num_bits\0",
    "parquet": rb"\APAR1.*num_bits.*model.*PAR1\Z",
    "csv": rb'\Aid,code[^\n]*\n(\Z|("([^"]|"")*"|[^,"\n]*),[01]+[,\r\n])',
    "faiss": rb"\AIB(M2|xF)",  # says no more than that it is a binary index
    "pgvector": rb"\A-- codes of \d+ bits, of the model ",
}
_OURS |= {"milvus": _OURS["parquet"], "ids": rb"[ \t]{64}\n\Z"}


def check_out(path: str | Path, kind: str) -> None:
    """See that ``--out`` can be written: before the work, not after it.

    ``OSError``: it cannot. ``UsageError``: what is there is not an earlier one of its kind.
    """
    if kind == "faiss":
        check_out(f"{path}.ids.json", "ids")
    try:
        check_writable(path)
        with suppress(FileNotFoundError), open(path, "rb") as file:
            some = file.read(_ENDS)
            file.seek(max(_ENDS, file.seek(0, os.SEEK_END) - _ENDS))
            some += file.read()
            if some and not re.search(_OURS[kind], some, re.DOTALL):
                raise UsageError(
                    f"out: {path} is there already, and no earlier one of this command; give "
                    "another name, or remove it"
                )
    except OSError as error:
        raise OSError(f"out: cannot write to {path} ({error.strerror or error})") from error


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the codes of a run; the help texts are the documentation."""

    dataset: str = option(
        "emoji",
        "emoji, emoji-vendors, wikipedia, nuswide10k, nuswide, mirflickr25k, mscoco, ... "
        "the path of your own features, FILE.h5, or MODULE:CLASS",
    )
    root: str | None = option(None, "folder of the data set (default: data/DATASET)")
    dataset_options: dict[str, Any] = option({}, "options of the data set class")
    model: str | None = option(
        None, "a method: a class of pyg_hash.models, in any case, or MODULE:CLASS (mcgcn)"
    )
    recipe: str | None = option(
        None, "a paper or program to the letter, in place of --model: mcgcn/wikipedia, ..."
    )
    num_bits: int | None = option(None, "length of the codes (32)")
    model_options: dict[str, Any] = option({}, "options of the model class")
    label_rate: float | None = option(
        None,
        "share of the labels that the data set lets a method use (0.3; taughthash can do with 0; "
        "sgeh uses none)",
    )
    val_rate: float | None = option(
        None, "share of the labelled training items held out (0): early stopping, --split val"
    )
    protocol: Literal["inductive", "strict", "transductive"] | None = option(
        None,
        "mcgcn and sgch: what a query's code may depend on (inductive; the others are by nature)",
    )
    k: int | None = option(None, "neighbours of a node in the graph (20; sgeh 50)")
    metric: Literal["cosine", "ip", "l2"] | None = option(
        None, "similarity of features in the graph of mcgcn and sgch (cosine)"
    )
    weight: Literal["binary", "similarity"] | None = option(
        None, "mcgcn: weight of a neighbour: 1 (Eq. 1) or its cosine (default under cosine)"
    )
    match: Literal["shared", "equal"] | None = option(
        None, "mcgcn: which multi-label items are similar: with a shared label, or equal ones"
    )
    graph_options: dict[str, Any] = option(
        {}, "further options of the graph: mcgcn IntraKNN, sgch SGCHGraph, sgeh UnifiedAffinity"
    )
    epochs: int | None = option(None, "passes over the data (default: the method's)")
    scaling: dict[str, Any] = option({}, "options of ScaleFeatures: center, norm, ...")
    lr: float | dict[str, Any] | None = option(
        None, "learning rate, one or a mapping part: rate (default: the method's)"
    )
    optimizer: dict[str, Any] = option(
        {}, "class of torch.optim and its keywords: {name: SGD, momentum: 0.9} (default: Adam)"
    )
    decay: float | None = option(None, "factor of the rates, an epoch (default: the method's)")
    patience: int | None = option(
        None, "stop after so many evaluations without progress (needs val_rate)"
    )
    batch_size: int | None = option(
        None, "mcgcn and sgch: train on mini-batches of so many instances (default: on all at once)"
    )
    loader_options: dict[str, Any] = option(
        {}, "further options of these mini-batches: num_neighbors, num_members, num_workers, ..."
    )
    accumulate: int = option(
        1, "mini-batches of an optimiser's step, of each process where there are several"
    )
    precision: Literal["fp32", "bf16"] = option(
        "fp32", "bf16: matrix products of the training in bfloat16"
    )
    seed: int | None = option(None, "seed of the labels, the weights and the noise (0)")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The settings of a stored run; ``UsageError`` if this version does not know one."""
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise UsageError(
                f"config: {', '.join(unknown)} not known; use some of {', '.join(names)}"
            )
        return cls(**values)
