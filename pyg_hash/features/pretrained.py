"""What encoders with somebody else's weights have in common: files, digests, batches of pictures.

Weights are read from safetensors files only, so that nothing is unpickled, and only from the disk:
nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from pyg_hash.features.base import ENCODER_FILE
from pyg_hash.features.images import PathLike, load_image
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import CorruptFileError, load_json, save_json

Kind = TypeVar("Kind", bound="Pretrained")
_PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"}


class Pretrained(ABC):
    """An encoder that is stored as its name, its settings and the digest of its weights.

    Args:
        weights: a safetensors file, or a folder with such files.
        batch_size: items in one forward pass.
        device: where the network runs; the features come back on the CPU.
        progress: whether to show a progress bar.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: there are only pickled ones.
    """

    kind: ClassVar[str]

    def __init__(
        self, weights: PathLike, batch_size: int, device: str | torch.device, progress: bool
    ) -> None:
        check_positive_int(batch_size, "batch_size")
        self.weights = Path(weights).expanduser().absolute()
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.progress = progress
        self._files = weight_files(self.weights)
        self.num_features = 0  # until _probe

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The keywords of the constructor that decide the features, weights left out."""

    @abstractmethod
    def _encode(self, batch: Sequence[Any]) -> Tensor:
        """Features of one batch, ``[n, d]``."""

    @torch.no_grad()
    def __call__(self, items: Sequence[Any]) -> Tensor:
        """Encode picture files, or texts.

        Returns:
            float32 ``[n, num_features]``, on the CPU.

        Raises:
            TypeError: ``items`` is one string.
            UnreadableImageError: a picture is missing or damaged.
            ValueError: a text is empty.
        """
        if isinstance(items, str):
            raise TypeError(f"items: expected a list, got one string; pass [{items!r}]")
        features = torch.empty(len(items), self.num_features)
        hide = not self.progress
        with tqdm(total=len(items), desc=self.kind, unit="", disable=hide, delay=1) as bar:
            for start in range(0, len(items), self.batch_size):
                batch = items[start : start + self.batch_size]
                features[start : start + len(batch)] = self._encode(batch).float().cpu()
                bar.update(len(batch))
        return features

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.settings().items())
        return f"{type(self).__name__}({shown}, weights={self.weights.name!r})".replace("(, ", "(")

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write settings, and path and digest of the weights, to ``folder``.

        Weights are not copied. To ship an encoder, put them into ``folder``: there they are looked
        for first.
        """
        path = Path(folder) / ENCODER_FILE
        about = {"weights": str(self.weights), "weights_sha256": digest(self._files)}
        save_json(path, {"kind": self.kind, **self.settings(), **about})
        return path

    @classmethod
    def load(cls: type[Kind], folder: str | os.PathLike[str], **kwargs: Any) -> Kind:
        """Read what :meth:`save` wrote; ``kwargs`` are batch_size, device and progress.

        Raises:
            FileNotFoundError: the folder holds no encoder, or its weights are gone.
            CorruptFileError: the settings are damaged, or the weights are others than then.
        """
        path = Path(folder) / ENCODER_FILE
        config = load_json(path)
        try:
            kind, stored = config.pop("kind"), Path(config.pop("weights"))
            expected = config.pop("weights_sha256")
        except (AttributeError, KeyError, TypeError) as error:
            raise CorruptFileError(f"{path}: no entry {error}; save it again") from error
        if kind != cls.kind:
            raise CorruptFileError(f"{path}: no {cls.kind!r} encoder; save it again")
        beside = Path(folder) / stored.name
        weights = beside if beside.exists() else stored
        if not weights.exists():
            raise FileNotFoundError(
                f"{path}: its weights are gone; put {stored.name} into {folder}"
            )
        if digest(weight_files(weights)) != expected:
            raise CorruptFileError(
                f"{path}: {weights} holds other weights than those the data were encoded with; "
                f"put the right ones into {folder}"
            )
        try:
            return cls(**config, weights=weights, **kwargs)
        except TypeError as error:
            raise CorruptFileError(f"{path}: damaged settings ({error}); save it again") from error


class PictureNetwork(Pretrained):
    """A :class:`Pretrained` encoder of pictures.

    A picture is composited on white, cut to its central square, resized (bicubic) to the network's
    size and scaled with the network's mean and deviation. A margin that the authors of a network
    cut away in their evaluation is kept.
    """

    size: int
    mean: Sequence[float]
    std: Sequence[float]

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """Features of scaled pictures ``[n, 3, size, size]``."""

    def _encode(self, batch: Sequence[PathLike]) -> Tensor:
        return self._pixels(torch.stack([load_image(path, self.size) for path in batch]))

    def _pixels(self, pixels: Tensor) -> Tensor:
        x = pixels.to(self.device, torch.float32) / 255
        mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return self._forward((x - mean) / std)

    @torch.no_grad()
    def _probe(self) -> None:
        """Find the width of a row."""
        black = torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8)
        self.num_features = self._pixels(black).size(1)


class TextNetwork(Pretrained):
    """A :class:`Pretrained` encoder of texts; long texts are cut to what the network takes."""

    @abstractmethod
    def _forward(self, texts: list[str]) -> Tensor:
        """Features of texts."""

    def _encode(self, batch: Sequence[str]) -> Tensor:
        empty = [row for row, text in enumerate(batch) if not text.strip()]
        if empty:
            raise ValueError(f"texts: {len(empty)} of {len(batch)} are empty; drop them")
        return self._forward(list(batch))

    @torch.no_grad()
    def _probe(self) -> None:
        """Find the width of a row."""
        self.num_features = self._forward(["a"]).size(1)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files at ``path``, sorted: itself, or all in the folder and below.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: pickled weights are the only ones of a folder.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(
                f"weights: {path} is no safetensors file, and nothing else is read here; convert "
                "it with safetensors.torch.save_file where you trust it"
            )
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"weights: {path}: no such file or folder")
    found = sorted(path.rglob("*.safetensors"))
    safe = {file.parent for file in found}
    for file in sorted(path.rglob("*")):
        pickled = file.suffix in _PICKLED and file.name != "training_args.bin"
        if pickled and file.parent not in safe:
            raise ValueError(
                f"weights: {file} has no safetensors file beside it, and pickled weights are not "
                "read; save the model again with safe_serialization=True"
            )
    if not found:
        raise FileNotFoundError(f"weights: {path} holds no *.safetensors file")
    return found


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of the content of files, one after the other."""
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CorruptFileError: the file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptFileError(f"{path}: damaged ({error}); copy it again") from error


def fill(model: torch.nn.Module, path: Path, *, spare: str | Sequence[str] = ()) -> None:
    """Put the weights of a file into a network.

    Args:
        model: the network.
        path: the safetensors file.
        spare: modules that the file may have in addition (a classifier).

    Raises:
        CorruptFileError: the file is damaged, or of another network.
    """
    spare = (spare,) if isinstance(spare, str) else spare
    starts = tuple(f"{name}." for name in spare)
    state = {name: t for name, t in read_weights(path).items() if not name.startswith(starts)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise CorruptFileError(
            f"{path}: these are not the weights of {type(model).__name__} "
            f"({' '.join(' '.join(lines[:3]).split())[:300]})"
        ) from error
