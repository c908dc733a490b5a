"""The graphs of SGCH: one weighted graph a modality."""

from __future__ import annotations

from dataclasses import dataclass

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_hash.transforms.inter import averaged_edges
from pyg_hash.transforms.intra import IntraKNN, merge_edges
from pyg_hash.transforms.labels import LabelHub
from pyg_hash.transforms.masks import require_labels
from pyg_hash.typing import IMAGE, INTRA, MODALITIES, Metric
from pyg_hash.utils.checks import check_choice


@dataclass(eq=False)
class SGCHGraph(BaseTransform):
    r"""The graphs of SGCH, one a modality, in one step.

    Shen, Zhai, Liu, Jiang, "Semi-supervised graph convolutional hashing network for large-scale
    cross-modal retrieval", ICIP 2020. SGCH Eq. 1:

    .. math::
        W_{ij} = \begin{cases}
            l_i^\top l_j & \text{both labelled: the number of shared labels} \\
            \omega \cos(x_i, x_j) & i \text{ among the } k \text{ nearest of } j, \text{ or } j
                \text{ of } i \\
            0 & \text{otherwise}
        \end{cases}

    The model works with :math:`D^{-1/2} (W + I) D^{-1/2}`, where :math:`D` holds the row sums of
    :math:`W + I` (the authors' code; the paper's are those of :math:`W`, which are 0 for a node
    without edges). It is :class:`IntraKNN` with ``LabelHub(match='count')``: hubs in place of
    label edges, so that nothing of size N x N is stored.

    :math:`\omega` (``neighbor_weight``) is 1 in the paper. A new item then is little more than the
    mean of its neighbours, which helps features that say little by themselves; the smaller default
    suits those that say much. Held-out labels tell (:class:`ValidationSplit`).

    ``graph='code'`` is what the authors' program builds instead: cosines are 1 (labelled nodes
    are joined if they share a label), a node without label is joined to the ``k`` nearest
    **labelled** nodes alone, and both modalities get the mean :math:`(W^I + W^T) / 2`.

    **That mean leaks.** With ``anchors='all'`` an image query is joined to the neighbours of its
    own text: the protocol is *transductive*. With ``anchors='train'`` only training nodes take the
    mean, a query the edges of its own modality (*inductive*). The paper's graph never mixes the
    modalities: there ``anchors='all'`` is *strict*.

    Args:
        k: number of neighbours (code: 20), the node itself excluded.
        graph: ``'paper'`` or ``'code'``.
        metric: ``'cosine'`` (paper), ``'ip'`` or ``'l2'``; neighbours under the latter two weigh 1.
        anchors: which nodes may be somebody's neighbour: ``'train'``, or ``'all'`` as in the paper.
        self_loops: see :class:`LabelHub`; ``'literal'`` adds :math:`W_{ii} = l_i^\top l_i`.
        neighbor_weight: :math:`\omega`, above 0.
        backend, approximate: see :class:`IntraKNN`.

    Raises:
        ValueError: as :class:`IntraKNN` and :class:`LabelHub`.
    """

    k: int = 20
    graph: str = "paper"
    metric: Metric = "cosine"
    anchors: str = "train"
    self_loops: str = "clean"
    neighbor_weight: float = 0.1
    backend: str = "auto"
    approximate: str | None = None

    def __post_init__(self) -> None:
        check_choice(self.graph, ("paper", "code"), "graph")
        self._steps()  # check their options

    def _steps(self) -> tuple[IntraKNN, LabelHub]:
        paper = self.graph == "paper"
        own = {key: v for key, v in vars(self).items() if key not in ("graph", "self_loops")}
        nearest = IntraKNN(**own, weight=None if paper else "binary")
        nearest._labeled_only = not paper
        return nearest, LabelHub(self.self_loops, match="count" if paper else "shared")

    def forward(self, data: HeteroData) -> HeteroData:
        """Return ``data`` with intra edges, class hubs and ``anchor_mask`` in both modalities.

        With ``graph='code'`` also ``neighbor_mask``: the anchors that new items are joined to.
        """
        if "graph" in data:
            raise ValueError("SGCHGraph: the graph exists already; start from data without one")
        require_labels(data, "SGCHGraph")
        for step in self._steps():
            data = step(data)
        reach = "train"  # in the paper no edge leads across the modalities, whatever the anchors
        if self.graph == "code":  # both modalities get the mean; their hubs are the same already
            reach = self.anchors
            is_anchor = data[IMAGE].anchor_mask
            own = {m: data[INTRA[m]] for m in MODALITIES}
            averaged = {m: averaged_edges(own, m, is_anchor) for m in MODALITIES}
            for m, edges in own.items():
                edges.edge_index, edges.edge_weight = merge_edges(
                    *averaged[m], is_anchor.numel(), reduce="sum"
                )
                data[m].neighbor_mask = is_anchor & data[m].labeled_mask
        data.graph = data.graph | {"inter_anchors": reach, "reading": self.graph}
        return data
