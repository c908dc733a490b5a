"""Hashing models: one method a file, one contract (:class:`pyg_hash.models.base.HashModel`)."""

from pyg_hash.models.base import EncoderHashModel as EncoderHashModel
from pyg_hash.models.base import HashModel as HashModel
from pyg_hash.models.base import Objective as Objective
from pyg_hash.models.gch import GCH
from pyg_hash.models.graph import GraphHashModel as GraphHashModel
from pyg_hash.models.mcgcn import MCGCN
from pyg_hash.models.sgch import SGCH
from pyg_hash.models.sgeh import SGEH

__all__ = ["GCH", "MCGCN", "SGCH", "SGEH"]
