"""Encoding item by item where it must be: a bad item is named, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm


@dataclass
class Encoded:
    """What :func:`encode_each` made of a sequence of items.

    Attributes:
        values: one row for each item that could be encoded, ``[m, d]``; None if there was none.
        kept: the positions of these items, ascending.
        problems: position of each other item -> what is wrong with it, one line.
    """

    values: Tensor | None = None
    kept: list[int] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every item was encoded."""
        return not self.problems


def encode_each(
    encode: Callable[[Any], Tensor],
    items: Sequence[Any] | Tensor,
    *,
    batch_size: int = 256,
    progress: str | None = None,
) -> Encoded:
    """Encode items in batches; the items of a batch that fails are tried one by one.

    Args:
        encode: an encoder, or an encoder followed by a model: a slice of ``items`` -> ``[n, d]``.
        items: picture files, texts, or feature rows.
        batch_size: items a call.
        progress: name of a progress bar, shown if it takes long; None for none.

    Returns:
        rows, their positions, and the items for which ``encode`` raised ``ValueError`` or
        ``OSError`` or gave values that are not finite. Any other error is raised.

    Raises:
        TypeError: ``encode`` does not give one row an item.
    """
    found = Encoded()
    rows = []
    with tqdm(total=len(items), desc=progress, unit="", disable=progress is None, delay=1) as bar:
        for start in range(0, len(items), batch_size):
            batch = items[start : start + batch_size]
            try:
                rows.append(_rows(encode, batch))
                found.kept += range(start, start + len(batch))
            except (ValueError, OSError):
                for position in range(start, start + len(batch)):
                    try:
                        rows.append(_rows(encode, items[position : position + 1]))
                        found.kept.append(position)
                    except (ValueError, OSError) as error:
                        found.problems[position] = " ".join(str(error).split())
            bar.update(len(batch))
    if rows:
        found.values = torch.cat(rows)
    return found


def _rows(encode: Callable[[Any], Tensor], batch: Any) -> Tensor:
    rows = encode(batch)
    if not isinstance(rows, Tensor) or rows.dim() != 2 or len(rows) != len(batch):
        shape = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise TypeError(f"encode: expected a tensor of {len(batch)} rows, got {shape}")
    if not rows.isfinite().all():
        raise ValueError("the encoder gave features that are not finite")
    return rows
