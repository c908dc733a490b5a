"""The fusion module of GCH: from features of both modalities to beacon codes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from pyg_hash.nn.heads import Layer
from pyg_hash.utils.checks import check_choice, check_flags, check_positive_ints
from pyg_hash.utils.modes import exact

Activation = Literal["tanh", "sigmoid"]
FusionNorm = Literal["max", "softmax"]
_CHUNK = 1024  # rows of the fusion's weight matrix at a time


class BeaconNetwork(Layer):
    r"""Cross-attention fusion and two graph convolutions, from features to beacon codes.

    Sec. 3.2 and 4.2 of Xu et al. (GCH), IJCAI 2019: the features of a batch are fused by
    :func:`reweighted_fusion`, and two convolutions on the :class:`LabelGraph` of the batch, with
    ReLU between them, make codes :math:`H^b` and labels :math:`\hat L^G` of them; the second has
    one set of weights for either.

    Args:
        in_channels, num_bits, num_classes: widths of features, codes and labels.
        hidden_channels: width of the first layer (paper: 1024).
        norm: of the fusion, see :func:`reweighted_fusion`.
        standardised: bring the fused features, whose size grows with that of the batch, to mean 0
            and variance 1 over it. Ours: neither paper nor program has it.
        add_self_loops: of the graph, see :class:`LabelGraph`.
        activation: of the codes: ``'tanh'``, or the paper's ``'sigmoid'``, which reaches no -1.
        dense: GCH-A, the ablation of Table 2: dense layers, with biases, in place of the graph
            convolutions, which have none. No label enters then.
        labels_of_codes: predict the labels by a dense layer from the codes (program), not by a
            convolution.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_bits: int,
        num_classes: int,
        *,
        norm: FusionNorm = "max",
        standardised: bool = True,
        add_self_loops: bool = True,
        activation: Activation = "tanh",
        dense: bool = False,
        labels_of_codes: bool = False,
    ) -> None:
        super().__init__()
        widths = {"in_channels": in_channels, "hidden_channels": hidden_channels}
        check_positive_ints(**widths, num_bits=num_bits, num_classes=num_classes)
        check_choice(norm, ("max", "softmax"), "norm")
        check_choice(activation, ("tanh", "sigmoid"), "activation")
        check_flags(standardised=standardised, add_self_loops=add_self_loops)
        check_flags(dense=dense, labels_of_codes=labels_of_codes)
        self.norm, self.standardised, self.activation = norm, standardised, activation
        self.add_self_loops, self.dense = add_self_loops, dense
        self.lin = nn.Linear(in_channels, hidden_channels, bias=dense)
        self.hash = nn.Linear(hidden_channels, num_bits, bias=dense)
        self.labels_of_codes = labels_of_codes
        width = num_bits if labels_of_codes else hidden_channels
        self.classifier = nn.Linear(width, num_classes, bias=dense or labels_of_codes)

    def forward(self, image: Tensor, text: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Relaxed codes ``[n, num_bits]`` and label logits ``[n, num_classes]``, both float.

        Of features ``[n, in_channels]``, n at least 2, and multi-hot labels ``[n, num_classes]``,
        all float.
        """
        x = reweighted_fusion(image, text, norm=self.norm)
        if self.standardised:
            x = F.batch_norm(x, None, None, training=True)
        with exact(labels):
            graph = None if self.dense else LabelGraph(labels, add_self_loops=self.add_self_loops)

        def propagate(x: Tensor) -> Tensor:  # sums over many instances: as precise under autocast
            with exact(x):
                x = x.to(self.lin.weight.dtype)
                return x if graph is None else graph @ x

        h = torch.relu(propagate(self.lin(x)))
        codes = propagate(self.hash(h))
        codes = torch.tanh(codes) if self.activation == "tanh" else codes.sigmoid()
        if self.labels_of_codes:
            return codes, self.classifier(codes).to(codes)
        return codes, propagate(self.classifier(h))

    def fixed(self, image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Beacon codes with a gradient to the features, but none to the network's parameters."""
        parameters = {name: p.detach() for name, p in self.named_parameters()}
        codes: Tensor = functional_call(self, parameters, (image, text, labels))[0]
        return codes


class LabelGraph:
    r"""The propagation of GCH Eq. 7, :math:`\tilde D^{-1/2} \tilde A \tilde D^{-1/2}`, in factors.

    :math:`\tilde A = L L^\top + I`, the numbers of labels that two instances share, with multi-hot
    labels ``L``, float ``[N, C]``. ``add_self_loops=False``, the released code, leaves out ``I``;
    then an instance without labels receives nothing.
    """

    def __init__(self, labels: Tensor, *, add_self_loops: bool = True) -> None:
        if not labels.is_floating_point():
            raise TypeError(f"labels: expected float multi-hot labels, got {labels.dtype}")
        if labels.dim() != 2:
            raise ValueError(f"labels: expected multi-hot [N, C], got {list(labels.shape)}")
        self.labels, self.add_self_loops = labels, add_self_loops
        degree = labels @ labels.sum(dim=0) + float(add_self_loops)
        self.inv_sqrt_degree = torch.where(degree > 0, degree, torch.inf).rsqrt().unsqueeze(1)

    def __matmul__(self, x: Tensor) -> Tensor:
        """Propagate ``x``, float ``[N, d]``: float ``[N, d]``."""
        z = self.inv_sqrt_degree * x
        out = self.labels @ (self.labels.t() @ z)
        if self.add_self_loops:
            out = out + z
        return self.inv_sqrt_degree * out


def reweighted_fusion(image: Tensor, text: Tensor, *, norm: FusionNorm = "max") -> Tensor:
    r"""Fused features :math:`f_r`, float ``[N, d]``, each modality reweighted by the other.

    GCH Eq. 6. As printed, the shapes do not multiply; this is what the released code computes, with
    :math:`\tilde W = \mathrm{norm}(f^x f^{y\top})` and without any array of N x N:

    .. math::
        f_r = \tfrac{1}{2} \left( \tilde W^\top f^x + \tilde W f^y \right)

    ``norm='max'`` (the program's; the paper does not say) divides by the largest entry, or by
    nothing if none is positive: a negative divisor would turn every relation around. ``'softmax'``:
    each row of both weight matrices is the softmax of its entries divided by :math:`\sqrt d`
    (Vaswani et al., "Attention is all you need").
    """
    if image.shape != text.shape or image.dim() != 2:
        raise ValueError(
            f"image and text: shapes {list(image.shape)} and {list(text.shape)}; fusion needs "
            "features of the same instances, equally wide"
        )
    if norm == "softmax":
        return 0.5 * (_attend(text, image) + _attend(image, text))
    total = text @ (image.t() @ image) + image @ (text.t() @ text)
    with torch.no_grad():  # the largest entry of image text^T, differentiable, without a GPU sync
        tops = [(rows @ text.t()).max(dim=1) for rows in torch.split(image, _CHUNK)]
        value, column = (torch.cat(parts) for parts in zip(*tops, strict=True))
        row = value.argmax(keepdim=True)
    largest = (image.index_select(0, row) * text.index_select(0, column[row])).sum()
    return 0.5 * total / torch.where(value.amax() > 0, largest, torch.ones_like(largest))


def _attend(query: Tensor, key: Tensor) -> Tensor:
    """``softmax(query key^T / sqrt(d)) key``; the backward pass computes each chunk again."""

    def attend(rows: Tensor) -> Tensor:
        return torch.softmax(rows @ key.t() / key.size(1) ** 0.5, dim=1) @ key

    parts = torch.split(query, _CHUNK)
    return torch.cat([checkpoint(attend, rows, use_reentrant=False) for rows in parts])
