"""Features of networks in the folder layout of Hugging Face transformers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pyg_hash.features.images import PathLike
from pyg_hash.features.pretrained import PictureNetwork, TextNetwork
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError, load_json
from pyg_hash.utils.optional import require

Pooling = Literal["mean", "cls", "pooler"]
_POOLINGS = ("mean", "cls", "pooler")


def _load(name: str, folder: Any) -> Any:
    """``transformers.NAME.from_pretrained``, from the disk and without anybody's code."""
    cls = getattr(require("transformers", "transformers", extra="transformers"), name)
    more = {"use_safetensors": True} if name == "AutoModel" else {}
    try:
        return cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFileError(f"{folder}: cannot be read by {name} ({error})") from error


def _pooled(out: Any, pooling: Pooling, mask: Tensor | None) -> Tensor:
    """One row an item of a network's output: tensor, output object, tokens or feature map."""
    if isinstance(out, Tensor):
        return out
    if pooling == "pooler":
        if getattr(out, "pooler_output", None) is None:
            raise ValueError("pooling: this network has no pooler; use 'mean' or 'cls'")
        return torch.flatten(out.pooler_output, 1)
    x: Tensor = out.last_hidden_state
    if x.dim() == 4:  # a feature map has no first token
        return x.mean(dim=(2, 3))
    if pooling == "cls":
        return x[:, 0]
    if mask is None:
        return x.mean(dim=1)
    weight = mask.unsqueeze(-1).to(x)
    return (x * weight).sum(dim=1) / weight.sum(dim=1)


class TransformersImageEncoder(PictureNetwork):
    """A picture network of transformers: ViT, DINOv2, ResNet, the picture half of CLIP, ...

    Args:
        weights: the folder: ``config.json``, ``model.safetensors``, ``preprocessor_config.json``.
        pooling: ``'cls'``, the first token; ``'mean'`` of all; or ``'pooler'``, the network's own.
            The halves of CLIP give their projection, whatever this says.
        batch_size: pictures in one forward pass.
        device: where the network runs.
        progress: whether to show a progress bar.

    Raises:
        ImportError: the ``transformers`` extra is not installed.
        CorruptFileError: the folder is incomplete or damaged.
    """

    kind = "transformers_image"

    def __init__(
        self,
        weights: PathLike,
        *,
        pooling: Pooling = "cls",
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__(weights, batch_size, device, progress)
        check_choice(pooling, _POOLINGS, "pooling")
        self.pooling: Pooling = pooling
        config = load_json(self.weights / "preprocessor_config.json")
        size: Any = config.get("crop_size") or config.get("size") or 224
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        self.size = int(size)
        self.mean = config.get("image_mean") or [0.5] * 3
        self.std = config.get("image_std") or [0.5] * 3
        self._model = _load("AutoModel", self.weights).eval().to(self.device)
        self._probe()

    def settings(self) -> dict[str, Any]:
        """The pooling."""
        return {"pooling": self.pooling}

    def _forward(self, x: Tensor) -> Tensor:
        if hasattr(self._model, "get_image_features"):  # a pair such as CLIP
            return _pooled(self._model.get_image_features(pixel_values=x), "pooler", None)
        return _pooled(self._model(pixel_values=x), self.pooling, None)


class TransformersTextEncoder(TextNetwork):
    """A text network of transformers: BERT, RoBERTa, the text half of CLIP, ...

    Args:
        weights: the folder: ``config.json``, ``model.safetensors`` and the files of the tokenizer.
        pooling: ``'mean'`` of the tokens, padding left out; ``'cls'``; or ``'pooler'``.
        batch_size: texts in one forward pass.
        device: where the network runs.
        progress: whether to show a progress bar.

    Raises:
        ImportError: the ``transformers`` extra is not installed.
        CorruptFileError: the folder is incomplete or damaged.
    """

    kind = "transformers_text"

    def __init__(
        self,
        weights: PathLike,
        *,
        pooling: Pooling = "mean",
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__(weights, batch_size, device, progress)
        check_choice(pooling, _POOLINGS, "pooling")
        self.pooling: Pooling = pooling
        self._tokens = _load("AutoTokenizer", self.weights)
        self._model = _load("AutoModel", self.weights).eval().to(self.device)
        config = self._model.config
        config = getattr(config, "text_config", config)
        limit = getattr(config, "max_position_embeddings", None) or 512
        self._limit = min(limit, self._tokens.model_max_length)
        self._probe()

    def settings(self) -> dict[str, Any]:
        """The pooling."""
        return {"pooling": self.pooling}

    def _forward(self, texts: list[str]) -> Tensor:
        batch = self._tokens(
            texts, padding=True, truncation=True, max_length=self._limit, return_tensors="pt"
        ).to(self.device)
        if hasattr(self._model, "get_text_features"):
            mask = batch["attention_mask"]
            out = self._model.get_text_features(batch["input_ids"], attention_mask=mask)
            return _pooled(out, "pooler", None)
        return _pooled(self._model(**batch), self.pooling, batch["attention_mask"])
