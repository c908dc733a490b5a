"""Stores of codes with ids: one file (FAISS), LanceDB or Milvus behind one interface."""

from pyg_hash.stores.address import store_class
from pyg_hash.stores.base import CodeStore
from pyg_hash.stores.export import ExportedCodes, export_codes, read_codes
from pyg_hash.stores.faiss_store import FaissStore
from pyg_hash.stores.indexes import HNSW, IVF, Flat, MultiIndex
from pyg_hash.stores.lance import LanceStore
from pyg_hash.stores.milvus import MilvusStore

__all__ = [
    "HNSW",
    "IVF",
    "CodeStore",
    "ExportedCodes",
    "FaissStore",
    "Flat",
    "LanceStore",
    "MilvusStore",
    "MultiIndex",
    "export_codes",
    "read_codes",
    "store_class",
]
