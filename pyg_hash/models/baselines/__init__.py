"""Baselines: small models on the same contract, most of them solved in one go."""

from pyg_hash.models.baselines.cca import CCA
from pyg_hash.models.baselines.class_codes import ClassCodes
from pyg_hash.models.baselines.closed_form import ClosedFormModel as ClosedFormModel
from pyg_hash.models.baselines.closed_form import LinearHashModel as LinearHashModel
from pyg_hash.models.baselines.cmfh import CMFH
from pyg_hash.models.baselines.dcmh import DCMH
from pyg_hash.models.baselines.dgcpn import DGCPN
from pyg_hash.models.baselines.djsrh import DJSRH
from pyg_hash.models.baselines.imh import IMH
from pyg_hash.models.baselines.itq import ITQ
from pyg_hash.models.baselines.jdsh import JDSH
from pyg_hash.models.baselines.lsh import LSH
from pyg_hash.models.baselines.scm import SCM

__all__ = [
    "CCA",
    "CMFH",
    "DCMH",
    "DGCPN",
    "DJSRH",
    "IMH",
    "ITQ",
    "JDSH",
    "LSH",
    "SCM",
    "ClassCodes",
]
