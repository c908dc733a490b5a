"""Stores of codes with ids: one file (FAISS), LanceDB or Milvus behind one interface."""

from __future__ import annotations

import os
from typing import Any

from pyg_hash.index import HNSW as HNSW
from pyg_hash.index import IVF as IVF
from pyg_hash.index import CodeStore as CodeStore
from pyg_hash.index import Flat as Flat
from pyg_hash.index import HammingIndex
from pyg_hash.index import MultiIndex as MultiIndex
from pyg_hash.index.export import export_codes, read_codes
from pyg_hash.stores.databases import LanceStore, MilvusStore
from pyg_hash.typing import PathLike

FaissStore = HammingIndex  # as the names above, from where they were

__all__ = ["LanceStore", "MilvusStore", "export_codes", "read_codes"]


def store_class(address: PathLike) -> Any:
    """The class whose ``create`` and ``open`` take an address.

    ``NAME.store`` is a file (FAISS), ``NAME.lance`` a folder of LanceDB, ``NAME.db`` a file of
    Milvus Lite, ``http://HOST:PORT`` a Milvus cluster. None for anything else.
    """
    address = os.fspath(address)
    if address.startswith(("http://", "https://")):
        return MilvusStore
    endings: dict[str, Any] = {".store": FaissStore, ".lance": LanceStore, ".db": MilvusStore}
    return endings.get(os.path.splitext(address)[1].lower())
