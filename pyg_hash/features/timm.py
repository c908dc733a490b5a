"""Picture features of timm's networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_hash.features.images import PathLike
from pyg_hash.features.pretrained import PictureNetwork, fill
from pyg_hash.utils.optional import require


class TimmEncoder(PictureNetwork):
    """The pooled features of a network of PyTorch Image Models, its classifier left out.

    Args:
        name: of the architecture, as ``timm.create_model`` takes it, e.g. ``'resnet18'``.
        weights: its weights, the ``model.safetensors`` of its repository.
        image_size: side of the network's input; None takes the architecture's.
        batch_size: pictures in one forward pass.
        device: where the network runs.
        progress: whether to show a progress bar.

    Raises:
        ImportError: the ``timm`` extra is not installed.
        CorruptFileError: the weights are damaged, or of another network.
    """

    kind = "timm"

    def __init__(
        self,
        name: str,
        weights: PathLike,
        *,
        image_size: int | None = None,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__(weights, batch_size, device, progress)
        timm = require("timm", "timm", extra="timm")
        model = timm.create_model(name, pretrained=False, num_classes=0)
        config = timm.data.resolve_model_data_config(model)
        classifier = model.pretrained_cfg.get("classifier") or ()
        fill(model, self._files[0], spare=classifier)
        self._model = model.eval().to(self.device)
        self.name, self.size = name, image_size or config["input_size"][-1]
        self.mean, self.std = config["mean"], config["std"]
        self._probe()

    def settings(self) -> dict[str, Any]:
        """Name and size."""
        return {"name": self.name, "image_size": self.size}

    def _forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._model(x)
        return y
