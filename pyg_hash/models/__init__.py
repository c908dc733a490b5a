"""Hashing models: one method a file, baselines by family, one contract (:class:`HashModel`)."""

from pyg_hash.models import files
from pyg_hash.models.affinities import DGCPN, DJSRH, JDSH
from pyg_hash.models.base import HashModel, Objective
from pyg_hash.models.canonical import CCA, ITQ, LSH, SCM
from pyg_hash.models.class_codes import ClassCodes
from pyg_hash.models.closed_form import ClosedFormModel
from pyg_hash.models.closed_form import LinearHashModel as LinearHashModel
from pyg_hash.models.dcmh import DCMH
from pyg_hash.models.encoder import EncoderHashModel
from pyg_hash.models.gch import GCH
from pyg_hash.models.graph import GraphHashModel
from pyg_hash.models.latent import CMFH, IMH
from pyg_hash.models.mcgcn import MCGCN
from pyg_hash.models.sgch import SGCH
from pyg_hash.models.sgeh import SGEH
from pyg_hash.models.taught import TaughtHash
from pyg_hash.typing import HashOutput

HashModel.storage = files

__all__ = [
    "CCA",
    "CMFH",
    "DCMH",
    "DGCPN",
    "DJSRH",
    "GCH",
    "IMH",
    "ITQ",
    "JDSH",
    "LSH",
    "MCGCN",
    "SCM",
    "SGCH",
    "SGEH",
    "ClassCodes",
    "ClosedFormModel",
    "EncoderHashModel",
    "GraphHashModel",
    "HashOutput",
    "HashModel",
    "Objective",
    "TaughtHash",
]
