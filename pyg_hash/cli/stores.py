"""Stores of codes on the command line: new codes go into one, and searches look there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyg_hash.cli.options import UsageError

if TYPE_CHECKING:
    from pyg_hash.cli.queries import NewItems
    from pyg_hash.features.base import Encoded
    from pyg_hash.stores import CodeStore


def open_store(address: str, num_bits: int) -> CodeStore:
    """A store that is there, with codes of ``num_bits``."""
    from pyg_hash.stores import store_class

    kind = store_class(address)
    if kind is None:
        raise UsageError(
            f"store: {address!r} is none; expected NAME.store (a file), NAME.lance (LanceDB), "
            "NAME.db or http://HOST:PORT (Milvus)"
        )
    store: CodeStore = kind.open(address)
    if store.num_bits != num_bits:
        raise ValueError(
            f"store: the codes in {address} have {store.num_bits} bits, those of the run {num_bits}"
        )
    return store


def store_for(address: str, num_bits: int, index: str | None) -> CodeStore:
    """A store to put codes under string ids into; made, with this index, if there is none."""
    from pyg_hash.stores import FaissStore, store_class
    from pyg_hash.stores.faiss_store import KINDS

    kind: Any = store_class(address)
    more = {}
    if index is not None:
        kinds = {name.lower(): cls for name, cls in KINDS.items()}
        if index.lower() not in kinds:
            raise UsageError(f"index: {index!r} is not known; use one of {', '.join(kinds)}")
        if kind is not FaissStore:
            raise UsageError("index: is for NAME.store only")
        more = {"index": kinds[index.lower()]()}
    try:
        store = open_store(address, num_bits)
    except FileNotFoundError:
        made: CodeStore = kind.create(address, num_bits, ids=str, **more)
        return made
    if more:
        raise UsageError(f"index: {address} is there already and keeps its own")
    if store.id_type is not str or store.fields:
        beside = f" and {', '.join(store.fields)} beside a code" if store.fields else ""
        raise ValueError(
            f"store: {address} has {store.id_type.__name__} ids{beside}; the command line adds "
            "codes under string ids alone: choose another store, or add them from Python"
        )
    return store


def put(store: CodeStore, items: NewItems, found: Encoded) -> int:
    """Put codes into a store under the items' ids; how many it had before and are replaced."""
    assert found.values is not None
    last = {items.ids[row]: place for place, row in enumerate(found.kept)}  # of the same id
    names = list(last)
    known = [name for name, there in zip(names, store.contains(names), strict=True) if there]
    store.remove(known)
    store.add(found.values[list(last.values())], names)
    store.save()
    return len(known)
