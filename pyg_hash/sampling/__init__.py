"""Mini-batches of graphs that are too large to train on at once."""

from pyg_hash.sampling.loader import CellShuffle as CellShuffle
from pyg_hash.sampling.loader import InstanceLoader, InstanceSampler

__all__ = ["InstanceLoader", "InstanceSampler"]
