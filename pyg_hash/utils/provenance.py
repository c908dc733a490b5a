"""What runs and stores remember of their data and model, and how it is compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checksums import form_of, say_once
from pyg_hash.utils.digests import SAME, row_prints, same_rows
from pyg_hash.utils.files import TEMPORARY

_MASKS = ("train", "labeled", "query", "database", "val")
_FOUND = ("num_components", "converged", "iterations", "lam")  # of UnifiedAffinity's search
MIXED = "mixed"  # in place of a digest: codes of several models
_CLOSE = 1e-4  # of the spread of prints: what another processor may round otherwise
_TURN = 0.7548776662466927  # what two numbers of a pair are made one with


def data_rows(data: Any, prints: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What is remembered of data: prints of features and labels, and who is in what split.

    ``prints`` are :func:`row_prints` of the features of each modality, where not of those of data.
    """
    rows = dict(prints or {m: row_prints(data[m].x) for m in MODALITIES})
    for m in MODALITIES:
        for name in _MASKS:
            if isinstance(mask := data[m].get(f"{name}_mask"), Tensor):
                rows[f"{m}.{name}"] = mask.cpu().clone()
        if isinstance(y := data[m].get("y"), Tensor):
            rows[f"{m}.labels"] = row_prints(y)
    return rows


def graph_settings(data: Any) -> dict[str, Any]:
    """By which settings the graph of data was made: plain values; what was found is none."""
    graphs = {name: data.get(name) for name in ("graph", "affinity")}
    return {
        f"{name}.{key}": value
        for name, graph in graphs.items()
        if isinstance(graph, Mapping)
        for key, value in graph.items()
        if isinstance(value, bool | int | float | str | None) and key not in _FOUND
    }


def differences(stored: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[str]:
    """How :func:`data_rows` of now differ from stored ones, a line each; the same lines once."""
    found: dict[str, None] = {}
    for name in sorted({*stored, *now}):
        modality, _, what = name.partition(".")
        what = what or f"{modality} features"
        if name not in stored or name not in now:
            found[f"{what}: {'not there then' if name in now else 'no longer there'}"] = None
            continue
        old, new = stored[name], now[name]
        if len(old) != len(new):
            found[f"rows: {len(old):,} then, {len(new):,} now"] = None
            continue
        if old.dtype == torch.bool:
            gone, come = int((old & ~new).sum()), int((new & ~old).sum())
            if gone or come:
                found[f"{what}: {gone:,} rows are no longer in it and {come:,} are new"] = None
            continue
        other = int(((old - new).abs() > _CLOSE * _spread(old)[1]).sum())
        if other:
            found[f"{what}: those of {other:,} of {len(old):,} rows are others"] = None
    return list(found)


def trained_queries(stored: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> Tensor:
    """Which queries of now were training pairs then, whatever their row is now: bool ``[n]``."""
    train, query = stored[f"{IMAGE}.train"], now[f"{IMAGE}.query"]
    sides = []
    for m in MODALITIES:
        middle, spread = _spread(stored[m])
        sides.append([(x - middle) / spread for x in (stored[m][train], now[m][query])])
    (a, own_a), (b, own_b) = sides
    # one number for both sides: a picture may be in several pairs, and a text too
    place = same_rows(own_a + _TURN * own_b, a + _TURN * b)
    same = place >= 0
    for known, own in sides if len(a) else ():
        same &= (known[place] - own).abs() <= SAME * (1 + own.abs())
    return same


def _spread(prints: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and spread of prints, whatever outlying ones do; of equal ones it is their size."""
    middle = prints.median()
    far = (prints - middle).abs()
    spread = next((s for s in (far.median(), far.mean()) if bool(s > 0)), middle.abs())
    return middle, spread.clamp(min=1e-12)


def say_mixed(what: str) -> None:
    """Warn, once, of codes of several models."""
    say_once("mixed", f"{what}: {_SEVERAL}")


_SEVERAL = (
    "holds codes of several models, for some were put there under --force; what is found among "
    "those of another model means nothing; encode all anew into a new store"
)


def check_model(
    stored: str | None,
    digest: str,
    what: str,
    *,
    force: bool = False,
    otherwise: str = "add --force (in Python force=True)",
) -> None:
    """Raise ``ValueError`` if ``what`` is of another model; warn, once, if of several or unknown.

    ``stored`` is the digest that it keeps, ``digest`` that of the model that is to go with it;
    ``otherwise`` says what who knows better does.
    """
    if stored is None:
        why = "as an earlier version wrote it; that it is of this one is not checked"
        say_once("model", f"{what}: does not say which model it is of, {why}")
    elif stored == MIXED:
        if not force:
            raise ValueError(f"{what}: {_SEVERAL}, or, if you know better, {otherwise}")
        say_mixed(what)
    elif stored != digest and not force:
        raise ValueError(
            f"{what}: is of another model ({stored[:12]}) than this one ({digest[:12]}), and codes "
            "of two models cannot be compared; use the run that it was made with, make it anew, "
            f"or, if you know better, {otherwise}"
        )


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        raise error


def stored_files(path: Path) -> list[Path]:
    """The finished files below ``path``, or it and its journal, of sealed forms; at least one."""
    folder, ending = (path, "") if path.is_dir() else (Path(f"{path}.log"), ".store")
    walk = os.walk(folder, onerror=_unless_gone)
    below = (Path(top, name) for top, _, names in walk for name in names if name.endswith(ending))
    every = [path, *sorted(file for file in below if not TEMPORARY.fullmatch(file.name))]
    found = [file for file in every if file.is_file() and form_of(file)]
    if not found:
        raise FileNotFoundError(f"path: no file that pyg_hash writes at {path}")
    return found
