"""The objectives of GCH's parts, as named terms: the paper's, the program's, the report's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pyg_hash.codes import binarize
from pyg_hash.losses import pairwise_nll, similar_distance_loss, squared_distance_loss
from pyg_hash.losses.pairs import check_likelihood
from pyg_hash.models.common import pair_contrast
from pyg_hash.nn import Encoding
from pyg_hash.utils.checks import check_choice, check_mapping
from pyg_hash.utils.modes import exact

LIKELIHOOD = {"kind": "nll", "factor": None, "similar": None}
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class GCHTerms:
    """What each part of GCH descends, with means in place of sums; labels are multi-hot ``[n, C]``.

    Attributes:
        likelihood: keywords of :func:`pyg_hash.losses.pairwise_nll`.
        variant: as in :class:`pyg_hash.models.GCH`, like all others.
        program: the released program's objectives, not the paper's.
        guided: pair the beacon codes with the teacher's.
    """

    likelihood: Mapping[str, Any]
    variant: str
    program: bool
    guided: bool

    def teacher(self, made: Encoding, labels: Tensor, bank: tuple[Tensor, Tensor] | None) -> Terms:
        """GCH Eq. 3; codes are paired with the ``bank``'s codes and labels, or with themselves."""
        others, others_labels = (made.codes, labels) if bank is None else bank
        with exact(labels):
            return {
                "pairwise": self._pairs(others, made.codes, others_labels, labels),
                "prediction": squared_distance_loss(made.logits.sigmoid(), labels),
            }

    def encoder(
        self,
        own: Encoding,
        guide: Tensor,
        labels: Tensor,
        beacon: Tensor | None,
        aligned: Tensor | None,
        partners: Tensor | None = None,
    ) -> Terms:
        """GCH Eq. 5 of one modality, or what program and report have in its place.

        The program lets codes approach the sign of the teacher's (``guide``), and predicts labels
        before there are beacons only. ``aligned``: the other modality's features, for ``'Try2'``;
        ``partners``: its codes, to add the contrast between pairs.
        """
        with exact(labels):
            if self.program and self.variant != "Try1":
                terms = {"guide": squared_distance_loss(own.codes, binarize(guide).to(guide))}
            else:
                paired = own.codes if self.variant == "Try1" else guide
                terms = {"pairwise": self._pairs(paired, own.codes, labels, labels)}
            if beacon is None or "pairwise" in terms:
                terms["prediction"] = squared_distance_loss(own.logits.sigmoid(), labels)
            if beacon is not None:
                terms["beacon"] = squared_distance_loss(own.codes, beacon)
            if self.variant == "Try1":  # GCH report, Eq. 11
                terms["guide"] = similar_distance_loss(guide, own.codes, labels, labels)
            if self.variant == "Try2":  # GCH report, Eq. 12
                assert aligned is not None
                terms["alignment"] = squared_distance_loss(own.features, aligned)
            if partners is not None:
                terms["contrast"] = pair_contrast(own.codes, partners)
        return terms

    def beacon(self, codes: Tensor, logits: Tensor, labels: Tensor, guide: Tensor) -> Terms:
        """GCH Eq. 8, where the beacon codes are paired with each other, or ``guided``.

        The program takes the cross-entropy of labels that went through the logistic function twice.
        """
        with exact(labels):
            paired = guide if self.guided else codes
            terms = {"pairwise": self._pairs(paired, codes, labels, labels)}
            if self.program:
                once = logits.sigmoid()
                terms["prediction"] = F.binary_cross_entropy_with_logits(once, labels)
            else:
                terms["prediction"] = squared_distance_loss(logits.sigmoid(), labels)
        return terms

    def _pairs(self, a: Tensor, b: Tensor, a_y: Tensor, b_y: Tensor) -> Tensor:
        return pairwise_nll(a, b, a_y, b_y, **self.likelihood)


def likelihood_keywords(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of :func:`pyg_hash.losses.pairwise_nll`, checked, from its kind or a mapping."""
    chosen = filled({"kind": given} if isinstance(given, str) else given, LIKELIHOOD, "likelihood")
    check_choice(chosen["kind"], ("nll", "squared_nll"), "likelihood['kind']")
    factor, similar = (1.0 if chosen[k] is None else chosen[k] for k in ("factor", "similar"))
    check_likelihood(factor, similar, ("likelihood['factor']", "likelihood['similar']"))
    return chosen


def filled(
    given: Mapping[str, Any] | None, defaults: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """The defaults, but for the options given; one that does not exist is a ``ValueError``."""
    if given is not None:
        check_mapping(given, name)
    for key in given or {}:
        check_choice(key, tuple(defaults), name)
    return {**defaults, **(given or {})}
