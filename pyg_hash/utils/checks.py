"""Checks of user input: ``TypeError`` for another type, else ``ValueError``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_hash.typing import kind_of


def check_choice(value: object, choices: Sequence[object], name: str) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    # arrays have no truth value
    if isinstance(value, Collection) and not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}: {value!r} is not known; use one of {listed}")


def check_positive_int(value: object, name: str) -> None:
    """Raise unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy's count among them
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if int(value) < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")


def check_size(value: object, name: str) -> None:
    """Raise unless ``value`` is a positive integer below 2**48: no memory has so many places."""
    check_positive_int(value, name)
    if int(value) >> 48:  # type: ignore[call-overload]
        raise ValueError(f"{name}: expected a size below 2**48, got {value}")


def check_each(check: Callable[[Any, str], None], **values: object) -> None:
    """One check of several arguments by name."""
    for name, value in values.items():
        check(value, name)


def check_positive_ints(**values: object) -> None:
    """:func:`check_size` of arguments by name."""
    check_each(check_size, **values)


def check_flags(**values: object) -> None:
    """Raise ``TypeError`` unless each argument is True or False, or an integer in their place."""
    for name, value in values.items():
        if not isinstance(value, Integral | np.bool_):
            raise TypeError(f"{name}: expected True or False, got {value!r}")


def check_collection(value: object, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a list, tuple, set or the like."""
    if isinstance(value, str) or not (
        isinstance(value, Collection) and getattr(value, "ndim", True)
    ):
        raise TypeError(f"{name}: expected a list, got {value!r}")


def check_mapping(value: object, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping, got {value!r}")


def check_seed(value: object, name: str = "seed") -> None:
    """Raise unless ``value`` is an integer of at least 0 that 64 bits hold."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if not 0 <= int(value) < 1 << 63:
        raise ValueError(f"{name}: expected an integer from 0 to 2**63 - 1, got {value}")


def check_number(value: object, name: str) -> float:
    """A float of an integer or real number; raises ``TypeError``, or ``ValueError``: too large."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name}: {value!r:.40} is more than a float holds") from error


def check_weight(value: object, name: str) -> None:
    """Raise unless ``value`` is a finite number of at least 0."""
    if not 0.0 <= check_number(value, name) < math.inf:
        raise ValueError(f"{name}: expected a finite weight of at least 0, got {value!r}")


def check_positive(value: object, name: str) -> None:
    """Raise unless ``value`` is a positive, finite number."""
    if not 0.0 < check_number(value, name) < math.inf:
        raise ValueError(f"{name}: expected a positive, finite number, got {value!r}")


def check_fraction(value: float, name: str) -> None:
    """Raise unless ``0 <= value <= 1``."""
    if not 0.0 <= check_number(value, name) <= 1.0:
        raise ValueError(f"{name}: expected a fraction between 0 and 1, got {value!r}")


def check_floats(x: Tensor, name: str) -> None:
    """Raise unless ``x`` is floating-point ``[N, d]``, with or without rows."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor [N, d], got {kind_of(x)}")
    if x.dim() != 2:
        raise ValueError(f"{name}: expected shape [N, d], got {list(x.shape)}")


def check_reduction(reduction: str) -> None:
    """Raise ``ValueError`` unless it is ``'mean'`` or ``'sum'``."""
    check_choice(reduction, ("mean", "sum"), "reduction")


def reduced(total: Tensor, count: int, reduction: str) -> Tensor:
    """A sum of ``count`` summands, or their mean; without summands both are an exact zero."""
    check_reduction(reduction)
    return total / max(count, 1) if reduction == "mean" else total


def check_features(x: Tensor, name: str, *, num_features: int | None = None) -> None:
    """Check a feature matrix: float ``[n, d]``, at least one row, finite."""
    is_tensor = isinstance(x, Tensor)
    if not is_tensor or not x.is_floating_point() or x.dtype.itemsize == 1 or x.is_meta:
        kind = kind_of(x) + " on meta" * (is_tensor and x.is_meta)
        raise TypeError(f"{name}: expected a floating-point tensor [n, d], got {kind}; convert it")
    if x.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor [n, d], got a sparse one; use to_dense()")
    if x.dim() != 2 or x.size(1) == 0:
        raise ValueError(f"{name}: expected shape [n, d], got {list(x.shape)}")
    if num_features is not None and x.size(1) != num_features:
        what = f"has {x.size(1)} features a row, expected {num_features}"
        raise ValueError(f"{name}: {what}; use the features the model was fitted on")
    _check_finite_rows(x, name)


def check_item_shape(x: Tensor, name: str, shape: Sequence[int]) -> None:
    """Check raw items: a tensor ``[n, *shape]`` with at least one item, and finite if float."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {kind_of(x)}")
    if list(x.shape[1:]) != list(shape):
        wanted = ", ".join(map(str, ("n", *shape)))
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(x.shape)}")
    _check_finite_rows(x, name)


def _check_finite_rows(x: Tensor, name: str) -> None:
    if x.size(0) == 0:
        raise ValueError(f"{name}: has no rows; give at least one")
    x = x.flatten(1)
    # one NaN or inf shows in the sum of the rows' sums: the fast check
    if not x.is_floating_point() or math.isfinite(float(x.detach().sum(dim=1).float().sum())):
        return
    bad = ~torch.isfinite(x).all(dim=1)
    _refuse_rows(bad, name, "contain NaN or inf", "; clean or drop them")


def check_nonzero_rows(x: Tensor, name: str) -> None:
    """Raise ``ValueError`` if a row is all zero: it has no direction, so no cosine."""
    remedy = ", which have no cosine; drop them or use metric='l2'"
    _refuse_rows(x.abs().amax(dim=1) == 0, name, "are zero vectors", remedy)


def _refuse_rows(bad: Tensor, name: str, what: str, remedy: str) -> None:
    if bool(bad.any()):
        told = f"{int(bad.sum())} of {len(bad)} rows {what} (first: row {int(bad.nonzero()[0])})"
        raise ValueError(f"{name}: {told}{remedy}")


def check_same_rows(a: Any, b: Any, name_a: str, name_b: str) -> None:
    """Raise ``ValueError`` unless both, of whatever kind, have the same number of rows."""
    sizes = a.shape[0], b.shape[0]
    if sizes[0] != sizes[1]:
        told = f"{name_a} and {name_b}: {sizes[0]} and {sizes[1]} rows"
        raise ValueError(f"{told}; row i of both must be the same instance")


def check_labels(
    y: Tensor, name: str, *, num_rows: int | None = None, num_classes: int | None = None
) -> None:
    """Check labels: class index, integer ``[N]``, or multi-hot ``[N, C]`` of zeros and ones."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: expected a tensor [N] or [N, C], got {kind_of(y)}")
    if y.dim() not in (1, 2):
        raise ValueError(f"{name}: expected shape [N] or [N, C], got {list(y.shape)}")
    if num_rows is not None and y.size(0) != num_rows:
        raise ValueError(f"{name}: has {y.size(0)} rows, expected {num_rows}")
    if y.dim() == 1:
        if y.is_floating_point() or y.dtype == torch.bool:
            raise TypeError(f"{name}: class indices must be integers, got {y.dtype}")
        low, high = (int(y.min()), int(y.max())) if y.numel() else (0, -1)
        if low < 0 or (num_classes is not None and high >= num_classes):
            wrong = "below 0" if num_classes is None else f"outside 0..{num_classes - 1}"
            what = f"class indices run from {low} to {high}, {wrong}"
            raise ValueError(f"{name}: {what}; renumber them or raise num_classes")
        return
    if y.size(1) == 0:
        raise ValueError(f"{name}: has no class at all, shape {list(y.shape)}; leave it out")
    if num_classes is not None and y.size(1) != num_classes:
        raise ValueError(f"{name}: has {y.size(1)} columns, expected {num_classes} classes")
    if not bool(((y == 0) | (y == 1)).all()):
        raise ValueError(f"{name}: multi-hot labels must be 0 or 1")


def as_list(value: Any) -> Any:
    """A list in place of a sequence that is no text, list or tuple, as OmegaConf's are."""
    other = isinstance(value, Sequence) and not isinstance(value, (str, bytes, list, tuple))
    return [*value] if other else value


def keywords_of(kind: type) -> list[str]:
    """Arguments of a constructor by name, and of those of ours that its ``**more`` goes on to."""
    names: dict[str, None] = {}
    for base in (base for base in kind.__mro__ if "__init__" in vars(base)):
        known = [*inspect.signature(vars(base)["__init__"]).parameters.values()][1:]
        hands_on = any(p.kind == p.VAR_KEYWORD for p in known)
        if names and not hands_on and not base.__module__.startswith("pyg_hash."):
            break
        names |= {p.name: None for p in known if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not hands_on:
            break
    return [*names]
