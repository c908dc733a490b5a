"""The graph that a ``HeteroData`` holds: its edges, its protocol and its linear operators."""

from pyg_hash.graph.build import Graphs as Graphs
from pyg_hash.graph.build import anchor_view as anchor_view
from pyg_hash.graph.build import build_graphs as build_graphs
from pyg_hash.graph.build import intra_operator as intra_operator
from pyg_hash.graph.build import joint_operator as joint_operator
from pyg_hash.graph.build import query_view as query_view
from pyg_hash.graph.cache import GraphCache as GraphCache
from pyg_hash.graph.operator import GraphOperator, SparseMap
from pyg_hash.graph.place import BlockedGraph as BlockedGraph
from pyg_hash.graph.place import NewItems as NewItems
from pyg_hash.graph.place import Place
from pyg_hash.graph.place import View as View
from pyg_hash.graph.place import WholeGraph as WholeGraph
from pyg_hash.graph.protocol import protocol

__all__ = ["GraphOperator", "Place", "SparseMap", "protocol"]
