"""The benchmark scripts run, and the recipes of published experiments can be built."""

import sys
from pathlib import Path

import pytest
import torch
import torch_geometric.transforms as T
from toy import toy_data

from pyg_hash.models import MCGCN
from pyg_hash.training import fit
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate, protocol

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("accuracy", "baselines", "recipes"):
        sys.modules.pop(name, None)


def test_accuracy_measures_every_method_and_protocol(scripts, monkeypatch, capsys):
    import accuracy

    monkeypatch.setattr(accuracy, "EPOCHS", 2)
    monkeypatch.setattr(accuracy, "K", 4)
    rows = accuracy.measure("toy", toy_data(noise=0.5), 0.5, [0, 1])
    found = {(row["method"], row["protocol"]) for row in rows}
    assert ("class codes", "inductive") in found
    assert {("MCGCN", p) for p in ("inductive", "strict", "transductive")} < found
    assert all(len(row["scores"]["i2t"]) == 2 for row in rows)
    assert "| toy | 50% | MCGCN | strict |" in accuracy.table(rows)


def test_baseline_encodes_each_item_from_its_own_features(scripts):
    from baselines import ClassCodeBaseline

    data = toy_data(noise=0.1)
    codes = ClassCodeBaseline(16, seed=0).encode(data, "image")
    assert codes.dtype == torch.int8
    assert codes.shape == (60, 16)
    for c in range(4):  # separable classes: one code a class
        assert len(codes[data["image"].y == c].unique(dim=0)) == 1
    poisoned = data["image"].x.clone()
    poisoned[-1] = 100.0
    data["image"].x = poisoned
    assert torch.equal(ClassCodeBaseline(16, seed=0).encode(data, "image")[:-1], codes[:-1])


@pytest.mark.parametrize("name", ["MCGCN_WIKIPEDIA", "MCGCN_NUSWIDE10K"])
def test_recipe_is_the_papers_setting_and_trains(scripts, name):
    import recipes

    recipe = getattr(recipes, name)
    data = toy_data()
    for modality in ("image", "text"):  # the paper's features and decoders are non-negative
        data[modality].x = data[modality].x.abs()
    graph = [
        LabelRate(0.3),
        IntraKNN(**recipe.graph["intra"]),
        InterKNN(**recipe.graph["inter"]),
        LabelHub(**recipe.graph["labels"]),
    ]
    data = T.Compose(graph)(data)
    assert protocol(data) == "transductive"
    model = MCGCN(data.num_features, 4, 16, **recipe.model)
    assert (model.reduction, model.gamma, model.view_weight) == ("sum", 1000.0, 0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    assert len(fit(model, data, optimizer, epochs=2, progress=False)) == 2
    for task in ("i2t", "t2i"):
        for values in recipe.reported[task].values():
            assert values == tuple(sorted(values))  # more labels, higher mAP
