"""Moved to :mod:`pyg_hash.training`."""

from pyg_hash.utils.moved import door

__getattr__ = door(__name__, {"encode_sharded": "pyg_hash.training"})
