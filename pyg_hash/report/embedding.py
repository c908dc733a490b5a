"""t-SNE of features and codes, as in Fig. 4 of the MCGCN paper: squares and triangles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyg_hash.report.style import (
    CLASSES,
    GREY,
    MARKERS,
    MODALITY_COLORS,
    new_figure,
    on_color,
    styled,
)
from pyg_hash.typing import Modality
from pyg_hash.utils.checks import check_labels
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PERPLEXITY = 30.0  # the default of t-SNE
_PRINCIPAL = 50  # components that t-SNE starts from, as its authors advise
_MIN_POINTS = 4
_NAME_WIDTH = 20


def embed(x: Tensor, *, seed: int = 0) -> Tensor:
    """Place items ``[n, d]``, at least 4, in the plane by t-SNE: float32 ``[n, 2]``.

    Raises:
        TypeError: not a tensor.
        ValueError: wrong shape, too few rows, NaN or inf.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x: expected a tensor [n, d], got {type(x).__name__}")
    if x.dim() != 2 or x.size(0) < _MIN_POINTS or x.size(1) == 0:
        raise ValueError(f"x: expected [n, d] with n >= {_MIN_POINTS}, got {list(x.shape)}")
    x = x.detach().cpu().float()
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x: contains NaN or inf; clean or drop these rows")
    x = x - x.mean(0)
    if min(x.shape) > _PRINCIPAL and bool(x.any()):  # something varies
        pca = require("sklearn.decomposition", "scikit-learn", extra="report").PCA
        x = torch.from_numpy(pca(_PRINCIPAL, random_state=seed).fit_transform(x.numpy()))
    varying = int(torch.linalg.matrix_rank(x))
    manifold = require("sklearn.manifold", "scikit-learn", extra="report")
    tsne = manifold.TSNE(
        perplexity=min(_PERPLEXITY, (x.size(0) - 1) / 3),
        init="pca" if varying >= 2 else "random",  # one direction does not span a plane
        random_state=seed,
    )
    return torch.from_numpy(tsne.fit_transform(x.numpy()))


@styled
def tsne(
    points: Mapping[Modality, Tensor],
    labels: Mapping[Modality, Tensor] | None = None,
    class_names: Sequence[str] = (),
    *,
    seed: int = 0,
) -> Figure:
    """t-SNE of items of one or both modalities in one space: squares are pictures, triangles texts.

    Colours are classes. The ten most frequent classes have a colour and a number, the others are
    grey; an item with several labels is drawn as the most frequent of them. Without labels, the
    colours are the modalities.

    Args:
        points: real ``[n, d]`` by modality, with the same d, e.g. codes of pictures and of texts.
        labels: class index ``[n]`` or multi-hot ``[n, C]`` by modality.
        class_names: one name a class; by default their numbers.
        seed: of the start.

    Raises:
        TypeError: points that are not tensors, labels of the wrong type.
        ValueError: no points or too few, different widths, NaN, labels that do not fit.
    """
    if not points:
        raise ValueError("points: there is nothing to draw; give those of one modality at least")
    widths = {values.size(-1) for values in points.values()}
    if len(widths) > 1:
        raise ValueError(f"points: have {sorted(widths)} columns; one space has one width")
    sizes = [values.size(0) for values in points.values()]
    classes = _main_class(points, labels)
    plane = embed(torch.cat([values.float() for values in points.values()]), seed=seed)
    top = _frequent(classes)
    figure, (axes,) = new_figure(height=3.6 + 0.2 * ((len(top) + 2) // 2))
    place = dict(zip(top, CLASSES, strict=False))
    for modality, xy, own in zip(
        points, torch.split(plane, sizes), torch.split(classes, sizes), strict=True
    ):
        plain = MODALITY_COLORS[modality] if labels is None else GREY
        axes.scatter(
            xy[:, 0].numpy(),
            xy[:, 1].numpy(),
            s=9,
            c=[place.get(c, plain) for c in own.tolist()],
            marker=MARKERS[modality],
            linewidths=0,
            alpha=0.75,
            rasterized=True,  # thousands of marks would make a page heavy
        )
    _number(axes, plane, classes, top)
    axes.set_axis_off()  # only nearness means anything
    handles = _handles(points, classes, top, class_names)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handletextpad=0.4)
    return figure


def _main_class(
    points: Mapping[Modality, Tensor], labels: Mapping[Modality, Tensor] | None
) -> Tensor:
    """One class an item of all modalities, -1 for none: int64."""
    if labels is None:
        return torch.full((sum(map(len, points.values())),), -1)
    if set(labels) != set(points):
        raise ValueError(f"labels: of {sorted(labels)}, but points are of {sorted(points)}")
    for modality in points:
        check_labels(labels[modality], f"labels[{modality!r}]", num_rows=len(points[modality]))
    y = torch.cat([labels[modality].cpu() for modality in points])
    if y.dim() == 1:
        return y.long()
    weighted = y.double() * (y.double().sum(0) + 1)
    return torch.where(weighted.amax(1) > 0, weighted.argmax(1), -1)


def _frequent(classes: Tensor) -> list[int]:
    """The most frequent classes that get a colour, in the order of their numbers."""
    values, counts = torch.unique(classes[classes >= 0], return_counts=True)
    first = counts.argsort(descending=True, stable=True)[: len(CLASSES)]
    return sorted(values[first].tolist())


def _number(axes: Axes, plane: Tensor, classes: Tensor, top: list[int]) -> None:
    """Write the number of each class in the middle of its items."""
    for number, (c, back) in enumerate(zip(top, CLASSES, strict=False), 1):
        x, y = plane[classes == c].median(0).values.tolist()
        text = axes.text(x, y, str(number), color=on_color(back), size=8, ha="center", va="center")
        text.set_bbox({"boxstyle": "round,pad=0.25", "facecolor": back, "edgecolor": "none"})
        text.set_in_layout(False)  # it lies among the points, whatever the layout


def _handles(
    points: Iterable[Modality], classes: Tensor, top: list[int], names: Sequence[str]
) -> list[Any]:
    line = require("matplotlib.lines", "matplotlib", extra="report").Line2D

    def mark(marker: str, color: str, label: str) -> Any:
        return line([], [], linestyle="none", marker=marker, color=color, markersize=5, label=label)

    handles = [mark(MARKERS[m], GREY if top else MODALITY_COLORS[m], m) for m in points]
    for number, c in enumerate(top):
        name = names[c] if c < len(names) else f"class {c}"
        short = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
        handles.append(mark("o", CLASSES[number], f"{number + 1}  {short}"))
    if top and bool((~torch.isin(classes, torch.tensor(top))).any()):
        handles.append(mark("o", GREY, "other or none"))
    return handles
