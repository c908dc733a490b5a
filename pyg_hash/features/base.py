"""What an encoder of raw pictures or raw texts has to offer, and a function of one's own as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import CorruptFileError, load_json, save_json

ENCODER_FILE = "encoder.json"
PathLike = str | os.PathLike[str]


class Encoder(Protocol):
    """What encoders of pictures and of texts share."""

    @property
    def num_features(self) -> int:
        """Width ``d`` of a feature row."""
        ...

    def save(self, folder: PathLike) -> Path:
        """Write the encoder to ``folder``; :func:`pyg_hash.features.load_encoder` reads it."""
        ...


@runtime_checkable
class ImageEncoder(Encoder, Protocol):
    """Turns picture files into feature rows."""

    def __call__(self, paths: Sequence[PathLike]) -> Tensor:
        """Features float32 ``[n, d]`` of ``n`` picture files, on the CPU."""
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """Turns texts into feature rows."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features float32 ``[n, d]`` of ``n`` texts, on the CPU."""
        ...


def save_settings(folder: PathLike, kind: str, settings: dict[str, Any]) -> Path:
    """Write what :func:`stored_settings` reads; returns the file."""
    path = Path(folder) / ENCODER_FILE
    save_json(path, {"kind": kind, **settings})
    return path


@contextmanager
def stored_settings(folder: PathLike, kind: str) -> Iterator[dict[str, Any]]:
    """The settings of the encoder in ``folder``, for the block that makes the encoder of them.

    Raises:
        FileNotFoundError: the folder holds no encoder.
        CorruptFileError: it holds one of another kind, or the block cannot use the settings.
    """
    path = Path(folder) / ENCODER_FILE
    settings = load_json(path)
    if not isinstance(settings, dict) or settings.pop("kind", None) != kind:
        raise CorruptFileError(f"{path}: no {kind!r} encoder; save it again")
    try:
        yield settings
    except CorruptFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path}: damaged settings ({error}); save it again") from error


class OwnEncoder:
    """A function of yours behind the interface of an encoder.

    Its name and width are stored, its code is not: a loaded encoder waits for :meth:`use`, and
    ``pyg-hash`` takes ``--image_encoder MODULE:FUNCTION``.

    Args:
        function: a list of picture files or of texts -> anything that makes a float tensor
            ``[n, num_features]``. ``ValueError`` or ``OSError`` means that an item is bad.
        num_features: width of a row.
        name: tells one function from another; the function's own name if None.

    Raises:
        TypeError: the function cannot be called.
        ValueError: ``num_features`` is not positive.
    """

    kind = "own"

    def __init__(
        self, function: Callable[[list[Any]], Any], num_features: int, name: str | None = None
    ) -> None:
        check_positive_int(num_features, "num_features")
        self.num_features = num_features
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self._function: Callable[[list[Any]], Any] | None = None
        self.use(function)

    @property
    def ready(self) -> bool:
        """Whether it has its function."""
        return self._function is not None

    def use(self, function: Callable[[list[Any]], Any]) -> OwnEncoder:
        """Set the function, for example after loading; returns itself."""
        if not callable(function):
            raise TypeError(f"function: {type(function).__name__} cannot be called")
        self._function = function
        return self

    @torch.no_grad()
    def __call__(self, items: Sequence[Any]) -> Tensor:
        """Features float32 ``[n, num_features]`` of picture files or texts, on the CPU.

        Raises:
            RuntimeError: loaded, and no function was given since.
            TypeError: the function gave something of another shape.
        """
        if self._function is None:
            raise RuntimeError(
                f"encoder {self.name!r} is a function of yours, which is not stored; give it "
                "again: encoder.use(function), or --image_encoder / --text_encoder MODULE:FUNCTION"
            )
        x = torch.as_tensor(self._function(list(items))).detach().float().cpu()
        if x.shape != (len(items), self.num_features):
            raise TypeError(
                f"encoder {self.name!r}: expected {[len(items), self.num_features]} numbers, "
                f"got {list(x.shape)}"
            )
        return x

    def __repr__(self) -> str:
        return f"OwnEncoder({self.name!r}, num_features={self.num_features})"

    def save(self, folder: PathLike) -> Path:
        """Write name and width to ``folder``."""
        settings = {"name": self.name, "num_features": self.num_features}
        return save_settings(folder, self.kind, settings)

    @classmethod
    def load(cls, folder: PathLike) -> OwnEncoder:
        """Read what :meth:`save` wrote; the function has to be given by :meth:`use`.

        Raises:
            FileNotFoundError: the folder holds no encoder.
            CorruptFileError: its settings are damaged.
        """
        with stored_settings(folder, cls.kind) as settings:
            encoder = cls(lambda items: items, settings["num_features"], settings["name"])
        encoder._function = None
        return encoder
