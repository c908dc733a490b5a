"""MCGCN: semi-supervised cross-modal hashing with three graph convolution channels.

Wu, Li, Gao, Ji, Jing, Wan: "Semi-supervised cross-modal hashing via modality-specific and
cross-modal graph convolutional networks", Pattern Recognition 136, 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from pyg_hash.graph import Place
from pyg_hash.losses import (
    adversarial_loss,
    balance_loss,
    label_prediction_loss,
    pairwise_nll,
    quantization_loss,
    squared_distance_loss,
)
from pyg_hash.models.common import Widths, image_text_pair, known_labels, loss_weights, weighted
from pyg_hash.models.graph import (
    GraphHashModel,
    both,
    pair_terms,
    selected,
    under,
    view_terms,
    views,
)
from pyg_hash.nn import (
    AttentionFusion,
    Autoencoder,
    ConcatFusion,
    GCNChannel,
    Head,
    ModalityDiscriminator,
)
from pyg_hash.nn.fusion import OutActivation
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Match, Modality, Reduction
from pyg_hash.utils.checks import check_choice, check_positive_ints

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

WEIGHTS = {
    "quantization": 0.1,
    "balance": 3.0,
    "prediction": 1.0,
    "reconstruction": 0.001,
    "adversarial": 0.1,
    "pairing": 10.0,
    "view": 1.0,
    "contrast": 0.0,
}


class MCGCN(GraphHashModel):
    r"""Modality-specific and cross-modal graph convolutional hashing (Algorithm 1).

    Each modality has a two-layer GCN on its own graph; a third GCN works on the joint graph, on the
    latent features of two autoencoders. Attention fuses a node's specific and shared representation
    into its relaxed code. Training descends

    .. math::
        L = L_{hcl} + \gamma L_{lp} + \eta L_r + \lambda L_{adv}

    with the hash code learning loss :math:`L_{hcl}` (``pairwise``, ``quantization``, ``balance``),
    label prediction, reconstruction (Fig. 2), and the modality discriminator's loss behind a
    gradient reversal, which makes one descent of the min-max game. The graph comes with the data
    (:class:`IntraKNN`, :class:`InterKNN`, :class:`LabelHub`).

    Args:
        num_features, num_classes, num_bits: see :class:`HashModel`.
        hidden_channels: width of the specific GCNs' first layer, one number or a pair (image, text)
            (paper: 512; images of NUS-WIDE 1024).
        latent_channels: width of the autoencoders' code (paper: 2048, NUS-WIDE 1024).
        shared_channels: width of the cross-modal GCN's first layer (paper: 1024, NUS-WIDE 512).
        variant: ``'full'`` or an ablation of Table 3: ``'S'`` without the cross-modal channel,
            ``'IT'`` without the modality-specific channels, ``'A'`` concatenation (and a linear
            layer back to ``num_bits``) in place of attention, ``'C'`` without the modality
            classifier.
        weights: where others than these; ``pairwise`` has weight 1.

            ==================  ===========================  =======  =======================
            term                of                           default  paper
            ==================  ===========================  =======  =======================
            ``quantization``    Eq. 7, :math:`\alpha`        0.1      1 (NUS-WIDE 0.1)
            ``balance``         Eq. 7, :math:`\beta`         3        0.1
            ``prediction``      Eq. 6, :math:`\gamma`        1        1000
            ``reconstruction``  Fig. 2, :math:`\eta`         0.001    0.01
            ``adversarial``     Eq. 8, :math:`\lambda`       0.1      1
            ``pairing``         not in the paper             10       0
            ``view``            not in the paper             1        0
            ``contrast``        not in the paper             0        0
            ==================  ===========================  =======  =======================

            ``pairing`` is the distance between the two codes of a training pair, ``view`` the
            losses on the labelled nodes encoded as new items are, by their nearest anchors;
            :doc:`/methods` says why. ``contrast``: see :class:`HashModel`.
        reduction: ``'mean'`` divides every term by its number of summands, so that weights mean the
            same for every data set; with the paper's weights, ``'sum'`` is its loss, where the
            terms of :math:`L_{hcl}` are sums, the others means, and ``'paper'`` what its
            Algorithm 1 descends, that total divided by the number of pairs in the graph.
        match: multi-label pairs are similar if they have a ``'shared'`` label or ``'equal'``
            label vectors; use the same as in the graph.
        out_activation: after the autoencoders' decoders: ``'relu'`` (paper; for non-negative
            features only) or ``'none'``.
    """

    autoencoders: Any  # nn.ModuleDict of Autoencoder

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: Widths | int = 256,
        latent_channels: int = 256,
        shared_channels: int = 256,
        variant: str = "full",
        weights: Mapping[str, float] | None = None,
        reduction: Reduction | Literal["paper"] = "mean",
        match: Match = "shared",
        out_activation: OutActivation = "none",
    ) -> None:
        check_positive_ints(
            num_classes=num_classes,
            latent_channels=latent_channels,
            shared_channels=shared_channels,
        )
        check_choice(variant, ("full", "S", "IT", "A", "C"), "variant")
        check_choice(reduction, ("mean", "sum", "paper"), "reduction")
        check_choice(match, ("shared", "equal"), "match")
        super().__init__(num_bits, num_features, specific=variant != "IT", joint=variant != "S")
        widths, hidden = self.num_features, image_text_pair(hidden_channels, "hidden_channels")
        self.weights = loss_weights(weights, WEIGHTS)
        self.config |= {"hidden_channels": list(hidden.values()), "weights": self.weights}
        self.learns_views = self.weights["view"] > 0
        self.num_classes, self.variant = num_classes, variant
        self.reduction: Reduction = "mean" if reduction == "mean" else "sum"
        self.divides_by_pairs = reduction == "paper"
        self._pair_loss = partial(pairwise_nll, match=match, reduction=self.reduction)
        if self.has_specific:
            self.channels = nn.ModuleDict(
                {m: GCNChannel(widths[m], hidden[m], num_bits) for m in MODALITIES}
            )
        if self.has_shared:
            self.autoencoders = nn.ModuleDict(
                {m: Autoencoder(widths[m], latent_channels, out_activation) for m in MODALITIES}
            )
            cross = GCNChannel(latent_channels, shared_channels, num_bits)
            self.cross = nn.ModuleDict({"channel": cross})
        if self.has_specific and self.has_shared:
            fusion = ConcatFusion if variant == "A" else AttentionFusion
            self.fusions = nn.ModuleDict({m: fusion(num_bits) for m in MODALITIES})
        self.classifiers = nn.ModuleDict({m: Head(num_bits, num_classes) for m in MODALITIES})
        if variant != "C":
            self.discriminator = ModalityDiscriminator(num_bits)

    def propagate(
        self, x: Mapping[Modality, Sequence[Tensor]], places: Mapping[str, Place]
    ) -> dict[str, Tensor]:
        """Relaxed codes; for the loss ``*_latent`` of autoencoders and, of views, ``*_view``."""
        out: dict[str, Tensor] = {}
        states: dict[Modality, list[Sequence[Tensor]]] = {m: [] for m in x}
        if self.has_specific:
            for m, features in x.items():
                states[m].append(self.channels[m](features, places[m]))
        if self.has_shared:
            latent: dict[Modality, Iterable[Tensor]] = {
                m: map(self.autoencoders[m].encode, features) for m, features in x.items()
            }
            if self.is_whole:  # in blocks, one after the other is made and used
                latent = {m: list(parts) for m, parts in latent.items()}
                out = {f"{m}_latent": h for m, (h,) in latent.items()}
            joint = self.cross["channel"](chain(*latent.values()), places["joint"])
            for m, *shared in zip(x, *(state.chunk(len(x)) for state in joint), strict=True):
                states[m].append(shared)
        for m, found in states.items():
            for name, *z in zip((m, f"{m}_view"), *found, strict=False):
                out[name] = z[0] if len(z) == 1 else self.fusions[m](*z)
        return out

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """The terms, and their weighted sum.

        ``pairwise`` and ``prediction`` run over the labelled nodes, ``pairing`` and ``contrast``
        over the training nodes, ``quantization``, ``balance``, ``reconstruction`` and
        ``adversarial`` over the anchors.
        """
        store = data[IMAGE]
        y = known_labels(data, self.num_classes)
        codes, known = under(out, store.anchor_mask), under(out, store.labeled_mask)
        similarity = partial(self._pair_loss, a_y=y, b_y=y)
        terms = {
            "pairwise": similarity(known[IMAGE], known[TEXT]),
            "quantization": both(lambda m: quantization_loss(codes[m], self.reduction)),
            "balance": both(lambda m: balance_loss(codes[m], self.reduction)),
            "prediction": self._prediction(known, y),
        }
        if self.has_shared:
            terms["reconstruction"] = both(lambda m: self._reconstruction(data, out, m))
        if self.variant != "C":
            logits = {m: self.discriminator(codes[m]) for m in MODALITIES}
            terms["adversarial"] = adversarial_loss(logits[IMAGE], logits[TEXT])
        terms |= pair_terms(under(out, store.train_mask), self.weights, self.reduction)
        if view := views(out):
            likeness = view_terms(similarity, view, known, self.weights, self.reduction)
            terms["view"] = likeness + self.weights["prediction"] * self._prediction(view, y)
        terms = weighted(terms, self.weights)
        if self.divides_by_pairs:
            terms["loss"] = terms["loss"] / codes[IMAGE].size(0)
        return terms

    def _prediction(self, codes: dict[Modality, Tensor], y: Tensor) -> Tensor:
        return both(lambda m: label_prediction_loss(self.classifiers[m](codes[m]), y))

    def _reconstruction(self, data: HeteroData, out: HashOutput, m: Modality) -> Tensor:
        seen, coder, name = data[IMAGE].anchor_mask, self.autoencoders[m], f"{m}_latent"
        x = selected(data[m].x, seen)
        latent = selected(out.aux[name], seen) if name in out.aux else coder.encode(x)
        loss = squared_distance_loss(x, coder.decode(latent), self.reduction)
        return loss / x.size(0) if self.reduction == "sum" else loss
