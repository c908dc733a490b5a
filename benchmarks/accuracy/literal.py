"""Rows that train what a source states, its recipe, and not our defaults."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch_geometric.transforms as T
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from benchmarks.accuracy.method import Method
from benchmarks.recipe import Recipe, optimizers
from pyg_hash import transforms
from pyg_hash.cli import build
from pyg_hash.cli.options import TrainConfig
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES


@dataclass(frozen=True, kw_only=True)
class Literal(Method):
    """Model, graph, optimiser and rates of a recipe.

    Features are scaled as for all rows, and where the source states no number of epochs there are
    as many as by default.

    Attributes:
        recipe: what the source states; with a learning rate.
    """

    recipe: Recipe = field(repr=False)

    def train_config(
        self, bits: int, labels: float | None, seed: int, protocol: str, **changes: Any
    ) -> TrainConfig:
        """As for every row, with the recipe's epochs."""
        stated = {"epochs": self.recipe.training["epochs"]} if self._has_epochs else {}
        return super().train_config(bits, labels, seed, protocol, **{**stated, **changes})

    def transform(self, config: TrainConfig) -> T.Compose:
        """Masks, scaled features and the recipe's graph."""
        graph = [getattr(transforms, step)(**kw) for step, kw in self.recipe.graph.items()]
        return T.Compose([*build.recipe_of(config).masks, *graph])

    def train(self, config: TrainConfig, data: HeteroData) -> Any:
        """The recipe's model, trained by its optimiser."""
        seed_everything(config.seed)
        widths = {m: data[m].num_features for m in MODALITIES}
        model = self.recipe.build(widths, data.num_classes, config.num_bits)
        assert config.epochs is not None
        made = optimizers(model, self.recipe.training)
        fit(model, data, made, epochs=config.epochs, progress=False)
        return model

    def settings(self, protocol: str, **changes: Any) -> dict[str, Any]:
        """The recipe, as JSON values."""
        config = self.train_config(32, 0.5 if self.labels else None, 0, protocol, **changes)
        about = {
            "model": self.model,
            "options": self.recipe.model,
            "graph": self.recipe.graph,
            "training": {**self.recipe.training, "epochs": config.epochs},
        }
        plain: dict[str, Any] = json.loads(json.dumps(about))
        return plain

    @property
    def _has_epochs(self) -> bool:
        return "epochs" in self.recipe.training
