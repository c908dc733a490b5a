"""The contract of the models that encode each item from its own features alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_hash.models.base import BATCH, HashModel
from pyg_hash.models.common import check_widths
from pyg_hash.typing import MODALITIES, HashOutput, Modality

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


class EncoderHashModel(HashModel):
    """A model that encodes each item from its own features alone, so that it is inductive."""

    @abstractmethod
    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]`` of items of one modality."""

    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes; no graph is needed."""
        self._check_items(data)
        image, text = (
            self.relaxed(data[m].x, m)
            if self.training
            else torch.cat([self.relaxed(batch, m) for batch in torch.split(data[m].x, BATCH)])
            for m in MODALITIES
        )
        return HashOutput(image, text)

    def _check_items(self, data: HeteroData) -> None:
        """Raise unless the model reads ``data``."""
        check_widths(data, self.num_features)

    def relaxed_new(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes of new items: those of any item."""
        return self.relaxed(x, modality)

    def protocol(self, data: HeteroData) -> str:
        """``'inductive'``, whatever graph the data has."""
        return "inductive"
