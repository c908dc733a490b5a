"""What trains and searches without an error, but not well: each in one line, with the remedy."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_hash.typing import IMAGE, MODALITIES

_BLOCK = 1 << 22  # values in hand at a time
OUTLYING = 20.0  # times the median
_SMALLEST, _LARGEST = 1e-15, 1e15  # float32 holds the squares of what is between
_WIDE = " and decide every distance; bring columns to one scale"
_FAR = " and make all cosines alike; subtract their means"


class OddDataWarning(UserWarning):
    """Features, labels or codes are such that results are worse than they look."""


class CollapseWarning(OddDataWarning):
    """Most items of a database have one and the same code."""


def row_lengths(x: Tensor) -> Tensor:
    """Length of each row ``[n, d]``, float64: it neither overflows nor vanishes."""
    plain: Tensor = torch.linalg.vector_norm(x.float(), dim=1).double()
    if bool(((plain > _SMALLEST) & (plain < _LARGEST)).all()):
        return plain
    largest = x.abs().amax(dim=1, keepdim=True).double()
    scaled = x / torch.where(largest > 0, largest, 1.0).to(x)
    lengths: Tensor = torch.linalg.vector_norm(scaled, dim=1).double() * largest.squeeze(1)
    return lengths


def outlying(sizes: Tensor) -> Tensor:
    """Which sizes are beyond :data:`OUTLYING` times the median of those above 0: bool ``[n]``."""
    return sizes > OUTLYING * sizes[sizes > 0].median()  # of none NaN: nothing is beyond that


def odd_rows(lengths: Tensor, name: str) -> list[str]:
    """What is odd about rows of these lengths."""
    lines = []
    if (far := outlying(lengths)).any():
        first = int(far.nonzero()[0])
        times = float(lengths[first] / lengths[lengths > 0].median())
        lines.append(
            f"{name}: {int(far.sum()):,} of {len(lengths):,} rows are over {OUTLYING:g} times as "
            f"long as the median row (first: row {first}, {times:.3g} times); check or drop them"
        )
    return [*lines, *filter(None, [unusable(lengths, name)])]


def zero_rows(lengths: Tensor, name: str) -> list[str]:
    """What rows without direction mean."""
    zero = (lengths == 0).nonzero()
    what = f"{len(zero)} zero rows have no cosine (first: row {zero[:1].sum()})"
    return [f"{name}: {what}; drop them or use metric='l2'"] if len(zero) else []


def unusable(lengths: Tensor, name: str) -> str:
    """What is wrong with rows that nothing can be computed of; empty if nothing is."""
    if not (lengths > 0).any():
        return f"{name}: all rows are zero vectors; check how the features were made"
    if _SMALLEST < (middle := float(lengths[lengths > 0].median())) < _LARGEST:
        return ""
    what = f"rows have lengths of about {middle:.1g}, whose squares are beyond float32"
    return f"{name}: {what}; multiply all features by one number that brings them near 1"


def odd_columns(low: Tensor, high: Tensor, name: str, *, centred: bool = False) -> list[str]:
    """What is odd about columns from ``low`` to ``high``, ``[d]``, to be ``centred`` or not."""
    lines, width = [], high.double() - low.double()
    if (constant := width == 0).all():
        return [f"{name}: all rows are equal, so that nothing can be learnt; give real features"]
    wide, times = outlying(width), f"over {OUTLYING:g} times as"
    far = outlying(torch.maximum(low.abs(), high.abs()).double()) & ~wide & ~constant
    for which, what, told in (
        (constant, "constant", "; they tell nothing, drop them"),
        (wide, f"{times} wide as the median column", _WIDE),
        (far & (not centred), f"{times} far from 0 as the median column", _FAR),
    ):
        if which.any():
            some, first = f"{int(which.sum()):,} of {len(width):,}", int(which.nonzero()[0])
            lines.append(f"{name}: {some} columns are {what} (first: {first}){told}")
    return lines


def odd_features(x: Tensor, name: str, *, centred: bool = False) -> list[str]:
    """What is odd about the rows and columns of features ``[n, d]``; see :func:`odd_columns`."""
    blocks = torch.split(x, max(1, _BLOCK // x.size(1)))
    low = torch.stack([block.amin(dim=0) for block in blocks]).amin(dim=0)
    high = torch.stack([block.amax(dim=0) for block in blocks]).amax(dim=0)
    lengths = torch.cat([row_lengths(block) for block in blocks])
    columns = odd_columns(low, high, name, centred=centred)
    return [*odd_rows(lengths, name), *columns, *zero_rows(lengths, name)]


def say_odd(lines: Iterable[str]) -> None:
    """Warn of each line; from one place, so that Python shows it once."""
    for line in lines:
        warnings.warn(line, OddDataWarning, stacklevel=1)


def say_odd_data(data: Any) -> None:
    """Warn of what is odd about features, before their scaling, and labels to learn from."""
    lines = [*data.oddities] if "oddities" in data else []
    for m in MODALITIES:
        x, norm = data[m].get("x"), data.get("scaling", {}).get(m, {}).get("norm")
        if x is None or x.dim() != 2 or not x.is_floating_point() or not len(x):
            continue
        if "scaling" not in data:
            lines += odd_features(x, m)
        elif isinstance(norm, float):
            length = torch.linalg.vector_norm(x.float(), dim=1)
            if bool((length > 0.01 * norm).logical_and((length / norm - 1).abs() > 0.01).any()):
                lines.append(
                    f"{m}: x was changed after ScaleFeatures, so that new items are not changed "
                    "alike and their codes are wrong; change the features before it"
                )
    y, labeled = data[IMAGE].get("y"), data[IMAGE].get("labeled_mask")
    lines += odd_labels(y) if y is not None and len(y) else []
    fit = y is not None and labeled is not None and len(y) == len(labeled)
    if fit and bool((bare := labeled & ~has_label(y)).any()):
        lines.append(
            f"labels: {int(bare.sum()):,} of {int(labeled.sum()):,} rows of labeled_mask have none "
            f"(first: row {int(bare.nonzero()[0])}); most methods that read labels take them as "
            "unlike all others and their own other side; take them out of it"
        )
    say_odd(lines)


def check_unmasked(values: Any, name: str) -> None:
    """Raise ``ValueError`` for masked values of NumPy: those below the mask would be read."""
    if np.ma.is_masked(values):
        count = np.ma.getmaskarray(values).sum()
        raise ValueError(f"{name}: {count:,} values are masked; fill them, or drop their rows")


def has_label(y: Tensor) -> Tensor:
    """Which rows have a label, bool ``[n]``: in a multi-hot ``y`` those of zeros have none."""
    return y.any(dim=1) if y.dim() == 2 else torch.ones(len(y), dtype=torch.bool, device=y.device)


def judged_rows(y: Tensor) -> Tensor:
    """Which queries have a label, bool ``[n]``; all, if none has one."""
    has = has_label(y)
    return has if bool(has.any()) else ~has


def unanswered(query: Tensor, database: Tensor) -> int:
    """Number of queries whose labels ``[q]`` or ``[q, C]`` no item of the database shares."""
    if query.dim() == 1:
        return int((~torch.isin(query, database)).sum())
    return int(((query * database.amax(dim=0)).amax(dim=1) == 0).sum())


def odd_queries(count: int, num_queries: int, name: str = "labels") -> list[str]:
    """What ``count`` unanswered queries mean."""
    if count == 0:
        return []
    return [
        f"{name}: {count:,} of {num_queries:,} queries share no label with any database item; they "
        f"count as 0, so that mAP cannot exceed {1 - count / num_queries:.3f}; add such items to "
        "the database, or drop these queries"
    ]


def odd_labels(y: Tensor, names: Sequence[str] = ()) -> list[str]:
    """Classes that every row has: then every item is relevant to every query."""
    if y.dim() == 1:
        everywhere = y[:1].tolist() if bool((y == y[0]).all()) else []
    else:
        everywhere = (y > 0).all(dim=0).nonzero().flatten().tolist()
    if not everywhere:
        return []
    shown = ", ".join(names[c] if names else str(c) for c in everywhere[:10])
    one = len(everywhere) == 1
    classes = f"the class {shown}" if one else f"the {len(everywhere)} classes {shown}"
    return [
        f"labels: every row has {classes}{', ...' * (len(everywhere) > 10)}, so that every item is "
        f"relevant to every query; drop {'that class' if one else 'these classes'}"
    ]
