"""What SGEH refuses: data without its graph, broken features, settings that mean nothing."""

import math

import pytest
import torch
from small import adam, graph_for, model_for
from toy import toy_data

from pyg_hash.models import SGEH
from pyg_hash.training import fit
from pyg_hash.transforms import ScaleFeatures
from pyg_hash.typing import MODALITIES


@pytest.fixture
def data():
    return graph_for(SGEH, rate=None)


def model(data):
    return model_for(SGEH, data, batch_size=8, hidden_channels=6, num_bits=5)


def test_data_without_affinity():
    data = ScaleFeatures()(toy_data())
    net = model(data)
    with pytest.raises(ValueError, match="UnifiedAffinity first"):
        fit(net, data, adam(net), epochs=1, progress=False)
    with pytest.raises(ValueError, match="UnifiedAffinity first"):
        net.loss(net(data), data)
    assert net.encode(data, "image").shape == (60, 5)  # codes need none


def test_no_training_rows(data):
    for m in MODALITIES:
        data[m].train_mask = torch.zeros(60, dtype=torch.bool)
    with pytest.raises(ValueError, match="train_mask"):
        net = model(data)
        net.loss(net(data), data)


def test_one_training_row(data):
    for m in MODALITIES:
        data[m].train_mask = torch.arange(60) == 3
    with pytest.raises(ValueError, match="train_mask: selects 1 nodes"):
        net = model(data)
        net.loss(net(data), data)


def test_masks_changed_after_the_graph(data):
    for m in MODALITIES:
        data[m].train_mask = torch.arange(60) < 40
    net = model(data)
    with pytest.raises(ValueError, match="outside train_mask"):
        net.loss(net(data), data)


@pytest.mark.parametrize("modality", MODALITIES)
def test_bad_features(data, modality):
    net = model(data)
    out = net(data)
    broken = data.clone()
    broken[modality].x[2, 1] = float("nan")
    with pytest.raises(ValueError, match=rf"{modality}.*1 of 48 rows contain NaN"):
        net.loss(out, broken)
    data[modality].x = data[modality].x[:, 1:]
    with pytest.raises(ValueError, match="num_features"):
        next(net.objectives(data, 0))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"num_bits": 0}, ValueError, "num_bits"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 2.5}, TypeError, "batch_size"),
        ({"batch_size": 1}, ValueError, "a batch of one has no pairs"),
        ({"batches": "pairs"}, ValueError, "batches"),
        ({"adjacency": "code"}, ValueError, "use 'edges'"),
        ({"walk_steps": 0}, ValueError, "walk_steps"),
        ({"discriminator_channels": 0}, ValueError, "discriminator_channels"),
        ({"hidden_channels": (8, 0)}, ValueError, r"hidden_channels\['text'\]"),
        ({"variant": "SGEH-5"}, ValueError, "variant"),
        ({"adjacency": "dense"}, ValueError, "adjacency"),
        ({"lambda3": 1.1}, ValueError, "lambda3"),
        ({"lambda4": -0.1}, ValueError, "lambda4"),
        ({"weights": {"affinity_ii": -1.0}}, ValueError, r"weights\['affinity_ii'\]"),
        ({"weights": {"affinity_it": math.inf}}, ValueError, "affinity_it"),
        ({"weights": {"affinity_tt": "a"}}, TypeError, "affinity_tt"),
        ({"weights": {"prior": math.nan}}, ValueError, "prior"),
        ({"weights": {"eta": 1.0}}, ValueError, "no term 'eta'; terms: affinity_ii"),
        ({"reduction": "none"}, ValueError, "reduction"),
        ({"alpha": -1}, ValueError, "alpha"),
        ({"dropout": 2.0}, ValueError, "dropout"),
    ],
)
def test_constructor_errors(keywords, error, message):
    with pytest.raises(error, match=message):
        SGEH((4, 3), **keywords)
