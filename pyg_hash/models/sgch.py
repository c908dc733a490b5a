"""SGCH: semi-supervised cross-modal hashing with one graph convolutional network a modality.

Shen, Zhai, Liu, Jiang: "Semi-supervised graph convolutional hashing network for large-scale
cross-modal retrieval", ICIP 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, get_args

from torch import Tensor, nn
from torch.func import functional_call

from pyg_hash.graph import Place
from pyg_hash.losses import (
    adversarial_loss,
    balance_loss,
    linear_similarity_loss,
    pairwise_nll,
    quantization_loss,
)
from pyg_hash.models.base import Objective
from pyg_hash.models.common import Widths, image_text_pair, known_labels, loss_weights, weighted
from pyg_hash.models.graph import GraphHashModel, both, pair_terms, under, view_terms, views
from pyg_hash.nn import GCNChannel, HashLayer, ModalityDiscriminator
from pyg_hash.nn.channel import Activation
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Match, Modality, Reduction
from pyg_hash.utils.checks import check_choice, check_positive_ints

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "nll": pairwise_nll,
    "linear": linear_similarity_loss,
    "paper": partial(linear_similarity_loss, dissimilar=0.0),
}
WEIGHTS = {"balance": 10.0, "quantization": 0.1, "pairing": 1.0, "adversarial": 0.1, "view": 1.0}
WEIGHTS |= {"contrast": 0.0}


class SGCH(GraphHashModel):
    r"""Semi-supervised graph convolutional hashing.

    Each modality has a two-layer GCN with tanh on its own graph (:class:`SGCHGraph`); one siamese
    layer, the same for both, makes relaxed codes :math:`H^I, H^T` of what they give. Training
    descends

    .. math::
        L_s + \alpha \sum_m \lVert H^{m\top} \mathbf{1} \rVert^2
            + \beta \sum_m \lVert \mathrm{sign}(H^m) - H^m \rVert^2
            + \pi \lVert H^I - H^T \rVert^2 + \lambda L_{adv}

    where :math:`L_s` compares labelled images with labelled texts. A discriminator tells the
    modalities of codes; the codes are to mislead it.

    Args:
        num_features, num_classes, num_bits: see :class:`HashModel`.
        hidden_channels: width of the GCNs' first layer (code: 500; NUS-WIDE 1000 for images, 400
            for texts); one number or a pair (image, text).
        out_channels: width of the GCNs' second layer (code: 128).
        variant: ``'full'``, or ``'v1'`` without the adversary.
        similarity: ``'nll'``, the likelihood of the authors' code; ``'paper'``, the paper's
            correlation, which draws similar pairs together and nothing apart; or ``'linear'``, the
            same with -1 in place of 0 for pairs that are not similar.
        adversary: ``'alternating'`` (code): a step of the discriminator, then a step of the codes
            on the same loss with the two labels swapped. ``'reversal'``: one step of all, through
            the gradient reversal of :class:`~pyg_hash.nn.ModalityDiscriminator`.
        adv_activation: between the discriminator's layers, ``'none'`` (code), ``'relu'`` or
            ``'leaky_relu'``.
        weights: where others than these; ``similarity`` has weight 1.

            ================  =================  =======  =====  ===================
            term              symbol             default  paper  authors' code
            ================  =================  =======  =====  ===================
            ``balance``       :math:`\alpha`     10       1      0.1 (NUS-WIDE 0.01)
            ``quantization``  :math:`\beta`      0.1      0.01   0
            ``pairing``       :math:`\pi`        1        0      0 (NUS-WIDE 250)
            ``adversarial``   :math:`\lambda`    0.1      none   0 (NUS-WIDE 1e7)
            ``view``          not in the paper   1        0      0
            ``contrast``      not in the paper   0        0      0
            ================  =================  =======  =====  ===================

            ``pairing``, ``view`` (similarity and quantization), ``contrast``: see :class:`MCGCN`.
        reduction: ``'mean'`` divides every term by its number of summands, so that weights mean the
            same for every data set; ``'sum'`` is the formula. The adversary is a mean in both.
        match: multi-label pairs are similar if they have a ``'shared'`` label or ``'equal'``
            label vectors.
    """

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: Widths | int = 512,
        out_channels: int = 512,
        variant: str = "full",
        similarity: str = "nll",
        adversary: str = "alternating",
        adv_activation: Activation = "none",
        weights: Mapping[str, float] | None = None,
        reduction: Reduction = "mean",
        match: Match = "shared",
    ) -> None:
        check_positive_ints(num_classes=num_classes, out_channels=out_channels)
        check_choice(variant, ("full", "v1"), "variant")
        check_choice(similarity, tuple(SIMILARITIES), "similarity")
        check_choice(adversary, ("alternating", "reversal"), "adversary")
        check_choice(adv_activation, get_args(Activation), "adv_activation")
        check_choice(reduction, ("mean", "sum"), "reduction")
        check_choice(match, ("shared", "equal"), "match")
        super().__init__(num_bits, num_features, joint=False)
        widths, hidden = self.num_features, image_text_pair(hidden_channels, "hidden_channels")
        self.weights = loss_weights(weights, WEIGHTS)
        self.config |= {"hidden_channels": list(hidden.values()), "weights": self.weights}
        self.learns_views = self.weights["view"] > 0
        self.num_classes, self.variant = num_classes, variant
        self.alternates = variant == "full" and adversary == "alternating"
        self.reduction: Reduction = reduction
        self._pair_loss = partial(SIMILARITIES[similarity], match=match, reduction=reduction)
        self.channels = nn.ModuleDict(
            {m: GCNChannel(widths[m], hidden[m], out_channels) for m in MODALITIES}
        )
        self.hash = HashLayer(out_channels, num_bits)
        if variant == "full":
            self.discriminator = ModalityDiscriminator(
                num_bits,
                (max(num_bits // 2, 1), max(num_bits // 4, 1)),
                reversal=None if self.alternates else 1.0,
                activation=adv_activation,
            )

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """``'codes'`` and ``'discriminator'`` if they alternate, else ``'model'``."""
        if not self.alternates:
            return super().parts()
        codes = [*self.channels.parameters(), *self.hash.parameters()]
        return {"codes": codes, "discriminator": list(self.discriminator.parameters())}

    def training_view(self, data: HeteroData) -> HeteroData:
        """The anchors alone, with a labelled node of each class: only a mini-batch may lack one."""
        view = super().training_view(data)
        known_labels(view, self.num_classes, require_all=True)
        return view

    def objectives(self, data: HeteroData, epoch: int) -> Iterator[Objective]:
        """The discriminator's step, then that of the codes; one step if they do not alternate."""
        out = self(data)
        if self.alternates:  # the codes stay those of out: this changes the discriminator alone
            yield Objective({"loss": self.discriminator_loss(out, data)}, "discriminator")
        yield Objective(self.loss(out, data), "codes" if self.alternates else "model")

    def propagate(
        self, x: Mapping[Modality, Sequence[Tensor]], places: Mapping[str, Place]
    ) -> dict[str, Tensor]:
        """Relaxed codes of nodes wherever they stand, and of the labelled ones as new items."""
        out: dict[str, Tensor] = {}
        for m, features in x.items():
            states = self.channels[m](features, places[m])
            for name, state in zip((m, f"{m}_view"), states, strict=False):
                out[name] = self.hash(state)
        return out

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """The codes' objective: its terms, and their weighted sum.

        ``similarity`` runs over the labelled nodes, ``balance``, ``pairing`` and ``contrast`` over
        the training nodes, ``quantization`` and ``adversarial`` over the anchors.
        """
        store = data[IMAGE]
        y = known_labels(data, self.num_classes)
        known, codes = under(out, store.labeled_mask), under(out, store.anchor_mask)
        train = under(out, store.train_mask)
        similarity = partial(self._pair_loss, a_y=y, b_y=y)
        terms = {
            "similarity": similarity(known[IMAGE], known[TEXT]),
            "balance": both(lambda m: balance_loss(train[m], self.reduction)),
            "quantization": both(lambda m: quantization_loss(codes[m], self.reduction)),
        }
        terms |= pair_terms(train, self.weights, self.reduction)
        if self.variant == "full":
            terms["adversarial"] = self._adversarial(codes)
        if view := views(out):
            terms["view"] = view_terms(similarity, view, known, self.weights, self.reduction)
        return weighted(terms, self.weights)

    def discriminator_loss(self, out: HashOutput, data: HeteroData) -> Tensor:
        """What the discriminator descends; the codes are constants."""
        codes = under(out, data[IMAGE].anchor_mask)
        return adversarial_loss(*(self.discriminator(codes[m].detach()) for m in MODALITIES))

    def _adversarial(self, codes: Mapping[Modality, Tensor]) -> Tensor:
        """What the codes descend: if alternating, swapped labels and a fixed discriminator."""
        if not self.alternates:
            return adversarial_loss(*(self.discriminator(codes[m]) for m in MODALITIES))
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        logits = {m: functional_call(self.discriminator, fixed, codes[m]) for m in MODALITIES}
        return adversarial_loss(logits[TEXT], logits[IMAGE])
