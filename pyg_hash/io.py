"""Moved to :mod:`pyg_hash.utils.files`."""

from pyg_hash.utils.moved import door

__getattr__ = door(__name__, {"CorruptFileError": "pyg_hash.utils.files"})
