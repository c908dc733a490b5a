"""What SGEH and the trained baselines share: two encoders, and batches of training pairs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pyg_hash.models.base import BATCH, Objective
from pyg_hash.models.batches import WHOLE, BatchDraw, Share, cut, training_rows
from pyg_hash.models.common import Widths, check_widths, image_text_pair, weighted
from pyg_hash.models.encoder import EncoderHashModel
from pyg_hash.nn import HashMLP
from pyg_hash.typing import MODALITIES, HashOutput, Modality
from pyg_hash.utils.checks import check_features, check_positive_int
from pyg_hash.utils.modes import eval_mode, exact

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


class TwoEncoders(EncoderHashModel):
    r"""One hidden layer a modality, then :math:`\tanh(\beta Y)`.

    The papers train a CNN on pictures; here images are features, as texts are.
    """

    makes_batches = True
    beta: Tensor

    def __init__(
        self,
        num_features: Widths,
        num_bits: int,
        hidden_channels: Widths | int,
        dropout: float,
        batch_size: int,
        smallest: int = 2,
    ) -> None:
        super().__init__(num_bits, num_features=num_features)
        hidden = image_text_pair(hidden_channels, "hidden_channels")
        check_positive_int(batch_size, "batch_size")
        if batch_size < smallest:
            raise ValueError("batch_size: a batch of one has no pairs; use at least 2")
        self.batch_size = batch_size
        self.encoders = nn.ModuleDict(
            {m: HashMLP(self.num_features[m], hidden[m], num_bits, dropout) for m in MODALITIES}
        )
        self.register_buffer("beta", torch.ones(()))

    def reset_parameters(self) -> None:
        """Draw new parameters, forget the data, and start the annealing over."""
        super().reset_parameters()
        self.beta = torch.ones_like(self.beta)

    def _check_items(self, data: HeteroData) -> None:
        check_widths(data, self.num_features, self.beta)

    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        r"""Relaxed codes :math:`\tanh(\beta Y)` (SGEH Eq. 24), float ``[n, num_bits]``."""
        return torch.tanh(self.beta * self.encoders[modality](x).to(self.beta))

    def fixed(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes as constants, without dropout."""
        with eval_mode(self, autocast=True):
            codes = torch.cat([self.relaxed(batch, modality) for batch in torch.split(x, BATCH)])
        # where torch 2.9 and older would find these weights again, without their gradients
        torch.clear_autocast_cache()
        return codes


class AffinityModel(TwoEncoders):
    """Unsupervised: the cosines of codes in a mini-batch repeat an affinity of its features."""

    reads_labels = False
    anneal = True  # beta grows from epoch to epoch
    weights: Mapping[str, float]  # of terms; 1 where not given

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """The steps of each mini-batch of an epoch; ``share`` of them."""
        self._check_items(data)
        if self.anneal:  # a new tensor: codes of before may still need the old one
            self.beta = torch.full_like(self.beta, math.sqrt(epoch + 1))
        for rows, target in self._batches(data, share):
            yield from self._steps({m: data[m].x[rows] for m in MODALITIES}, target)

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """The objective as an epoch descends it: the mean over mini-batches of the stored order.

        The affinity is defined on a mini-batch, so there is no other total. ``TypeError``,
        ``ValueError``: features of training rows that are no floats, or not finite; less than two.
        """
        # made again in the backward pass: thousands of blocks would not fit into memory
        again = partial(
            checkpoint, self._exact_terms, use_reentrant=False, preserve_rng_state=False
        )
        parts: list[dict[str, Tensor]] = [
            again({m: out[m][rows] for m in MODALITIES}, target)
            for rows, target in self._batches(data, None)
        ]
        return {name: torch.stack([terms[name] for terms in parts]).mean() for name in parts[0]}

    def _batches(self, data: HeteroData, share: Share | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of each mini-batch, int64 ``[m]``, and what their cosines are to be, ``[m, m]``."""
        rows = training_rows(data)
        for m in MODALITIES:
            check_features(data[m].x[rows], f"data['{m}'].x under train_mask")
        for batch in self._drawn(data, rows, share):
            with torch.no_grad(), exact(rows):
                target = self._target(data, rows, *batch)
            yield rows[batch[0]], target

    def _drawn(
        self, data: HeteroData, rows: Tensor, share: Share | None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Places of each batch in ``rows``, and what else :meth:`_target` needs; None: in order."""
        if share is None:
            places = torch.arange(len(rows), device=rows.device)
            return ((batch,) for batch in cut(places, self.batch_size))
        return ((batch,) for batch in BatchDraw(rows, self.batch_size, share).own())

    def _steps(self, x: Mapping[Modality, Tensor], target: Tensor) -> Iterator[Objective]:
        """The steps of a mini-batch, each computed after the optimiser's step on the one before."""
        yield Objective(self._exact_terms({m: self.relaxed(x[m], m) for m in MODALITIES}, target))

    def _exact_terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        with exact(target):
            return weighted(self._terms(codes, target), self.weights)

    @abstractmethod
    def _target(self, data: HeteroData, rows: Tensor, batch: Tensor) -> Tensor:
        """What the cosines are to be, float ``[m, m]``, for ``batch`` out of ``rows``."""

    @abstractmethod
    def _terms(self, codes: Mapping[Modality, Tensor], target: Tensor) -> dict[str, Tensor]:
        """Named terms of one mini-batch, unweighted."""
