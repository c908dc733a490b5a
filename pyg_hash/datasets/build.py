"""One place where features, labels and splits become a checked ``HeteroData``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_features, check_labels, check_same_rows
from pyg_hash.utils.oddities import check_unmasked, has_label

_CHUNK_ELEMENTS = 1 << 22


def row_chunks(num_rows: int, width: int) -> list[tuple[int, int]]:
    """``(start, stop)`` of row blocks of about four million elements each."""
    step = max(1, _CHUNK_ELEMENTS // max(1, width))
    return [(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def as_array(values: Any, name: str) -> np.ndarray[Any, Any]:
    """A dense array of a tensor, an array, nested lists or something sparse; bfloat16: float32."""
    sparse: bool = sp.issparse(values)
    if sparse:
        return np.asarray(values.toarray())
    if isinstance(values, Tensor):
        kind = f"{values.dtype}" + " on meta" * values.is_meta
        try:
            values = values.detach().cpu().to_dense()
            return np.asarray(values.float() if values.dtype == torch.bfloat16 else values)
        except (TypeError, RuntimeError) as error:
            raise TypeError(f"{name}: cannot read a tensor of {kind}; use float32") from error
    if values is None:
        raise TypeError(f"{name}: is missing; give it")
    check_unmasked(values, name)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: rows of different lengths, or of mixed kinds") from error


def as_mask(rows: Any, num_rows: int, name: str) -> Tensor:
    """A bool mask ``[N]`` from one or from row numbers, of which each occurs once, in any form."""
    array = as_array(rows, name)
    array = array if array.size else array.astype(array.dtype if array.dtype.kind == "b" else int)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name}: expected a bool mask or integer row numbers, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {list(array.shape)}")
    if array.dtype.kind == "b":
        if len(array) != num_rows:
            raise ValueError(f"{name}: mask has {len(array)} entries, expected {num_rows} (rows)")
        return torch.from_numpy(array.copy())
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < 0 or high >= num_rows:
        raise ValueError(f"{name}: row numbers run from {low} to {high}, outside 0..{num_rows - 1}")
    if len(np.unique(array)) < len(array):
        hint = "; is it a mask of zeros and ones? use bool" if high <= 1 else ""
        raise ValueError(f"{name}: the same row number occurs more than once{hint}")
    return torch.from_numpy(np.isin(np.arange(num_rows), array.astype(np.int64)))


def check_few_classes(y: Tensor, name: str) -> None:
    """Raise ``ValueError`` for class indices that are numbers of another kind: models get huge."""
    if y.dim() == 1 and y.numel() and int(y.max()) >= max(y.numel(), 1000):
        told = f"{name}: class indices run to {int(y.max())} in {y.numel()} rows"
        raise ValueError(f"{told}; number the classes 0..C-1, or give class_names")


def fill_splits(
    masks: Mapping[str, Tensor], *, labels: Tensor | bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Splits ``[N]``, with defaults but for val, and problems; ``labels``: which rows have one."""
    train, query = masks["train"], masks["query"]
    labeled = train & labels
    masks = {"train": train, "query": query, "database": ~query, "labeled": labeled, **masks}
    problems = [
        f"{name}: is empty; {'leave it out' if name == 'val' else 'give at least one row'}"
        for name in ("train", "query", "database", "val")
        if name in masks and not bool(masks[name].any())
    ]
    pairs = ("query", "database"), ("query", "train"), ("val", "train"), ("val", "query")
    for name, other in pairs:
        if name in masks and (both := int((masks[name] & masks[other]).sum())):
            told = f"{name}: {both} {name} rows are also in {other}"
            problems.append(f"{told}; they must be disjoint, so take them out of one of the two")
    if labels is False and bool(masks["labeled"].any()):
        problems.append("labeled: names labeled rows but there are no labels")
    if outside := int((masks["labeled"] & ~masks["train"]).sum()):
        remedy = "only training labels may be used, so take them out or add them to train"
        problems.append(f"labeled: {outside} labeled rows are not in train; {remedy}")
    return masks, problems


def build_hetero(
    image: Tensor,
    text: Tensor,
    *,
    train: Tensor,
    query: Tensor,
    database: Tensor | None = None,
    labeled: Tensor | None = None,
    val: Tensor | None = None,
    y: Tensor | None = None,
    num_classes: int | None = None,
) -> HeteroData:
    """Check everything a data set delivers and put it into the library's schema.

    Features are float32 ``[N, d]``. The splits, masks ``[N]`` or row numbers, and their defaults
    are those of :func:`~pyg_hash.datasets.write_feature_file`; without labels none is labeled.
    ``y`` is class index, integer ``[N]``, or multi-hot ``[N, C]``; a set without has no ``y`` and
    ``num_classes`` 0. By default C is the columns of ``y`` or its largest index plus one.

    Returns:
        ``data[m]`` for both modalities with ``x``, ``y`` (long ``[N]`` or float32 ``[N, C]``),
        ``train_mask``, ``query_mask``, ``database_mask``, ``labeled_mask``, given ``val`` also
        ``val_mask``; and ``data.num_classes``. Both share the tensors of labels and masks.

    ``TypeError``: features or labels of the wrong dtype; ``ValueError``: any other broken rule
    above; the message names the argument.
    """
    for name, x in (("image", image), ("text", text)):
        if x.dtype != torch.float32:
            raise TypeError(f"{name}: expected float32 features, got {x.dtype}; convert them")
        check_features(x, name)
    check_same_rows(image, text, "image", "text")
    num_rows = image.size(0)
    given = {"train": train, "query": query, "database": database, "labeled": labeled, "val": val}
    own = {name: as_mask(rows, num_rows, name) for name, rows in given.items() if rows is not None}
    if y is not None:
        check_labels(y, "y", num_rows=num_rows, num_classes=num_classes)
    masks, problems = fill_splits(own, labels=False if y is None else has_label(y))
    if problems:
        raise ValueError("\n".join(problems))

    same = {f"{name}_mask": mask for name, mask in masks.items()}
    if y is not None:
        if num_classes is None:
            check_few_classes(y, "y")
            num_classes = y.size(1) if y.dim() == 2 else int(y.max()) + 1
        same = {"y": y.float() if y.dim() == 2 else y.long(), **same}
    data = HeteroData()
    data.num_classes = 0 if y is None else num_classes
    for modality, x in zip(MODALITIES, (image, text), strict=True):
        data[modality].update({"x": x, **same})
    return data
