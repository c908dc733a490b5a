"""The graph that a ``HeteroData`` holds: its edges, its protocol and its linear operators."""

from pyg_hash.graph.build import (
    Graphs,
    anchor_view,
    build_graphs,
    intra_operator,
    joint_operator,
    query_view,
)
from pyg_hash.graph.cache import GraphCache
from pyg_hash.graph.operator import GraphOperator, Hub, SparseMap
from pyg_hash.graph.place import BlockedGraph, NewItems, Place, Receiver, View, WholeGraph
from pyg_hash.graph.protocol import protocol

__all__ = [
    "BlockedGraph",
    "GraphCache",
    "GraphOperator",
    "Graphs",
    "Hub",
    "NewItems",
    "Place",
    "Receiver",
    "SparseMap",
    "View",
    "WholeGraph",
    "anchor_view",
    "build_graphs",
    "intra_operator",
    "joint_operator",
    "protocol",
    "query_view",
]
