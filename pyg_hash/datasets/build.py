"""One place where features, labels and splits become a checked ``HeteroData``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_labels, check_same_rows

_CHUNK_ELEMENTS = 1 << 22


def row_chunks(num_rows: int, width: int) -> list[tuple[int, int]]:
    """``(start, stop)`` of row blocks of about four million elements each."""
    step = max(1, _CHUNK_ELEMENTS // max(1, width))
    return [(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def check_matrix(x: Tensor, name: str) -> None:
    """Check a feature matrix float32 ``[N, d]`` block by block (no second copy of it).

    Raises:
        TypeError: not float32.
        ValueError: wrong shape, no rows, NaN or inf.
    """
    if x.dtype != torch.float32:
        raise TypeError(f"{name}: expected float32 features, got {x.dtype}; convert them")
    if x.dim() != 2 or x.size(0) == 0 or x.size(1) == 0:
        raise ValueError(
            f"{name}: expected shape [N, d] with at least one row and one column, "
            f"got {list(x.shape)}"
        )
    bad, first = 0, -1
    for start, stop in row_chunks(x.size(0), x.size(1)):
        rows = (~torch.isfinite(x[start:stop]).all(dim=1)).nonzero().flatten()
        if len(rows) and first < 0:
            first = start + int(rows[0])
        bad += len(rows)
    if bad:
        raise ValueError(
            f"{name}: {bad} of {x.size(0)} rows contain NaN or inf (first: row {first}); "
            "clean or drop them"
        )


def as_mask(rows: Tensor, num_rows: int, name: str) -> Tensor:
    """A bool mask ``[N]`` from a bool mask or from row numbers.

    Raises:
        TypeError: neither bool nor integer.
        ValueError: wrong length, a row number outside ``0 .. N - 1`` or given twice.
    """
    if rows.dim() != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {list(rows.shape)}")
    if rows.dtype == torch.bool:
        if rows.size(0) != num_rows:
            raise ValueError(f"{name}: mask has {rows.size(0)} entries, expected {num_rows} (rows)")
        return rows.clone()
    if rows.is_floating_point() or rows.is_complex():
        raise TypeError(f"{name}: expected a bool mask or integer row numbers, got {rows.dtype}")
    if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= num_rows):
        raise ValueError(
            f"{name}: row numbers run from {int(rows.min())} to {int(rows.max())}, "
            f"outside 0..{num_rows - 1}"
        )
    if torch.unique(rows).numel() < rows.numel():
        hint = "; is it a mask of zeros and ones? use bool" if int(rows.max()) <= 1 else ""
        raise ValueError(f"{name}: the same row number occurs more than once{hint}")
    mask = torch.zeros(num_rows, dtype=torch.bool)
    mask[rows.long()] = True
    return mask


def split_problems(masks: dict[str, Tensor]) -> list[str]:
    """What is wrong with splits ``train, query, database, labeled``, one line each."""
    problems = []
    for name in ("train", "query", "database"):
        if not bool(masks[name].any()):
            problems.append(f"{name}: is empty; give at least one row")
    for name in ("database", "train"):
        both = int((masks["query"] & masks[name]).sum())
        if both:
            problems.append(
                f"query: {both} query rows are also in {name}; "
                f"queries must be disjoint from it, so take them out of one of the two"
            )
    outside = int((masks["labeled"] & ~masks["train"]).sum())
    if outside:
        problems.append(
            f"labeled: {outside} labeled rows are not in train; "
            "only training labels may be used, so take them out or add them to train"
        )
    return problems


def build_hetero(
    image: Tensor,
    text: Tensor,
    *,
    train: Tensor,
    query: Tensor,
    database: Tensor | None = None,
    labeled: Tensor | None = None,
    y: Tensor | None = None,
    num_classes: int | None = None,
) -> HeteroData:
    """Check everything a data set delivers and put it into the library's schema.

    Args:
        image: float32 ``[N, d_image]``; row i of both modalities is instance i.
        text: float32 ``[N, d_text]``.
        train: rows to learn from, bool mask ``[N]`` or row numbers; so are the next three.
        query: rows that ask; disjoint from ``train`` and ``database``.
        database: rows that are searched; default: all but ``query``.
        labeled: rows of ``train`` whose labels may be used; default: ``train``, or none
            without labels.
        y: class index, integer ``[N]``, or multi-hot of zeros and ones ``[N, C]``; None for a
            set without labels, which then has no ``y`` and ``num_classes`` 0.
        num_classes: C; default: the columns of ``y`` or its largest index plus one.

    Returns:
        ``data[m]`` for both modalities with ``x``, ``y`` (long ``[N]`` or float32 ``[N, C]``),
        ``train_mask``, ``query_mask``, ``database_mask``, ``labeled_mask``; and
        ``data.num_classes``. Both modalities share the tensors of labels and masks.

    Raises:
        TypeError: features or labels of the wrong dtype.
        ValueError: any other broken rule above; the message names the argument.
    """
    check_matrix(image, "image")
    check_matrix(text, "text")
    check_same_rows(image, text, "image", "text")
    num_rows = image.size(0)
    masks = {"train": as_mask(train, num_rows, "train"), "query": as_mask(query, num_rows, "query")}
    masks["database"] = (
        ~masks["query"] if database is None else as_mask(database, num_rows, "database")
    )
    if labeled is not None:
        masks["labeled"] = as_mask(labeled, num_rows, "labeled")
        if y is None and bool(masks["labeled"].any()):
            raise ValueError("labeled: names labeled rows but there are no labels; give y")
    else:
        masks["labeled"] = torch.zeros_like(masks["train"]) if y is None else masks["train"].clone()
    problems = split_problems(masks)
    if problems:
        raise ValueError("\n".join(problems))

    data = HeteroData()
    data.num_classes = 0
    if y is not None:
        check_labels(y, "y", num_rows=num_rows, num_classes=num_classes)
        inferred = y.size(1) if y.dim() == 2 else int(y.max()) + 1
        data.num_classes = inferred if num_classes is None else num_classes
        y = y.float() if y.dim() == 2 else y.long()
    for modality, x in zip(MODALITIES, (image, text), strict=True):
        data[modality].x = x
        if y is not None:
            data[modality].y = y
        for name, mask in masks.items():
            data[modality][f"{name}_mask"] = mask
    return data
