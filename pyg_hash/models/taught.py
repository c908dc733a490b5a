"""TaughtHash: codes that know the category and the thing, taught by both sides of each pair."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pyg_hash.knn import knn
from pyg_hash.losses import (
    affinity_loss,
    balance_loss,
    contrastive_loss,
    expected_pairwise_nll,
    quantization_loss,
)
from pyg_hash.models.base import BATCH, Objective
from pyg_hash.models.batches import WHOLE, BatchDraw, Share, training_rows
from pyg_hash.models.common import Widths, known_labels, loss_weights, multi_hot, weighted
from pyg_hash.models.rotation import itq_rotation
from pyg_hash.models.two_encoders import TwoEncoders
from pyg_hash.nn import HashMLP
from pyg_hash.nn.local_affinity import SparseAffinity, joint_directions, symmetric
from pyg_hash.typing import IMAGE, MODALITIES, HashOutput, Modality, other
from pyg_hash.utils.checks import check_choice, check_features, check_positive
from pyg_hash.utils.modes import eval_mode, exact
from pyg_hash.utils.oddities import has_label

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

WEIGHTS = {"pairwise": 1.0, "contrast": 0.1, "quantization": 0.01, "balance": 0.1}
PENALTY = 3.0  # of the teacher's squared weights
FOLDS = 5
BANK = 2048  # training items that a batch is set against
STEPS = 64  # of a side and epoch, at most
# where there is no label: the graph of training pairs, and how its cosines become those of codes
SHARE, NEIGHBOURS, STEPS_OF_WALK = 0.2, 50, 2
ALPHA, WITHIN = 3.0, 2.0
WIDE, NARROW = 512, 256  # columns of its directions
EXACT = 50_000  # pairs: of more the nearest are found approximately
ROWS = 1024  # whose products with all others are in memory at a time
POSTERIOR = "posterior"
DIRECTIONS = "directions"  # what the teacher says without labels


class TaughtHash(TwoEncoders):
    r"""The library's own recommendation, for any share of labels from none to all.

    Two encoders, and no graph: a new item costs two matrix products, and the model keeps nothing of
    the training items. An epoch trains the images' encoder in up to 64 mini-batches, drawn anew,
    then the texts', so that it costs no more on large data. It descends for a batch :math:`f` of
    one modality and the relaxed codes :math:`G` of the other side of these pairs and of up to 2,048
    more, which are constants,

    .. math:: L = L_p(f, G) + w_c L_c(f, G) + w_q L_q(f) + w_b L_b(f)

    * ``pairwise``, the category: :func:`~pyg_hash.losses.expected_pairwise_nll`; of unlabelled
      training pairs a *teacher* that sees both sides tells the classes: the weighted sum of the
      logits of one logistic regression a side, the weights fitted on pairs unseen by these.
    * ``contrast``, the thing: :func:`~pyg_hash.losses.contrastive_loss`, with its own other side.
    * ``quantization`` and ``balance`` as in MCGCN.

    Without any label ``pairwise`` is SGEH's: the teacher's are the cosines :math:`A` of
    :func:`diffused_directions`, which those of the codes are to repeat, drawn apart
    (:func:`~pyg_hash.losses.affinity_loss`),
    :math:`\lVert 3 A - \cos(f, G) \rVert^2 + 2\, \lVert 3 A - \cos(f, f) \rVert^2` as means.
    Then only cosines count, so relaxed codes are :math:`Y / \lVert Y \rVert` in place of
    :math:`\tanh Y` (times the length of signs in the last two terms), and at the end the last
    layers are centred and take the rotation of :class:`~pyg_hash.models.ITQ`, which changes no
    cosine and brings codes close to their signs. :doc:`/methods` says more of each term.

    Args:
        num_features, num_bits, hidden_channels, dropout, batch_size: see :class:`HashModel`.
        num_classes: number of classes; 0 for data without labels.
        weights: of the terms, where others than these: ``pairwise`` 1, ``contrast`` 0.1,
            ``quantization`` 0.01, ``balance`` 0.1.
        temperature: of the contrast.
        teacher: ``'joint'``, or ``'none'``: unlabelled pairs have no part in ``pairwise``.
    """

    def __init__(
        self,
        num_features: Widths,
        num_classes: int = 0,
        num_bits: int = 32,
        *,
        hidden_channels: int = 1024,
        weights: Mapping[str, float] | None = None,
        temperature: float = 0.3,
        teacher: str = "joint",
        dropout: float = 0.5,
        batch_size: int = 32,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        is_number = isinstance(num_classes, Integral) and not isinstance(num_classes, bool)
        if not is_number or num_classes < 0:
            raise ValueError(f"num_classes: expected a whole number from 0 up, got {num_classes!r}")
        check_positive(temperature, "temperature")
        check_choice(teacher, ("joint", "none"), "teacher")
        self.num_classes, self.temperature, self.teacher = num_classes, temperature, teacher
        self.weights = self.config["weights"] = loss_weights(weights, WEIGHTS)
        if not any(self.weights.values()):
            raise ValueError("weights: all are 0, so there is nothing to learn; give one more")

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """``'image'`` and ``'text'``."""
        return {m: list(self.encoders[m].parameters()) for m in MODALITIES}

    def training_view(self, data: HeteroData) -> HeteroData:
        """``data`` with what the teacher says of its training pairs, in ``data['image']``.

        Whether it has labels decides what relaxed codes the model gives from now on.
        ``ValueError``: nothing ties the two sides, by these weights, or without labels and teacher.
        """
        self._check_items(data)
        view = copy.copy(data)
        view[IMAGE][POSTERIOR] = self.posterior(data)
        _, used, kind = self._taught(view)
        taught = self.weights["pairwise"] and bool(used.any())
        if not taught and not self.weights["contrast"]:
            raise ValueError(
                "weights: nothing ties the two sides; give contrast more than 0, or pairwise, "
                "which counts with labels or a teacher alone"
            )
        with torch.inference_mode(False):
            self.beta = torch.full_like(self.beta, kind != DIRECTIONS)
        return view

    def posterior(self, data: HeteroData) -> Tensor:
        """What the teacher says: probabilities of the classes, float ``[n_train, C]``.

        Labels count under ``labeled_mask`` alone. Without any: directions ``[n_train, d]`` of
        length 1, whose cosines say how alike the pairs are.
        """
        rows = training_rows(data)
        for m in MODALITIES:
            check_features(data[m].x[rows], f"data['{m}'].x under train_mask")
        sides = [data[m].x[rows].to(self.beta) for m in MODALITIES]
        taught = self._labelled(data)
        with torch.enable_grad(), exact(self.beta):
            if not bool(taught.any()):
                return diffused_directions(*sides)
            given = known_labels(data, self.num_classes)
            # a label of a row that is no training row teaches nothing
            known, given = taught[rows], given[taught[data[IMAGE].labeled_mask]]
            labels, exclusive = multi_hot(given, self.num_classes).to(self.beta), given.dim() == 1
            logits = _stacked(sides, known, labels, exclusive)
            told = logits.softmax(dim=1) if exclusive else logits.sigmoid()
            told[known] = labels
            return told

    def _labelled(self, data: HeteroData) -> Tensor:
        """Training rows with a label that may be read: bool ``[N]``."""
        store = data[IMAGE]
        mask = torch.zeros_like(store.train_mask)
        if "y" in store and "labeled_mask" in store:
            mask = store.labeled_mask & store.train_mask & has_label(store.y)
        return mask

    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        r"""Relaxed codes :math:`\tanh Y`, or of length 1 if no label taught them."""
        y = self.encoders[modality](x).to(self.beta)
        # no branch, for ONNX
        return torch.where(self.beta > 0, torch.tanh(y), F.normalize(y, dim=1))

    @torch.no_grad()
    def finish(self, data: HeteroData) -> None:
        """Without labels: centre and turn the last layers, so that codes are close to their signs.

        Where an encoder is frozen, or no :class:`~pyg_hash.nn.HashMLP`, both stay as they are.
        """
        layers = {m: x for m, x in self.encoders.items() if isinstance(x, HashMLP)}
        free = {m: [p.requires_grad for p in x.lin2.parameters()] for m, x in layers.items()}
        encoders = {m: x for m, x in layers.items() if all(free[m])}
        if self.beta > 0 or set(encoders) != set(MODALITIES):
            return
        rows = training_rows(data)
        rows = rows[:: -(-len(rows) // EXACT)]
        with eval_mode(self):
            parts = torch.split(rows, BATCH)
            y = torch.cat([x(data[m].x[some]) for m, x in encoders.items() for some in parts])
        y = y.double()  # LAPACK has no bfloat16
        centre = y.mean(dim=0)
        rotation = itq_rotation(F.normalize(y - centre, dim=1))
        for encoder in encoders.values():
            last = encoder.lin2
            last.bias.copy_((last.bias.double() - centre) @ rotation)
            last.weight.copy_(rotation.T @ last.weight.double())

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """The objective over all training pairs at once, each half of a term one modality's.

        ``out`` is what the model gives after :meth:`training_view` of this data.
        """
        rows = training_rows(data)
        codes = {m: out[m][rows] for m in MODALITIES}
        taught = self._taught(data)
        image, text = (self._terms(codes[m], codes[other(m)], *taught) for m in MODALITIES)
        return weighted({k: 0.5 * (image[k] + text[k]) for k in image}, self.weights)

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """The images' encoder against all texts, then the texts' against all images."""
        self._check_items(data)
        rows = training_rows(data)
        told, used, kind = self._taught(data)
        self.beta = torch.full_like(self.beta, kind != DIRECTIONS)
        batches = BatchDraw(rows, self.batch_size, share)
        for m in MODALITIES:
            # all shares have the same bank
            drawn = torch.randperm(len(rows), generator=batches.generator, device="cpu")
            drawn = drawn[:BANK].to(rows)
            parts = list(islice(batches.own(), max(1, STEPS // share.count)))
            seen = torch.unique(torch.cat([drawn, *parts]))
            against = self.fixed(data[other(m)].x[rows[seen]], other(m))
            for b in parts:
                bank = torch.cat([b, drawn[~torch.isin(drawn, b)]])
                terms = self._terms(
                    self.relaxed(data[m].x[rows[b]], m),
                    against[torch.searchsorted(seen, bank)],
                    told[bank],
                    used[bank],
                    kind,
                )
                yield Objective(weighted(terms, self.weights), m)

    def _taught(self, data: HeteroData) -> tuple[Tensor, Tensor, str]:
        """What the teacher says, which pairs it may be used of, and what it is."""
        store = data[IMAGE]
        told = store[POSTERIOR] if POSTERIOR in store else self.posterior(data)
        labelled = self._labelled(data)[store.train_mask]
        used = labelled if self.teacher == "none" else torch.ones_like(labelled)
        if not bool(labelled.any()):
            return told, used, DIRECTIONS
        return told, used, "exclusive" if store.y.dim() == 1 else "shared"

    def _terms(
        self, live: Tensor, against: Tensor, told: Tensor, used: Tensor, kind: str
    ) -> dict[str, Tensor]:
        """Terms of a batch's codes, and of the other side of a bank that begins with it."""
        own = torch.arange(len(live), device=live.device)
        with exact(live):
            live, against = live.to(told), against.to(told)
            terms = {}
            if self.weights["pairwise"]:
                some = own[used[own]]
                codes = (live[some], against[used], told[some], told[used])
                terms["pairwise"] = (
                    _repeated(*codes)
                    if kind == DIRECTIONS
                    else expected_pairwise_nll(*codes, exclusive=kind == "exclusive")
                )
            if self.weights["contrast"]:
                terms["contrast"] = contrastive_loss(
                    live, against[own], temperature=self.temperature, others=against, own=own
                )
            # as long as signs are
            scaled = live * torch.where(self.beta > 0, 1.0, math.sqrt(self.num_bits)).to(live)
            if self.weights["quantization"]:
                terms["quantization"] = quantization_loss(scaled)
            if self.weights["balance"]:
                terms["balance"] = balance_loss(scaled)
            return terms


@torch.no_grad()
def diffused_directions(image: Tensor, text: Tensor) -> Tensor:
    """Rows of length 1, whose cosines say how alike pairs are: SGEH's diffused A on nearest pairs.

    Of features of both sides, float ``[N, d]``; what is wider than 512 is cut to its 256 leading
    directions.
    """
    x = joint_directions(image, text, SHARE, torch.ones_like(image[:, :1]))
    if x.size(1) > WIDE:
        with torch.random.fork_rng(range(torch.cuda.device_count())):  # all that are seeded
            torch.manual_seed(0)
            u, s, _ = torch.svd_lowrank(x, q=min(NARROW, *x.shape), niter=2)
        x = u * s
    # a side that says nothing of a row leaves it zero, which is near to nothing
    x = x + torch.where(x.any(dim=1, keepdim=True), 0.0, torch.finfo(x.dtype).eps)
    how = "ivf" if len(x) > EXACT else None
    near, index = knn(x, x, min(NEIGHBOURS, len(x) - 1), exclude_self=True, approximate=how)
    row = torch.arange(len(x), device=x.device)[:, None].expand_as(index)
    edges = torch.stack([row.flatten(), index.flatten()])
    graph = SparseAffinity(*symmetric(edges, near.flatten().clamp(min=0.0).to(x), len(x)), len(x))
    smooth = graph.smooth(x, STEPS_OF_WALK)
    return F.normalize(smooth - smooth.mean(dim=0), dim=1)


def _stacked(sides: list[Tensor], known: Tensor, labels: Tensor, exclusive: bool) -> Tensor:
    """Logits ``[n, C]`` of both sides' regressions, weighed by labels they were not fitted on."""
    sides = [F.pad(x, (0, 1), value=1.0) for x in sides]  # the last weight is the bias
    own = [x[known] for x in sides]
    count = min(FOLDS, len(labels))
    fold = torch.arange(len(labels), device=labels.device) % count
    drawn = torch.Generator().manual_seed(0)
    fold = fold[torch.randperm(len(labels), generator=drawn, device="cpu").to(fold)]
    apart = [x.new_zeros(len(labels), labels.size(1)) for x in own]
    for out, x in zip(apart, own, strict=True):
        for held in (fold == k for k in range(count if count > 1 else 0)):
            out[held] = x[held] @ _regression(x[~held], labels[~held], exclusive)
    weights = labels.new_ones(len(sides), requires_grad=True)
    bias = labels.new_zeros(labels.size(1), requires_grad=True)

    def mixed(logits: list[Tensor]) -> Tensor:
        return (weights * torch.stack(logits, dim=2)).sum(dim=2) + bias

    def cost() -> Tensor:  # labels that are told apart without an error would ask for any weight
        return _cost(mixed(apart), labels, exclusive, torch.cat([weights - 1, bias]), 1.0)

    _minimise([weights, bias], cost)
    return mixed([x @ _regression(x[known], labels, exclusive) for x in sides]).detach()


def _regression(x: Tensor, labels: Tensor, exclusive: bool) -> Tensor:
    """Weights ``[d + 1, C]`` of a logistic regression on ``[n, d + 1]``; the last are biases."""
    weight = x.new_zeros(x.size(1), labels.size(1), requires_grad=True)
    _minimise([weight], lambda: _cost(x @ weight, labels, exclusive, weight[:-1], PENALTY))
    return weight.detach()


def _cost(logits: Tensor, labels: Tensor, exclusive: bool, small: Tensor, penalty: float) -> Tensor:
    entropy = F.cross_entropy if exclusive else F.binary_cross_entropy_with_logits
    return entropy(logits, labels, reduction="sum") + 0.5 * penalty * small.square().sum()


def _minimise(parameters: list[Tensor], cost: Callable[[], Tensor]) -> None:
    steps = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        steps.zero_grad()
        total = cost()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    steps.step(closure)  # type: ignore[no-untyped-call]


def _repeated(live: Tensor, against: Tensor, own: Tensor, told: Tensor) -> Tensor:
    """How far cosines of codes are from those that their directions ``own``, ``told`` ask for."""
    if not len(live):
        return live.sum()

    def part(rows: Tensor) -> Tensor:
        loss = partial(affinity_loss, live[rows], alpha=ALPHA, reduction="sum")
        across = loss(against, own[rows] @ told.T) / (len(live) * len(told))
        return across + WITHIN * loss(live, own[rows] @ own.T) / len(live) ** 2

    parts = torch.split(torch.arange(len(live), device=live.device), ROWS)
    if len(parts) == 1:
        return part(parts[0])
    return torch.stack([checkpoint(part, rows, use_reentrant=False) for rows in parts]).sum()
