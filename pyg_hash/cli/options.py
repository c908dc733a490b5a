"""The settings of a training run: one dataclass that is the command line and the YAML file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.utils.settings import SettingError

UsageError = SettingError
"""The command line asks for something that does not exist; exit status 2."""


def add_run(parser: ArgumentParser, *, data: bool = False) -> None:
    """Declare the run folder, and what cannot be read from it.

    Args:
        parser: of a subcommand.
        data: whether it reads the data set.
    """
    parser.add_argument("run", type=str, help="a run folder")
    own = "MODULE:CLASS of a model of your own: code that a file names is never run"
    parser.add_argument("--model", type=str | None, default=None, help=own)
    if data:
        moved = "where the data lie if they have moved: FILE.h5, or the folder of a named data set"
        parser.add_argument("--data", type=str | None, default=None, help=moved)


def _option(default: Any, text: str) -> Any:
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the codes of a run; the help texts are the documentation."""

    dataset: str = _option(
        "emoji",
        "emoji, wikipedia, nuswide10k, nuswide, mirflickr25k, mscoco, synthetic, ... "
        "or the path of your own features, FILE.h5",
    )
    root: str | None = _option(None, "folder of the data set (default: data/DATASET)")
    dataset_options: dict[str, Any] = _option({}, "options of the data set class")
    model: str | None = _option(
        None, "a method: a class of pyg_hash.models, in any case, or MODULE:CLASS (mcgcn)"
    )
    recipe: str | None = _option(
        None, "a paper or program to the letter, in place of --model: mcgcn/wikipedia, ..."
    )
    num_bits: int = _option(32, "length of the codes")
    model_options: dict[str, Any] = _option({}, "options of the model class")
    label_rate: float | None = _option(
        None, "share of the training items whose labels are used (0.3; gch 1; sgeh uses none)"
    )
    val_rate: float = _option(
        0.0, "share of the training items held out: early stopping, --split val"
    )
    protocol: Literal["inductive", "strict", "transductive"] | None = _option(
        None,
        "what a query's code may depend on (inductive; gch and sgeh are inductive by nature)",
    )
    k: int | None = _option(None, "neighbours of a node in the graph (20; sgeh 50)")
    metric: Literal["cosine", "ip", "l2"] | None = _option(
        None, "similarity of features in the graph of mcgcn and sgch (cosine)"
    )
    weight: Literal["binary", "similarity"] | None = _option(
        None, "mcgcn: weight of a neighbour: 1 (Eq. 1) or its cosine (default under cosine)"
    )
    match: Literal["shared", "equal"] | None = _option(
        None, "mcgcn: which multi-label items are similar: with a shared label, or equal ones"
    )
    graph_options: dict[str, Any] = _option(
        {}, "further options of the graph: mcgcn IntraKNN, sgch SGCHGraph, sgeh UnifiedAffinity"
    )
    epochs: int | None = _option(None, "passes over the data (default: the method's)")
    scaling: dict[str, Any] = _option({}, "options of ScaleFeatures: center, norm, ...")
    lr: float | dict[str, Any] | None = _option(
        None, "learning rate, one or a mapping part: rate (default: the method's)"
    )
    optimizer: dict[str, Any] = _option(
        {}, "class of torch.optim and its keywords: {name: SGD, momentum: 0.9} (default: Adam)"
    )
    decay: float | None = _option(None, "factor of the learning rates after each epoch (1)")
    patience: int | None = _option(
        None, "stop after so many evaluations without progress (needs val_rate)"
    )
    batch_size: int | None = _option(
        None, "mcgcn and sgch: train on mini-batches of so many instances (default: on all at once)"
    )
    loader_options: dict[str, Any] = _option(
        {}, "further options of these mini-batches: num_neighbors, num_members, num_workers, ..."
    )
    accumulate: int = _option(
        1, "mini-batches of an optimiser's step, of each process where there are several"
    )
    precision: Literal["fp32", "bf16"] = _option(
        "fp32", "bf16: matrix products of the training in bfloat16"
    )
    seed: int = _option(0, "seed of the labels, the weights and the noise")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go to ``config.yaml``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The settings of a stored run.

        Raises:
            UsageError: a setting that this version does not know.
        """
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise UsageError(
                f"config: {', '.join(unknown)} not known; use some of {', '.join(names)}"
            )
        return cls(**values)

    @classmethod
    def from_namespace(cls, args: Namespace) -> TrainConfig:
        """The settings of a parsed command line."""
        return cls(**{f.name: getattr(args, f.name) for f in fields(cls)})

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Add one command-line option for each setting."""
        hints = get_type_hints(cls)
        for f in fields(cls):
            default = {} if f.type == "dict[str, Any]" else f.default
            parser.add_argument(
                f"--{f.name}", type=hints[f.name], default=default, help=f.metadata["help"]
            )
