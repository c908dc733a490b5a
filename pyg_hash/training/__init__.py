"""Training: one loop, its checkpoints, and several processes that share it out."""

from pyg_hash.training.fit import fit
from pyg_hash.training.ranks import encode_sharded
from pyg_hash.training.state import History

__all__ = ["History", "encode_sharded", "fit"]
