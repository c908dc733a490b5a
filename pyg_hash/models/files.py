"""Models on disk: safetensors and JSON, no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from pyg_hash.models.base import HashModel, Model
from pyg_hash.models.graph import AnchorBank
from pyg_hash.typing import PathLike
from pyg_hash.utils.digests import digest_of
from pyg_hash.utils.files import (
    CorruptFileError,
    as_json,
    check_path,
    is_storable,
    load_json,
    load_tensors,
    save_json,
    save_tensors,
    sha256,
)

FORMAT = "pyg_hash.model"
FORMAT_VERSION = 2
CONFIG, MODEL, INTAKE = "config.json", "model.safetensors", "intake.safetensors"


def save(model: HashModel, path: PathLike) -> None:
    """Write a model's folder; ``FileExistsError``: it holds the configuration of something else."""
    folder = Path(path)
    config = folder / CONFIG
    with suppress(CorruptFileError, FileNotFoundError):  # else it may be ours, cut short
        if load_json(config, dict).get("format") != FORMAT:
            raise FileExistsError(f"path: {config} is of something else; choose another folder")
    check_intake(model)
    written: dict[str, Any] = {MODEL: (stored_tensors(model),)}
    check_rebuilt(model)
    if model.intake is not None:
        written[INTAKE] = model.intake.tensors, model.intake.about
    settings = stored_config(model.config)
    for file, content in written.items():
        save_tensors(folder / file, *content)
    record = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": type(model).__name__,
        "config": settings,
        "sha256": {file: sha256(folder / file) for file in written},
    }
    save_json(config, record)  # last: a folder cut short is noticed when it is read


def load(kind: type[Model], path: PathLike, modules: Mapping[str, nn.Module]) -> Model:
    """Read a model's folder."""
    record, contents = load_model_files(path)
    if record["model"] != kind.__name__:
        raise ValueError(f"path: {path} holds a {record['model']}, not a {kind.__name__}")
    config = record["config"]
    needed = {k: v["module"] for k, v in config.items() if isinstance(v, dict) and "module" in v}
    for name in sorted(set(needed) ^ set(modules)):
        raise ValueError(
            f"{name}: the model was built with a module of your own ({needed[name]}); "
            f"pass {kind.__name__}.load(path, {name}=...)"
            if name in needed
            else f"{name}: the stored model has no module here; leave it out"
        )
    try:
        model = kind(**(config | modules))
        made = dict(model.named_parameters(remove_duplicate=False))
        model.load_state_dict(contents[MODEL][0], assign=True)  # keeps float64 what it was
        firsts = dict[nn.Parameter, nn.Parameter]()
        for name, p in model.named_parameters(remove_duplicate=False):
            one = firsts.setdefault(made.get(name, p), p)  # one parameter of two parts stays one
            if one is not p and digest_of({"": one}) == digest_of({"": p}):
                owner, _, own = name.rpartition(".")
                setattr(model.get_submodule(owner), own, one)
        if INTAKE in contents:
            model.intake = kind.intake_class(*contents[INTAKE])
            check_intake(model)  # notes whose it is
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(
            f"{path}: settings and parameters do not belong together; if another version of "
            "pyg_hash saved it, train again; if the class is your own, its constructor must take "
            f"lists in place of tuples, which JSON does not have ({error})"
        ) from error
    return model.eval()


def check_intake(model: HashModel) -> None:
    """Raise ``RuntimeError`` if a graph's messages are of other parameters than the model has now.

    The first call notes them; those of another version, or copied, are compared by value.
    """
    if not isinstance(bank := model.intake, AnchorBank):
        return
    sent_by, found = bank.sent_by or {}, dict[str, tuple[Any, ...]]()
    for name, p in model.named_parameters():  # other names may compute the same: a wrapped layer
        known = sent_by.get(name)
        mark = p.dtype, id(p), 0 if p.is_inference() else p._version
        if known is not None and known[:3] == mark:
            found[name] = known
        elif is_storable(p) and type(p.detach()) is Tensor:
            found[name] = *mark, digest_of({"": p})
            if known is not None and known[0] == p.dtype and known[3] != found[name][3]:
                raise RuntimeError(
                    f"{type(model).__name__}: {name} has changed since the model was attached, and "
                    "new items would get codes of before; call model.attach(data)"
                )
    bank.sent_by = found


def check_rebuilt(model: HashModel) -> None:
    """Raise ``TypeError`` if a new model would have other parameters, by name or shape."""
    given = [x for x in model.config.values() if isinstance(x, nn.Module)]
    own = {x for v in given for x in v.modules()}  # load is given those
    parts = [(name, x) for name, x in model.named_modules() if x not in own]
    names = [name for name, x in parts if is_parametrized(x) or x._forward_pre_hooks]
    if given and not names:  # a constructor may change its modules, and others be given to load
        return
    for device in ("meta", "cpu"):  # the one is for nothing, but not each constructor can
        copied = {id(p): nn.Parameter(p.to(device), False) for p in model.parameters()}
        try:
            # nothing is drawn on meta; a fork would take back what other threads draw meanwhile
            kept = nullcontext() if device == "meta" else torch.random.fork_rng(devices=[])
            with kept, torch.device(device):
                twin = type(model)(**deepcopy(model.config, copied))
        except Exception:  # a module of one's own that cannot be copied says nothing about the file
            continue
        try:
            twin.load_state_dict(model.state_dict(), assign=True)
            return
        except RuntimeError as error:
            if device == "cpu":
                changed = f" of {', '.join(names)}" if names else ""
                raise TypeError(
                    f"{type(model).__name__}: parameters{changed} are other than load() would "
                    "build; have layers of your own in the constructor of a class of your own, "
                    "part.compile() in place of torch.compile(part), and undo weight_norm and the "
                    "like, torch.nn.utils.parametrize.remove_parametrizations(part, 'weight') "
                    f"({error})"
                ) from error


def stored_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON; of a user's own module the class name. ``TypeError`` names others."""
    stored = {}
    for name, value in config.items():
        module = isinstance(value, nn.Module)
        try:
            stored[name] = as_json({"module": type(value).__qualname__} if module else value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name}: no file can hold this keyword of the model, {value!r:.60}; take a number "
                "or a name, of which the constructor makes what it needs"
            ) from error
        for key in _keys(value):
            if not isinstance(key, str):
                raise TypeError(
                    f"{name}: a file would give its key {key!r} back as a text; take texts as "
                    "keys, or a list of pairs"
                )
    return stored


def _keys(value: Any) -> Iterator[Any]:
    """The keys of mappings at any depth of lists and mappings."""
    if isinstance(value, dict):
        yield from value
        value = [*value.values()]
    for each in value if isinstance(value, list | tuple) else ():
        yield from _keys(each)


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state that goes to a file; ``TypeError`` names what none can hold."""
    state: dict[str, Any] = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name}: get_extra_state gave a {type(value).__name__}, which no file can hold; "
                "return one tensor"
            )
        if not (is_storable(value) or is_lazy(value)):  # the first batch makes the latter
            raise TypeError(
                f"{name}: no file can hold a tensor of {value.dtype}, {value.layout} on "
                f"{value.device.type}; convert it (torch.view_as_real, to_dense), or "
                "register_buffer(..., persistent=False)"
            )
    return state


def load_model_files(path: PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model folder's record and its other files' contents; raises if one is missing or broken."""
    check_path(path)
    folder = Path(path)
    config = folder / CONFIG
    if not config.is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG}; is this a folder that model.save() wrote?")
    record = load_json(config, dict)
    if record.get("format") != FORMAT:
        raise CorruptFileError(f"{config}: not the configuration of a model")
    kinds = {"version": int, "model": str, "config": dict, "sha256": dict}
    if isinstance(version := record.get("version"), int) and version != FORMAT_VERSION:
        raise CorruptFileError(
            f"{config}: format {version}, not {FORMAT_VERSION}; if newer, upgrade pyg_hash; "
            "if older, train again"
        )
    if not all(isinstance(record.get(key), kind) for key, kind in kinds.items()) or not (
        {MODEL} <= set(record["sha256"]) <= {MODEL, INTAKE}
    ):
        raise CorruptFileError(f"{config}: entries are missing; save the model again")
    contents = {}
    for file, digest in record["sha256"].items():
        contents[file] = load_tensors(folder / file, check=False)
        if sha256(folder / file) != digest:
            raise CorruptFileError(
                f"{folder / file}: not the file that {CONFIG} was written with; "
                "save the model again"
            )
    return record, contents
