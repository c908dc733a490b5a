"""SGEH: unsupervised cross-modal hashing on a unified affinity graph.

Zhao, Yu, Liao, Zhang, Zhang: "From Sparse to Dense: Semantic Graph Evolutionary Hashing for
Unsupervised Cross-Modal Retrieval", ACCV 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.losses import affinity_loss, cosine_matrix, hybrid_affinity
from pyg_hash.models.base import Objective
from pyg_hash.models.batches import Share
from pyg_hash.models.common import GraphCache, Widths, loss_weights, pair_contrast
from pyg_hash.models.two_encoders import AffinityModel
from pyg_hash.nn import LocalAffinity, PriorDiscriminator
from pyg_hash.nn.local_affinity import ADJACENCIES
from pyg_hash.typing import AFFINITY, IMAGE, MODALITIES, TEXT, Modality, Reduction
from pyg_hash.utils.checks import check_choice, check_fraction, check_positive_ints, check_weight
from pyg_hash.utils.modes import exact

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

BATCHES = ("nodes", "edges")
WEIGHTS = {"affinity_ii": 1.8, "affinity_it": 1.0, "affinity_tt": 1.8, "prior": 0.005}
WEIGHTS |= {"contrast": 0.0}
# rows of Table 2: how A and the cosines become U, see hybrid_affinity; the share of A in U, where
# it is not the constructor's; whether there is a discriminator
VARIANTS: dict[str, tuple[str, float | None, bool]] = {
    "SGEH": ("G2", None, True),
    "SGEH-1": ("G1", 1.0, False),
    "SGEH-2": ("G1", 0.0, False),
    "SGEH-3": ("G1", None, False),
    "SGEH-4": ("G2", None, False),
}


class SGEH(AffinityModel):
    r"""Semantic graph evolutionary hashing, second stage.

    The first stage, :class:`~pyg_hash.transforms.UnifiedAffinity`, makes a sparse graph Z of the
    training pairs. Among the nodes of a mini-batch the sparse affinity A
    (:class:`~pyg_hash.nn.LocalAffinity`) and the cosines of the features make a dense one, U
    (:func:`~pyg_hash.losses.hybrid_affinity`), which the cosines of codes are to repeat:

    .. math::
        w_{II} \lVert \alpha U - \cos(B^I, B^I) \rVert_F^2
        + w_{IT} \lVert \alpha U - \cos(B^I, B^T) \rVert_F^2
        + w_{TT} \lVert \alpha U - \cos(B^T, B^T) \rVert_F^2 + \eta_4 L_d, \qquad
        B = \tanh(\sqrt{e + 1}\, Y)

    in epoch :math:`e` (from 0). The cross-modal term is printed with the image codes twice. The
    discriminator of :math:`L_d` takes a step of its own before each step of the codes. No label is
    ever read. Items are encoded one by one, so every code is inductive.

    One loss reaches both encoders, so they share an optimiser; learning rates of their own (the
    authors': 1e-3 and 1e-2) are parameter groups of ``model.encoders['image']`` and
    ``model.encoders['text']``.

    Defaults were chosen on validation splits. Features that are centred, as
    :class:`~pyg_hash.transforms.ScaleFeatures` makes them, have cosines around 0, and the
    second-order term of U is next to nothing; with the paper's :math:`\alpha \lambda_3 = 0.6` even
    the two codes of one pair would be told to differ.

    Args:
        num_features, num_bits, hidden_channels, dropout: see :class:`HashModel` (code: a hidden
            layer of 4096, or a pair for images and texts; dropout 0.5).
        discriminator_channels: width of the discriminator's hidden layer.
        variant: ``'SGEH'``, or a row of Table 2, all of these without discriminator: ``'SGEH-1'``
            with :math:`U = A`, ``'SGEH-2'`` with
            :math:`U = \lambda_4 S^I + (1 - \lambda_4) S^T` (a loss as DJSRH's), ``'SGEH-3'`` with
            the sum of both (G1), ``'SGEH-4'`` with the second-order one (G2), as ``'SGEH'``.
        adjacency: what A is: ``'diffused'`` (ours), ``'induced'``, ``'paper'`` or ``'code'``, see
            :class:`~pyg_hash.nn.LocalAffinity`.
        walk_steps: steps of the random walk of ``'diffused'``.
        batches: what a mini-batch is drawn of: ``'nodes'``, or ``'edges'`` of Z with their end
            points (paper), which ``adjacency='code'`` needs.
        batch_size: nodes or edges a mini-batch (paper: 8 edges).
        alpha: factor of U (paper: 1.5).
        lambda3: share of A in U (paper: 0.4).
        lambda4: share of the images in U (paper: 0.3 on Wikipedia, 0.6, 0.9 on MIRFlickr).
        weights: ``affinity_ii`` 1.8 (paper: 1; code: 0.1, Wikipedia 0.3), ``affinity_it`` 1
            (paper: 0.1, Wikipedia 0.3; code: 1), ``affinity_tt`` 1.8 (both: 0.1, Wikipedia 0.3),
            ``prior``, :math:`\eta_4`, 0.005 (paper: 0.001), and ``contrast``.
        reduction: ``'mean'``: every term is a mean over its summands. ``'sum'``: as printed, the
            affinity terms are sums over the ``n * n`` entries of a batch, and the prior is the sum
            of both modalities' means.
    """

    def __init__(
        self,
        num_features: Widths,
        num_bits: int = 32,
        *,
        hidden_channels: Widths | int = 256,
        discriminator_channels: int = 64,
        variant: str = "SGEH",
        adjacency: str = "diffused",
        walk_steps: int = 1,
        batches: str = "nodes",
        batch_size: int = 32,
        alpha: float = 5.5,
        lambda3: float = 0.9,
        lambda4: float = 0.1,
        weights: Mapping[str, float] | None = None,
        reduction: Reduction = "mean",
        dropout: float = 0.5,
    ) -> None:
        check_positive_ints(discriminator_channels=discriminator_channels, walk_steps=walk_steps)
        check_fraction(lambda3, "lambda3")
        check_fraction(lambda4, "lambda4")
        check_weight(alpha, "alpha")
        check_choice(variant, list(VARIANTS), "variant")
        check_choice(adjacency, ADJACENCIES, "adjacency")
        check_choice(batches, BATCHES, "batches")
        check_choice(reduction, ("mean", "sum"), "reduction")
        if batches == "nodes" and adjacency == "code":
            raise ValueError("batches: adjacency='code' is made of drawn edges; use 'edges'")
        smallest = 1 if batches == "edges" else 2
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size, smallest)
        self.weights = self.config["weights"] = loss_weights(weights, WEIGHTS)
        evolution, share, self.has_prior = VARIANTS[variant]
        self._evolve = partial(
            hybrid_affinity,
            evolution=evolution,
            lambda3=lambda3 if share is None else share,
            lambda4=lambda4,
        )
        self.alpha, self.batches, self.reduction = alpha, batches, reduction
        self._scale = 2.0 if reduction == "sum" else 1.0  # the paper adds both modalities' means
        if self.has_prior:
            self.discriminator = PriorDiscriminator(num_bits, discriminator_channels)
        reading = {"adjacency": adjacency, "steps": walk_steps, "share": lambda4}
        self._affinity = GraphCache(partial(training_affinity, **reading))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """``'codes'`` and ``'discriminator'``; ``'model'`` without one."""
        if not self.has_prior:
            return super().parts()
        return {
            "codes": list(self.encoders.parameters()),
            "discriminator": list(self.discriminator.parameters()),
        }

    def discriminator_loss(self, codes: Mapping[Modality, Tensor]) -> Tensor:
        r"""What the discriminator descends; codes, float ``[n, b]`` a modality, are constants.

        SGEH Eq. 15 without :math:`L^B` and :math:`\eta_4`, with :math:`d` the probability of
        "random", and n, the number of codes, for the paper's b, that of bits:

        .. math:: -\frac{1}{n} \sum_i \left( \log(1 - d(B_i)) + \log d(y_i) \right),
            \qquad y_i \in \{-1, +1\}^b \text{ uniform}
        """
        known = torch.cat([codes[m] for m in MODALITIES]).detach()
        random = torch.randint_like(known, 2) * 2.0 - 1.0
        logits, random_logits = self.discriminator(known), self.discriminator(random)
        total = F.softplus(logits).sum() + F.softplus(-random_logits).sum()
        return self._scale * (total / len(known))

    def _drawn(
        self, data: HeteroData, rows: Tensor, share: Share | None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Nodes of each mini-batch, ascending, and the edges it was drawn by, if it was."""
        graph = self._affinity(data).graph
        if self.batches == "nodes":
            for (batch,) in super()._drawn(data, rows, share):
                yield (batch.sort().values,)
            return
        generator = None if share is None else share.generator()
        every = graph.pair_batches(self.batch_size, shuffle=share is not None, generator=generator)
        for pairs in every if share is None else share.of(every):
            yield graph.local(pairs)

    def _target(
        self, data: HeteroData, rows: Tensor, batch: Tensor, pairs: Tensor | None = None
    ) -> Tensor:
        image, text = (cosine_matrix(data[m].x[rows[batch]]) for m in MODALITIES)
        return self._evolve(self._affinity(data)(batch, pairs), image, text)

    def _steps(self, x: Mapping[Modality, Tensor], target: Tensor) -> Iterator[Objective]:
        codes = {m: self.relaxed(x[m], m) for m in MODALITIES}
        if self.has_prior:  # the codes stay: this changes the discriminator alone
            yield Objective({"loss": self.discriminator_loss(codes)}, "discriminator")
        yield Objective(self._exact_terms(codes, target), "codes" if self.has_prior else "model")

    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        """SGEH Eq. 13, term by term, the prior and the contrast."""
        image, text = codes[IMAGE], codes[TEXT]
        loss = partial(affinity_loss, affinity=target, alpha=self.alpha, reduction=self.reduction)
        terms = {
            "affinity_ii": loss(image, image),
            "affinity_it": loss(image, text),
            "affinity_tt": loss(text, text),
        }
        if self.has_prior:
            logits = self.discriminator(torch.cat([image, text]))
            # the usual non-saturating loss: the printed sign would make codes easier to tell
            terms["prior"] = self._scale * (F.softplus(-logits).sum() / len(logits))
        if self.weights["contrast"] > 0:
            terms["contrast"] = pair_contrast(image, text, self.reduction)
        return terms


def training_affinity(data: HeteroData, **reading: Any) -> LocalAffinity:
    """The affinity of the training rows, as nodes; ``ValueError`` without a graph of these rows."""
    edges = data[AFFINITY] if AFFINITY in data.edge_types else {}
    if "edge_index" not in edges or "edge_weight" not in edges:
        raise ValueError("data: has no affinity edges; apply UnifiedAffinity first")
    mask, edge_index = data[IMAGE].train_mask, edges["edge_index"]
    if bool((edge_index >= len(mask)).any()) or not bool(mask[edge_index].all()):
        raise ValueError(
            "data: the affinity graph has rows outside train_mask; apply UnifiedAffinity "
            "after whatever changes the masks"
        )
    place = torch.cumsum(mask, dim=0) - 1
    with exact(mask):
        features = [data[m].x[mask] for m in MODALITIES]
        return LocalAffinity(place[edge_index], edges["edge_weight"], *features, **reading)
