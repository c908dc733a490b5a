"""The graph convolution channels of MCGCN: modality-specific and cross-modal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.typing import Adj, OptTensor, SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor

from pyg_hash.graph.operator import GraphOperator, SparseMap
from pyg_hash.graph.receiver import Receiver, View
from pyg_hash.utils.checks import check_same_rows

BLOCK = 8192  # rows that are worked on at a time where nothing is kept for a backward pass
_GEMM_SPEED = 16  # multiply-adds of a dense product in the time of one of a sparse product


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
    r"""A stack of graph convolutions with tanh (MCGCN Eq. 3; Wu et al., 2023).

    .. math::
        H_{l+1} = \tanh(\hat A H_l \Theta_l)

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

    def forward(
        self,
        x: Tensor,
        operator: GraphOperator | Adj,
        view: View | None = None,
        *,
        constant: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        r"""Convolve on a graph.

        Args:
            x: ``[N, in_channels]``.
            operator: the graph, on ``N`` nodes; or what :class:`HubGCNConv` takes besides.
            view: nodes of this graph to encode as new items on the way.
            constant: the same ``x`` comes again and again, so that :math:`\hat A X` may be kept
                and the first layer needs no propagation. It is kept where that is faster.

        Returns:
            states ``[N, out_channels]`` in (-1, 1), and those of the view, ``[rows,
            out_channels]``.

        Raises:
            ValueError: a view without a :class:`GraphOperator`.
        """
        if not isinstance(operator, GraphOperator):
            if view is not None:
                raise ValueError("view: needs a GraphOperator to be a part of")
            hidden = self.conv1(x, operator).tanh()
            return self.conv2(hidden, operator).tanh(), None
        if not (constant and _is_worth_keeping(x, operator, view)):
            return self.convolve(self.conv1.lin(x), operator, view)
        hidden = self.conv1.lin(operator.of_constant(x)).tanh_()
        viewed = None if view is None else self.conv1.lin(view.first.of_constant(x)).tanh_()
        return self._second(hidden, viewed, operator, view)

    def convolve(
        self, projected: Tensor, operator: GraphOperator, view: View | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """:meth:`forward` from projected features, ``conv1.lin(x)``, ``[N, hidden_channels]``."""
        hidden = (operator @ projected).tanh_()
        viewed = None if view is None else (view.first @ projected).tanh_()
        return self._second(hidden, viewed, operator, view)

    def _second(
        self, hidden: Tensor, viewed: Tensor | None, operator: GraphOperator, view: View | None
    ) -> tuple[Tensor, Tensor | None]:
        """The second layer."""
        projected = self.conv2.lin(hidden)
        states = (operator @ projected).tanh_()
        if view is None or viewed is None:
            return states, None
        return states, view(projected, self.conv2.lin(viewed)).tanh()

    @torch.no_grad()
    def infer(
        self, x: Iterable[Tensor], operator: GraphOperator, messages: list[Tensor] | None = None
    ) -> Tensor:
        r"""The states of :meth:`forward`, with no more memory than one layer needs.

        Layer by layer and, in a layer, one block of rows after the other: what is alive is what
        all nodes send in one layer, and a block.

        Args:
            x: features in consecutive blocks of rows, ``[n, in_channels]`` each, ``N`` in all.
            operator: the graph, on ``N`` nodes.
            messages: a list that gets what each node sends to a neighbour, :math:`D^{-1/2} H_l
                \Theta_l`, one ``[N, channels]`` tensor a layer. Nodes that only receive can be
                encoded from the messages alone, see :meth:`attach`.

        Returns:
            ``[N, out_channels]`` in (-1, 1).
        """
        num_nodes = operator.matrix.size(0)
        first = _filled(map(self.conv1.lin, x), num_nodes)
        hidden = (out.tanh_() for _, out in operator.blocks(first, BLOCK))
        second = _filled(map(self.conv2.lin, hidden), num_nodes)
        if messages is not None:
            messages += [sent * operator.inv_sqrt_degree.unsqueeze(1) for sent in (first, second)]
        del first
        return _filled((out.tanh_() for _, out in operator.blocks(second, BLOCK)), num_nodes)

    def attach(self, x: Tensor, messages: list[Tensor], receiver: Receiver) -> Tensor:
        """States of nodes that receive from known nodes and send to nobody.

        Exactly what :meth:`forward` gives for such nodes as part of the graph.

        Args:
            x: features of the receiving nodes, ``[n, in_channels]``.
            messages: what the known nodes send, from :meth:`infer`.
            receiver: who receives from whom.

        Returns:
            ``[n, out_channels]`` in (-1, 1).
        """
        for conv, sent in zip((self.conv1, self.conv2), messages, strict=True):
            x = torch.tanh(receiver(sent, conv.lin(x)))
        return x


class CrossModalChannel(nn.Module):
    """The cross-modal channel of MCGCN: one :class:`GCNChannel` on images and texts together.

    Both modalities come as latent features of the same width (the autoencoders' codes) and are
    stacked to ``2N`` nodes of the joint graph of Eq. 2, images first. Stacking keeps a node's own
    pair out of its self-loop, which a bipartite convolution on shared indices would mix in.

    Args:
        in_channels: width of the latent features.
        hidden_channels: width of the first layer.
        out_channels: width of the second layer.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.channel = GCNChannel(in_channels, hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.channel.reset_parameters()

    def forward(
        self, image: Tensor, text: Tensor, operator: GraphOperator, view: View | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Convolve on the joint graph.

        Args:
            image: latent image features, ``[N, in_channels]``.
            text: latent text features, ``[N, in_channels]``.
            operator: the joint graph, on ``2N`` nodes.
            view: nodes of this graph to encode as new items on the way.

        Returns:
            shared representations of images and of texts, each ``[N, out_channels]``, and those
            of the view, ``[rows, out_channels]``.

        Raises:
            ValueError: numbers of rows that do not match.
        """
        check_same_rows(image, text, "image", "text")
        projected = torch.cat([self.channel.conv1.lin(x) for x in (image, text)])
        shared, viewed = self.channel.convolve(projected, operator, view)
        return shared[: image.size(0)], shared[image.size(0) :], viewed

    def infer(
        self,
        image: Iterable[Tensor],
        text: Iterable[Tensor],
        operator: GraphOperator,
        messages: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same without autograd, block by block; see :meth:`GCNChannel.infer`."""
        first, second = self.channel.infer(chain(image, text), operator, messages).chunk(2)
        return first, second


def _is_worth_keeping(x: Tensor, operator: GraphOperator, view: View | None) -> bool:
    """Whether propagating costs more than projecting a view's rows apart from the graph's."""
    if x.requires_grad:
        return False
    if view is None:
        return True
    spared = operator.num_entries + view.first.num_entries
    return view.num_rows * x.size(1) <= _GEMM_SPEED * spared


def _filled(blocks: Iterable[Tensor], num_rows: int) -> Tensor:
    """Consecutive blocks of rows in one array; ``torch.cat`` would hold all of them twice."""
    out: Tensor | None = None
    start = 0
    for block in blocks:
        if out is None:
            out = block.new_empty(num_rows, block.size(1))
        out[start : start + block.size(0)] = block
        start += block.size(0)
    assert out is not None and start == num_rows
    return out
