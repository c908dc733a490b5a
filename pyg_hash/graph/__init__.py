"""The graph that a ``HeteroData`` holds: its edges, its protocol and its linear operators."""

from pyg_hash.graph.build import protocol
from pyg_hash.graph.operator import GraphOperator, SparseMap
from pyg_hash.graph.place import Place

__all__ = ["GraphOperator", "Place", "SparseMap", "protocol"]
