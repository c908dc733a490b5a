"""Moved: the baselines are in :mod:`pyg_hash.models`, beside the other methods."""

from pyg_hash.utils.moved import door

_NAMES = "CCA CMFH DCMH DGCPN DJSRH IMH ITQ JDSH LSH SCM ClassCodes ClosedFormModel LinearHashModel"

__getattr__ = door(__name__, dict.fromkeys(_NAMES.split(), "pyg_hash.models"))
