"""Dense float64 references, written from the papers' formulas alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData


def neighbours(x: Tensor, k: int, anchors: Tensor) -> Tensor:
    """0/1 ``[N, N]``: column m is among the k anchors nearest to row n, never n itself."""
    x = torch.nn.functional.normalize(x.double(), dim=1)
    similarity = x @ x.T
    similarity[:, ~anchors] = -torch.inf
    similarity.fill_diagonal_(-torch.inf)
    chosen = torch.zeros_like(similarity)
    chosen.scatter_(1, similarity.topk(k, dim=1).indices, 1.0)
    return chosen


def same_label(y: Tensor, match: str) -> Tensor:
    """0/1 ``[N, N]``, the diagonal included."""
    if y.dim() == 1:
        return (y[:, None] == y[None, :]).double()
    if match == "equal":
        return (y[:, None] == y[None]).all(-1).double()
    return ((y @ y.T) > 0).double()


def intra_graph(data: HeteroData, modality: str, k: int, anchors: str, match: str) -> Tensor:
    """MCGCN Eq. 1 read literally (labelled nodes have G_mm = 1), rows receive."""
    store = data[modality]
    is_anchor = store.train_mask if anchors == "train" else torch.ones_like(store.train_mask)
    near = neighbours(store.x, k, is_anchor)
    either = torch.maximum(near, near.T)
    graph = torch.where(is_anchor[:, None] & is_anchor[None, :], either, near)
    both_labelled = store.labeled_mask[:, None] & store.labeled_mask[None, :]
    return torch.where(both_labelled, same_label(store.y, match), graph)


def normalise(graph: Tensor) -> Tensor:
    """D^-1/2 G D^-1/2 with D the row sums."""
    scale = graph.sum(1).rsqrt()
    return scale[:, None] * graph * scale[None, :]


def add_loops(graph: Tensor, self_loops: str) -> Tensor:
    """G + I, after clearing the diagonal if ``'clean'``."""
    if self_loops == "clean":
        graph = graph - torch.diag(graph.diagonal())
    return graph + torch.eye(len(graph), dtype=graph.dtype)


def dense_intra(
    data: HeteroData, modality: str, k: int, anchors: str, self_loops: str, match: str
) -> Tensor:
    """The normalised operator of Eq. 1 and 3."""
    return normalise(add_loops(intra_graph(data, modality, k, anchors, match), self_loops))


def dense_joint(
    data: HeteroData,
    k: int,
    anchors: tuple[str, str],
    self_loops: str,
    match: str,
    pair_edges: str,
) -> Tensor:
    """The normalised operator of Eq. 2 and 3 on 2N nodes, for ``(intra, inter)`` anchors."""
    graphs = {m: intra_graph(data, m, k, anchors[1], match) for m in ("image", "text")}
    store = data["image"]
    joint = store.train_mask if anchors[1] == "train" else torch.ones_like(store.train_mask)
    sends = joint.double()[None, :]
    mean = (graphs["image"] + graphs["text"]) / 2
    rows = {}
    for m in ("image", "text"):
        off = torch.where(joint[:, None], mean, graphs[m]) * sends
        pair = {"all": joint.double(), "labeled": off.diagonal(), "none": joint.double() * 0}
        off = off - torch.diag(off.diagonal()) + torch.diag(pair[pair_edges])
        diagonal = graphs[m] * sends
        rows[m] = (diagonal, off)
    top = torch.cat((rows["image"][0], rows["image"][1]), dim=1)
    bottom = torch.cat((rows["text"][1], rows["text"][0]), dim=1)
    return normalise(add_loops(torch.cat((top, bottom)), self_loops))


def assert_same_neighbours(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """``(scores, index)`` of two searches are what ``knn`` promises: the same up to rounding.

    Scores are close, equal ones are ordered by index, and neighbours change places only where
    their scores are so close that rounding decides.
    """
    (scores, index), (values, places) = found, expected
    torch.testing.assert_close(scores, values, rtol=1e-6, atol=1e-6)
    tied = scores[:, 1:] == scores[:, :-1]
    assert bool((index[:, 1:] > index[:, :-1])[tied].all())
    close = values.diff(dim=1).abs() <= 2e-6 * values[:, 1:].abs().clamp(min=1)
    last = torch.ones_like(close[:, :1])  # the next one is not known
    near = torch.cat((close, last), dim=1) | torch.cat((~last, close), dim=1)
    assert bool(near[index != places].all())
