"""The graph that a ``HeteroData`` holds: its edges, its protocol and its linear operators."""

from pyg_hash.graph.build import (
    Graphs,
    build_graphs,
    intra_operator,
    joint_operator,
    query_view,
)
from pyg_hash.graph.cache import GraphCache
from pyg_hash.graph.operator import GraphOperator, Hub, SparseMap
from pyg_hash.graph.protocol import protocol
from pyg_hash.graph.receiver import Receiver, View

__all__ = [
    "GraphCache",
    "GraphOperator",
    "Graphs",
    "Hub",
    "Receiver",
    "SparseMap",
    "View",
    "build_graphs",
    "intra_operator",
    "joint_operator",
    "protocol",
    "query_view",
]
