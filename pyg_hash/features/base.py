"""What an encoder of raw pictures or texts has to offer, what it shares, and how it is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pyg_hash.typing import PathLike
from pyg_hash.utils.checks import check_collection, check_positive, check_positive_int
from pyg_hash.utils.files import CorruptFileError, check_path, load_json, save_json, sha256
from pyg_hash.utils.pictures import load_square

ENCODER_FILE = "encoder.json"


class Encoder(Protocol):
    """What encoders of pictures and of texts share; a call with one string is a ``TypeError``."""

    @property
    def num_features(self) -> int:
        """Width ``d`` of a feature row."""

    def save(self, folder: PathLike) -> Path:
        """Write the encoder to ``folder``; :func:`pyg_hash.features.load_encoder` reads it."""


@runtime_checkable
class ImageEncoder(Encoder, Protocol):
    """Turns picture files into feature rows."""

    def __call__(self, paths: Sequence[PathLike], /) -> Tensor:
        """Features float32 ``[n, d]`` of ``n`` picture files, on the CPU."""


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """Turns texts into feature rows."""

    def __call__(self, texts: Sequence[str], /) -> Tensor:
        """Features float32 ``[n, d]`` of ``n`` texts, on the CPU."""


class StoredEncoder:
    """An encoder that is stored as its kind and its settings, in ``encoder.json``."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[StoredEncoder]]] = {}  # of all subclasses, by name
    #: the keywords of the constructor that decide the features
    stored: ClassVar[tuple[str, ...]] = ()
    parts: Sequence[Any] = ()  #: encoders that it uses, stored in folders ``0``, ``1``, ...
    #: SHA-256 of the weights, where a package brings them
    digest: ClassVar[str | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in vars(cls):
            StoredEncoder.kinds[cls.kind] = cls

    def settings(self) -> dict[str, Any]:
        """What decides the features, as JSON values; a package's weights stay in it."""
        found = {name: getattr(self, name) for name in self.stored}
        return found if self.digest is None else found | {"weights_sha256": self.digest}

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.stored]
        return f"{type(self).__name__}({', '.join([*map(repr, self.parts), *shown])})"

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        """The encoder of these settings, stored in ``folder``; any error means damaged ones."""
        if missing := sorted({*cls.stored} - {*settings}):
            raise KeyError(missing[0])
        if cls.digest is not None and (found := settings.pop("weights_sha256")) != cls.digest:
            raise CorruptFileError(
                f"{folder}: {cls.kind!r} with weights {str(found)[:12]}..., not with "
                f"{cls.digest[:12]}...; encode the data again with this version"
            )
        return cls(**settings, **run if issubclass(cls, NetworkEncoder) else {})

    def save(self, folder: PathLike) -> Path:
        """Write the encoder to ``folder``; returns the file of its settings."""
        for number, encoder in enumerate(self.parts):
            encoder.save(Path(folder) / str(number))
        path = Path(folder) / ENCODER_FILE
        save_json(path, {"kind": self.kind, **self.settings()})
        return path

    @classmethod
    def load(cls, folder: PathLike, **run: Any) -> Self:
        """As :func:`pyg_hash.features.load_encoder`; ``run``: as of :class:`NetworkEncoder`."""
        check_path(folder, "folder")
        path = Path(folder) / ENCODER_FILE
        settings = load_json(path, dict)
        kind = settings.pop("kind", None)
        known = {name: of for name, of in cls.kinds.items() if issubclass(of, cls)}
        if not isinstance(kind, str) or kind not in known:
            what = f"an encoder of kind {kind!r}, not of {', '.join(known)}"
            raise CorruptFileError(f"{path}: holds {what}; save it again")
        if run:  # what is wrong with these is not the file's
            NetworkEncoder.__init__(SimpleNamespace(), **run)  # type: ignore[arg-type]
        try:
            return known[kind]._restored(Path(folder), settings, **run)
        except CorruptFileError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: damaged settings ({error}); save it again") from error


def load_encoder(folder: PathLike) -> Any:
    """Read the :class:`ImageEncoder` or :class:`TextEncoder` that ``save(folder)`` wrote.

    ``FileNotFoundError``: there is none, or its weights are gone; ``ImportError``: its package is;
    ``CorruptFileError``: a file is damaged or the kind is not known to this version.
    """
    return StoredEncoder.load(folder)


def as_list(items: Sequence[Any]) -> list[Any]:
    """The pictures or texts as a list; ``TypeError``: they are one string."""
    if isinstance(items, str):
        raise TypeError(f"items: expected a list, got one string; pass [{items!r}]")
    return [*(items.to_pylist() if hasattr(items, "to_pylist") else items)]  # Arrow's


def as_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; ``TypeError``: one string, or a value that is no text."""
    found = as_list(texts)
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"texts: entry {row} is {text!r:.40}; expected a text")
    return found


class NetworkEncoder(StoredEncoder, ABC):
    """A network that encodes ``batch_size`` items at a time on ``device``."""

    batch_size = 16
    num_features: int

    def __init__(
        self,
        *,
        batch_size: int | None = None,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        if batch_size is not None:
            check_positive_int(batch_size, "batch_size")
            self.batch_size = batch_size
        try:
            self.device = torch.device(device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"device: {device!r} is none ({error})") from error
        self.progress = progress

    @abstractmethod
    def _encode(self, batch: Sequence[Any]) -> Tensor:
        """Features of one batch, ``[n, d]``."""

    @torch.no_grad()
    def __call__(self, items: Sequence[Any]) -> Tensor:
        """Features; ``UnreadableImageError``: a picture is bad, ``ValueError``: a text is empty."""
        items = as_list(items)
        features = torch.empty(len(items), self.num_features)
        torch.empty(8_380_000)  # once malloc has freed so much it keeps memory from batch to batch
        hide = not self.progress
        with tqdm(total=len(items), desc=self.kind, unit="", disable=hide, delay=1) as bar:
            for start in range(0, len(items), self.batch_size):
                batch = items[start : start + self.batch_size]
                features[start : start + len(batch)] = self._encode(batch).float().cpu()
                bar.update(len(batch))
        return features


class OwnEncoder(StoredEncoder):
    """A function of yours behind the interface of an encoder.

    Its name and width are stored, its code is not: a loaded encoder waits for :meth:`use`, and
    ``pyg-hash`` takes ``--image_encoder MODULE:FUNCTION``.

    Args:
        function: a list of picture files or of texts -> n rows of numbers: a tensor, an array, or
            a list of them. ``ValueError`` or ``OSError`` means that an item is bad. A module is
            called as it is: put it into evaluation mode (``pyg-hash`` does).
        num_features: width of a row; None: that of what it gives first.
        name: the function's own if None; where that of a run is another, ``pyg-hash`` warns.
    """

    kind = "own"
    stored = ("name", "num_features")
    _function: Callable[[list[Any]], Any] | None = None

    def __init__(
        self,
        function: Callable[[list[Any]], Any],
        num_features: int | None = None,
        name: str | None = None,
    ) -> None:
        if num_features is not None:
            check_positive_int(num_features, "num_features")
        if not isinstance(name, str | None):
            raise TypeError(f"name: expected a text, got {name!r}")
        self.width = num_features  # None: not known yet
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.use(function)

    def use(self, function: Callable[[list[Any]], Any]) -> OwnEncoder:
        """Set the function, for example after loading; returns itself."""
        if not callable(function):
            raise TypeError(f"function: {type(function).__name__} cannot be called")
        self._function = function
        return self

    @torch.no_grad()
    def __call__(self, items: Sequence[Any]) -> Tensor:
        """As of every encoder; ``RuntimeError`` if loaded and no function was given since."""
        if self._function is None:
            raise RuntimeError(
                f"encoder {self.name!r} is a function of yours, which is not stored; give it "
                "again: encoder.use(function), or --image_encoder / --text_encoder MODULE:FUNCTION"
            )
        values = self._function(list(items))
        try:
            if isinstance(values, list | tuple) and values:
                is_numpy = all(isinstance(row, np.ndarray) for row in values)
                rows = values if is_numpy else [torch.as_tensor(row) for row in values]
                values = np.stack(rows) if is_numpy else torch.stack(rows)
            x = torch.as_tensor(values).detach().float().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            what = f"{type(values).__name__}, expected rows of numbers ({error})"
            raise TypeError(f"encoder {self.name!r} gave {what}") from error
        if self.width is None and x.dim() == 2:
            self.width = x.size(1)
        expected = [len(items), self.width]
        if list(x.shape) != expected:
            what = f"expected {expected} numbers, got {list(x.shape)}"
            raise TypeError(f"encoder {self.name!r}: {what}")
        return x

    @property
    def num_features(self) -> int:
        """Width of a row; ``ValueError``: it was not given, and nothing was encoded yet."""
        if self.width is None:
            raise ValueError(f"encoder {self.name!r}: num_features is not known; give it")
        return self.width

    def __repr__(self) -> str:
        return f"OwnEncoder({self.name!r}, num_features={self.width})"

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        encoder = super()._restored(folder, {**settings, "function": list})
        encoder._function = None
        return encoder


class Concatenated(StoredEncoder):
    """Several encoders of the same items, their features side by side.

    Each part is scaled to length ``weight / sqrt(sum of squared weights)``, so that a row has
    length 1. A part that cannot encode an item (``ValueError``: no word of a text is known) leaves
    zeros, as long as another part can.

    Args:
        encoders: the parts, at least one, each with ``save``.
        weights: one positive number a part; all 1 if None.
    """

    kind = "concatenated"
    stored = ("weights",)

    def __init__(self, encoders: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        check_collection(encoders, "encoders")
        weights = [1.0] * len(encoders) if weights is None else weights
        check_collection(weights, "weights")
        if not len(encoders) or len(weights) != len(encoders):
            got = f"{weights!r} for {len(encoders)} encoders"
            raise ValueError(f"weights: expected one an encoder, got {got}")
        for weight in weights:
            check_positive(weight, "weights")
        self.encoders = self.parts = list(encoders)
        self.weights = [float(weight) for weight in weights]

    @property
    def num_features(self) -> int:
        """Width of a row: that of all parts together."""
        return sum(encoder.num_features for encoder in self.encoders)

    def __call__(self, items: Sequence[Any]) -> Tensor:
        """Features float32 ``[n, num_features]``; ``ValueError``: no part can encode an item."""
        items = as_list(items)
        total = sum(weight**2 for weight in self.weights) ** 0.5
        columns, problems = [], list[dict[int, str]]()
        for encoder, weight in zip(self.encoders, self.weights, strict=True):
            found = encode_each(encoder, items)
            part = torch.zeros(len(items), encoder.num_features)
            if found.values is not None:
                part[found.kept] = torch.nn.functional.normalize(found.values, dim=1)
            columns.append(part * (weight / total))
            problems.append(found.problems)
        for item in sorted(set.intersection(*(set(part) for part in problems))):
            raise ValueError(problems[-1][item])
        return torch.cat(columns, dim=1)

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` that no part knows, in order; none if a part cannot tell."""
        if not all(hasattr(part, "unknown_words") for part in self.parts):
            return []
        first, *others = (part.unknown_words(text) for part in self.parts)
        return [word for word in first if all(word in words for words in others)]

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        weights = settings["weights"]
        parts = [StoredEncoder.load(folder / str(i), **run) for i in range(len(weights))]
        return cls(parts, **settings)


@dataclass
class Encoded:
    """What :func:`encode_each` made of a sequence of items."""

    values: Tensor | None = None  #: a row for each item that was encoded, ``[m, d]``; or None
    kept: list[int] = field(default_factory=list)  #: the positions of these items, ascending
    problems: dict[int, str] = field(default_factory=dict)  #: position of another -> what is wrong


def encode_each(
    encode: Callable[[Any], Tensor],
    items: Sequence[Any] | Tensor,
    *,
    batch_size: int = 256,
    progress: str | None = None,
) -> Encoded:
    """Encode items in batches; the items of a batch that fails are tried one by one.

    ``encode`` is an encoder, or one followed by a model: a slice of ``items`` (picture files, texts
    or feature rows) -> ``[n, d]``; ``progress`` names a bar, shown if it takes long. Problems are
    the items for which it raised ``ValueError`` or ``OSError`` or gave values that are not finite.
    Any other error is raised, and a ``TypeError`` if it does not give one row an item.
    """
    found, parts = Encoded(), []

    def run(places: range) -> None:
        try:
            rows = encode(items[places.start : places.stop])
            if not isinstance(rows, Tensor) or rows.dim() != 2 or len(rows) != len(places):
                shape = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
                raise TypeError(f"encode: expected a tensor of {len(places)} rows, got {shape}")
            if not rows.isfinite().all():
                raise ValueError("the encoder gave features that are not finite")
            parts.append(rows)
            found.kept += places
        except (ValueError, OSError) as error:
            if len(places) == 1:
                found.problems[places.start] = " ".join(str(error).split())
                return
            for place in places:
                run(range(place, place + 1))

    with tqdm(total=len(items), desc=progress, unit="", disable=progress is None, delay=1) as bar:
        for start in range(0, len(items), batch_size):
            places = range(start, min(start + batch_size, len(items)))
            run(places)
            bar.update(len(places))
    if parts:
        found.values = torch.cat(parts)
    return found


def load_image(path: PathLike, size: int) -> Tensor:
    """Read one picture as a square of ``size`` pixels: uint8 ``[3, size, size]``, RGB, 0..255.

    Transparent parts are composited on white, the central square is cut out (a square
    picture stays whole) and resized with bicubic interpolation. Any of
    :data:`pyg_hash.utils.pictures.FORMATS`; of one channel of 16 bits, 65535 becomes 255, and of
    floating-point numbers 0..1 becomes 0..255. ``UnreadableImageError``: the file, which it names,
    is missing or damaged, or holds numbers of another range; ``ImportError``: no Pillow.
    """
    pixels = np.array(load_square(path, size), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def checked(path: Path, digest: str, remedy: str) -> Path:
    """``path``, if its SHA-256 is ``digest``; else an error, of a missing or a corrupt file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: weights file missing; {remedy}")
    found = sha256(path)
    if found != digest:
        raise CorruptFileError(f"{path}: SHA-256 is {found}, expected {digest}; {remedy}")
    return path
