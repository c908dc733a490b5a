"""The contract of the models that propagate along the edges of a graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.graph.view import anchor_view
from pyg_hash.models.base import HashModel
from pyg_hash.models.intake import Intake
from pyg_hash.models.new_items import AnchorBank
from pyg_hash.typing import IMAGE, Modality


class GraphHashModel(HashModel):
    """A model whose nodes exchange messages along the edges of a graph.

    A new item joins its nearest anchors, as a node of the graph that no other node sees.
    """

    intake_class = AnchorBank

    @abstractmethod
    def infer(
        self, data: HeteroData, messages: dict[str, list[Tensor]] | None = None
    ) -> dict[Modality, Tensor]:
        """Relaxed codes of all nodes without autograd, layer by layer, block by block of rows.

        Exactly those of :meth:`forward` in evaluation mode. Beyond the codes, the memory needed
        is what all nodes send in one layer of one channel.

        Args:
            data: the graph.
            messages: a dictionary that gets what each node sends to neighbours, one tensor a
                layer, for each channel.
        """

    def relaxed_nodes(self, data: HeteroData) -> Mapping[Modality, Tensor]:
        """Relaxed codes of all nodes; see :meth:`infer`."""
        return self.infer(data)

    def messages(self, data: HeteroData) -> dict[str, list[Tensor]]:
        """What each node sends to neighbours, one tensor a layer, for each channel."""
        messages: dict[str, list[Tensor]] = {}
        self.infer(data, messages)
        return messages

    @property
    def anchor_bank(self) -> AnchorBank:
        """What the anchors send; there once the model is attached."""
        if not isinstance(self.intake, AnchorBank):
            raise RuntimeError(f"{type(self).__name__}: call fit(...) or model.attach(data) first")
        return self.intake

    def training_view(self, data: HeteroData) -> HeteroData:
        """The anchors alone: under ``anchors='train'`` no query takes part in any way."""
        return anchor_view(data)

    def make_intake(self, data: HeteroData) -> Intake:
        """The anchors and what they send.

        Raises:
            ValueError: the data has no anchors.
        """
        if "anchor_mask" not in data[IMAGE]:
            raise ValueError("data: has no anchors; apply IntraKNN first")
        return AnchorBank.from_graph(data, self.messages(data))
