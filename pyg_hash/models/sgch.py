"""SGCH: semi-supervised cross-modal hashing with one graph convolutional network a modality.

Shen, Zhai, Liu, Jiang: "Semi-supervised graph convolutional hashing network for large-scale
cross-modal retrieval", ICIP 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch_geometric.data import HeteroData

from pyg_hash.graph import GraphCache, build_graphs
from pyg_hash.losses import (
    adversarial_loss,
    balance_loss,
    linear_similarity_loss,
    pairwise_nll,
    quantization_loss,
    squared_distance_loss,
)
from pyg_hash.models.base import Objective
from pyg_hash.models.common import check_widths, image_text_pair, known_labels
from pyg_hash.models.graph import GraphHashModel
from pyg_hash.models.intake import Intake
from pyg_hash.models.views import both, selected, view_similarity
from pyg_hash.nn import GCNChannel, HashLayer, ModalityDiscriminator
from pyg_hash.nn.adversarial import Activation
from pyg_hash.nn.channel import BLOCK
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Match, Modality, Reduction
from pyg_hash.utils.checks import check_choice, check_positive_int, check_weight

VARIANTS = ("full", "v1")
SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "nll": pairwise_nll,
    "linear": linear_similarity_loss,
}
ADVERSARIES = ("alternating", "reversal")


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

    The graph comes with the data; it decides reading, protocol, label rate and self-loops, and the
    model never knows.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_classes: number of classes.
        num_bits: code length :math:`K`.
        hidden_channels: width of the GCNs' first layer (code: 500; NUS-WIDE 1000 for images, 400
            for texts); one number or a pair (image, text).
        out_channels: width of the GCNs' second layer (code: 128).
        variant: ``'full'``, or ``'v1'`` without the adversary.
        similarity: ``'nll'``, the likelihood of the authors' code, or ``'linear'``, the paper's
            correlation.
        adversary: ``'alternating'`` (code): a step of the discriminator, then a step of the codes
            on the same loss with the two labels swapped; the parts ``'discriminator'`` and
            ``'codes'`` of :meth:`parts`. ``'reversal'``: one step of all, through a
            :class:`GradientReversal`.
        adv_activation: between the discriminator's layers, ``'none'`` (code), ``'relu'`` or
            ``'leaky_relu'``.
        alpha: weight of the balance terms (paper: 1; code: 0.1, NUS-WIDE 0.01).
        beta: weight of the quantization terms (paper: 0.01; code: none).
        pair_weight: weight :math:`\pi` of the distance between the two codes of a training pair
            (paper: 0; code: 250 for NUS-WIDE). Without it nothing ties the images and the texts
            that have no label.
        adv_weight: weight :math:`\lambda` of the adversary.
        view_weight: weight of the similarity and quantization terms on the labelled nodes encoded
            as new items are, by their nearest anchors and without their own label. Not in the
            paper (0 there): its labelled nodes see their label through the graph, which no query
            does.
        reduction: ``'mean'`` divides every term by its number of summands, so that the weights
            mean the same for every data set; ``'sum'`` is the formula. The adversary is a mean
            in both.
        match: multi-label pairs are similar if they have a ``'shared'`` label or ``'equal'``
            label vectors.
    """

    def __init__(
        self,
        num_features: Mapping[str, int] | tuple[int, int] | list[int],
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: int | tuple[int, int] | list[int] = 512,
        out_channels: int = 512,
        variant: str = "full",
        similarity: str = "nll",
        adversary: str = "alternating",
        adv_activation: Activation = "none",
        alpha: float = 10.0,
        beta: float = 0.1,
        pair_weight: float = 1.0,
        adv_weight: float = 0.1,
        view_weight: float = 1.0,
        reduction: Reduction = "mean",
        match: Match = "shared",
    ) -> None:
        config = dict(locals())  # a copy: a debugger may change the original on the way
        del config["self"], config["__class__"]
        widths = image_text_pair(num_features, "num_features")
        hidden = image_text_pair(hidden_channels, "hidden_channels")
        for name in ("num_classes", "num_bits", "out_channels"):
            check_positive_int(config[name], name)
        for name in ("alpha", "beta", "pair_weight", "adv_weight", "view_weight"):
            check_weight(config[name], name)
        check_choice(variant, VARIANTS, "variant")
        check_choice(similarity, tuple(SIMILARITIES), "similarity")
        check_choice(adversary, ADVERSARIES, "adversary")
        check_choice(adv_activation, ("none", "relu", "leaky_relu"), "adv_activation")
        check_choice(reduction, ("mean", "sum"), "reduction")
        check_choice(match, ("shared", "equal"), "match")
        config |= {"num_features": widths, "hidden_channels": [hidden[IMAGE], hidden[TEXT]]}
        super().__init__(num_bits, config)
        self.num_features = widths
        self.num_classes = num_classes
        self.variant = variant
        self.alternates = variant == "full" and adversary == "alternating"
        self.alpha, self.beta, self.pair_weight = alpha, beta, pair_weight
        self.adv_weight, self.view_weight = adv_weight, view_weight
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
        self._graphs = GraphCache(partial(build_graphs, joint=False))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """``'codes'`` and ``'discriminator'`` if they alternate, else ``'model'``."""
        if not self.alternates:
            return super().parts()
        codes = [*self.channels.parameters(), *self.hash.parameters()]
        return {"codes": codes, "discriminator": list(self.discriminator.parameters())}

    def training_view(self, data: HeteroData) -> HeteroData:
        """The anchors alone; see :class:`GraphHashModel`.

        Raises:
            TypeError, ValueError: no labels, or a class without a labelled node. A mini-batch
                (:class:`InstanceLoader`) may lack a class, what it is drawn from may not.
        """
        view = super().training_view(data)
        known_labels(view, self.num_classes, require_all=True)
        return view

    def objectives(self, data: HeteroData, epoch: int) -> Iterator[Objective]:
        """The discriminator's step, then that of the codes; one step if they do not alternate."""
        out = self(data)
        if not self.alternates:
            yield Objective(self.loss(out, data))
            return
        yield Objective({"loss": self.discriminator_loss(out, data)}, "discriminator")
        # the codes are still those of out: the step above changed the discriminator alone
        yield Objective(self.loss(out, data), "codes")

    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes.

        In training mode ``aux`` holds the relaxed codes of the labelled nodes encoded as new items
        (``image_view``, ``text_view``).

        Raises:
            ValueError: features of another width, or a graph without edges.
        """
        check_widths(data, self.num_features)
        graphs = self._graphs(data)
        views = graphs.views if self.training and self.view_weight > 0 else {}
        codes: dict[Modality, Tensor] = {}
        aux: dict[str, Tensor] = {}
        for m in MODALITIES:
            states, viewed = self._channel(m)(
                data[m].x, graphs.operators[m], views.get(m), constant=graphs.constant
            )
            codes[m] = self.hash(states)
            if viewed is not None:
                aux[f"{m}_view"] = self.hash(viewed)
        return HashOutput(codes[IMAGE], codes[TEXT], aux)

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """The codes' objective: its terms, unweighted, and their weighted sum ``'loss'``.

        ``similarity`` over the labelled nodes, ``balance`` and ``pairing`` over the training
        nodes, ``quantization`` and ``adversarial`` over the anchors (all nodes in the strict and
        the transductive protocol), and ``view``, which is not in the paper. When the adversary
        alternates, ``adversarial`` is the loss with swapped labels and the discriminator is a
        constant; :meth:`discriminator_loss` trains it.
        """
        store = data[IMAGE]
        y = known_labels(data, self.num_classes)
        known = {m: selected(out[m], store.labeled_mask) for m in MODALITIES}
        codes = {m: selected(out[m], store.anchor_mask) for m in MODALITIES}
        train = {m: selected(out[m], store.train_mask) for m in MODALITIES}

        def similarity(image: Tensor, text: Tensor) -> Tensor:
            return self._pair_loss(image, text, y, y)

        terms = {
            "similarity": similarity(known[IMAGE], known[TEXT]),
            "balance": both(lambda m: balance_loss(train[m], self.reduction)),
            "quantization": both(lambda m: quantization_loss(codes[m], self.reduction)),
        }
        weights = {"balance": self.alpha, "quantization": self.beta}
        if self.pair_weight > 0:
            terms["pairing"] = squared_distance_loss(train[IMAGE], train[TEXT], self.reduction)
            weights["pairing"] = self.pair_weight
        if self.variant == "full":
            terms["adversarial"] = self._adversarial(codes)
            weights["adversarial"] = self.adv_weight
        if "image_view" in out.aux:
            view = {m: out.aux[f"{m}_view"] for m in MODALITIES}
            terms["view"] = view_similarity(similarity, view, known) + self.beta * both(
                lambda m: quantization_loss(view[m], self.reduction)
            )
            weights["view"] = self.view_weight
        weighted = [weights.get(name, 1.0) * term for name, term in terms.items()]
        return terms | {"loss": torch.stack(weighted).sum()}

    def discriminator_loss(self, out: HashOutput, data: HeteroData) -> Tensor:
        """What the discriminator descends; the codes are constants."""
        seen = data[IMAGE].anchor_mask
        logits = {m: self.discriminator(selected(out[m], seen).detach()) for m in MODALITIES}
        return adversarial_loss(logits[IMAGE], logits[TEXT])

    @torch.no_grad()
    def infer(
        self, data: HeteroData, messages: dict[str, list[Tensor]] | None = None
    ) -> dict[Modality, Tensor]:
        """Relaxed codes of all nodes, block by block; see :class:`GraphHashModel`."""
        check_widths(data, self.num_features)
        operators = self._graphs(data).operators
        codes: dict[Modality, Tensor] = {}
        for m in MODALITIES:
            keep = None if messages is None else messages.setdefault(m, [])
            blocks = data[m].x.split(BLOCK)
            codes[m] = self.hash(self._channel(m).infer(blocks, operators[m], keep))
        return codes

    def make_intake(self, data: HeteroData) -> Intake:
        """The anchors that new items are joined to, and what these send."""
        if "neighbor_mask" in data[IMAGE]:  # graph='code': labelled nodes alone
            data = copy.copy(data)
            for m in MODALITIES:
                data[m].anchor_mask = data[m].neighbor_mask
        return super().make_intake(data)

    def relaxed_new(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes of new items, by edges that only lead to the new nodes."""
        own, _ = self.anchor_bank.receivers(x, modality)
        states = self._channel(modality).attach(x, self.anchor_bank.messages[modality], own)
        relaxed: Tensor = self.hash(states)
        return relaxed

    def _adversarial(self, codes: Mapping[Modality, Tensor]) -> Tensor:
        if not self.alternates:
            return adversarial_loss(*(self.discriminator(codes[m]) for m in MODALITIES))
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        logits = {m: functional_call(self.discriminator, fixed, codes[m]) for m in MODALITIES}
        return adversarial_loss(logits[TEXT], logits[IMAGE])  # the labels swapped

    def _channel(self, modality: Modality) -> GCNChannel:
        channel = self.channels[modality]
        assert isinstance(channel, GCNChannel)
        return channel
