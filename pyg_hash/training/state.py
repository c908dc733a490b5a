"""The state of a training run as one safetensors file: interrupt it, and go on exactly."""

from __future__ import annotations

import csv
import os
import random
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LRScheduler

from pyg_hash.models.base import HashModel
from pyg_hash.models.common import like_of
from pyg_hash.models.files import stored_config, stored_tensors
from pyg_hash.utils.files import (
    CorruptFileError,
    as_json,
    atomic_path,
    is_storable,
    load_tensors,
    save_json,
    save_tensors,
)
from pyg_hash.utils.oddities import say_odd
from pyg_hash.utils.provenance import differences

_drawing: list[tuple[int, int]] = []  # processes and threads that are in a block of own_draws
_MIXED = (
    "threads that train or make models at once draw from the same generators, so that no seed "
    "decides what comes out; use processes, or one after the other"
)
_PLAIN = (bool, int, float, str, list, type(None))
_TORCHS = (torch.optim.Optimizer, LRScheduler)
# how optimisers and schedulers were when they first trained: what users set, and nothing moved yet
_first: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


class History(list[dict[str, Any]]):
    """Rows of named numbers, one an epoch; a plain list with two exports."""

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as a JSON list, atomically."""
        save_json(path, list(self))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, atomically; a value that an epoch does not have stays empty."""
        columns = list(dict.fromkeys(name for row in self for name in row))
        with (
            atomic_path(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self)


@contextmanager
def own_draws(kept: dict[str, Any] | None, device: torch.device) -> Iterator[None]:
    """A block with random numbers of its own: yours go on after it as if nothing was drawn.

    Generators, that of ``device`` too, start as ``kept`` has them, which then is where they got to;
    None: the block draws from yours. ``RuntimeWarning``: another thread is in such a block.
    """
    me = os.getpid(), threading.get_ident()
    if any(process == me[0] and thread != me[1] for process, thread in [*_drawing]):
        warnings.warn(_MIXED, RuntimeWarning, stacklevel=1)  # one place: Python shows it once
    kept, now = ({}, {}) if kept is None else (kept, _generators(device))
    before = {name: get() for name, (get, _) in now.items()}
    _drawing.append(me)
    try:
        for name in kept.keys() & now.keys():
            now[name][1](kept[name])
        yield
    finally:
        _drawing.remove(me)
        for name, (get, put) in now.items():
            kept[name] = get()
            put(before[name])


def _generators(device: torch.device) -> dict[str, tuple[Callable[[], Any], Callable[..., None]]]:
    """How the states of all that a training may draw from are read and set."""
    found: dict[str, Any] = {
        "python": (random.getstate, random.setstate),
        "numpy": (np.random.get_state, np.random.set_state),
        "torch": (torch.get_rng_state, torch.set_rng_state),
    }
    if device.type == "cuda":
        get, put = torch.cuda.get_rng_state, torch.cuda.set_rng_state
        found[str(device)] = partial(get, device), partial(put, device=device)
    return found


@dataclass
class TrainingState:
    """Epoch, history, best parameters, and all that :meth:`save` needs to go on later."""

    model: HashModel
    optimizers: Mapping[str, torch.optim.Optimizer]
    rows: Mapping[str, Tensor]  # of data_rows: what is trained on
    graph: Mapping[str, Any] = field(default_factory=dict)  # of graph_settings
    schedulers: Sequence[LRScheduler] = ()
    callbacks: Sequence[Any] = ()  # of which some have a state, as schedulers do
    generator: torch.Generator | None = None  # of the loader
    epoch: int = 0
    history: History = field(default_factory=History)
    stopped: bool = False
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = float("-inf")
    since_best: int = 0
    saved_epoch: int = -1

    def __post_init__(self) -> None:
        self._shapes, self._plain = _buffer_shapes(self.model), _plain_tensors(self.model)
        for owner in (*self.optimizers.values(), *self.schedulers):
            if isinstance(owner, _TORCHS) and owner not in _first:
                with suppress(TypeError):  # of which about says more
                    _first[owner] = as_json(_settings(owner))

    def check_shapes(self) -> None:
        """Raise ``ValueError`` for a buffer with a shape of the training, which no new one has."""
        for name, shape in _buffer_shapes(self.model).items():
            if (before := self._shapes.get(name, "none")) not in (None, shape):
                raise ValueError(
                    f"{name}: training changed its shape from {before} to {shape}, so that no new "
                    "model could load it; give it its final size in the constructor, or make it a "
                    "buffer with persistent=False, which checkpoints keep and saved models do not"
                )

    def note_validation(self, score: float, patience: int) -> None:
        """Keep the parameters if ``score`` is a new best; stop after ``patience`` others."""
        if score > self.best_score:
            self.best_score = score
            self.best = {name: p.detach().clone() for name, p in self.model.state_dict().items()}
            self.since_best = 0
        else:
            self.since_best += 1
            self.stopped = self.since_best >= patience

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace the checkpoint, atomically."""
        say_odd(
            f"{type(self.model).__name__}.{name}: training changes it, and as no parameter and no "
            "buffer it is in no checkpoint; if training needs it, register_buffer("
            f"{name.rpartition('.')[2]!r}, ..., persistent=False)"
            for name, now in _plain_tensors(self.model).items()
            if [(id(x), v) for x, v in now] != [(id(x), v) for x, v in self._plain.get(name, [])]
        )
        kept = stored_tensors(self.model)
        tensors = {f"model.{name}": p for name, p in kept.items()}
        more = _buffers(self.model, persistent=False)
        tensors |= {f"buffer.{name}": x for name, x in more.items() if is_storable(x)}
        tensors |= {f"best.{name}": p for name, p in self.best.items()}
        tensors |= {f"rows.{name}": x for name, x in self.rows.items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        if self.generator is not None:
            tensors["rng.loader"] = self.generator.get_state()
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                held = {slot: v for slot, v in slots.items() if isinstance(v, Tensor)}
                tensors |= {f"optimizer.{name}.{index}.{slot}": v for slot, v in held.items()}
        save_tensors(path, tensors, self.about())
        self.saved_epoch = self.epoch

    def about(self) -> dict[str, Any]:
        """All of the state that is no tensor, as JSON; ``TypeError`` names what is none."""
        optimizers = {}
        for name, optimizer in self.optimizers.items():
            state, kind = optimizer.state_dict(), type(optimizer).__name__
            plain = {
                str(index): rest
                for index, slots in state["state"].items()
                if (rest := {slot: v for slot, v in slots.items() if not isinstance(v, Tensor)})
            }
            optimizers[name] = {
                "name": kind,
                "defaults": _json(f"optimizer: defaults of {kind}", _defaults(optimizer)),
                "groups": _json(f"optimizer: param_groups of {kind}", state["param_groups"]),
                "plain": _json(f"optimizer: state of {kind}", plain),
            }
        numpy: Any = np.random.get_state(legacy=False)
        numpy["state"] = {name: np.asarray(x).tolist() for name, x in numpy["state"].items()}
        return {
            "model": type(self.model).__name__,
            "config": stored_config(self.model.config),
            "epoch": self.epoch,
            "stopped": self.stopped,
            "best_score": self.best_score if self.best else None,
            "since_best": self.since_best,
            "history": list(self.history),
            "optimizers": optimizers,
            "schedulers": [
                _json(f"schedulers: state_dict of {type(s).__name__}", _kept(s.state_dict()))
                for s in self.schedulers
            ],
            "callbacks": [
                _json(f"callbacks: state_dict of {type(own).__name__}", own.state_dict())
                for own in self._stateful()
            ],
            "set": self._set(),
            "rng": {"python": random.getstate(), "numpy": numpy},
        }

    def _set(self) -> dict[str, Any]:
        """What schedulers and optimisers were set to, and how the graph was made, by names."""
        owners: dict[str, Any] = {f"schedulers[{i}]": s for i, s in enumerate(self.schedulers)}
        owners |= {f"optimizer[{name!r}]": each for name, each in self.optimizers.items()}
        found: dict[str, Any] = as_json(self.graph)
        for name, owner in owners.items():
            if isinstance(owner, _TORCHS):  # what is one's own may have any state
                found[name] = type(owner).__name__
                found |= {f"{name}.{key}": value for key, value in _first.get(owner, {}).items()}
        return found

    def _stateful(self) -> list[Any]:
        """The callbacks with a state."""
        both = ("state_dict", "load_state_dict")
        return [c for c in self.callbacks if all(hasattr(c, name) for name in both)]

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over a checkpoint; ``ValueError``: of another model, optimiser, setting or data."""
        tensors, metadata = load_tensors(path)
        if not isinstance(metadata, dict) or not {"optimizers", "callbacks"} <= set(metadata):
            raise CorruptFileError(f"{path}: not a training checkpoint")
        stored = metadata["optimizers"]
        pairs = [
            ("model", type(self.model).__name__, metadata["model"]),
            ("settings", stored_config(self.model.config), metadata["config"]),
            ("optimizers of parts", sorted(self.optimizers), sorted(stored)),
            ("schedulers", len(self.schedulers), len(metadata["schedulers"])),
            ("callbacks with a state", len(self._stateful()), len(metadata["callbacks"])),
        ]
        for name in sorted(set(self.optimizers) & set(stored)):
            optimizer, record = self.optimizers[name], stored[name]
            sizes = [len(group["params"]) for group in optimizer.param_groups]
            pairs += [
                ("optimizer", type(optimizer).__name__, record["name"]),
                ("optimizer settings", as_json(_defaults(optimizer)), record["defaults"]),
                ("parameter groups", sizes, [len(group["params"]) for group in record["groups"]]),
            ]
        now, then = self._set(), metadata.get("set", {})  # none in earlier versions
        for name in {**now, **then} if then else ():
            # an optimiser of another version of torch has other settings, too
            if {name} <= now.keys() & then.keys() or name.startswith(("graph.", "affinity.")):
                pairs.append((name, now.get(name), then.get(name)))
        for what, ours, theirs in pairs:
            if ours != theirs:
                raise ValueError(
                    f"checkpoint: {path} was written with {what} {theirs}, not {ours}; "
                    "use the same settings or start anew without resume"
                )
        parts = _split(tensors)
        if others := differences(parts.get("rows", {}), self.rows):
            raise ValueError(
                f"checkpoint: {path} is of a training on other data ({'; '.join(others)}); give "
                "those, or start anew without resume"
            )
        self.model.load_state_dict(parts.get("model", {}))
        for name, x in parts.get("buffer", {}).items():
            path, _, own = name.rpartition(".")
            place = like_of(self.model).device
            self.model.get_submodule(path).register_buffer(own, x.to(place), persistent=False)
        self.best = parts.get("best", {})
        slots = _split(parts.get("optimizer", {}))
        for name, optimizer in self.optimizers.items():
            held, plain = _split(slots.get(name, {})), stored[name]["plain"]
            keys = held | plain  # the number of a parameter
            values = {int(k): {**held.get(k, {}), **plain.get(k, {})} for k in keys}
            groups = stored[name]["groups"]
            for group, now in zip(groups, optimizer.state_dict()["param_groups"], strict=True):
                for key, value in now.items():  # JSON turned tuples (Adam's betas) into lists
                    if isinstance(value, tuple):
                        group[key] = tuple(group[key])
                    elif isinstance(value, Tensor):  # a rate that torch.compile may read
                        group[key] = value.new_tensor(group[key])
            optimizer.load_state_dict({"state": values, "param_groups": groups})
        owners = (*self.schedulers, *self._stateful())
        records = [*map(_kept, metadata["schedulers"]), *metadata["callbacks"]]
        for own, record in zip(owners, records, strict=True):
            own.load_state_dict(record)
        torch.set_rng_state(parts["rng"]["cpu"])
        if "cuda" in parts["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(parts["rng"]["cuda"])
        if self.generator is not None and "loader" in parts["rng"]:
            self.generator.set_state(parts["rng"]["loader"])
        if "rng" in metadata:
            version, words, gauss = metadata["rng"]["python"]
            random.setstate((version, tuple(words), gauss))
            np.random.set_state(metadata["rng"]["numpy"])
        self.epoch = self.saved_epoch = metadata["epoch"]
        self.stopped = metadata["stopped"]
        self.best_score = metadata["best_score"] if self.best else float("-inf")
        self.since_best = metadata["since_best"]
        self.history = History(metadata["history"])


def _json(what: str, value: Any) -> Any:
    """``value`` as JSON; ``TypeError`` says where it is none."""
    try:
        return as_json(value)
    except (TypeError, ValueError) as error:
        for name, each in value.items() if isinstance(value, Mapping) else ():
            _json(f"{what}[{name!r}]", each)
        raise TypeError(f"{what}: no file can hold it ({error})") from error


def _settings(owner: Any) -> dict[str, Any]:
    """What an optimiser or a scheduler is set to, and what it starts with, by names."""
    if isinstance(owner, LRScheduler):
        kept = _kept(owner.state_dict())
        return {k: v for k, v in kept.items() if k not in ("base_lrs", "_last_lr")}  # the groups'
    groups = enumerate(owner.param_groups)
    return {f"param_groups[{i}].{k}": v for i, g in groups for k, v in g.items() if k != "params"}


def _defaults(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser was made with; a tensor is its groups' own, and moves with them."""
    return {key: v for key, v in optimizer.defaults.items() if not isinstance(v, Tensor)}


def _kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's state, and of those inside, without what the program has: functions, epochs."""
    return {
        key: [_kept(x) if isinstance(x, dict) else x for x in v] if isinstance(v, list) else v
        for key, v in state.items()
        if isinstance(v, _PLAIN)
    }


def _buffer_shapes(model: nn.Module) -> dict[str, list[int] | None]:
    """Shapes of persistent buffers that load as PyTorch does; None where not known yet."""
    others = [path and f"{path}." for path, m in model.named_modules() if _loads_by_itself(m)]
    return {
        name: None if is_lazy(x) else list(x.shape)
        for name, x in _buffers(model, persistent=True).items()
        if not name.startswith(tuple(others))
    }


def _buffers(model: nn.Module, *, persistent: bool) -> dict[str, Tensor]:
    """Buffers by name, each once, of one of the two kinds."""
    found: dict[str, Tensor] = {}
    for name, x in model.named_buffers():
        path, _, own = name.rpartition(".")
        if persistent != (own in model.get_submodule(path)._non_persistent_buffers_set):
            found[name] = x
    return found


def _loads_by_itself(module: nn.Module) -> bool:
    """Whether a module reads its state in its own way, which may know of other shapes."""
    ways = ("_load_from_state_dict", "load_state_dict")
    own = any(getattr(type(module), w) is not getattr(nn.Module, w) for w in ways)
    return own or bool(module._load_state_dict_pre_hooks)


def _plain_tensors(model: nn.Module) -> dict[str, list[tuple[Tensor, int]]]:
    """Tensors in public attributes of one's own modules, no part of the state; their versions."""
    known = {id(x) for x in (*model.parameters(), *model.buffers())}
    found: dict[str, list[tuple[Tensor, int]]] = {}
    for path, module in model.named_modules():
        if type(module).__module__.partition(".")[0] in ("torch", "torch_geometric"):
            continue  # what these cache is made anew
        for name, value in vars(module).items():
            if name.startswith("_"):
                continue
            held: Any = [*value.values()] if isinstance(value, dict) else value
            for x in held if isinstance(held, list | tuple | deque) else [held]:
                if isinstance(x, Tensor) and id(x) not in known:
                    version = 0 if x.is_inference() else x._version
                    found.setdefault(f"{path}.{name}".strip("."), []).append((x, version))
    return found


def _split(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group ``'a.b.c'`` by its first part."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        first, rest = key.split(".", 1)
        parts.setdefault(first, {})[rest] = tensor
    return parts
