"""What all data sets share: building once, storing without pickle, raw items beside the data."""

from __future__ import annotations

import copy
import errno
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.transforms import BaseTransform, Compose

from pyg_hash import __version__
from pyg_hash.features import ImageEncoder, TextEncoder, encode_each, load_encoder
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, PathLike
from pyg_hash.utils.checks import check_flags
from pyg_hash.utils.checksums import say_once
from pyg_hash.utils.digests import digest_of, row_prints, same_rows
from pyg_hash.utils.files import (
    CorruptFileError,
    check_path,
    check_writable,
    load_tensors,
    save_tensors,
    sha256,
)
from pyg_hash.utils.scaling import apply_scaling

DATA_FILE = "data.safetensors"
WORDS = "text_encoder"  # folder of what was fitted on the training texts
_FORMAT, _VERSION = "pyg_hash.hetero", 1  # of stored data
_KNOWN = ("builtins", "abc", "torch", "torch_geometric", "pyg_hash")  # whose code the version tells
_LOOKED_AT = 64  # rows
_SHOWN = 20  # problems in an error message
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
Transform = Callable[[HeteroData], HeteroData]
Version = tuple[Any, ...]


@dataclass(frozen=True)
class Items:
    """The raw side of a data set, row i belonging to node i of both modalities."""

    ids: list[str]  #: one name a row
    class_names: list[str]  #: one name a class; empty for a set without labels
    image_paths: Sequence[str | None] = ()  #: picture files; None where there is none; () for none
    texts: Sequence[str | None] = ()  #: raw texts, the same


class CrossModalDataset(InMemoryDataset):
    """Base of all data sets: one ``HeteroData``, so ``dataset[0]`` is everything.

    What is built is stored under ``<root>/processed/<12 hex digits>/data.safetensors``; the digits
    hash the set's arguments, the code of a class of yours, and what ``pre_transform`` is. A
    transformed file refers to the untransformed one for every tensor that the transform left alone.
    Where nothing may be written, what is not stored yet is built in memory, with one
    ``UncheckedWarning``.

    A subclass gives :meth:`settings`, :meth:`build`, :meth:`read_items` (``NotImplementedError``
    where it lacks one), and an image encoder if it has one.

    Args:
        root: folder of the raw and stored files; None keeps everything in memory.
        transform: applied at every access ``dataset[0]``.
        pre_transform: applied once, its result is stored under what it is: its ``repr``, the
            attributes of a transform without a ``repr`` of its own, and of PyG's, and the code of
            a class of yours; not the code of functions that it calls.
        force_reload: build again what is stored already.

    ``ValueError``: what ``pre_transform`` is shows a memory address. ``OSError``: ``root`` cannot
    be a folder (found out before anything is computed). ``CorruptFileError``: a file is damaged.
    """

    #: whether the untransformed data are worth a file of their own
    stores_base = True
    _prints: dict[str, Tensor] | None = None
    _words: TextEncoder | None = None  # what was fitted but could not be stored

    def __init__(
        self,
        root: PathLike | None,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        force_reload: bool = False,
    ) -> None:
        for name, of in {"transform": transform, "pre_transform": pre_transform}.items():
            if of is not None and not callable(of):
                raise TypeError(f"{name}: expected a transform of PyG, or a function, got {of!r}")
        check_flags(force_reload=force_reload)
        if root is not None:
            check_path(root, "root")
        self._described = _described(pre_transform)  # now: a transform may change as it works
        if re.search(r" at 0x[0-9a-f]+", self._described):
            raise ValueError(
                f"pre_transform: {self._described} shows a memory address, not what it does; pass "
                "it as transform=, or give it a __repr__ of all its arguments and plain attributes"
            )
        self._in_memory = root is None
        folder = None if root is None else str(root)
        super().__init__(folder, transform, pre_transform, force_reload=force_reload)
        self._data = self._load_or_build()

    def settings(self) -> dict[str, Any]:
        """What decides what :meth:`build` returns, stamps of raw files too, as JSON values."""
        raise NotImplementedError(self._lacks("settings", "a dict of the arguments"))

    def build(self) -> HeteroData:
        """The data from the raw files: what :func:`~pyg_hash.datasets.build_hetero` makes."""
        raise NotImplementedError(self._lacks("build", "build_hetero(image, text, train=.., ..)"))

    def read_items(self) -> Items:
        """Ids, class names, raw paths and texts, in row order, as :class:`Items`."""
        raise NotImplementedError(self._lacks("read_items", "Items(ids, class_names, ..)"))

    def _lacks(self, method: str, what: str) -> str:
        return f"{type(self).__name__}: implement {method}(), which returns {what}"

    def image_encoder(self) -> ImageEncoder:
        """What gives NEW pictures features as in ``data['image'].x``; ``ValueError``: nothing."""
        return cast(ImageEncoder, self._encoder(IMAGE))

    def text_encoder(self) -> TextEncoder:
        """What gives NEW texts features as in ``data['text'].x``; ``ValueError``: nothing."""
        return cast(TextEncoder, self._encoder(TEXT))

    def _encoder(self, modality: Modality) -> Any:
        """Here the one of texts that :meth:`build` fitted on those of train, if it did."""
        if modality == TEXT and self._words is not None:
            return self._words
        if modality == TEXT and not self._in_memory and (self.base_dir / WORDS).is_dir():
            return load_encoder(self.base_dir / WORDS)
        what = f"its {modality} features came ready-made, without an encoder for new ones"
        remedy = "compute such features yourself and pass them as a tensor"
        raise ValueError(f"{type(self).__name__}: {what}; {remedy}")

    @cached_property
    def _items(self) -> Items:
        items, rows = self.read_items(), len(self._data[IMAGE].x)
        for name in ("ids", "image_paths", "texts"):
            listed = getattr(items, name)
            count = len(listed) if hasattr(listed, "__len__") else rows
            # transforms may have left rows out
            if (count or name == "ids") and rows != count != len(self.row_prints()[IMAGE]):
                told = f"{type(self).__name__}.read_items: {name} has {count:,} entries"
                raise ValueError(f"{told}, the data have {rows:,} rows; give one a row")
        return items

    @property
    def ids(self) -> list[str]:
        """One name a row."""
        return self._items.ids

    @property
    def class_names(self) -> list[str]:
        """One name a class."""
        return self._items.class_names

    @property
    def image_paths(self) -> list[str | None]:
        """The picture file of each row; None where there is none."""
        return [*self._items.image_paths] or [None] * len(self.ids)

    @property
    def texts(self) -> list[str | None]:
        """The raw text of each row; None where there is none."""
        return [*self._items.texts] or [None] * len(self.ids)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for a set without labels."""
        return int(self._data.num_classes)

    @property
    def processed_file_names(self) -> list[str]:
        """The one stored file."""
        return [DATA_FILE]

    @property
    def processed_dir(self) -> str:
        """``<root>/processed/<12 hex digits of version, arguments and pre_transform>``."""
        return str(self._folder(self._described))

    @property
    def base_dir(self) -> Path:
        """Where the untransformed data (and fitted encoders) of these arguments lie."""
        return self._folder(repr(None))

    def _folder(self, pre_transform: str) -> Path:
        # the version, because another one may build another graph from the same arguments
        told = [__version__, type(self).__name__, self.settings(), pre_transform]
        digest = sha256(json.dumps([*told, *_source(type(self))]))
        return Path(self.root) / "processed" / digest[:12]

    def keep_words(self, encoder: TextEncoder) -> None:
        """Store the encoder of texts beside the data, for :meth:`text_encoder`."""
        if not self._was_stored(partial(encoder.save, self.base_dir / WORDS)):
            self._words = encoder

    def computed_once(
        self, name: str, compute: Callable[[], Tensor], metadata: Any = None
    ) -> Tensor:
        """Features from their file under ``<root>/features``, else computed and stored there."""
        path = Path(self.root) / "features" / f"{name}.safetensors"
        if path.is_file():
            return load_tensors(path)[0]["image"]
        features = compute()
        self._was_stored(partial(save_tensors, path, {"image": features}, metadata))
        return features

    def row_prints(self) -> dict[str, Tensor]:
        """What tells rows from others, before any transform: float64 ``[N]`` of each modality."""
        if self._prints is None:
            self._base()
        return cast(dict[str, Tensor], self._prints)

    def _was_stored(self, store: Callable[[], object]) -> bool:
        """Store something; False where nothing may be written, which is said once."""
        try:
            store()
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            say_once(
                "cache",
                f"root: nothing can be stored in {self.root} ({error.strerror}), so the data are "
                "built in memory, each time anew; choose a folder that can be written to keep them",
            )
            return False
        return True

    def _load_or_build(self) -> HeteroData:
        if not self._in_memory:
            path = Path(self.processed_paths[0])
            if path.is_file() and not self.force_reload:
                return load_hetero(path, base=self._base)
            if self.stores_base or self.pre_transform is not None:
                try:  # fail before anything expensive is computed, not after
                    self._was_stored(partial(check_writable, Path(self.root) / DATA_FILE))
                except OSError as error:
                    raise OSError(
                        f"root: cannot write to {self.root} ({error}); choose another folder"
                    ) from error
        base = self._base(rebuild=self.force_reload)
        if self.pre_transform is None:
            return base
        seen = snapshot(base)
        some: dict[str, Tensor] = {m: base[m].x[:_LOOKED_AT].clone() for m in MODALITIES}
        data: HeteroData = self.pre_transform(copy.copy(base))
        if odd := _changed_otherwise(some, base, data):
            data.oddities = [*data.get("oddities", []), *odd]
        if not self._in_memory:
            self._was_stored(partial(save_hetero, path, data, base=seen))
        return data

    def _base(self, *, rebuild: bool = False) -> HeteroData:
        """The untransformed data, from its file where there is one."""
        stored = self.stores_base and not self._in_memory
        path = self.base_dir / DATA_FILE if stored else None
        if path is not None and path.is_file() and not rebuild:
            data = load_hetero(path)
        else:
            data = self.build()
            if path is not None:
                self._was_stored(partial(save_hetero, path, data))
        self._prints = {m: row_prints(data[m].x) for m in MODALITIES}
        return data


def _described(transform: Any) -> str:
    """What a transform is, for the name of a folder."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            return digest_of({"x": torch.as_tensor(value)}, "")
        if isinstance(value, set | frozenset):
            return sorted(json.dumps(x, sort_keys=True, default=plain) for x in value)
        if not isinstance(value, BaseTransform):
            return repr(value)
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        return [name, vars(value), *_source(type(value))]

    def parts(of: Any) -> list[Any]:
        inner = of.transforms if isinstance(of, Compose) else []
        return [part for one in inner for part in parts(one)] if inner else [of]

    told = [repr(transform)]
    for part in parts(transform):
        told += _source(type(part))
        of_pyg = type(part).__module__.startswith("torch_geometric.")  # its repr leaves things out
        if of_pyg or type(part).__repr__ is BaseTransform.__repr__:
            try:
                told.append(json.dumps(vars(part), sort_keys=True, default=plain))
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"pre_transform: {part!r} has attributes that cannot be told ({error}); give "
                    "it a __repr__ with all its arguments, or pass it as transform="
                ) from error
    return "; ".join(told)


def _source(kind: type) -> list[str]:
    """Names and code of a class that is not ours nor PyG's, and of those it derives from."""
    told = []
    for one in kind.__mro__:
        if one.__module__.partition(".")[0] not in _KNOWN:
            with suppress(OSError, TypeError, SyntaxError):  # no file has it, or half of it by now
                told.append(f"{one.__qualname__} {sha256(inspect.getsource(one))}")
    return told


def _changed_otherwise(some: Mapping[str, Tensor], base: HeteroData, data: Any) -> list[str]:
    """What of the features, whose first rows were ``some``, was changed by more than scaling."""
    lines = []
    for m, x in some.items():
        now: Any = data[m].get("x") if isinstance(data, HeteroData) else None
        are_matrices = _is_dense(now) and x.dim() == now.dim() == 2 and len(now)
        if not (are_matrices and x.is_floating_point() and now.is_floating_point()):
            continue
        scaling = data.get("scaling", {}).get(m)
        scaled, now = apply_scaling(x.to(now), scaling), now[: len(x)]
        if scaled.shape == now.shape and torch.allclose(scaled, now, rtol=1e-3, atol=1e-4):
            continue
        if torch.equal(base[m].x[: len(x)], x) and scaled.size(1) == now.size(1):
            every = apply_scaling(base[m].x.to(now), scaling)  # rows may be others, or fewer
            if bool((same_rows(row_prints(now), row_prints(every)) >= 0).all()):
                continue
        lines.append(
            f"{m}: pre_transform changes x by more than ScaleFeatures keeps, so new items are not "
            "changed alike and have wrong codes; change x before the data set, or in the model"
        )
    return lines


def keeps_rows(dataset: CrossModalDataset, data: HeteroData) -> bool:
    """Whether ``data``, which transforms made, has the rows of a data set, not seen to be moved."""
    base = dataset._base()
    for m in MODALITIES:
        x = apply_scaling(base[m].x.to(data[m].x), data.get("scaling", {}).get(m))
        old, new, same = row_prints(x), row_prints(data[m].x), partial(torch.allclose, atol=1e-6)
        moved = len(old) == len(new) and not same(old, new) and same(old.sort()[0], new.sort()[0])
        if moved or len(new) != len(dataset.ids):
            return False
    return True


def label_names(y: Any, names: Sequence[str], num_rows: int) -> list[list[str]]:
    """The class names of each row: of indices ``[N]``, of multi-hot ``[N, C]``, or of None."""
    if y is None:
        return [[] for _ in range(num_rows)]
    if y.ndim == 1:
        return [[names[c] if 0 <= c < len(names) else str(c)] for c in y.tolist()]
    names = names or [f"class {c}" for c in range(y.shape[1])]
    return [[names[c] for c in np.flatnonzero(row).tolist()] for row in np.asarray(y)]


def stamp(folder: PathLike, name: str) -> list[int]:
    """Size and time of a file, which tell whether a stored result is still its own."""
    stat = (Path(folder) / name).stat()
    return [stat.st_size, stat.st_mtime_ns]


def refuse_items(problems: Sequence[str]) -> None:
    """Raise ``ValueError`` that lists the first problems, if there are any."""
    if problems:
        shown = [*problems[:_SHOWN], *["  ..."] * (len(problems) > _SHOWN)]
        told = f"{len(problems)} items cannot be encoded; drop these rows, nothing was written"
        raise ValueError("\n".join([f"{told}:", *shown]))


def encode_all(batch_size: int = 64, **items: tuple[Any, Sequence[Any]]) -> dict[str, Tensor]:
    """Features of each modality, given its encoder and items; ``ValueError`` lists bad items."""
    features: dict[str, Any] = {}
    problems = []
    for name, (encoder, raw) in items.items():
        found = encode_each(encoder, raw, batch_size=batch_size, progress=f"{name} features")
        features[name] = found.values
        problems += [f"  {name} {row} ({raw[row]}): {t}" for row, t in found.problems.items()]
    refuse_items(problems)
    return features


# stored ----------------------------------------------------------------------------------------


def _version(tensor: Tensor) -> Version:
    """Identifies a tensor's memory and, as autograd counts in-place writes, its content."""
    writes = -1 if tensor.is_inference() else tensor._version  # inference tensors count nothing
    memory = (str(tensor.device), tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
    return (*memory, writes)


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _stores(data: HeteroData) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """The type of each store, and what it holds."""
    for kind, content in data.to_dict().items():
        yield [kind] if isinstance(kind, str) else list(kind), content


def snapshot(data: HeteroData) -> dict[Version, list[Any]]:
    """The tensors of ``data``, to tell later which of them changed; keep ``data`` alive so long."""
    stores = ((kind, *item) for kind, content in _stores(data) for item in content.items())
    return {_version(value): [kind, name] for kind, name, value in stores if _is_dense(value)}


def save_hetero(
    path: PathLike, data: HeteroData, *, base: Mapping[Version, list[Any]] | None = None
) -> None:
    """Write tensors, JSON values, and lists, tuples and dicts of those, atomically.

    Tensors unchanged since ``base``, a :func:`snapshot`, are stored as references to it.
    ``TypeError`` names a value of another type.
    """
    known: dict[Version, Any] = {tensor: {"base": at} for tensor, at in (base or {}).items()}
    tensors: dict[str, Tensor] = {}

    def encode(value: Any, where: str) -> dict[str, Any]:
        """JSON of a nested value; each distinct tensor is named and stored once."""
        if _is_dense(value):
            entry: dict[str, Any] = known.setdefault(_version(value), {"tensor": where})
            if entry == {"tensor": where}:
                tensors[where] = value
            return entry
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: encode(item, f"{where}.{key}") for key, item in value.items()}}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [encode(item, f"{where}.{i}") for i, item in enumerate(value)]}
        raise TypeError(
            f"{where}: a {type(value).__name__} cannot be stored; use dense tensors or JSON values"
        )

    stores = []
    for kind, content in _stores(data):
        values = {name: encode(value, "/".join([*kind, name])) for name, value in content.items()}
        stores.append({"type": kind, "values": values})
    save_tensors(path, tensors, {"format": _FORMAT, "version": _VERSION, "stores": stores})


def load_hetero(path: PathLike, *, base: Callable[[], HeteroData] | None = None) -> HeteroData:
    """Read what :func:`save_hetero` wrote; ``base`` is called only if there are references."""
    remedy = "delete it, or pass force_reload=True, to build it again"
    try:
        tensors, meta = load_tensors(path)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; {remedy}") from error
    kind = (meta.get("format"), meta.get("version")) if isinstance(meta, dict) else None
    if kind != (_FORMAT, _VERSION):
        raise CorruptFileError(f"{path}: not a stored graph of this version; {remedy}")
    told = json.dumps(meta.get("stores"))
    source: dict[Any, Any] = base().to_dict() if base is not None and '"base"' in told else {}

    def key_of(types: list[str]) -> Any:
        return types[0] if len(types) == 1 else tuple(types)

    def decode(entry: dict[str, Any]) -> Any:
        ((kind, content),) = entry.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "base":
            return source[key_of(content[0])][content[1]]
        if kind == "dict":
            return {name: decode(item) for name, item in content.items()}
        if kind == "value":
            return content
        return (list if kind == "list" else tuple)(map(decode, content))

    try:
        stores = {key_of(own["type"]): decode({"dict": own["values"]}) for own in meta["stores"]}
        return HeteroData.from_dict(stores)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        why = f"entry {error} is missing" if isinstance(error, KeyError) else f"damaged ({error})"
        raise CorruptFileError(f"{path}: {why}; {remedy}") from error
