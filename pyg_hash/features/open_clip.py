"""Picture and text features of OpenCLIP's models, in one space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_hash.features.images import PathLike
from pyg_hash.features.pretrained import PictureNetwork, TextNetwork, fill
from pyg_hash.utils.optional import require


def _model(name: str, weights: Any, device: torch.device) -> Any:
    """The model with its weights, ready to use."""
    open_clip = require("open_clip", "open_clip_torch", extra="open_clip")
    # no weights of a part either: they would be downloaded
    model = open_clip.create_model(
        name, load_weights=False, pretrained_image=False, pretrained_text=False
    )
    fill(model, weights)
    return model.eval().to(device)


class OpenClipImageEncoder(PictureNetwork):
    """The picture half of an OpenCLIP model.

    Args:
        name: of the architecture, as ``open_clip.create_model`` takes it, e.g. ``'ViT-B-32'``.
        weights: of both halves, the ``open_clip_model.safetensors`` of its repository.
        batch_size: pictures in one forward pass.
        device: where the network runs.
        progress: whether to show a progress bar.

    Raises:
        ImportError: the ``open_clip`` extra is not installed.
        CorruptFileError: the weights are damaged, or of another network.
    """

    kind = "open_clip_image"

    def __init__(
        self,
        name: str,
        weights: PathLike,
        *,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__(weights, batch_size, device, progress)
        self.name, self._model = name, _model(name, self._files[0], self.device)
        visual = self._model.visual
        size = visual.image_size
        self.size = size if isinstance(size, int) else size[0]
        self.mean, self.std = visual.image_mean, visual.image_std
        self._probe()

    def settings(self) -> dict[str, Any]:
        """The name."""
        return {"name": self.name}

    def _forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._model.encode_image(x)
        return y


class OpenClipTextEncoder(TextNetwork):
    """The text half of an OpenCLIP model; see :class:`OpenClipImageEncoder`."""

    kind = "open_clip_text"

    def __init__(
        self,
        name: str,
        weights: PathLike,
        *,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__(weights, batch_size, device, progress)
        self.name, self._model = name, _model(name, self._files[0], self.device)
        self._tokens = require("open_clip", "open_clip_torch").get_tokenizer(name)
        self._probe()

    def settings(self) -> dict[str, Any]:
        """The name."""
        return {"name": self.name}

    def _forward(self, texts: list[str]) -> Tensor:
        y: Tensor = self._model.encode_text(self._tokens(texts).to(self.device))
        return y
