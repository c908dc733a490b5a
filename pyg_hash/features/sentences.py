"""Text features of sentence-transformers' models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_hash.features.images import PathLike
from pyg_hash.features.pretrained import TextNetwork
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.optional import require


class SentenceEncoder(TextNetwork):
    """The sentence embedding of a model in the folder layout of sentence-transformers.

    Args:
        weights: the folder, with ``modules.json`` and ``model.safetensors``.
        batch_size: texts in one forward pass.
        device: where the network runs.
        progress: whether to show a progress bar.

    Raises:
        ImportError: the ``sentence_transformers`` extra is not installed.
        CorruptFileError: the folder is incomplete or damaged.
    """

    kind = "sentence_transformers"

    def __init__(
        self,
        weights: PathLike,
        *,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        super().__init__(weights, batch_size, device, progress)
        package = require(
            "sentence_transformers", "sentence-transformers", extra="sentence_transformers"
        )
        if not (self.weights / "modules.json").is_file():  # it would invent a pooling
            raise CorruptFileError(f"{self.weights}: no modules.json; not of sentence-transformers")
        try:
            self._model = package.SentenceTransformer(
                str(self.weights),
                device=str(self.device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            raise CorruptFileError(f"{self.weights}: cannot be read ({error})") from error
        self._probe()

    def settings(self) -> dict[str, Any]:
        """Nothing: the folder says it all."""
        return {}

    def _forward(self, texts: list[str]) -> Tensor:
        y: Tensor = self._model.encode(
            texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False
        )
        return y
