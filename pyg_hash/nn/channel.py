"""The graph convolution channel of MCGCN and SGCH."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.typing import Adj, OptTensor, SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor

from pyg_hash.graph.operator import SparseMap
from pyg_hash.graph.place import Place, WholeGraph


class HubGCNConv(GCNConv):
    r"""PyG's :class:`~torch_geometric.nn.conv.GCNConv` on a ready :class:`SparseMap`.

    .. math::
        X' = \hat A (X \Theta)

    The weights multiply first, because propagation costs less on the narrower side. A matrix in
    PyG's form, row = target (``torch.sparse`` or torch-sparse's ``SparseTensor``), is accepted too;
    :meth:`SparseMap.from_adjacency` turns it once for many calls. An ``edge_index`` (with
    ``edge_weight``, used as it is) runs PyG's message passing.

    Shapes:
        ``x`` ``[N, in_channels]``, output ``[N, out_channels]``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, normalize=False, bias=False)

    def forward(
        self, x: Tensor, edge_index: Adj | SparseMap, edge_weight: OptTensor = None
    ) -> Tensor:
        """Convolve node features.

        Raises:
            ValueError: ``edge_weight`` together with a matrix, which holds its weights.
        """
        if isinstance(edge_index, SparseTensor) or is_torch_sparse_tensor(edge_index):
            edge_index = SparseMap.from_adjacency(edge_index)
        if isinstance(edge_index, SparseMap):
            if edge_weight is not None:
                raise ValueError("edge_weight: a sparse matrix holds its weights; leave it out")
            projected: Tensor = self.lin(x)
            return edge_index @ projected
        out: Tensor = super().forward(x, edge_index, edge_weight)
        return out


class GCNChannel(nn.Module):
    r"""A stack of two graph convolutions with tanh, on one modality's graph or on the joint one.

    .. math::
        H_{l+1} = \tanh(\hat A H_l \Theta_l)

    (MCGCN Eq. 3; Wu et al., 2023).

    Args:
        in_channels: input features.
        hidden_channels: width of the first layer.
        out_channels: width of the second layer.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = HubGCNConv(in_channels, hidden_channels)
        self.conv2 = HubGCNConv(hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.conv1.reset_parameters()
        self.conv2.reset_parameters()

    def forward(self, x: Tensor | Iterable[Tensor], place: Place | SparseMap) -> list[Tensor]:
        """States after both layers.

        Args:
            x: features ``[N, in_channels]``, or consecutive parts of their rows.
            place: where the nodes stand; an operator alone stands for :class:`WholeGraph`.

        Returns:
            ``[N, out_channels]`` in (-1, 1); then, if the place has a view, those of its rows.
        """
        place = WholeGraph(place) if isinstance(place, SparseMap) else place
        states: Iterable[Tensor] = [x] if isinstance(x, Tensor) else x
        for layer, conv in enumerate((self.conv1, self.conv2)):
            states = map(Tensor.tanh_, place.receive(layer, states, conv.lin))
        return place.gather(states)
