"""The objectives of GCH's parts, as named terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_hash.losses import (
    label_regression_loss,
    pairwise_nll,
    similar_distance_loss,
    squared_distance_loss,
)
from pyg_hash.losses.pairs import PairLoss, check_likelihood
from pyg_hash.nn import Encoding
from pyg_hash.utils.checks import check_choice, check_weight
from pyg_hash.utils.modes import exact


@dataclass(frozen=True)
class GCHTerms:
    r"""Eq. (3), (5) and (8) of Xu et al. (GCH), IJCAI 2019, with weights and means.

    Attributes:
        pair_loss: the likelihood, see :func:`pyg_hash.losses.pairwise_nll`.
        pair_factor: its factor of the inner products; None is what belongs to ``pair_loss``.
        pair_similar: its similarity of pairs that share a label; None likewise.
        w_pair: weight of the likelihood.
        w_beacon: weight of the distance to the beacon codes.
        w_label: weight of the predicted labels' squared error.
        w_try: weight of the term of ``'Try1'`` or ``'Try2'``.
        variant: see :class:`pyg_hash.models.GCH`.
    """

    pair_loss: PairLoss
    pair_factor: float | None
    pair_similar: float | None
    w_pair: float
    w_beacon: float
    w_label: float
    w_try: float
    variant: str

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_choice(self.pair_loss, ("nll", "squared_nll"), "pair_loss")
        factor = 1.0 if self.pair_factor is None else self.pair_factor
        similar = 1.0 if self.pair_similar is None else self.pair_similar
        check_likelihood(factor, similar, ("pair_factor", "pair_similar"))
        for name in ("w_pair", "w_beacon", "w_label", "w_try"):
            check_weight(getattr(self, name), name)

    def teacher(
        self, codes: Tensor, logits: Tensor, labels: Tensor, guide: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Eq. (3), or Eq. (8) with the beacon network's codes.

        Args:
            codes: relaxed codes ``[n, num_bits]``.
            logits: predicted labels ``[n, C]``.
            labels: multi-hot labels, float ``[n, C]``.
            guide: codes of the semantic encoder ``[n, num_bits]`` that ``codes`` are paired with;
                None pairs them with themselves.
        """
        with exact(codes):
            return {
                "pairwise": self._likelihood(codes if guide is None else guide, codes, labels),
                "prediction": label_regression_loss(logits, labels),
            }

    def student(
        self,
        own: Encoding,
        guide: Tensor,
        labels: Tensor,
        beacon: Tensor | None,
        aligned: Tensor | None,
    ) -> dict[str, Tensor]:
        """Eq. (5) of one modality, or Eq. (11) or (12) of the reproduction report.

        Args:
            own: what the encoder made of the batch.
            guide: codes of the semantic encoder ``[n, num_bits]``.
            labels: multi-hot labels, float ``[n, C]``.
            beacon: beacon codes ``[n, num_bits]``; None before there are any (Algorithm 1, line 6).
            aligned: features of the other modality ``[n, width]``, for ``'Try2'``.
        """
        paired = own.codes if self.variant == "Try1" else guide
        with exact(guide):
            terms = {
                "pairwise": self._likelihood(paired, own.codes, labels),
                "prediction": label_regression_loss(own.logits, labels),
            }
            if beacon is not None:
                terms["beacon"] = squared_distance_loss(own.codes, beacon)
            if self.variant == "Try1":
                terms["guide"] = similar_distance_loss(guide, own.codes, labels, labels)
            if self.variant == "Try2":
                assert aligned is not None
                terms["alignment"] = squared_distance_loss(own.features, aligned)
        return terms

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of one part's terms."""
        weights = {"pairwise": self.w_pair, "prediction": self.w_label, "beacon": self.w_beacon}
        return torch.stack([weights.get(k, self.w_try) * term for k, term in terms.items()]).sum()

    def _likelihood(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        return pairwise_nll(
            a,
            b,
            labels,
            labels,
            kind=self.pair_loss,
            factor=self.pair_factor,
            similar=self.pair_similar,
        )
