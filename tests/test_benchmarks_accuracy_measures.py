"""What is measured of codes, and what data are known by."""

import pytest
import torch
from toy import toy_data

from benchmarks.accuracy.data import content
from benchmarks.accuracy.measures import CUTS, RANKS, curves, embeddings, rescored, scores
from pyg_hash.metrics import mean_average_precision, pair_recall, pr_curve, precision_at_n

# --- measures -----------------------------------------------------------------------------------


def codes_of(data, bits=6):
    generator = torch.Generator().manual_seed(0)
    rows = len(data["image"].x)
    draw = torch.rand(2, rows, bits, generator=generator) < 0.5
    both = torch.where(draw, 1, -1).to(torch.int8)
    return {"image": both[0], "text": both[1]}


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_are_those_of_the_metrics(multi_label):
    data = toy_data(120, num_queries=30, multi_label=multi_label)
    codes = codes_of(data)
    query, database = data["image"].query_mask, data["image"].database_mask
    y = data["image"].y
    asked = codes["text"][query], codes["image"][database], y[query], y[database]
    found = scores(codes, data, ties=True)
    for cut in CUTS:
        for denominator in ("hits", "min_k_R", "R", "dcmh"):
            value = mean_average_precision(*asked, topk=cut, denominator=denominator)
            assert found[f"{cut} {denominator}"]["t2i"] == pytest.approx(value, abs=1e-6)
    for ties in ("index", "optimistic", "pessimistic"):
        value = mean_average_precision(*asked, ties=ties)
        assert found[f"all, {ties}"]["t2i"] == pytest.approx(value, abs=1e-6)
    worst, best = found["all, pessimistic"], found["all, optimistic"]
    assert worst["t2i"] <= found["all"]["t2i"] <= best["t2i"]
    own = codes["text"][query], codes["image"][query], y[query], y[query]
    value = mean_average_precision(*own)
    assert found["all, among queries"]["t2i"] == pytest.approx(value, abs=1e-6)
    assert "all, index" not in scores(codes, data)
    for k in (1, 5, 10):
        value = pair_recall(codes["text"][query], codes["image"][query], k)
        assert found[f"R@{k}"]["t2i"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_codes_that_are_binary_already_are_rescored_to_what_they_were(multi_label):
    data = toy_data(120, num_queries=30, multi_label=multi_label)
    codes = codes_of(data)
    plain = scores(codes, data)
    found = rescored({m: 0.5 * x.float() for m, x in codes.items()}, data)
    for metric in ("all", "R@10"):
        expected = {task: plain[metric][task] for task in ("i2t", "t2i")}
        for how in ("scored", "int8"):
            assert found[f"{metric}, {how}"] == pytest.approx(expected, abs=2e-6)


def test_index_by_class_sorts_the_file():
    """One code for all items: the order of the file is the whole ranking."""
    data = toy_data(40, num_classes=2, num_queries=8)
    same = {m: torch.ones(40, 4, dtype=torch.int8) for m in ("image", "text")}
    found = scores(same, data, ties=True)
    # sorted by class: queries of class 0 have AP 1; those of class 1 find 16 others first
    second = sum(i / (16 + i) for i in range(1, 17)) / 16
    assert found["all, index by class"]["i2t"] == pytest.approx((1 + second) / 2, abs=1e-6)


def test_queries_in_the_database_are_refused():
    data = toy_data()
    for modality in ("image", "text"):
        data[modality].database_mask = data[modality].train_mask | True
    with pytest.raises(ValueError, match="find themselves"):
        scores(codes_of(data), data)


def test_curves_are_those_of_the_metrics():
    data = toy_data(120, num_queries=30)
    codes = codes_of(data)
    query, database = data["image"].query_mask, data["image"].database_mask
    y = data["image"].y
    asked = codes["image"][query], codes["text"][database], y[query], y[database]
    found = curves(codes, data)["i2t"]
    expected = pr_curve(*asked)
    assert found["recall"] == pytest.approx(expected.recall.tolist(), abs=1e-4)
    assert found["recall"][-1] == 1.0
    assert found["ranks"] == [n for n in RANKS if n <= 90]
    at = precision_at_n(*asked, topn=found["ranks"])
    assert found["at"] == pytest.approx(at.tolist(), abs=1e-4)


def test_embeddings_hold_training_items_of_the_first_classes():
    pytest.importorskip("sklearn")

    data = toy_data(60, num_classes=6, num_queries=12)
    found = embeddings(codes_of(data), data, seed=0)
    store = data["image"]
    assert found["classes"] == store.y[store.train_mask & (store.y < 5)].tolist()
    count = len(found["classes"])
    parts = [len(found[name]) for name in ("image features", "text features", "codes")]
    assert parts == [count, count, 2 * count]


# --- data ---------------------------------------------------------------------------------------


def test_digests_notice_every_change():
    data = toy_data()
    base = content(data)
    assert base == content(toy_data())
    assert base.about == "48 train, 12 query, 48 database; 12-d images, 9-d texts; 4 classes"
    data["text"].x[3, 2] += 1e-3
    assert content(data).data != base.data
    assert content(data).split == base.split
    data = toy_data()
    data["image"].y[0] = 3
    assert content(data).data != base.data
    data = toy_data()
    data["image"].query_mask = ~data["image"].query_mask
    assert content(data).split != base.split


def test_digests_of_sparse_features():
    data = toy_data()
    data["text"].x = data["text"].x.to_sparse_csr()
    first = content(data)
    data["text"].x = (2 * data["text"].x.to_dense()).to_sparse_csr()
    assert content(data).data != first.data
