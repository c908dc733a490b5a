"""``HeteroData`` <-> one safetensors file with JSON metadata; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.utils.files import CorruptFileError, atomic_path, load_tensors

_FORMAT = "pyg_hash.hetero"
_VERSION = 1
Version = tuple[str, int, int, torch.dtype, tuple[int, ...], tuple[int, ...]]


def _version(tensor: Tensor) -> Version:
    """Identifies a tensor's memory and, as autograd counts in-place writes, its content."""
    return (
        str(tensor.device),
        tensor.data_ptr(),
        -1 if tensor.is_inference() else tensor._version,  # inference tensors count nothing
        tensor.dtype,
        tuple(tensor.shape),
        tensor.stride(),
    )


def snapshot(data: HeteroData) -> dict[Version, list[Any]]:
    """Remember the tensors of ``data``, to store later only what a transform changed.

    Keep ``data`` alive while the snapshot is in use: freed memory may be used again.
    """
    return {
        _version(value): [_type_list(key), name]
        for key, store in data.to_dict().items()
        for name, value in store.items()
        if isinstance(value, Tensor) and value.layout == torch.strided and value.numel()
    }


def _store_key(types: list[str]) -> Any:
    return types[0] if len(types) == 1 else tuple(types)


def _type_list(key: str | tuple[str, str, str]) -> list[str]:
    return [key] if isinstance(key, str) else list(key)


class _Encoder:
    """Turns nested values into JSON plus named tensors, each distinct tensor stored once."""

    def __init__(self, base: Mapping[Version, list[Any]]) -> None:
        self.base = base
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[Version, str] = {}

    def __call__(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, Tensor) and value.layout == torch.strided:
            return self._tensor(value, where)
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self(item, f"{where}.{key}") for key, item in value.items()}}
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self(item, f"{where}.{i}") for i, item in enumerate(value)]}
        raise TypeError(
            f"{where}: a {type(value).__name__} cannot be stored; "
            "use dense tensors, numbers, strings, lists or dicts with string keys"
        )

    def _tensor(self, value: Tensor, where: str) -> dict[str, Any]:
        version = _version(value)
        if value.numel():
            if version in self.base:
                return {"base": self.base[version]}
            if version in self._names:
                return {"tensor": self._names[version]}
            self._names[version] = where
        plain = value.detach().cpu().contiguous()
        if plain.untyped_storage().nbytes() != plain.nbytes:
            plain = plain.clone()  # a view would drag its whole storage along
        self.tensors[where] = plain
        return {"tensor": where}


def _decode(value: dict[str, Any], tensors: Mapping[str, Tensor], base: HeteroData | None) -> Any:
    (kind, content), *_ = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "base":
        if base is None:
            raise KeyError("base")
        return base.to_dict()[_store_key(content[0])][content[1]]
    if kind == "dict":
        return {name: _decode(item, tensors, base) for name, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_decode(item, tensors, base) for item in content]
        return items if kind == "list" else tuple(items)
    return content


def save_hetero(
    path: str | os.PathLike[str],
    data: HeteroData,
    *,
    base: Mapping[Version, list[Any]] | None = None,
) -> None:
    """Write every store of ``data``, atomically and without copying large tensors in memory.

    Args:
        path: the file.
        data: values may be dense tensors, JSON values, and lists, tuples and dicts of those.
        base: :func:`snapshot` of the data that ``data`` was made from; tensors that are still
            the same memory, unwritten, are stored as references to it.

    Raises:
        TypeError: a value of another type; the message names it.
        OSError: the file cannot be written.
    """
    encode = _Encoder({} if base is None else base)
    stores = [
        {
            "type": _type_list(key),
            "values": {
                name: encode(value, "/".join([*_type_list(key), name]))
                for name, value in store.items()
            },
        }
        for key, store in data.to_dict().items()
    ]
    meta = {"format": _FORMAT, "version": _VERSION, "stores": stores}
    with atomic_path(path) as temporary:
        save_file(encode.tensors, temporary, metadata={"json": json.dumps(meta)})


def load_hetero(
    path: str | os.PathLike[str], *, base: Callable[[], HeteroData] | None = None
) -> HeteroData:
    """Read what :func:`save_hetero` wrote.

    Args:
        path: the file.
        base: gives the data that references point to; called only if there are any.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: the file is damaged, of another format, or refers to missing data.
    """
    tensors, meta = load_tensors(path)
    kind = (meta.get("format"), meta.get("version")) if isinstance(meta, dict) else None
    if kind != (_FORMAT, _VERSION):
        raise CorruptFileError(f"{path}: not a stored graph of this version; build it again")
    needs_base = '"base"' in json.dumps(meta["stores"])
    source = base() if base is not None and needs_base else None
    stores: dict[Any, Any] = {}
    try:
        for store in meta["stores"]:
            values = store["values"].items()
            stores[_store_key(store["type"])] = {
                name: _decode(value, tensors, source) for name, value in values
            }
    except KeyError as error:
        raise CorruptFileError(f"{path}: entry {error} is missing; build it again") from error
    return HeteroData.from_dict(stores)
