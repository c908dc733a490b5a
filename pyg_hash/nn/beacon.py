"""The fusion module of GCH: from features of both modalities to beacon codes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pyg_hash.nn.label_graph import LabelGraph
from pyg_hash.nn.reweighting import FusionNorm, reweighted_fusion
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.modes import exact

Activation = Literal["tanh", "sigmoid"]


class BeaconNetwork(nn.Module):
    r"""Cross-attention fusion and two graph convolutions, from features to beacon codes.

    Sec. 3.2 and 4.2 of Xu et al. (GCH), IJCAI 2019: the features of a batch are fused (Eq. (6)),
    and two graph convolutions on the graph of its labels (Eq. (7)), with ReLU between them, make
    codes :math:`H^b` and labels :math:`\hat L^G` of them; the second has one set of weights for
    either ("N equals to the length of hash code K or total class label c"). The fused features
    are standardised over the batch on the way, because their size grows with that of the batch.

    Args:
        in_channels: width of the features.
        hidden_channels: width of the first layer (paper: 1024).
        num_bits: length of the codes.
        num_classes: number of classes.
        norm: of the fusion, see :func:`reweighted_fusion`.
        add_self_loops: of the graph, see :class:`LabelGraph`.
        activation: of the codes: ``'tanh'``, the range of codes in {-1, +1}, or the ``'sigmoid'``
            of the paper's Sec. 4.2, which reaches no -1.
        dense: GCH-A, the ablation of Table 2: dense layers, with biases, in place of the graph
            convolutions, which have none in Eq. (7). No label enters then.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_bits: int,
        num_classes: int,
        *,
        norm: FusionNorm = "max",
        add_self_loops: bool = True,
        activation: Activation = "tanh",
        dense: bool = False,
    ) -> None:
        super().__init__()
        check_positive_int(in_channels, "in_channels")
        check_positive_int(hidden_channels, "hidden_channels")
        check_positive_int(num_bits, "num_bits")
        check_positive_int(num_classes, "num_classes")
        check_choice(norm, ("max", "softmax"), "norm")
        check_choice(activation, ("tanh", "sigmoid"), "activation")
        self.norm = norm
        self.add_self_loops = add_self_loops
        self.activation = activation
        self.dense = dense
        self.lin = nn.Linear(in_channels, hidden_channels, bias=dense)
        self.hash = nn.Linear(hidden_channels, num_bits, bias=dense)
        self.classifier = nn.Linear(hidden_channels, num_classes, bias=dense)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (self.lin, self.hash, self.classifier):
            layer.reset_parameters()

    def forward(self, image: Tensor, text: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Beacon codes and labels of a batch of at least two instances.

        Args:
            image: image features, float ``[n, in_channels]``.
            text: text features, float ``[n, in_channels]``.
            labels: multi-hot labels, float ``[n, num_classes]``.

        Returns:
            relaxed codes, float ``[n, num_bits]``, and logits of the labels, float
            ``[n, num_classes]``.
        """
        x = reweighted_fusion(image, text, norm=self.norm)
        x = F.batch_norm(x, None, None, training=True)
        with exact(labels):
            graph = None if self.dense else LabelGraph(labels, add_self_loops=self.add_self_loops)
        h = torch.relu(_propagate(self.lin(x), graph))
        codes, logits = _propagate(self.hash(h), graph), _propagate(self.classifier(h), graph)
        return torch.tanh(codes) if self.activation == "tanh" else codes.sigmoid(), logits

    def fixed(self, image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Beacon codes with a gradient to the features, but none to the network's parameters."""
        parameters = {name: p.detach() for name, p in self.named_parameters()}
        codes: Tensor = functional_call(self, parameters, (image, text, labels))[0]
        return codes

    def extra_repr(self) -> str:
        """The arguments that the layers do not show, for ``repr``."""
        return (
            f"norm={self.norm!r}, add_self_loops={self.add_self_loops}, "
            f"activation={self.activation!r}, dense={self.dense}"
        )


def _propagate(x: Tensor, graph: LabelGraph | None) -> Tensor:
    """Sums over many instances, in fp32 under autocast too."""
    with exact(x):
        x = x.float() if x.dtype == torch.bfloat16 else x
        return x if graph is None else graph @ x
