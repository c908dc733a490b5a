"""The graph convolution channels of MCGCN: modality-specific and cross-modal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.typing import Adj, OptTensor

from pyg_hash.nn.graph import GraphOperator, Receiver
from pyg_hash.validation import check_same_rows


class HubGCNConv(GCNConv):
    r"""PyG's :class:`~torch_geometric.nn.conv.GCNConv` on a ready :class:`GraphOperator`.

    .. math::
        X' = \hat A (X \Theta)

    The weights multiply first, because propagation costs less on the narrower side. An
    ``edge_index`` (with ``edge_weight``, used as it is) is accepted too and runs PyG's message
    passing.

    Shapes:
        ``x`` ``[N, in_channels]``, output ``[N, out_channels]``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, normalize=False, bias=False)

    def forward(
        self, x: Tensor, edge_index: Adj | GraphOperator, edge_weight: OptTensor = None
    ) -> Tensor:
        """Convolve node features.

        Raises:
            ValueError: ``edge_weight`` together with a :class:`GraphOperator`.
        """
        if isinstance(edge_index, GraphOperator):
            if edge_weight is not None:
                raise ValueError("edge_weight: a GraphOperator holds its weights; leave it out")
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

    def forward(self, x: Tensor, operator: GraphOperator) -> tuple[Tensor, list[Tensor]]:
        r"""Convolve on a graph.

        Args:
            x: ``[N, in_channels]``.
            operator: the graph, on ``N`` nodes.

        Returns:
            states ``[N, out_channels]`` in (-1, 1), and what each node sends to a neighbour,
            :math:`D^{-1/2} H_l \Theta_l`, one ``[N, channels]`` tensor a layer. Nodes that only
            receive can be encoded from the messages alone, see :meth:`attach`.
        """
        messages = []
        for conv in (self.conv1, self.conv2):
            projected: Tensor = conv.lin(x)
            messages.append(operator.inv_sqrt_degree.unsqueeze(1) * projected)
            x = torch.tanh(operator @ projected)
        return x, messages

    def attach(self, x: Tensor, messages: list[Tensor], receiver: Receiver) -> Tensor:
        """States of nodes that receive from known nodes and send to nobody.

        Exactly what :meth:`forward` gives for such nodes as part of the graph.

        Args:
            x: features of the receiving nodes, ``[n, in_channels]``.
            messages: what the known nodes send, from :meth:`forward`.
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
        self, image: Tensor, text: Tensor, operator: GraphOperator
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Convolve on the joint graph.

        Args:
            image: latent image features, ``[N, in_channels]``.
            text: latent text features, ``[N, in_channels]``.
            operator: the joint graph, on ``2N`` nodes.

        Returns:
            shared representations of images and of texts, each ``[N, out_channels]``, and the
            messages of the ``2N`` nodes, one tensor a layer.

        Raises:
            ValueError: numbers of rows that do not match.
        """
        check_same_rows(image, text, "image", "text")
        shared, messages = self.channel(torch.cat((image, text)), operator)
        return shared[: image.size(0)], shared[image.size(0) :], messages
