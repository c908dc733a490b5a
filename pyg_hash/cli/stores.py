"""Stores of codes on the command line: new codes go into one, and searches look there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyg_hash.cli.options import UsageError

if TYPE_CHECKING:
    from pyg_hash.cli.queries import NewItems
    from pyg_hash.features.each import Encoded
    from pyg_hash.stores import CodeStore

_KINDS = "NAME.store (a file), NAME.lance (LanceDB), NAME.db or http://HOST:PORT (Milvus)"


def is_store(address: str) -> bool:
    """Whether an address is that of a store rather than of a plain file."""
    from pyg_hash.stores import store_class

    return store_class(address) is not None


def open_store(address: str, num_bits: int) -> CodeStore:
    """A store that is there.

    Raises:
        FileNotFoundError: it is not.
        UsageError: an address of another form.
        ValueError: its codes have another length.
    """
    from pyg_hash.stores import store_class

    kind = store_class(address)
    if kind is None:
        raise UsageError(f"store: {address!r} is none; expected {_KINDS}")
    store: CodeStore = kind.open(address)
    if store.num_bits != num_bits:
        raise ValueError(
            f"store: the codes in {address} have {store.num_bits} bits, those of the run {num_bits}"
        )
    return store


def store_for(address: str, num_bits: int, index: str | None) -> CodeStore:
    """A store to put codes under string ids into; made if there is none.

    Args:
        address: where; see :func:`pyg_hash.stores.store_class`.
        num_bits: of the codes.
        index: how a new file looks codes up: a class of :mod:`pyg_hash.stores`, in any case.

    Raises:
        UsageError: an unknown index, or one for a store that is there or has none.
        ValueError: the store cannot take such codes.
    """
    from pyg_hash.stores import FaissStore, store_class
    from pyg_hash.stores.indexes import KINDS

    kinds = {name.lower(): kind for name, kind in KINDS.items()}
    if index is not None and index.lower() not in kinds:
        raise UsageError(f"index: {index!r} is not known; use one of {', '.join(kinds)}")
    kind: Any = store_class(address)
    if index is not None and kind is not FaissStore:
        raise UsageError("index: is for NAME.store only")
    try:
        store = open_store(address, num_bits)
    except FileNotFoundError:
        more = {} if index is None else {"index": kinds[index.lower()]()}
        made: CodeStore = kind.create(address, num_bits, ids=str, **more)
        return made
    if index is not None:
        raise UsageError(f"index: {address} is there already and keeps its own")
    if store.id_type is not str or store.fields:
        beside = f" and {', '.join(store.fields)} beside a code" if store.fields else ""
        raise ValueError(
            f"store: {address} has {store.id_type.__name__} ids{beside}; the command line adds "
            "codes under string ids alone: choose another store, or add them from Python"
        )
    return store


def put(store: CodeStore, items: NewItems, found: Encoded) -> int:
    """Put codes into a store under the items' ids; those that it has already are replaced.

    Of items with the same id, the last one is kept.

    Returns:
        how many of the ids were there before.
    """
    assert found.values is not None
    last = {items.ids[row]: place for place, row in enumerate(found.kept)}
    names = list(last)
    known = [name for name, there in zip(names, store.contains(names), strict=True) if there]
    store.remove(known)
    store.add(found.values[list(last.values())], names)
    store.save()
    return len(known)
