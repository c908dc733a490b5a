"""GCH: supervised cross-modal hashing with a label teacher and a graph convolutional beacon.

Xu, Li, Yan, Deng, Liu: "Graph Convolutional Network Hashing for Cross-Modal Retrieval", IJCAI 2019.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.losses import pairwise_nll, similar_distance_loss, squared_distance_loss
from pyg_hash.losses.pairs import PairLoss, check_likelihood
from pyg_hash.models.base import BATCH, Objective
from pyg_hash.models.batches import WHOLE, BatchDraw, Share, labelled_rows
from pyg_hash.models.common import (
    Widths,
    check_widths,
    like_of,
    loss_weights,
    pair_contrast,
    weighted,
)
from pyg_hash.models.encoder import EncoderHashModel
from pyg_hash.nn import BeaconNetwork, CodeEncoder, Encoding, HashLayer
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality, binarize, other
from pyg_hash.utils.checks import (
    check_choice,
    check_mapping,
    check_positive_int,
    check_positive_ints,
)
from pyg_hash.utils.modes import eval_mode, exact

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

VARIANTS = ("full", "GCH-A", "Try1", "Try2")
WEIGHTS = dict.fromkeys(("pairwise", "beacon", "prediction", "guide", "alignment"), 1.0)
WEIGHTS |= {"contrast": 0.0}
BEACON = {"channels": 1024, "norm": "max", "add_self_loops": True, "activation": "tanh"}
BEACON |= {"guided": True, "grad": False}
PASSES = {"label": 5, "image": 1, "text": 1, "gcn": 1}
LIKELIHOOD = {"kind": "nll", "factor": None, "similar": None}
Terms = dict[str, Tensor]


class _Round(NamedTuple):
    """What a round of Algorithm 1 works on: all items, labels and batches of the labelled rows."""

    data: HeteroData
    labels: Tensor
    batches: BatchDraw

    def items(self, m: Modality, b: Tensor) -> Tensor:
        """The items of a batch."""
        x: Tensor = self.data[m].x[self.batches.rows[b]]
        return x


class GCH(EncoderHashModel):
    r"""Graph convolutional network hashing.

    A semantic encoder, the teacher, turns labels into codes :math:`H^l`; an image and a text
    encoder learn codes :math:`H^x, H^y`; their features are fused by cross-attention, and two graph
    convolutions on the batch's graph of shared labels make beacon codes :math:`H^b` of them. An
    item is encoded by its encoder alone: every code is inductive.

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

    What paper and released program (2272d2a) have is :func:`pyg_hash.recipes.recipe` of
    ``'gch/mirflickr'``, ``'gch/coco'`` and ``'gch/mirflickr-program'``, and what of it cannot be
    reached is listed in :doc:`/methods`.

    Args:
        num_features: see :class:`HashModel`; with an encoder of your own, the width of its output.
        num_classes, num_bits, dropout, batch_size: see :class:`HashModel`.
        hidden_channels: width of the layers of the teacher (two) and of the encoders (images one,
            texts two, or three if ``network`` is not ``'ours'``), hence of the features that are
            fused (paper: 512).
        network: ``'ours'``: features of both encoders are standardised behind the activation, the
            fused ones too. ``'paper'``: nothing is, and the texts have the "four fully-connected
            layers" (the chain of Sec. 4.2 shows three). ``'program'``: so have they here; batch
            normalisation in front of the activation in teacher and encoders, and of the images'
            tanh; teacher and beacon network predict labels from codes; all weights and biases are
            drawn from N(0, 1).
        variant: ``'full'``; ``'GCH-A'``, the paper's ablation (Table 2) with dense layers in place
            of the graph convolutions; or a variant of the reproduction report: ``'Try1'``, where
            the encoders' codes are paired with each other, not with the teacher's, which pulls
            the codes of similar instances by their distance, or ``'Try2'``, where the features of
            both modalities are aligned and share a hash layer.
        objective: ``'paper'``, as above. ``'program'``: teacher's codes are paired with a bank of
            the codes of all instances (noise at first, new after a step where the batch is; each
            share of an epoch keeps its own); texts take their turns before images; in the first
            they approach the bank's signs, ``guide``, and predict the labels, in the second they
            approach beacon and signs; the beacon network's labels go through a logistic function
            twice, to a cross-entropy. An encoder of ``'Try1'`` has the report's objective.
        likelihood: ``'nll'``, ``'squared_nll'``, or a mapping with ``kind``, one of these,
            ``factor`` and ``similar``: see :func:`pyg_hash.losses.pairwise_nll`.
        weights: 1 where not given: ``pairwise``, the likelihood (:math:`\alpha`); ``beacon``, the
            distance to the beacon (:math:`\beta` of the encoders); ``prediction``, the predicted
            labels (:math:`\gamma` of the encoders, :math:`\beta` of the others); ``guide``, the
            term of ``'Try1'`` (:math:`\lambda`) and of the program; ``alignment``, that of
            ``'Try2'``; and ``contrast``, where the other encoder's codes are constants.
        beacon: where it differs from the default: ``channels`` of the network's first layer (1024,
            as in the paper); ``norm``, ``standardised`` (True if ``network`` is ``'ours'``),
            ``add_self_loops`` and ``activation``, see :class:`pyg_hash.nn.BeaconNetwork`;
            ``guided`` (True), to pair the beacon codes with the teacher's, as Algorithm 1 says
            ("under guidance of semantic encoder"), not with themselves, as printed (with i twice,
            for i and j): then teacher and beacon have codes of their own, which pull the encoders
            apart; and ``grad`` (False), to let the gradient of the distance to the beacon reach an
            encoder through the beacon too; in the paper the beacon is a constant.
        passes: over the labelled instances in a turn, by part, where they differ from
            ``{'label': 5, 'image': 1, 'text': 1, 'gcn': 1}``; the teacher is small, and the
            encoders should not follow codes that still move. Or the number of steps, as
            ``'1000 steps'``, each with a batch drawn anew from all instances.
        image_encoder, text_encoder: modules of your own in front of the encoders, trained along,
            from a batch of ``data[modality].x``, whatever that holds, to
            ``[n, num_features[modality]]``. :meth:`load` must be given them again.
    """

    makes_batches = True

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: int = 512,
        dropout: float = 0.3,
        network: Literal["ours", "paper", "program"] = "ours",
        variant: str = "full",
        objective: Literal["paper", "program"] = "paper",
        likelihood: PairLoss | Mapping[str, Any] = "nll",
        weights: Mapping[str, float] | None = None,
        beacon: Mapping[str, Any] | None = None,
        passes: Mapping[str, int | str] | None = None,
        batch_size: int = 128,
        image_encoder: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
    ) -> None:
        check_positive_ints(
            num_classes=num_classes, hidden_channels=hidden_channels, batch_size=batch_size
        )
        if batch_size == 1:
            raise ValueError("batch_size: a batch of one has no pairs; use at least 2")
        check_choice(variant, VARIANTS, "variant")
        check_choice(network, ("ours", "paper", "program"), "network")
        check_choice(objective, ("paper", "program"), "objective")
        super().__init__(num_bits, num_features=num_features)
        self.num_classes, self.variant, self.batch_size = num_classes, variant, batch_size
        self.network, self.objective = network, objective
        self.weights = loss_weights(weights, WEIGHTS)
        self.passes = filled(passes, PASSES, "passes")
        for part, number in self.passes.items():
            steps = re.fullmatch(r"(\d+) steps", str(number))
            check_positive_int(int(steps[1]) if steps else number, f"passes[{part!r}]")
        made = filled(beacon, BEACON | {"standardised": network == "ours"}, "beacon")
        given = {"kind": likelihood} if isinstance(likelihood, str) else likelihood
        known = filled(given, LIKELIHOOD, "likelihood")
        check_choice(known["kind"], ("nll", "squared_nll"), "likelihood['kind']")
        factor, similar = (1.0 if known[k] is None else known[k] for k in ("factor", "similar"))
        check_likelihood(factor, similar, ("likelihood['factor']", "likelihood['similar']"))
        self.config |= {"weights": self.weights, "passes": self.passes}
        self.config |= {"beacon": dict(made), "likelihood": known}
        channels, self.guided, self.beacon_grad = (
            made.pop(name) for name in ("channels", "guided", "grad")
        )
        check_positive_int(channels, "beacon['channels']")
        self._pairs: Callable[..., Tensor] = partial(pairwise_nll, **known)
        width, program = hidden_channels, network == "program"
        # GCH Eq. 2
        self.teacher = CodeEncoder(
            num_classes,
            [width, width],
            num_bits,
            num_classes,
            batch_norm="before" if program else False,
            labels_of_codes=program,
        )
        own_modules = {IMAGE: image_encoder, TEXT: text_encoder}
        self._raw = [m for m in MODALITIES if own_modules[m] is not None]
        # the image encoder stands behind a deep network
        layers = {IMAGE: 1, TEXT: 2 if network == "ours" else 3}
        # GCH Eq. 4
        self.encoders = nn.ModuleDict(
            {
                m: CodeEncoder(
                    self.num_features[m],
                    [width] * layers[m],
                    None if variant == "Try2" else num_bits,
                    num_classes,
                    dropout=dropout,
                    batch_norm="before" if program else network == "ours",
                    hash_norm=program and m == IMAGE,
                    backbone=own_modules[m],
                )
                for m in MODALITIES
            }
        )
        self.shared_hash = HashLayer(width, num_bits) if variant == "Try2" else None
        made |= {"dense": variant == "GCH-A", "labels_of_codes": program}
        self.gcn = BeaconNetwork(width, channels, num_bits, num_classes, **made)
        self._draw_as_program()

    def reset_parameters(self) -> None:
        """Draw new parameters and forget the data."""
        super().reset_parameters()
        self._draw_as_program()

    @torch.no_grad()
    def _draw_as_program(self) -> None:
        """All of the linear layers' parameters, but for the user's modules, from N(0, 1)."""
        for name, layer in self.named_modules() if self.network == "program" else ():
            if isinstance(layer, nn.Linear) and ".backbone" not in name:
                for p in layer.parameters():
                    p.normal_()

    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes; with gradients, ``aux`` holds what :meth:`loss` needs.

        In training mode, batch normalisation mixes the nodes given: training as :func:`fit` does
        it, by :meth:`objectives`, takes labelled nodes alone.
        """
        if not torch.is_grad_enabled():
            return super().forward(data)
        self._check_items(data)
        made = {m: self._encode(data[m].x, m) for m in MODALITIES}
        aux = {f"{m}_features": made[m].features for m in MODALITIES}
        aux |= {f"{m}_logits": made[m].logits for m in MODALITIES}
        return HashOutput(made[IMAGE].codes, made[TEXT].codes, aux)

    def _check_items(self, data: HeteroData) -> None:
        features = {m: d for m, d in self.num_features.items() if m not in self._raw}
        for m in features:
            if data[m].x.dim() != 2:
                raise ValueError(
                    f"data[{m!r}].x: expected features [N, d], got {list(data[m].x.shape)}; give "
                    f"{m}_encoder a module that makes features of them"
                )
        check_widths(data, features, like_of(self))

    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes of items of one modality (GCH Eq. 10 before its sign)."""
        return self._encode(x, modality).codes

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each part; the hash layer of ``'Try2'`` belongs to both encoders."""
        shared = [] if self.shared_hash is None else list(self.shared_hash.parameters())
        return {
            "label": list(self.teacher.parameters()),
            "image": [*self.encoders[IMAGE].parameters(), *shared],
            "text": [*self.encoders[TEXT].parameters(), *shared],
            "gcn": list(self.gcn.parameters()),
        }

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """GCH Eq. 9 on all labelled nodes at once: the terms of each part, their weighted sum.

        What a part's objective holds constant is constant here too.
        """
        rows, labels = labelled_rows(data, self.num_classes, self.gcn.lin.weight)
        teacher, known = self.teacher(labels), {}
        for m in MODALITIES:
            if out.aux:  # else it was made without gradients
                features, logits = out.aux[f"{m}_features"][rows], out.aux[f"{m}_logits"][rows]
            else:
                features, _, logits = self._encode(data[m].x[rows], m)
            known[m] = Encoding(features, out[m][rows], logits)
        fixed = {m: known[m].features.detach() for m in MODALITIES}
        guide = teacher.codes.detach()
        bank = (guide, labels) if self.objective == "program" else None
        objectives: dict[str, Terms] = {"label": self._teacher_terms(teacher, labels, bank)}
        for m in MODALITIES:
            beacon = self._beacon(fixed | {m: known[m].features}, labels)
            partners = known[other(m)].codes.detach() if self.weights["contrast"] > 0 else None
            objectives[m] = self._encoder_terms(
                known[m], guide, labels, beacon, fixed[other(m)], partners
            )
        codes, logits = self.gcn(fixed[IMAGE], fixed[TEXT], labels)
        objectives["gcn"] = self._beacon_terms(codes, logits, labels, guide)
        total = torch.stack([weighted(t, self.weights)["loss"] for t in objectives.values()]).sum()
        named = {f"{part}_{k}": v for part, terms in objectives.items() for k, v in terms.items()}
        return named | {"loss": total}

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """One round of Algorithm 1 (lines 5 to 8), in mini-batches; ``share`` of them."""
        self._check_items(data)
        rows, labels = labelled_rows(data, self.num_classes, self.gcn.lin.weight)
        known = _Round(data, labels, BatchDraw(rows, self.batch_size, share))
        guide = yield from self._train_teacher(known, epoch)
        yield from self._train_encoders(known, guide)
        for b in self._draw(known, "gcn"):
            fixed = self._fixed(known, b)
            codes, logits = self.gcn(fixed[IMAGE], fixed[TEXT], labels[b])
            terms = self._beacon_terms(codes, logits, labels[b], guide[b])
            yield Objective(weighted(terms, self.weights), "gcn")
        beacons = torch.empty_like(guide)
        for b in known.batches.all():
            beacons[b] = self._beacon(self._fixed(known, b), labels[b]).detach()
        yield from self._train_encoders(known, guide, beacons)

    def _train_teacher(self, known: _Round, epoch: int) -> Generator[Objective, None, Tensor]:
        """Train it, and return the codes that guide all others."""
        labels, bank = known.labels, None
        if self.objective == "program" and epoch == 0:
            shape, drawn = (len(labels), self.num_bits), known.batches.generator
            noise = torch.randn(shape, generator=drawn, dtype=torch.float32, device="cpu")
            bank = noise.to(labels)
        elif self.objective == "program":
            bank = self._guide(labels)
        for b in self._draw(known, "label"):
            others = None if bank is None else (bank, labels)
            terms = self._teacher_terms(self.teacher(labels[b]), labels[b], others)
            yield Objective(weighted(terms, self.weights), "label")
            if bank is not None:
                bank[b] = self._guide(labels[b])
        return self._guide(labels) if bank is None else bank

    def _train_encoders(
        self, known: _Round, guide: Tensor, beacons: Tensor | None = None
    ) -> Iterator[Objective]:
        """A turn of each encoder; without beacons before there are any."""
        live = self.beacon_grad and beacons is not None
        for m in MODALITIES if self.objective == "paper" else reversed(MODALITIES):
            for b in self._draw(known, m):
                own, labels = self._encode(known.items(m, b), m), known.labels[b]
                beacon = None if beacons is None else beacons[b]
                needed = [other(m)] if live or self.variant == "Try2" else []
                others = self._fixed(known, b, needed)
                if live:
                    beacon = self._beacon({m: own.features, **others}, labels)
                aligned = others.get(other(m))
                partners = self._partners(known, b, m) if self.weights["contrast"] > 0 else None
                terms = self._encoder_terms(own, guide[b], labels, beacon, aligned, partners)
                yield Objective(weighted(terms, self.weights), m)

    def _teacher_terms(
        self, made: Encoding, labels: Tensor, bank: tuple[Tensor, Tensor] | None
    ) -> Terms:
        """GCH Eq. 3; codes are paired with the ``bank``'s codes and labels, or with themselves."""
        others, others_labels = (made.codes, labels) if bank is None else bank
        with exact(labels):
            return {
                "pairwise": self._pairs(others, made.codes, others_labels, labels),
                "prediction": squared_distance_loss(made.logits.sigmoid(), labels),
            }

    def _encoder_terms(
        self,
        own: Encoding,
        guide: Tensor,
        labels: Tensor,
        beacon: Tensor | None,
        aligned: Tensor | None,
        partners: Tensor | None = None,
    ) -> Terms:
        """GCH Eq. 5; ``aligned``, ``partners``: features and codes of the other modality."""
        with exact(labels):
            if self.objective == "program" and self.variant != "Try1":
                terms = {"guide": squared_distance_loss(own.codes, binarize(guide).to(guide))}
            else:
                paired = own.codes if self.variant == "Try1" else guide
                terms = {"pairwise": self._pairs(paired, own.codes, labels, labels)}
            if beacon is None or "pairwise" in terms:
                terms["prediction"] = squared_distance_loss(own.logits.sigmoid(), labels)
            if beacon is not None:
                terms["beacon"] = squared_distance_loss(own.codes, beacon)
            if self.variant == "Try1":  # GCH report Eq. 11
                terms["guide"] = similar_distance_loss(guide, own.codes, labels, labels)
            if self.variant == "Try2":  # GCH report Eq. 12
                assert aligned is not None
                terms["alignment"] = squared_distance_loss(own.features, aligned)
            if partners is not None:
                terms["contrast"] = pair_contrast(own.codes, partners)
        return terms

    def _beacon_terms(self, codes: Tensor, logits: Tensor, labels: Tensor, guide: Tensor) -> Terms:
        """GCH Eq. 8, where the beacon codes are paired with each other, or ``guided``."""
        with exact(labels):
            paired = guide if self.guided else codes
            terms = {"pairwise": self._pairs(paired, codes, labels, labels)}
            if self.objective == "program":
                once = logits.sigmoid()
                terms["prediction"] = F.binary_cross_entropy_with_logits(once, labels)
            else:
                terms["prediction"] = squared_distance_loss(logits.sigmoid(), labels)
        return terms

    def _draw(self, known: _Round, part: str) -> Iterator[Tensor]:
        """The batches of a part's turn."""
        passes = self.passes[part]
        if not isinstance(passes, str):
            return known.batches.own(passes)
        return (next(known.batches.own()) for _ in range(int(passes.split()[0])))

    def _guide(self, labels: Tensor) -> Tensor:
        """The teacher's codes as constants."""
        with eval_mode(self.teacher, autocast=True):
            return torch.cat([self.teacher(some).codes for some in torch.split(labels, BATCH)])

    def _beacon(self, features: Mapping[Modality, Tensor], labels: Tensor) -> Tensor:
        """Beacon codes for an encoder to approach: constants, unless it moves them itself."""
        codes = self.gcn.fixed(features[IMAGE], features[TEXT], labels)
        return codes if self.beacon_grad else codes.detach()

    def _encode(self, x: Tensor, modality: Modality) -> Encoding:
        made: Encoding = self.encoders[modality](x, self.shared_hash)
        return made

    def _partners(self, known: _Round, b: Tensor, m: Modality) -> Tensor:
        """The other encoder's codes of a batch as constants."""
        with eval_mode(self.encoders[other(m)], autocast=True):
            return self._encode(known.items(other(m), b), other(m)).codes

    def _fixed(
        self, known: _Round, b: Tensor, modalities: Sequence[Modality] = MODALITIES
    ) -> dict[Modality, Tensor]:
        """Features of a batch as constants."""
        return {m: self.encoders[m].fixed_features(known.items(m, b)) for m in modalities}  # type: ignore[operator]


def filled(
    given: Mapping[str, Any] | None, defaults: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """The defaults, but for the options given; one that does not exist is a ``ValueError``."""
    given = {} if given is None else given
    check_mapping(given, name)
    for key in given:
        check_choice(key, tuple(defaults), name)
    return {**defaults, **given}
