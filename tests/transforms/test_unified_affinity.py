"""UnifiedAffinity: schema, who takes part, storage, errors."""

import json

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from affinity_oracles import dense_affinity
from toy import toy_data

from pyg_hash.datasets import SyntheticCrossModal
from pyg_hash.datasets.base import load_hetero, save_hetero
from pyg_hash.transforms import LabelRate, ScaleFeatures, UnifiedAffinity, ValidationSplit
from pyg_hash.typing import AFFINITY, PAIR


def build(num_clusters=3, k=4, data=None, **options):
    data = toy_data(noise=0.8) if data is None else data
    return UnifiedAffinity(num_clusters, k, progress=False, **options)(ScaleFeatures()(data))


def dense(data):
    size = data[PAIR].num_nodes
    out = torch.zeros(size, size, dtype=torch.float64)
    edges = data[AFFINITY]
    out[edges.edge_index[0], edges.edge_index[1]] = edges.edge_weight.double()
    return out


def test_schema():
    data = build()
    train = data["image"].train_mask
    pair, edges = data["pair"], data["pair", "affinity", "pair"]
    assert pair.num_nodes == 60
    assert pair.cluster.dtype == edges.edge_index.dtype == torch.int64
    assert edges.edge_weight.dtype == torch.float32
    assert (pair.cluster[~train] == -1).all()
    assert sorted(pair.cluster[train].unique().tolist()) == [0, 1, 2]
    i, j = edges.edge_index
    key = i * 60 + j
    assert bool((key[1:] > key[:-1]).all()), "sorted by i, then j"
    assert bool((i != j).all()) and bool((edges.edge_weight > 0).all())
    assert bool(train[i].all()) and bool(train[j].all())
    torch.testing.assert_close(dense(data).sum(1), train.double(), rtol=0, atol=1e-6)
    assert torch.equal(pair.cluster[i], pair.cluster[j]), "clusters are components"
    assert i.bincount().max() <= 8


def test_description():
    about = build(rank="gmc", u_step="gmc", weight_rule="paper", lam=2.0).affinity
    assert json.loads(json.dumps(about)) == about
    assert about["num_clusters"] == about["num_components"] == 3
    assert about["converged"] is True
    assert (about["k"], about["metric"]) == (4, "l2")
    assert (about["rank"], about["u_step"], about["weight_rule"]) == ("gmc", "gmc", "paper")
    assert about["history"][0]["lam"] == 2.0
    assert about["history"][-1]["lam"] == about["lam"]
    assert about["iterations"] == len(about["history"])
    assert set(about["weights"]) == {"image", "text"}


@pytest.mark.parametrize(
    "options", [{}, {"rank": "gmc", "u_step": "gmc"}, {"weight_rule": "paper"}, {"lam": 8.0}]
)
def test_dense_reference(options):
    data = build(4, 5, toy_data(num_nodes=200, num_queries=40, noise=0.8), **options)
    train = data["image"].train_mask
    views = [data[m].x[train] for m in ("image", "text")]
    expected = dense_affinity(views, 4, 5, **options)
    found = dense(data)[train][:, train].numpy()
    np.testing.assert_allclose(found, expected.z, atol=1e-6)
    assert data["pair"].cluster[train].tolist() == expected.label.tolist()
    assert [row["num_components"] for row in data.affinity["history"]] == expected.counts


@pytest.mark.parametrize("value", [100.0, float("nan"), float("inf")])
def test_a_query_never_matters(value):
    scaled = ScaleFeatures()(toy_data(noise=0.8))
    transform = UnifiedAffinity(3, 4, progress=False)
    expected = transform(scaled)
    for m in ("image", "text"):
        poisoned = scaled[m].x.clone()
        poisoned[scaled[m].query_mask] = value
        scaled[m].x = poisoned
    found = transform(scaled)
    assert torch.equal(found[AFFINITY].edge_index, expected[AFFINITY].edge_index)
    assert torch.equal(found[AFFINITY].edge_weight, expected[AFFINITY].edge_weight)
    assert torch.equal(found[PAIR].cluster, expected[PAIR].cluster)
    assert found.affinity == expected.affinity


def test_only_training_rows_of_any_order():
    data = toy_data(noise=0.8)
    keep = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.7
    for m in ("image", "text"):
        data[m].train_mask = keep
    found = build(data=data)
    assert torch.equal(found[PAIR].cluster >= 0, keep)
    alone = toy_data(noise=0.8)
    for m in ("image", "text"):
        for name in ("x", "y", "labeled_mask"):
            alone[m][name] = alone[m][name][keep]
        alone[m].train_mask = torch.ones(int(keep.sum()), dtype=torch.bool)
    part = build(data=alone)
    torch.testing.assert_close(dense(found)[keep][:, keep], dense(part), rtol=0, atol=1e-6)
    assert torch.equal(found[PAIR].cluster[keep], part[PAIR].cluster)


def test_held_out_rows_do_not_take_part():
    data = ValidationSplit(0.3)(toy_data(noise=0.8))
    found = build(data=data)
    assert (found[PAIR].cluster[data["image"].val_mask] == -1).all()


def test_labels_do_not_matter():
    with_labels, without = toy_data(noise=0.8), toy_data(noise=0.8)
    for m in ("image", "text"):
        del without[m].y
        without[m].labeled_mask = torch.zeros(60, dtype=torch.bool)
    first, second = build(data=LabelRate(0.5)(with_labels)), build(data=without)
    assert torch.equal(first[AFFINITY].edge_weight, second[AFFINITY].edge_weight)


def test_storage(tmp_path):
    data = build()
    save_hetero(tmp_path / "d", data)
    loaded = load_hetero(tmp_path / "d")
    assert loaded.affinity == data.affinity
    assert loaded[PAIR].num_nodes == 60
    assert torch.equal(loaded[PAIR].cluster, data[PAIR].cluster)
    for name in ("edge_index", "edge_weight"):
        assert torch.equal(loaded[AFFINITY][name], data[AFFINITY][name])
    assert loaded.node_types == data.node_types and loaded.edge_types == data.edge_types


def test_inside_a_data_set():
    graph = T.Compose([ScaleFeatures(), UnifiedAffinity(4, 4, progress=False)])
    data = SyntheticCrossModal(80, 4, (9, 6), noise=0.7, pre_transform=graph)[0]
    assert data.affinity["num_components"] == 4
    assert data[PAIR].num_nodes == 80
    assert data.num_features["image"] == 9


def test_seed_and_progress_do_not_change_small_graphs(capfd):
    first = build()
    assert capfd.readouterr().err == ""
    second = UnifiedAffinity(3, 4, seed=9)(ScaleFeatures()(toy_data(noise=0.8)))
    assert "affinity" in capfd.readouterr().err
    assert torch.equal(first[AFFINITY].edge_weight, second[AFFINITY].edge_weight)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "num_clusters: expected a positive integer"),
        (("3",), TypeError, "num_clusters: expected a positive integer"),
        ((3, 0), ValueError, "k: expected a positive integer"),
        ((3, 4, "exact"), TypeError, "positional"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        UnifiedAffinity(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": "x"}, "rank: 'x' is not known"),
        ({"weight_rule": "x"}, "weight_rule: 'x' is not known"),
        ({"u_step": "x"}, "u_step: 'x' is not known"),
        ({"lam": -1.0}, "lam: expected a positive, finite number"),
        ({"max_iter": 0}, "max_iter: expected a positive integer"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        UnifiedAffinity(3, **options)


def test_bad_data():
    data = toy_data()
    data["text"].x[3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"\['text'\].x .*: 1 of 60 rows .*first: row 3"):
        UnifiedAffinity(3, 4)(data)
    data = toy_data()
    data["text"].x = data["text"].x[:50]
    with pytest.raises(ValueError, match="60 and 50 rows"):
        UnifiedAffinity(3, 4)(data)
    with pytest.raises(ValueError, match="k: 47 neighbours need at least 49 rows.* 48"):
        UnifiedAffinity(3, 47)(toy_data())
    with pytest.raises(ValueError, match="affinity graph exists already"):
        UnifiedAffinity(3, 4)(build())


def test_row_numbers_in_errors_are_those_of_the_data():
    data = toy_data()
    for m in ("image", "text"):
        data[m].train_mask = torch.arange(60) >= 20
    data["image"].x[31, 0] = torch.inf
    with pytest.raises(ValueError, match="first: row 31"):
        UnifiedAffinity(3, 4)(data)


def test_clusters_out_of_reach():
    with pytest.raises(ValueError, match="25 components of 48 rows are impossible"):
        build(25)
    apart = toy_data(noise=1e-3)
    with pytest.raises(ValueError, match="num_clusters: 2 .* already has 4"):
        build(2, data=apart)
    with pytest.warns(UserWarning, match="components after 1 turns instead of 6"):
        data = build(6, max_iter=1)
    assert data.affinity["converged"] is False
    assert data.affinity["num_components"] != 6


@pytest.mark.parametrize("late", [ValidationSplit(0.2), ScaleFeatures()])
def test_masks_and_features_are_settled_before(late):
    data = UnifiedAffinity(4, progress=False)(toy_data())
    with pytest.raises(ValueError, match="before the graph"):
        late(data)
