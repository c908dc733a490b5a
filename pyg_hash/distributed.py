"""Moved to :mod:`pyg_hash.training`."""

from pyg_hash.utils.moved import door

__getattr__ = door(
    __name__,
    {
        "Ranks": "pyg_hash.training.ranks",
        "encode_sharded": "pyg_hash.training",
        "process_group": "pyg_hash.training.ranks",
    },
)
