"""Figures of codes: what the bits are worth, and how far apart items lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_hash.codes import check_codes
from pyg_hash.metrics.counts import check_ranking
from pyg_hash.report.style import (
    INK,
    MARKERS,
    MODALITY_COLORS,
    SERIES,
    new_figure,
    styled,
    whole_numbers,
)
from pyg_hash.typing import Modality

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def bit_balance(codes: Mapping[Modality, Tensor]) -> Figure:
    """How often each bit is +1; one half is best, a bit that is always the same says nothing.

    Args:
        codes: int8 ±1 ``[n, num_bits]`` by modality, at least one row each.

    Raises:
        TypeError, ValueError: not codes, none at all, or no rows.
    """
    if not codes:
        raise ValueError("codes: there is nothing to draw; give those of one modality at least")
    for modality, values in codes.items():
        _check_rows(values, f"codes[{modality!r}]")
    figure, (axes,) = new_figure(height=2.6)
    axes.axhline(0.5, color=INK, linewidth=0.8, alpha=0.6)
    for modality, values in codes.items():
        share = (values > 0).double().mean(0).tolist()
        x, color = range(1, len(share) + 1), MODALITY_COLORS[modality]
        axes.plot(x, share, MARKERS[modality], markersize=4, color=color, label=modality)
    axes.set(xlabel="bit", ylabel="share of +1", ylim=(-0.03, 1.03))
    whole_numbers(axes)
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def correlation_matrix(codes: Tensor) -> Tensor:
    """Absolute Pearson correlation of all pairs of bits, float64 ``[num_bits, num_bits]``.

    Bits that are constant have none: NaN. Arguments and errors are those of
    :func:`bit_correlation`.
    """
    _check_rows(codes, "codes")
    x = codes.cpu().double()
    x = x - x.mean(0)
    x = x / x.norm(dim=0)  # 0 / 0 is NaN, as it should be
    matrix: Tensor = x.T @ x
    return matrix.abs().clamp_(max=1)


@styled
def bit_correlation(codes: Tensor) -> Figure:
    """Absolute correlation of all pairs of bits; off the diagonal, 0 is best.

    Constant bits have no correlation and stay empty.

    Args:
        codes: int8 ±1 ``[n, num_bits]``, at least one row.

    Raises:
        TypeError, ValueError: not codes, or no rows.
    """
    matrix = correlation_matrix(codes)
    figure, (axes,) = new_figure(height=3.1)
    edges = (0.5, codes.size(1) + 0.5)
    image = axes.imshow(
        matrix.numpy(), cmap="cividis", vmin=0, vmax=1, extent=(*edges, *edges[::-1])
    )
    axes.grid(visible=False)
    axes.set(xlabel="bit", ylabel="bit")
    bar = figure.colorbar(image, ax=axes, label="|correlation|", shrink=0.9)
    bar.outline.set_visible(False)
    return figure


def distance_counts(
    query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor
) -> tuple[Tensor, Tensor]:
    """Number of relevant and of irrelevant pairs at each distance, float64 ``[num_bits + 1]``.

    Arguments and errors are those of :func:`distance_histogram`.
    """
    ranking = check_ranking(query, database, query_y, database_y)
    total = torch.zeros(2, ranking.num_bits + 1, dtype=torch.float64)
    for items, relevant in ranking.counts():
        total += torch.stack([relevant.sum(0), (items - relevant).sum(0)])
    return total[0], total[1]


@styled
def distance_histogram(
    query: Tensor,
    database: Tensor,
    query_y: Tensor | None = None,
    database_y: Tensor | None = None,
) -> Figure:
    """Hamming distances of relevant and of irrelevant pairs; the less they overlap, the better.

    Each histogram is a share of its own pairs, for irrelevant pairs are far more. Without labels
    there is one histogram, of all pairs.

    Args:
        query: int8 ±1 ``[q, num_bits]``.
        database: int8 ±1 ``[m, num_bits]``.
        query_y: class index ``[q]`` or multi-hot ``[q, C]``; None if nothing is known.
        database_y: class index ``[m]`` or multi-hot ``[m, C]``; None if nothing is known.

    Raises:
        TypeError: see :func:`pyg_hash.metrics.mean_average_precision`.
        ValueError: see there; labels of one side only.
    """
    if query_y is None or database_y is None:
        if query_y is not database_y:
            raise ValueError("query_y, database_y: one of them is None; give both or neither")
        same = (codes.new_zeros(codes.size(0), dtype=torch.long) for codes in (query, database))
        parts = {"all pairs": distance_counts(query, database, *same)[0]}
    else:
        relevant, irrelevant = distance_counts(query, database, query_y, database_y)
        parts = {"relevant pairs": relevant, "irrelevant pairs": irrelevant}
    figure, (axes,) = new_figure(height=2.6)
    edges = [distance - 0.5 for distance in range(query.size(1) + 2)]
    for (name, counts), color, hatch in zip(parts.items(), SERIES, (None, "////"), strict=False):
        share = (counts / counts.sum().clamp_min(1)).tolist()
        axes.stairs(share, edges, fill=True, alpha=0.3, color=color, hatch=hatch)
        axes.stairs(share, edges, color=color, linewidth=1.4, label=name)
    axes.set(xlabel="Hamming distance", ylabel="share of the pairs")
    whole_numbers(axes)
    axes.legend()
    return figure


def _check_rows(codes: Tensor, name: str) -> None:
    check_codes(codes, name)
    if codes.size(0) == 0:
        raise ValueError(f"{name}: has no rows; give at least one")
