"""``HeteroData`` <-> one safetensors file with JSON metadata; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.utils.files import CorruptFileError, load_tensors, save_tensors

_FORMAT = "pyg_hash.hetero"
_VERSION = 1
Version = tuple[Any, ...]


def _version(tensor: Tensor) -> Version:
    """Identifies a tensor's memory and, as autograd counts in-place writes, its content."""
    writes = -1 if tensor.is_inference() else tensor._version  # inference tensors count nothing
    memory = (str(tensor.device), tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
    return (*memory, writes)


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _stores(data: HeteroData) -> list[tuple[list[str], dict[str, Any]]]:
    """Node or edge type, as a list, and content of each store."""
    stores = data.to_dict().items()
    return [([key] if isinstance(key, str) else list(key), content) for key, content in stores]


def snapshot(data: HeteroData) -> dict[Version, list[Any]]:
    """The tensors of ``data``, to tell later which of them changed; keep ``data`` alive so long."""
    return {
        _version(value): [kind, name]
        for kind, content in _stores(data)
        for name, value in content.items()
        if _is_dense(value)
    }


def save_hetero(
    path: str | os.PathLike[str],
    data: HeteroData,
    *,
    base: Mapping[Version, list[Any]] | None = None,
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
                plain = value.detach().cpu().contiguous()
                if plain.untyped_storage().nbytes() != plain.nbytes:
                    plain = plain.clone()  # a view would drag its whole storage along
                tensors[where] = plain
            return entry
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: encode(item, f"{where}.{key}") for key, item in value.items()}}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [encode(item, f"{where}.{i}") for i, item in enumerate(value)]}
        raise TypeError(
            f"{where}: a {type(value).__name__} cannot be stored; "
            "use dense tensors, numbers, strings, lists or dicts with string keys"
        )

    stores = [
        {"type": kind, "values": {n: encode(v, "/".join([*kind, n])) for n, v in content.items()}}
        for kind, content in _stores(data)
    ]
    save_tensors(path, tensors, {"format": _FORMAT, "version": _VERSION, "stores": stores})


def load_hetero(
    path: str | os.PathLike[str], *, base: Callable[[], HeteroData] | None = None
) -> HeteroData:
    """Read what :func:`save_hetero` wrote; ``base`` is called only if there are references."""
    tensors, meta = load_tensors(path)
    kind = (meta.get("format"), meta.get("version")) if isinstance(meta, dict) else None
    if kind != (_FORMAT, _VERSION):
        raise CorruptFileError(f"{path}: not a stored graph of this version; build it again")
    source: dict[Any, Any] = {}
    if base is not None and '"base"' in json.dumps(meta.get("stores")):
        source = base().to_dict()

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
        values = {key_of(store["type"]): store["values"] for store in meta["stores"]}
        return HeteroData.from_dict({key: decode({"dict": own}) for key, own in values.items()})
    except KeyError as error:
        raise CorruptFileError(f"{path}: entry {error} is missing; build it again") from error
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise CorruptFileError(f"{path}: is damaged ({error}); build it again") from error
