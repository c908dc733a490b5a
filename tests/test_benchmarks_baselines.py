"""Baselines: what they compute, and what they must not see."""

import numpy as np
import pytest
import torch
from scripts import benchmark_scripts
from sklearn.linear_model import LogisticRegression
from toy import toy_data

from pyg_hash.metrics import evaluate


@pytest.fixture(autouse=True)
def scripts():
    with benchmark_scripts():
        yield


NAMES = ["ClassCodeBaseline", "SignCCA", "ITQCCA"]
BITS = 8


def make(name, seed=0, **options):
    import baselines

    return getattr(baselines, name)(BITS, seed, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_codes_and_evaluation(name, multi_label):
    data = toy_data(noise=0.1, multi_label=multi_label)
    baseline = make(name)
    for modality in ("image", "text"):
        codes = baseline.encode(data, modality)
        assert codes.dtype == torch.int8
        assert codes.shape == (60, BITS)
        assert codes.abs().eq(1).all()
        assert torch.equal(codes, make(name).encode(data, modality))
    result = evaluate(baseline, data)
    assert result.protocol == "inductive"
    assert result.i2t > 0.5  # classes are far apart; chance is .25


@pytest.mark.parametrize("name", NAMES)
def test_a_query_changes_nothing_but_its_own_code(name):
    data = toy_data(noise=0.5)
    codes = make(name).encode(data, "image")
    for modality in ("image", "text"):
        data[modality].x = data[modality].x.clone()
        data[modality].x[-1] = 100.0
    assert torch.equal(make(name).encode(data, "image")[:-1], codes[:-1])
    data["text"].x[-1] = float("nan")  # its other modality is not looked at
    assert torch.equal(make(name).encode(data, "image")[:-1], codes[:-1])


@pytest.mark.parametrize("name", ["SignCCA", "ITQCCA"])
def test_the_unsupervised_ones_read_no_label(name):
    data = toy_data()
    codes = make(name).encode(data, "text")
    for modality in ("image", "text"):
        del data[modality].y, data[modality].labeled_mask
    assert torch.equal(make(name).encode(data, "text"), codes)


@pytest.mark.parametrize("multi_label", [False, True])
def test_class_codes_read_labels_of_labelled_nodes_only(multi_label):
    data = toy_data(multi_label=multi_label)
    labeled = data["image"].train_mask & (torch.arange(60) % 2 == 0)
    for modality in ("image", "text"):
        data[modality].labeled_mask = labeled
    codes = make("ClassCodeBaseline", center=True).encode(data, "image")
    data["image"].y = torch.where(
        labeled[:, None] if multi_label else labeled, data["image"].y, 1 if multi_label else 0
    )
    assert torch.equal(make("ClassCodeBaseline", center=True).encode(data, "image"), codes)


@pytest.mark.parametrize("center", [False, True])
def test_multi_label_is_one_classifier_a_label(center):
    data = toy_data(multi_label=True)
    store = data["image"]
    train = store.labeled_mask
    scores = np.zeros((60, BITS))
    generator = torch.Generator().manual_seed(5)
    signs = np.where(torch.rand(4, BITS, generator=generator).numpy() < 0.5, 1.0, -1.0)
    for c in range(4):
        classifier = LogisticRegression(max_iter=5000)
        classifier.fit(store.x[train].numpy(), store.y[train, c].numpy())
        p = classifier.predict_proba(store.x.numpy())[:, 1]
        if center:
            p = p - store.y[train, c].mean().item()
        scores += p[:, None] * signs[c]
    ours = make("ClassCodeBaseline", 5, center=center).encode(data, "image").numpy()
    assert np.array_equal(ours, np.where(scores >= 0, 1, -1))


def test_a_label_that_all_or_none_carry():
    data = toy_data(multi_label=True)
    for modality in ("image", "text"):
        data[modality].y = data[modality].y.clone()
        data[modality].y[:, 1] = 1.0
        data[modality].y[:, 2] = 0.0
    codes = make("ClassCodeBaseline").encode(data, "image")
    assert codes.shape == (60, BITS)
    # centred, a label that everybody has says nothing: its code plays no part
    centred = make("ClassCodeBaseline", center=True).encode(data, "image")
    assert len(centred.unique(dim=0)) > 1


def test_class_index_without_a_member_in_the_labelled_rows():
    data = toy_data()
    keep = data["image"].y != 2
    for modality in ("image", "text"):
        data[modality].labeled_mask = data[modality].train_mask & keep
    codes = make("ClassCodeBaseline").encode(data, "image")
    assert codes.shape == (60, BITS)


def test_sign_cca_and_itq_are_signs_of_the_same_variates():
    from pyg_hash.models.baselines.canonical import cca

    data = toy_data()
    train = data["image"].train_mask
    fitted = cca(data["image"].x[train], data["text"].x[train], BITS, ridge=0.1)
    variates = fitted(data["text"].x, 1)
    signs = make("SignCCA", ridge=0.1).encode(data, "text")
    assert torch.equal(signs, torch.where(variates >= 0, 1, -1).to(torch.int8))
    weighted = variates * fitted.correlations
    start = make("ITQCCA", 7, ridge=0.1, weighted=True, iterations=0).encode(data, "text")
    generator = torch.Generator().manual_seed(7)
    rotation = torch.linalg.qr(torch.randn(BITS, BITS, generator=generator).double()).Q
    assert torch.equal(start, torch.where(weighted @ rotation >= 0, 1, -1).to(torch.int8))
    plain = make("ITQCCA", 7, ridge=0.1, iterations=0).encode(data, "text")
    assert torch.equal(plain, torch.where(variates @ rotation >= 0, 1, -1).to(torch.int8))


def test_more_bits_than_directions():
    from baselines import SignCCA

    with pytest.raises(ValueError, match=r"10 canonical directions wanted.* only 9"):
        SignCCA(10).encode(toy_data(), "image")
