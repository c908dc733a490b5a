"""Small graphs and models that the tests of models and of training share."""

from __future__ import annotations

import inspect

import torch
import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import HeteroData
from toy import toy_data

import pyg_hash.models
from pyg_hash import transforms
from pyg_hash.models import GCH, MCGCN, SGCH, SGEH, ClosedFormModel, HashModel
from pyg_hash.transforms import (
    InterKNN,
    IntraKNN,
    LabelHub,
    LabelRate,
    ScaleFeatures,
    ValidationSplit,
)

PROTOCOLS = {
    "inductive": ("train", "train"),
    "strict": ("all", "train"),
    "transductive": ("all", "all"),
}
NUM_CLASSES = 4
WIDTHS = {"hidden_channels": 12, "latent_channels": 10, "shared_channels": 11}
METHODS = [GCH, MCGCN, SGCH, SGEH]
BASELINES = [
    kind
    for kind in (getattr(pyg_hash.models, name) for name in pyg_hash.models.__all__)
    if issubclass(kind, HashModel) and not inspect.isabstract(kind) and kind not in METHODS
]
SOLVED = [kind for kind in BASELINES if issubclass(kind, ClosedFormModel)]
MODELS = METHODS + [kind for kind in BASELINES if kind not in SOLVED]
"""All that are trained."""


def small_graph(
    protocol: str = "inductive",
    rate: float | None = 0.5,
    *,
    data: HeteroData | None = None,
    scale: bool = True,
    validation: bool = False,
    match: str = "shared",
    k: int = 5,
    metric: str = "cosine",
    weight: str = "binary",
    neighbor_weight: float = 1.0,
    **kwargs: object,
) -> HeteroData:
    """The whole pipeline of transforms on :func:`toy_data`; ``rate=None`` keeps the masks."""
    intra, inter = PROTOCOLS[protocol]
    steps = [] if rate is None else [LabelRate(rate, seed=1)]
    steps += [ValidationSplit(0.3)] if validation else []
    steps += [ScaleFeatures()] if scale else []
    steps += [
        IntraKNN(k, metric, anchors=intra, weight=weight, neighbor_weight=neighbor_weight),
        InterKNN(anchors=inter),
        LabelHub(match=match),
    ]
    return T.Compose(steps)(toy_data(**kwargs) if data is None else data)


def graph_for(
    kind: type,
    protocol: str = "inductive",
    rate: float | None = 0.5,
    *,
    data: HeteroData | None = None,
    scale: bool = True,
    validation: bool = False,
    **kwargs: object,
) -> HeteroData:
    """What a model trains on, made of :func:`toy_data` by the transforms it needs."""
    steps = [] if rate is None else [LabelRate(rate, seed=1)]
    steps += [ValidationSplit(0.3)] if validation else []
    steps += [ScaleFeatures()] if scale else []
    intra, inter = PROTOCOLS[protocol]
    graphs = {
        "MCGCN": lambda: [IntraKNN(5, anchors=intra), InterKNN(anchors=inter), LabelHub()],
        "SGCH": lambda: [transforms.SGCHGraph(5, anchors=intra)],
        "SGEH": lambda: [transforms.UnifiedAffinity(NUM_CLASSES, progress=False)],
    }
    steps += graphs[kind.__name__]() if kind.__name__ in graphs else []
    return T.Compose(steps)(toy_data(**kwargs) if data is None else data)


def model_for(kind: type, data: HeteroData, *, seed: int = 0, **kwargs: object) -> torch.nn.Module:
    """A small instance of any model: widths and classes where its constructor knows them."""
    known = inspect.signature(kind).parameters
    sizes = {"num_classes": NUM_CLASSES, **WIDTHS}
    sizes = {name: value for name, value in sizes.items() if name in known}
    torch.manual_seed(seed)
    return kind(data.num_features, **{"num_bits": 12, **sizes, **kwargs})


def small_model(data: HeteroData, *, seed: int = 0, **kwargs: object) -> MCGCN:
    """An MCGCN of a few thousand parameters, drawn from ``seed``."""
    torch.manual_seed(seed)
    settings = {"num_classes": NUM_CLASSES, "num_bits": 8, **WIDTHS, **kwargs}
    return MCGCN(data.num_features, **settings)


def adam(model: torch.nn.Module, lr: float = 1e-2) -> torch.optim.Adam:
    """The optimiser of most tests."""
    return torch.optim.Adam(model.parameters(), lr=lr)


def assert_same_state(a: torch.nn.Module, b: torch.nn.Module) -> None:
    """Parameters are equal bit for bit."""
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def relaxed_of_new(model: torch.nn.Module, x: Tensor, modality: str) -> Tensor:
    """What ``encode_image(x)`` and ``encode_text(x)`` take the signs of."""
    x = model.intake.prepare(x, modality, next(model.parameters()))
    with torch.no_grad():
        return model.eval().relaxed_new(x, modality)


def assert_same_codes(
    found: Tensor, expected: Tensor, relaxed: Tensor, *, near_zero: float = 1e-5
) -> None:
    """Codes are equal wherever ``relaxed``, whose signs they are, is not nearly zero.

    For codes from products of other shapes or formulas: a product rounds by its number of rows,
    a row's place, threads and processor, and may so turn the sign of a number that is all rounding.
    """
    clear = relaxed.abs() > near_zero
    assert clear.double().mean() > 0.99
    assert torch.equal(found[clear], expected[clear])
