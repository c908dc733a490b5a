"""The report on a feature file: what keeps it from loading, and what deserves a look."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyg_hash.datasets.build import check_few_classes, fill_splits, row_chunks
from pyg_hash.datasets.feature_file import (
    OTHER_ROWS,
    StoredMatrix,
    open_feature_file,
    read_about,
    read_labels,
    read_splits,
    read_strings,
)
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_labels
from pyg_hash.utils.oddities import (
    judged_rows,
    odd_columns,
    odd_labels,
    odd_queries,
    odd_rows,
    row_lengths,
    unanswered,
)


@dataclass
class MatrixReport:
    """One feature matrix."""

    shape: tuple[int, int]  #: ``(N, d)``
    dtype: str  #: as stored
    storage: str  #: ``'dense'`` or ``'csr'``
    density: float  #: share of stored values (1 for a dense matrix)
    minimum: float = float("nan")  #: of the finite values
    maximum: float = float("nan")  #: of the finite values
    num_nan: int = 0  #: values that are NaN
    num_inf: int = 0  #: values that are infinite
    zero_rows: int = 0  #: rows without direction, so without cosine
    duplicate_rows: int = 0  #: rows that repeat an earlier one exactly
    query_in_database: int = 0  #: query rows that equal a database row exactly

    def __str__(self) -> str:
        stored = f" ({self.density:.2%} stored)" if self.storage == "csr" else ""
        return (
            f"{self.shape[0]:,} x {self.shape[1]:,} {self.dtype} {self.storage}{stored}, "
            f"range {self.minimum:.4g} .. {self.maximum:.4g}, "
            f"NaN {self.num_nan:,}, inf {self.num_inf:,}, zero rows {self.zero_rows:,}, "
            f"duplicate rows {self.duplicate_rows:,}"
        )


@dataclass
class FeatureReport:
    """What :func:`check_feature_file` found; ``print`` it."""

    path: Path
    #: reports of ``'image'`` and ``'text'``
    matrices: dict[str, MatrixReport] = field(default_factory=dict)
    label_kind: str = "none"  #: ``'class index'``, ``'multi-hot'`` or ``'none'``
    label_counts: dict[str, int] = field(default_factory=dict)  #: rows per class name
    unlabeled_rows: int = 0  #: multi-hot rows without any class
    splits: dict[str, int] = field(default_factory=dict)  #: rows per split, defaults filled in
    #: rows common to two splits, ``'query & database'`` and ``'query & train'``
    overlaps: dict[str, int] = field(default_factory=dict)
    #: what keeps :class:`~pyg_hash.datasets.FeatureFile` from loading the file
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  #: what loads but deserves a look
    about: str | None = None  #: what the file says of its features; None: nothing

    @property
    def ok(self) -> bool:
        """Whether the file loads."""
        return not self.problems

    def __str__(self) -> str:
        parts: dict[str, str] = {} if self.about is None else {"about": self.about}
        parts |= {name: str(matrix) for name, matrix in self.matrices.items()}
        parts["labels"] = self.label_kind
        if self.label_counts:
            counts = self.label_counts.values()
            parts["labels"] += (
                f", {len(counts)} classes, {min(counts):,} .. {max(counts):,} rows each"
            )
        if self.unlabeled_rows:
            parts["labels"] += f", {self.unlabeled_rows:,} rows without a class"
        sizes = {**self.splits, **self.overlaps}
        for title, found in (("balance", self.label_counts), ("splits", sizes)):
            if found and (title == "splits" or len(found) <= 40):
                parts[title] = ", ".join(f"{name} {count:,}" for name, count in found.items())
        lines = [str(self.path), *(f"  {name:<9} {part}" for name, part in parts.items())]
        lines += [f"  PROBLEM   {problem}" for problem in self.problems]
        lines += [f"  warning   {warning}" for warning in self.warnings]
        lines.append("  ok" if self.ok else f"  {len(self.problems)} problem(s): will not load")
        return "\n".join(lines)


def check_feature_file(path: str | os.PathLike[str]) -> FeatureReport:
    """Report on a file in the layout of :class:`~pyg_hash.datasets.FeatureFile`, of any size.

    All problems of the content are collected in the report, none is raised.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: the file is truncated, damaged or no HDF5 file.
    """
    report = FeatureReport(Path(path))
    with open_feature_file(path) as file:

        def noted(check: Callable[..., Any], *arguments: Any) -> Any:
            """What it returns; what it raises is one of the problems."""
            try:
                return check(*arguments)
            except (TypeError, ValueError) as error:
                report.problems.append(str(error))
                return None

        report.about = noted(read_about, file)
        found = [noted(StoredMatrix, file, name) for name in MODALITIES]
        matrices = [matrix for matrix in found if matrix is not None]
        hashes = {matrix.name: noted(_check_matrix, report, matrix) for matrix in matrices}
        sizes = [matrix.shape[0] for matrix in matrices]
        if len(set(sizes)) > 1:
            report.problems.append(OTHER_ROWS.format(*sizes))
        elif sizes:
            noted(_check_labels, report, file, sizes[0])
            for kind in ("ids", "image_paths", "texts"):
                noted(_check_strings, report, kind, noted(read_strings, file, kind, sizes[0]) or [])
            if (masks := noted(read_splits, file, sizes[0])) is not None:
                known = {name: digest for name, digest in hashes.items() if digest is not None}
                _check_splits(report, masks, known)
    return report


def _check_matrix(report: FeatureReport, matrix: StoredMatrix) -> np.ndarray[Any, Any]:
    """Fill the matrix report; returns a 64-bit hash of each row."""
    (num_rows, width), warnings = matrix.shape, report.warnings
    density, kind = matrix.num_stored / (num_rows * width), "csr" if matrix.sparse else "dense"
    found = MatrixReport(matrix.shape, str(matrix.dtype), kind, density)
    report.matrices[matrix.name] = found
    hashes = np.empty(num_rows, dtype=np.uint64)
    lengths = torch.empty(num_rows, dtype=torch.float64)
    low, high = torch.full((width,), torch.inf), torch.full((width,), -torch.inf)
    for start, stop in row_chunks(num_rows, width):
        block = np.empty((stop - start, width), np.float32)
        matrix.read_rows(start, stop, block)
        found.num_nan += int(np.isnan(block).sum())
        found.num_inf += int(np.isinf(block).sum())
        found.zero_rows += int((~block.any(axis=1)).sum())
        finite = block if np.isfinite(block).all() else block[np.isfinite(block)]
        if finite.size:
            found.minimum = float(np.fmin(found.minimum, finite.min()))  # of NaN and x it is x
            found.maximum = float(np.fmax(found.maximum, finite.max()))
        rows = torch.from_numpy(block)
        lengths[start:stop] = row_lengths(rows)
        low, high = torch.minimum(low, rows.amin(0)), torch.maximum(high, rows.amax(0))
        block += 0.0  # -0.0 and 0.0 are the same value, so let them hash the same
        for row, values in enumerate(block, start):
            digest = hashlib.blake2b(values.tobytes(), digest_size=8).digest()
            hashes[row] = int.from_bytes(digest, "little")
    found.duplicate_rows = num_rows - len(np.unique(hashes))
    if found.num_nan or found.num_inf:
        report.problems.append(
            f"{matrix.name}: {found.num_nan} NaN and {found.num_inf} inf values; "
            "clean or drop their rows"
        )
    else:
        warnings += odd_rows(lengths, matrix.name) + odd_columns(low, high, matrix.name)
    if found.zero_rows:
        warnings.append(
            f"{matrix.name}: {found.zero_rows} zero rows have no cosine; "
            "drop them or use metric='l2'"
        )
    if found.duplicate_rows:
        warnings.append(f"{matrix.name}: {found.duplicate_rows} rows repeat an earlier one")
    return hashes


def _check_strings(report: FeatureReport, name: str, strings: list[str]) -> None:
    repeated = len(strings) - len(set(strings))
    if name == "ids" and repeated:
        report.warnings.append(f"ids: {repeated} repeat an earlier one")
    if name == "image_paths":
        places = [report.path.parent / path for path in strings if path]
        if lost := [place for place in places if not place.is_file()]:
            text = f"image_paths: {len(lost)} files do not exist (first: {lost[0]})"
            report.warnings.append(text)


def _check_labels(report: FeatureReport, file: Any, num_rows: int) -> None:
    names, y = read_strings(file, "class_names"), read_labels(file)
    if y is None:
        return
    report.label_kind = "class index" if y.dim() == 1 else "multi-hot"
    check_labels(y, "labels", num_rows=num_rows, num_classes=None if names is None else len(names))
    if names is None:
        check_few_classes(y, "labels")
    if y.dim() == 1:
        counts = torch.bincount(y, minlength=len(names or []))
    else:
        counts = y.sum(dim=0).long()
        report.unlabeled_rows = int((y.sum(dim=1) == 0).sum())
        if report.unlabeled_rows:
            report.warnings.append(f"labels: {report.unlabeled_rows} rows have no class at all")
    names = names or [f"class {c}" for c in range(len(counts))]
    report.label_counts = dict(zip(names, counts.tolist(), strict=True))
    empty = [name for name, count in report.label_counts.items() if count == 0]
    if empty:
        report.warnings.append(f"labels: no row has the class {', '.join(empty[:10])}")
    report.warnings += odd_labels(y, names)
    with suppress(ValueError):  # is told where splits are checked
        masks = fill_splits(read_splits(file, num_rows), labels=True)[0]
        asked = y[masks["query"]]
        asked = asked[judged_rows(asked)]
        if len(asked) and bool(masks["database"].any()):
            report.warnings += odd_queries(unanswered(asked, y[masks["database"]]), len(asked))


def _check_splits(
    report: FeatureReport, masks: dict[str, torch.Tensor], hashes: Mapping[str, Any]
) -> None:
    masks, problems = fill_splits(masks, labels=report.label_kind != "none")
    report.splits = {name: int(mask.sum()) for name, mask in masks.items()}
    for name in ("database", "train"):
        report.overlaps[f"query & {name}"] = int((masks["query"] & masks[name]).sum())
    report.problems += problems
    query, database = masks["query"].numpy(), masks["database"].numpy()
    for name, digest in hashes.items():
        shared = int(np.isin(digest[query & ~database], digest[database]).sum())
        report.matrices[name].query_in_database = shared
        if shared:
            report.warnings.append(
                f"{name}: {shared} query rows equal a database row exactly; "
                "retrieval of these is no test"
            )
