"""SGEH's sparse graph, cut into mini-batches of edges and small dense blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.csr import sorted_csr

ADJACENCIES = ("diffused", "induced", "paper", "code")


class SparseAffinity:
    r"""Edges in CSR form: what SGEH's mini-batches are cut from (Sec. 2.3).

    No entry of ``edge_index`` (i, then j) comes twice; ``ValueError`` without a pair of two nodes.
    ``pairs``, int64 ``[M, 2]``, are those with an entry in either direction, i < j, once.
    """

    def __init__(self, edge_index: Tensor, value: Tensor, num_nodes: int) -> None:
        row, column = edge_index
        matrix = self.matrix = sorted_csr(row, column, value, num_nodes, num_nodes)
        self.indptr, self.column = matrix.crow_indices().long(), matrix.col_indices().long()
        self.value = matrix.values()
        low, high = edge_index.amin(dim=0), edge_index.amax(dim=0)
        key = torch.unique((low * num_nodes + high)[low < high])
        # batches are made of them without a GPU to wait for
        self.pairs = torch.stack([key // num_nodes, key % num_nodes], dim=1).cpu()
        if not len(self.pairs):
            raise ValueError("edge_index: no edge between two nodes; there is nothing to train on")

    def pair_batches(
        self, batch_size: int, *, shuffle: bool = True, generator: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """Every pair once, ``batch_size`` a batch: node numbers, int64 ``[t, 2]``."""
        count = len(self.pairs)
        order = torch.arange(count, device="cpu")
        if shuffle:
            order = torch.randperm(count, generator=generator, device="cpu")
        return torch.split(self.pairs[order], batch_size)

    def local(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes of some pairs, ascending, and the pairs as positions among them."""
        nodes, position = torch.unique(pairs, return_inverse=True)
        device = self.value.device
        return nodes.to(device, non_blocking=True), position.to(device, non_blocking=True)

    def block(self, nodes: Tensor) -> Tensor:
        """The entries between ascending nodes ``[n]``: float ``[n, n]``, zero where none is."""
        n = nodes.numel()
        start = self.indptr[nodes]
        count = self.indptr[nodes + 1] - start
        total = int(count.sum())
        row = torch.repeat_interleave(count, output_size=total)
        first = start - (count.cumsum(0) - count)  # of each row, less the entries before it
        entry = torch.arange(total, device=row.device) + first[row]
        position = torch.searchsorted(nodes, self.column[entry]).clamp_(max=n - 1)
        inside = (nodes[position] == self.column[entry]).nonzero().flatten()
        dense = self.value.new_zeros(n, n)
        dense[row[inside], position[inside]] = self.value[entry[inside]]
        return dense

    def smooth(self, x: Tensor, steps: int) -> Tensor:
        r"""A lazy random walk, :math:`(I + D^{-1} A)^s x / 2^s`; a node without edges stays."""
        degree = self.matrix @ x.new_ones(len(self.matrix), 1)
        lonely = degree <= 0
        scale = torch.where(lonely, 0.0, 0.5 / degree.masked_fill(lonely, 1.0))
        keep = torch.where(lonely, 1.0, 0.5).to(x)
        for _ in range(steps):
            x = keep * x + scale * (self.matrix @ x)
        return x


class LocalAffinity:
    r"""The matrix :math:`A` of a mini-batch, Sec. 2.3 of SGEH (Zhao et al., ACCV 2022).

    The rows of the unified graph Z sum to 1, its diagonal is 0. Readings of what enters
    :func:`~pyg_hash.losses.hybrid_affinity` as A:

    * ``'induced'``: the entries between the batch's nodes; each row of Z divided by its maximum,
      the result averaged with its transpose, the diagonal 1. The paper's sentence
      :math:`A \leftarrow 2A - 1` would make an edge of weight 0.2 a distance of -0.6.
    * ``'paper'``: that sentence: :math:`2 Z - 1` between the batch's nodes.
    * ``'code'``: the authors' loader: ones, :math:`Z_{ij}` at the sampled edges (i < j) alone, and
      a diagonal of zeros.
    * ``'diffused'`` (ours): the graph evolves to a dense one before the batch is cut: the features
      of both modalities take ``steps`` steps of a lazy random walk on
      :math:`(Z + Z^\top) / 2`, and A holds the cosines of the results, centred. A block of a few
      nodes has next to no edges but those that were drawn; here all pairs of a cluster are alike,
      and rows of different clusters point away from each other.

    Args:
        edge_index: int64 ``[2, E]`` of Z, row 0 is i.
        weight: float ``[E]``, positive.
        image, text: features ``[N, d]``, which ``'diffused'`` alone reads.
        adjacency: the reading.
        steps, share: of ``'diffused'``: steps of the walk, weight of the images,
            :math:`\lambda_4`.
    """

    def __init__(
        self,
        edge_index: Tensor,
        weight: Tensor,
        image: Tensor,
        text: Tensor,
        *,
        adjacency: str = "induced",
        steps: int = 3,
        share: float = 0.5,
    ) -> None:
        check_choice(adjacency, ADJACENCIES, "adjacency")
        self.adjacency = adjacency
        num_nodes = image.size(0)
        weight = weight.to(image)
        if adjacency == "induced":
            peak = weight.new_zeros(num_nodes)
            peak.scatter_reduce_(0, edge_index[0], weight, "amax", include_self=True)
            weight = weight / peak[edge_index[0]]
        if adjacency in ("induced", "diffused"):
            edge_index, weight = symmetric(edge_index, weight, num_nodes)
        self.graph = SparseAffinity(edge_index, weight, num_nodes)
        if adjacency == "diffused":
            member = (self.graph.indptr.diff() > 0)[:, None].to(image)
            smooth = self.graph.smooth(joint_directions(image, text, share, member), steps)
            # unit rows whose cosines are A, float [N, d_i + d_t]; zero outside the graph
            self._direction = F.normalize(_centred(smooth, member), dim=1)

    def __call__(self, nodes: Tensor, pairs: Tensor | None = None) -> Tensor:
        """A of ascending nodes, ``[n, n]``; ``'code'`` needs ``pairs``, edges as places in them."""
        if self.adjacency == "diffused":
            directions = self._direction[nodes]
            return directions @ directions.t()
        block = self.graph.block(nodes)
        if self.adjacency == "induced":
            return block.fill_diagonal_(1.0)
        if self.adjacency == "paper":
            return 2.0 * block - 1.0
        if pairs is None:
            raise ValueError("pairs: adjacency='code' is made of the sampled edges; pass them")
        local = torch.ones_like(block)
        i, j = pairs.unbind(dim=1)
        local[i, j] = block[i, j]
        return local.fill_diagonal_(0.0)


def joint_directions(image: Tensor, text: Tensor, share: float, member: Tensor) -> Tensor:
    """Rows ``[N, d_i + d_t]`` whose products are the mean cosine of both sides, each centred.

    ``share`` is the weight of the images; only ``member``, float 0 or 1, ``[N, 1]``, takes part.
    """
    parts = []
    for x, weight in ((image, share), (text, 1.0 - share)):
        x = _centred(F.normalize(x, dim=1), member)
        parts.append(weight**0.5 * F.normalize(x, dim=1))
    return torch.cat(parts, dim=1)


def _centred(x: Tensor, member: Tensor) -> Tensor:
    """Rows less their mean; zero where ``member`` is 0. Rows outside the graph may be anything."""
    x = torch.where(member > 0, x, 0.0)
    return (x - x.sum(dim=0) / member.sum()) * member


def symmetric(edge_index: Tensor, weight: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Edges of (A + A^T) / 2."""
    from torch_geometric.utils import to_undirected  # takes seconds; a search may do without

    index, total = to_undirected(edge_index, 0.5 * weight, num_nodes)
    return index, total
