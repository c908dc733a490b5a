"""GCH: supervised cross-modal hashing with a label teacher and a graph convolutional beacon.

Xu, Li, Yan, Deng, Liu: "Graph Convolutional Network Hashing for Cross-Modal Retrieval", IJCAI 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_hash.losses import (
    label_regression_loss,
    pairwise_nll,
    similar_distance_loss,
    squared_distance_loss,
)
from pyg_hash.losses.pairs import PairLoss, check_likelihood
from pyg_hash.models.base import EncoderHashModel, Objective
from pyg_hash.models.batches import WHOLE, BatchDraw, Share, check_items, labelled_rows
from pyg_hash.models.common import image_text_pair, loss_weights, weighted
from pyg_hash.nn import BeaconNetwork, CodeEncoder, Encoding, HashLayer
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality, other
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.modes import exact

VARIANTS = ("full", "GCH-A", "Try1", "Try2")
LAYERS = {IMAGE: 1, TEXT: 2}  # before the heads: the image encoder stands behind a deep network
WEIGHTS = dict.fromkeys(("pairwise", "beacon", "prediction", "guide", "alignment"), 1.0)
LIKELIHOOD = {"kind": "nll", "factor": None, "similar": None}
BEACON = {"channels": 1024, "norm": "max", "add_self_loops": True, "activation": "tanh"}
BEACON |= {"guided": True, "grad": False}
PASSES = {"label": 5, "image": 1, "text": 1, "gcn": 1}
_BATCH = 4096


class _Round(NamedTuple):
    """What a round of Algorithm 1 works on: all items, and the labelled rows among them."""

    x: dict[Modality, Tensor]
    rows: Tensor
    labels: Tensor
    batches: BatchDraw


class GCH(EncoderHashModel):
    r"""Graph convolutional network hashing.

    A semantic encoder, the teacher, turns labels into codes :math:`H^l`. An image and a text
    encoder learn codes :math:`H^x, H^y` whose similarity to the teacher's follows the labels. Their
    features are fused by cross-attention, and two graph convolutions on the graph of shared labels
    make beacon codes :math:`H^b` of them, which the encoders then approach. Each batch has its own
    graph, kept in factors. An item is encoded by its encoder alone: every code is inductive.

    An epoch is one round of Algorithm 1: teacher; image, text encoder under its guidance; beacon
    network; image, text encoder with the beacon. Each passes over the labelled instances in
    random batches and changes that part alone (``parts()``: ``label``, ``image``, ``text``,
    ``gcn``); everything else is a constant in it, as the paper says. With weights and means in
    place of :math:`\alpha, \beta, \gamma` and sums, the four objectives are

    .. math::
        L^l &= w_{pairwise} J(H^l, H^l) + w_{prediction} \overline{(\hat L^l - L)^2} \\
        L^* &= w_{pairwise} J(H^l, H^*) + w_{beacon} \overline{(H^b - H^*)^2}
               + w_{prediction} \overline{(\hat L^* - L)^2} \\
        L^{GCN} &= w_{pairwise} J(H^l, H^b) + w_{prediction} \overline{(\hat L^G - L)^2}

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair. With
            an encoder of your own, the width of its output.
        num_classes: number of classes.
        num_bits: code length.
        hidden_channels: width of the layers of the teacher (two) and of the encoders (images one,
            texts two), hence of the features that are fused (paper: 512).
        dropout: share of an image or text encoder's hidden entries that training sets to 0.
        variant: ``'full'``; ``'GCH-A'``, the paper's ablation (Table 2) with dense layers in place
            of the graph convolutions; or a variant of the reproduction report: ``'Try1'``, where
            the encoders' codes are paired with each other in place of the teacher's, which pulls
            the codes of similar instances by their distance, or ``'Try2'``, where the features of
            both modalities are aligned and share a hash layer.
        likelihood: the likelihood ``J``: ``'nll'`` (paper), ``'squared_nll'`` (released code), or a
            mapping with ``kind``, one of these, and the ``factor`` of the codes' inner products
            and the value ``similar`` of pairs that share a label, see
            :func:`pyg_hash.losses.pairwise_nll`; None is what belongs to ``kind``.
        weights: of the terms, 1 where not given (the paper gives no values): ``pairwise``, the
            likelihood (:math:`\alpha`); ``beacon``, the distance to the beacon (:math:`\beta` of
            the encoders); ``prediction``, the predicted labels (:math:`\gamma` of the encoders,
            :math:`\beta` of the others); ``guide``, the term of ``'Try1'`` (:math:`\lambda`);
            ``alignment``, that of ``'Try2'``.
        beacon: the beacon network where it differs from the default: ``channels`` of its first
            layer (1024, as the paper has it); ``norm``, ``add_self_loops`` and ``activation``, see
            :class:`pyg_hash.nn.BeaconNetwork`; ``guided`` (True), to pair the beacon codes with the
            teacher's, as Algorithm 1 says ("under guidance of semantic encoder"), not with
            themselves, as printed: then teacher and beacon have codes of their own, which pull the
            encoders apart; and ``grad`` (False), to let the gradient of the distance to the beacon
            reach an encoder through the beacon too, as the released code does; in the paper the
            beacon is a constant.
        passes: over the labelled instances in an epoch, by part, where they differ from
            ``{'label': 5, 'image': 1, 'text': 1, 'gcn': 1}``. The teacher is small, and the
            encoders should not follow codes that still move.
        batch_size: instances of a batch, at least 2; a last batch of one joins the one before.
        image_encoder: a module of your own in front of the image encoder, trained along, from
            a batch of ``data['image'].x``, whatever that holds, to ``[n, num_features['image']]``.
            :meth:`load` must be given it again.
        text_encoder: the same for texts.
    """

    makes_batches = True
    old_keywords: ClassVar = {
        "pair_loss": ("likelihood", "kind"),
        "pair_factor": ("likelihood", "factor"),
        "pair_similar": ("likelihood", "similar"),
        "w_pair": ("weights", "pairwise"),
        "w_beacon": ("weights", "beacon"),
        "w_label": ("weights", "prediction"),
        "w_try": ("weights", "guide", "alignment"),
        "gcn_channels": ("beacon", "channels"),
        "fusion_norm": ("beacon", "norm"),
        "add_self_loops": ("beacon", "add_self_loops"),
        "gcn_activation": ("beacon", "activation"),
        "guided_beacon": ("beacon", "guided"),
        "beacon_grad": ("beacon", "grad"),
        "label_passes": ("passes", "label"),
        "gcn_passes": ("passes", "gcn"),
    }

    def __init__(
        self,
        num_features: Mapping[str, int] | tuple[int, int] | list[int],
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: int = 512,
        dropout: float = 0.3,
        variant: str = "full",
        likelihood: PairLoss | Mapping[str, Any] = "nll",
        weights: Mapping[str, float] | None = None,
        beacon: Mapping[str, Any] | None = None,
        passes: Mapping[str, int] | None = None,
        batch_size: int = 128,
        image_encoder: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
    ) -> None:
        widths = image_text_pair(num_features, "num_features")
        for name in ("num_classes", "num_bits", "hidden_channels", "batch_size"):
            check_positive_int(self.config[name], name)
        if batch_size == 1:
            raise ValueError("batch_size: a batch of one has no pairs; use at least 2")
        check_choice(variant, VARIANTS, "variant")
        super().__init__(num_bits, {"num_features": widths})
        self.num_features, self.num_classes, self.variant = widths, num_classes, variant
        self.batch_size = batch_size
        self.weights = loss_weights(weights, WEIGHTS)
        self.likelihood = _likelihood(likelihood)
        self.passes = _filled(passes, PASSES, "passes")
        for part, number in self.passes.items():
            check_positive_int(number, f"passes[{part!r}]")
        network = _filled(beacon, BEACON, "beacon")
        self.guided, self.beacon_grad = network.pop("guided"), network.pop("grad")
        width = hidden_channels
        self.teacher = CodeEncoder(num_classes, [width, width], num_bits, num_classes)
        own_modules = {IMAGE: image_encoder, TEXT: text_encoder}
        self._raw = [m for m in MODALITIES if own_modules[m] is not None]
        self.encoders = nn.ModuleDict(
            {
                m: CodeEncoder(
                    widths[m],
                    [width] * LAYERS[m],
                    None if variant == "Try2" else num_bits,
                    num_classes,
                    dropout=dropout,
                    batch_norm=True,
                    backbone=own_modules[m],
                )
                for m in MODALITIES
            }
        )
        if variant == "Try2":
            self.shared_hash = HashLayer(width, num_bits)
        channels = network.pop("channels")
        check_positive_int(channels, "beacon['channels']")
        self.gcn = BeaconNetwork(
            width, channels, num_bits, num_classes, dense=variant == "GCH-A", **network
        )

    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes; with gradients, ``aux`` holds what :meth:`loss` needs.

        In training mode, batch normalisation mixes the nodes given: training as :func:`fit` does
        it, by :meth:`objectives`, takes labelled nodes alone.

        Raises:
            ValueError: features of another width.
        """
        check_items(data, self.num_features, self._raw)
        made = {m: self._encode_all(data[m].x, m) for m in MODALITIES}
        aux = {}
        if torch.is_grad_enabled():
            aux = {f"{m}_features": made[m].features for m in MODALITIES}
            aux |= {f"{m}_logits": made[m].logits for m in MODALITIES}
        return HashOutput(made[IMAGE].codes, made[TEXT].codes, aux)

    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes of items of one modality (GCH Eq. 10 before its sign)."""
        return self._encode(x, modality).codes

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each part; the hash layer of ``'Try2'`` belongs to both encoders."""
        shared = list(self.shared_hash.parameters()) if self.variant == "Try2" else []
        return {
            "label": list(self.teacher.parameters()),
            "image": [*self.encoders[IMAGE].parameters(), *shared],
            "text": [*self.encoders[TEXT].parameters(), *shared],
            "gcn": list(self.gcn.parameters()),
        }

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """GCH Eq. 9 on all labelled nodes at once: the terms of each part, their weighted sum.

        What a part's objective holds constant is constant here too. If ``out`` was made without
        gradients, the features are made once more.
        """
        rows, labels = labelled_rows(data, self.num_classes, self.gcn.lin.weight)
        teacher, known = self.teacher(labels), {}
        for m in MODALITIES:
            if out.aux:
                features, logits = out.aux[f"{m}_features"][rows], out.aux[f"{m}_logits"][rows]
            else:
                features, _, logits = self._encode_all(data[m].x[rows], m, all_of_it=True)
            known[m] = Encoding(features, out[m][rows], logits)
        fixed = {m: known[m].features.detach() for m in MODALITIES}
        guide = teacher.codes.detach()
        objectives = {"label": self._teacher_terms(teacher, labels)}
        for m in MODALITIES:
            beacon = self._beacon(fixed | {m: known[m].features}, labels)
            terms = self._encoder_terms(known[m], guide, labels, beacon, fixed[other(m)])
            objectives[str(m)] = terms
        objectives["gcn"] = self._beacon_terms(fixed, guide, labels)
        total = torch.stack([weighted(t, self.weights)["loss"] for t in objectives.values()]).sum()
        named = {f"{part}_{k}": v for part, terms in objectives.items() for k, v in terms.items()}
        return named | {"loss": total}

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """One round of Algorithm 1 (lines 5 to 8), in mini-batches; ``share`` of them."""
        check_items(data, self.num_features, self._raw)
        rows, labels = labelled_rows(data, self.num_classes, self.gcn.lin.weight)
        batches = BatchDraw(rows, self.batch_size, share)
        known = _Round({m: data[m].x for m in MODALITIES}, rows, labels, batches)
        yield from self._train_teacher(known)
        with torch.no_grad():
            guide = torch.cat([self.teacher(some).codes for some in torch.split(labels, _BATCH)])
        yield from self._train_encoders(known, guide)
        yield from self._train_beacon(known, guide)
        beacons = torch.empty_like(guide)
        for b in batches.all():
            beacons[b] = self._beacon(self._fixed(known, b), labels[b]).detach()
        yield from self._train_encoders(known, guide, beacons)

    def _train_teacher(self, known: _Round) -> Iterator[Objective]:
        for b in known.batches.own(self.passes["label"]):
            labels = known.labels[b]
            yield self._objective(self._teacher_terms(self.teacher(labels), labels), "label")

    def _train_encoders(
        self, known: _Round, guide: Tensor, beacons: Tensor | None = None
    ) -> Iterator[Objective]:
        """The images, then the texts; without beacons before there are any."""
        for m in MODALITIES:
            for b in known.batches.own(self.passes[m]):
                own, labels = self._encode(known.x[m][known.rows[b]], m), known.labels[b]
                beacon = None if beacons is None else beacons[b]
                others = {}
                if self.variant == "Try2" or (self.beacon_grad and beacons is not None):
                    others = self._fixed(known, b, [other(m)])
                if self.beacon_grad and beacons is not None:
                    beacon = self._beacon({m: own.features, **others}, labels)
                terms = self._encoder_terms(own, guide[b], labels, beacon, others.get(other(m)))
                yield self._objective(terms, m)

    def _train_beacon(self, known: _Round, guide: Tensor) -> Iterator[Objective]:
        for b in known.batches.own(self.passes["gcn"]):
            terms = self._beacon_terms(self._fixed(known, b), guide[b], known.labels[b])
            yield self._objective(terms, "gcn")

    def _teacher_terms(self, made: Encoding, labels: Tensor) -> dict[str, Tensor]:
        """GCH Eq. 3 of labels, multi-hot ``[n, C]``."""
        with exact(labels):
            return {
                "pairwise": self._pairs(made.codes, made.codes, labels),
                "prediction": label_regression_loss(made.logits, labels),
            }

    def _encoder_terms(
        self,
        own: Encoding,
        guide: Tensor,
        labels: Tensor,
        beacon: Tensor | None,
        aligned: Tensor | None,
    ) -> dict[str, Tensor]:
        """GCH Eq. 5 of one modality, with what the reproduction report adds to it.

        Args:
            own: what the encoder made of the batch.
            guide: codes of the teacher ``[n, num_bits]``.
            labels: multi-hot labels, float ``[n, C]``.
            beacon: beacon codes ``[n, num_bits]``; None before there are any.
            aligned: features of the other modality ``[n, width]``, for ``'Try2'``.
        """
        paired = own.codes if self.variant == "Try1" else guide
        with exact(labels):
            terms = {
                "pairwise": self._pairs(paired, own.codes, labels),
                "prediction": label_regression_loss(own.logits, labels),
            }
            if beacon is not None:
                terms["beacon"] = squared_distance_loss(own.codes, beacon)
            if self.variant == "Try1":  # GCH report, Eq. 11
                terms["guide"] = similar_distance_loss(guide, own.codes, labels, labels)
            if self.variant == "Try2":  # GCH report, Eq. 12
                assert aligned is not None
                terms["alignment"] = squared_distance_loss(own.features, aligned)
        return terms

    def _beacon_terms(
        self, features: Mapping[Modality, Tensor], guide: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """GCH Eq. 8, which pairs the beacon codes with themselves; or with the teacher's."""
        codes, logits = self.gcn(features[IMAGE], features[TEXT], labels)
        with exact(labels):
            return {
                "pairwise": self._pairs(guide if self.guided else codes, codes, labels),
                "prediction": label_regression_loss(logits, labels),
            }

    def _pairs(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        return pairwise_nll(a, b, labels, labels, **self.likelihood)

    def _objective(self, terms: dict[str, Tensor], part: str) -> Objective:
        return Objective(weighted(terms, self.weights), part)

    def _beacon(self, features: Mapping[Modality, Tensor], labels: Tensor) -> Tensor:
        """Beacon codes for an encoder to approach: constants, unless it moves them itself."""
        codes = self.gcn.fixed(features[IMAGE], features[TEXT], labels)
        return codes if self.beacon_grad else codes.detach()

    def _encode(self, x: Tensor, modality: Modality) -> Encoding:
        hash_layer = self.shared_hash if self.variant == "Try2" else None
        made: Encoding = self.encoders[modality](x, hash_layer)
        return made

    def _encode_all(self, x: Tensor, modality: Modality, *, all_of_it: bool = False) -> Encoding:
        """Encode in batches, or at once while training; without gradients codes alone are kept."""
        keep = all_of_it or torch.is_grad_enabled()
        parts = []
        for batch in (x,) if self.training else torch.split(x, _BATCH):
            made = self._encode(batch, modality)
            none = made.codes.new_empty(0)
            parts.append(made if keep else Encoding(none, made.codes, none))
        return Encoding(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))

    def _fixed(
        self, known: _Round, b: Tensor, modalities: Sequence[Modality] = MODALITIES
    ) -> dict[Modality, Tensor]:
        """Features of a batch as constants."""
        rows = known.rows[b]
        return {m: self.encoders[m].fixed_features(known.x[m][rows]) for m in modalities}  # type: ignore[operator]


def _filled(
    given: Mapping[str, Any] | None, defaults: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """The defaults, but for what is given.

    Raises:
        ValueError: an entry that does not exist.
    """
    for key in given or {}:
        check_choice(key, tuple(defaults), name)
    return {**defaults, **(given or {})}


def _likelihood(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of :func:`pyg_hash.losses.pairwise_nll`."""
    given = {"kind": given} if isinstance(given, str) else given
    chosen = _filled(given, LIKELIHOOD, "likelihood")
    check_choice(chosen["kind"], ("nll", "squared_nll"), "likelihood['kind']")
    factor = 1.0 if chosen["factor"] is None else chosen["factor"]
    similar = 1.0 if chosen["similar"] is None else chosen["similar"]
    check_likelihood(factor, similar, ("likelihood['factor']", "likelihood['similar']"))
    return chosen
