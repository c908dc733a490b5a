"""The graph convolution channel of MCGCN and SGCH."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from pyg_hash.graph import Place, SparseMap, WholeGraph
from pyg_hash.nn.heads import Layer
from pyg_hash.utils.checks import check_positive_ints


class _Convolution(Layer):
    """The weights of PyG's ``GCNConv``, drawn as it draws them: a place propagates.

    (The layer itself writes a file into the temporary folder of each process that makes one.)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        from torch_geometric.nn.dense import Linear  # takes seconds; a search may do without

        super().__init__()
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.reset_parameters()


class GCNChannel(Layer):
    r"""Two graph convolutions, :math:`H_{l+1} = \tanh(\hat A H_l \Theta_l)` (MCGCN Eq. 3)."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        check_positive_ints(
            in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels
        )
        self.conv1 = _Convolution(in_channels, hidden_channels)
        self.conv2 = _Convolution(hidden_channels, out_channels)

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
