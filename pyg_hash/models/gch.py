"""GCH: supervised cross-modal hashing with a label teacher and a graph convolutional beacon.

Xu, Li, Yan, Deng, Liu: "Graph Convolutional Network Hashing for Cross-Modal Retrieval", IJCAI 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_hash.losses.pairs import PairLoss
from pyg_hash.models.base import EncoderHashModel, Objective
from pyg_hash.models.batches import WHOLE, BatchDraw, Share, check_items, labelled_rows
from pyg_hash.models.common import image_text_pair
from pyg_hash.models.gch_terms import GCHTerms
from pyg_hash.nn import BeaconNetwork, CodeEncoder, Encoding, HashLayer
from pyg_hash.nn.beacon import Activation
from pyg_hash.nn.reweighting import FusionNorm
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality, other
from pyg_hash.utils.checks import check_choice, check_positive_int

VARIANTS = ("full", "GCH-A", "Try1", "Try2")
SIZES = ("num_classes", "num_bits", "hidden_channels", "gcn_channels", "batch_size")
PASSES = ("label_passes", "gcn_passes")
LAYERS = {IMAGE: 1, TEXT: 2}  # before the heads: the image encoder stands behind a deep network
_BATCH = 4096


class GCH(EncoderHashModel):
    r"""Graph convolutional network hashing (Eq. 1-10, Algorithm 1).

    A semantic encoder, the teacher, turns labels into codes :math:`H^l` (Eq. 2, 3). An image and
    a text encoder (Eq. 4) learn codes :math:`H^x, H^y` whose similarity to the teacher's follows
    the labels (Eq. 5). Their features are fused by cross-attention (Eq. 6), and two graph
    convolutions on the graph of shared labels (Eq. 7) make beacon codes :math:`H^b` of them
    (Eq. 8), which the encoders then approach (Eq. 5). Each batch has its own graph, kept in
    factors. An item is encoded by its encoder alone (Eq. 10): every code is inductive.

    An epoch is one round of Algorithm 1: teacher; image, text encoder under its guidance; beacon
    network; image, text encoder with the beacon. Each passes over the labelled instances in
    random batches and changes that part alone (``parts()``: ``label``, ``image``, ``text``,
    ``gcn``); everything else is a constant in it, as the paper says. With weights and means in
    place of :math:`\alpha, \beta, \gamma` and sums, the four objectives are

    .. math::
        L^l &= w_{pair} J(H^l, H^l) + w_{label} \overline{(\hat L^l - L)^2} \\
        L^* &= w_{pair} J(H^l, H^*) + w_{beacon} \overline{(H^b - H^*)^2}
               + w_{label} \overline{(\hat L^* - L)^2} \\
        L^{GCN} &= w_{pair} J(H^l, H^b) + w_{label} \overline{(\hat L^G - L)^2}

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair. With
            an encoder of your own, the width of its output.
        num_classes: number of classes.
        num_bits: code length.
        hidden_channels: width of the layers of the teacher (two) and of the encoders (images one,
            texts two), hence of the features that are fused (paper: 512).
        gcn_channels: width of the beacon network's first layer (paper: 1024).
        dropout: share of an image or text encoder's hidden entries that training sets to 0.
        variant: ``'full'``; ``'GCH-A'``, the paper's ablation (Table 2) with dense layers in place
            of the graph convolutions; or a variant of the reproduction report: ``'Try1'``, where
            the encoders' codes are paired with each other in place of the teacher's, which pulls
            the codes of similar instances by their distance (Eq. 11 there), or ``'Try2'``, where
            the features of both modalities are aligned (Eq. 12 there) and share a hash layer.
        pair_loss: the likelihood ``J``: ``'nll'`` (paper) or ``'squared_nll'`` (released code), see
            :func:`pyg_hash.losses.pairwise_nll`.
        pair_factor: of the codes' inner products there; None is what belongs to ``pair_loss``.
        pair_similar: the similarity of pairs that share a label; None likewise.
        w_pair: weight of the likelihood (:math:`\alpha`; the paper gives no values).
        w_beacon: weight of the distance to the beacon (:math:`\beta` of Eq. 5).
        w_label: weight of the predicted labels (:math:`\gamma` of Eq. 5, :math:`\beta` of 3 and 8).
        w_try: weight of the term of ``'Try1'`` (:math:`\lambda`) or ``'Try2'``.
        fusion_norm: ``'max'`` or ``'softmax'``, see :func:`pyg_hash.nn.reweighted_fusion`.
        add_self_loops: the ``+ I`` of Eq. 7; the released code leaves it out.
        gcn_activation: of the beacon codes: ``'tanh'``, or the paper's ``'sigmoid'`` (no -1).
        guided_beacon: pair the beacon codes with the teacher's, as Algorithm 1 says ("under
            guidance of semantic encoder"). False is Eq. 8 as printed, :math:`J(H^b, H^b)`: then
            teacher and beacon have codes of their own, which pull the encoders apart.
        beacon_grad: let the gradient of the distance to the beacon reach an encoder through the
            beacon too, as the released code does; in the paper the beacon is a constant.
        label_passes: passes of the teacher in an epoch; it is small, and the encoders should not
            follow codes that still move (released code: 1000 steps).
        gcn_passes: passes of the beacon network in an epoch (released code: 500 steps).
        batch_size: instances of a batch, at least 2; a last batch of one joins the one before.
        image_encoder: a module of your own in front of the image encoder, trained along, from
            a batch of ``data['image'].x``, whatever that holds, to ``[n, num_features['image']]``.
            :meth:`load` must be given it again.
        text_encoder: the same for texts.
    """

    makes_batches = True

    def __init__(
        self,
        num_features: Mapping[str, int] | tuple[int, int] | list[int],
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: int = 512,
        gcn_channels: int = 1024,
        dropout: float = 0.3,
        variant: str = "full",
        pair_loss: PairLoss = "nll",
        pair_factor: float | None = None,
        pair_similar: float | None = None,
        w_pair: float = 1.0,
        w_beacon: float = 1.0,
        w_label: float = 1.0,
        w_try: float = 1.0,
        fusion_norm: FusionNorm = "max",
        add_self_loops: bool = True,
        gcn_activation: Activation = "tanh",
        guided_beacon: bool = True,
        beacon_grad: bool = False,
        label_passes: int = 5,
        gcn_passes: int = 1,
        batch_size: int = 128,
        image_encoder: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
    ) -> None:
        widths = image_text_pair(num_features, "num_features")
        for name in SIZES + PASSES:
            check_positive_int(self.config[name], name)
        if batch_size == 1:
            raise ValueError("batch_size: a batch of one has no pairs; use at least 2")
        check_choice(variant, VARIANTS, "variant")
        terms = GCHTerms(
            pair_loss, pair_factor, pair_similar, w_pair, w_beacon, w_label, w_try, variant
        )
        super().__init__(num_bits, {"num_features": widths})
        self.num_features, self.num_classes, self.variant = widths, num_classes, variant
        self.terms, self.guided_beacon, self.beacon_grad = terms, guided_beacon, beacon_grad
        self.label_passes, self.gcn_passes, self.batch_size = label_passes, gcn_passes, batch_size
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
        self.gcn = BeaconNetwork(
            width,
            gcn_channels,
            num_bits,
            num_classes,
            norm=fusion_norm,
            add_self_loops=add_self_loops,
            activation=gcn_activation,
            dense=variant == "GCH-A",
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
        """Relaxed codes of items of one modality (Eq. 10 before its sign)."""
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
        """Eq. 9 on all labelled nodes at once: the terms of each part, and their weighted sum.

        What a part's objective holds constant is constant here too. If ``out`` was made without
        gradients, the features are made once more.
        """
        rows, labels = labelled_rows(data, self.num_classes, self.gcn.lin.weight)
        teacher = self.teacher(labels)
        known = {}
        for m in MODALITIES:
            if out.aux:
                features, logits = out.aux[f"{m}_features"][rows], out.aux[f"{m}_logits"][rows]
            else:
                features, _, logits = self._encode_all(data[m].x[rows], m, all_of_it=True)
            known[m] = Encoding(features, out[m][rows], logits)
        fixed = {m: known[m].features.detach() for m in MODALITIES}
        codes, logits = self.gcn(fixed[IMAGE], fixed[TEXT], labels)
        objectives = {"label": self.terms.teacher(teacher.codes, teacher.logits, labels)}
        for m in MODALITIES:
            pair = fixed | {m: known[m].features}
            live = self.beacon_grad
            beacon = self.gcn.fixed(pair[IMAGE], pair[TEXT], labels) if live else codes.detach()
            objectives[str(m)] = self.terms.student(
                known[m], teacher.codes.detach(), labels, beacon, fixed[other(m)]
            )
        guide = teacher.codes.detach() if self.guided_beacon else None
        objectives["gcn"] = self.terms.teacher(codes, logits, labels, guide)
        total = torch.stack([self.terms.weighted(terms) for terms in objectives.values()]).sum()
        named = {f"{part}_{k}": v for part, terms in objectives.items() for k, v in terms.items()}
        return named | {"loss": total}

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """One round of Algorithm 1 (lines 5 to 8), in mini-batches; ``share`` of them."""
        check_items(data, self.num_features, self._raw)
        rows, labels = labelled_rows(data, self.num_classes, self.gcn.lin.weight)
        batches = BatchDraw(rows, self.batch_size, share)
        for b in batches.own(self.label_passes):
            known = self.teacher(labels[b])
            yield self._objective(self.terms.teacher(known.codes, known.logits, labels[b]), "label")
        with torch.no_grad():
            guide = torch.cat([self.teacher(some).codes for some in torch.split(labels, _BATCH)])
        yield from self._train_encoders(data, rows, labels, guide, None, batches)
        for b in batches.own(self.gcn_passes):
            fixed = [self._fixed_features(data, rows[b], m) for m in MODALITIES]
            codes, logits = self.gcn(*fixed, labels[b])
            guided = guide[b] if self.guided_beacon else None
            yield self._objective(self.terms.teacher(codes, logits, labels[b], guided), "gcn")
        beacons = torch.empty_like(guide)
        with torch.no_grad():
            for b in batches.all():
                fixed = [self._fixed_features(data, rows[b], m) for m in MODALITIES]
                beacons[b] = self.gcn(*fixed, labels[b])[0]
        yield from self._train_encoders(data, rows, labels, guide, beacons, batches)

    def _train_encoders(
        self,
        data: HeteroData,
        rows: Tensor,
        labels: Tensor,
        guide: Tensor,
        beacons: Tensor | None,
        batches: BatchDraw,
    ) -> Iterator[Objective]:
        """A pass over the images, then one over the texts (Eq. 5)."""
        live = self.beacon_grad and beacons is not None
        for m in MODALITIES:
            for b in batches.own():
                own = self._encode(data[m].x[rows[b]], m)
                aligned = None
                if live or self.variant == "Try2":
                    aligned = self._fixed_features(data, rows[b], other(m))
                beacon = None if beacons is None else beacons[b]
                if live and aligned is not None:
                    pair = {m: own.features, other(m): aligned}
                    beacon = self.gcn.fixed(pair[IMAGE], pair[TEXT], labels[b])
                terms = self.terms.student(own, guide[b], labels[b], beacon, aligned)
                yield self._objective(terms, m)

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

    def _fixed_features(self, data: HeteroData, rows: Tensor, modality: Modality) -> Tensor:
        features: Tensor = self.encoders[modality].fixed_features(data[modality].x[rows])  # type: ignore[operator]
        return features

    def _objective(self, terms: dict[str, Tensor], part: str) -> Objective:
        return Objective(terms | {"loss": self.terms.weighted(terms)}, part)
