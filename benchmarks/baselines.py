"""The baselines of ``suite.py``: models of the library, solved when they are asked for codes."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.models.baselines import CCA, ITQ, ClassCodes, ClosedFormModel
from pyg_hash.typing import Modality


class _Baseline:
    """A closed form that knows its data from the first codes on.

    Args:
        num_bits: code length.
        seed: of what the model draws, if it draws anything.
        options: keywords of the model.
    """

    kind: ClassVar[type[ClosedFormModel]]

    def __init__(self, num_bits: int, seed: int = 0, **options: Any) -> None:
        self.num_bits = num_bits
        self.seed = seed
        self.options = options

    def protocol(self, data: HeteroData) -> str:
        """Always ``'inductive'``, whatever graph comes with the data."""
        return "inductive"

    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]``."""
        known = inspect.signature(self.kind).parameters
        sizes = {"num_classes": data.num_classes, "num_bits": self.num_bits, "seed": self.seed}
        given = {name: value for name, value in sizes.items() if name in known}
        make: Any = self.kind  # the base class does not fix the keywords of models
        return make(data.num_features, **given, **self.options).solve(data).encode(data, modality)


class ClassCodeBaseline(_Baseline):
    """Logistic regression on the labelled nodes; posteriors through random class codes."""

    kind = ClassCodes


class SignCCA(_Baseline):
    """Signs of the strongest canonical variates."""

    kind = CCA


class ITQCCA(_Baseline):
    """The same variates, rotated by ITQ."""

    kind = ITQ
