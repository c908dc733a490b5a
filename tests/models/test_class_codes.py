"""Class codes against scikit-learn's own posteriors."""

import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from small import assert_same_codes
from toy import toy_data

from pyg_hash.codes import binarize
from pyg_hash.models import ClassCodes

BITS = 8


def solved(data, **options):
    return ClassCodes(data.num_features, 4, BITS, **options).solve(data)


def class_signs(seed, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return np.where(torch.rand(classes, BITS, generator=generator).numpy() < 0.5, 1.0, -1.0)


def restricted(data, mask):
    for m in ("image", "text"):
        data[m].labeled_mask = mask
    return data


@pytest.mark.parametrize("penalty", [1.0, 0.1])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_posteriors_and_codes_of_one_label(modality, penalty):
    data = toy_data()
    store = data[modality]
    train = store.labeled_mask
    classifier = LogisticRegression(C=1 / penalty, max_iter=5000)
    classifier.fit(store.x[train].numpy(), store.y[train].numpy())
    expected = classifier.predict_proba(store.x.numpy())
    model = solved(data, penalty=penalty, seed=5)
    posterior = model.posterior(store.x, modality).numpy()
    np.testing.assert_allclose(posterior, expected, atol=2e-6)
    scores = torch.from_numpy(expected @ class_signs(5))
    assert_same_codes(model.encode(data, modality), binarize(scores), scores)


@pytest.mark.parametrize("center", [False, True])
def test_multi_label_is_one_classifier_a_label(center):
    data = toy_data(multi_label=True)
    store = data["image"]
    train = store.labeled_mask
    scores = np.zeros((60, BITS))
    for c in range(4):
        classifier = LogisticRegression(max_iter=5000)
        classifier.fit(store.x[train].numpy(), store.y[train, c].numpy())
        p = classifier.predict_proba(store.x.numpy())[:, 1]
        if center:
            p = p - store.y[train, c].mean().item()
        scores += p[:, None] * class_signs(5)[c]
    ours = solved(data, seed=5, center=center).encode(data, "image")
    scores = torch.from_numpy(scores)
    assert_same_codes(ours, binarize(scores), scores, near_zero=1e-4)  # two solvers


@pytest.mark.parametrize("kept", [(0, 1, 3), (1, 3), (3,)])
def test_classes_without_a_labelled_node(kept):
    data = toy_data()
    y = data["image"].y
    mask = data["image"].train_mask & torch.isin(y, torch.tensor(kept))
    data = restricted(data, mask)
    posterior = solved(data).posterior(data["image"].x, "image")
    torch.testing.assert_close(posterior.sum(dim=1), torch.ones(60).double())
    absent = [c for c in range(4) if c not in kept]
    assert bool((posterior[:, absent] == 0).all())
    if len(kept) > 1:
        classifier = LogisticRegression(max_iter=5000)
        classifier.fit(data["image"].x[mask].numpy(), y[mask].numpy())
        expected = classifier.predict_proba(data["image"].x.numpy())
        np.testing.assert_allclose(posterior[:, list(kept)].numpy(), expected, atol=2e-6)


def test_a_label_that_all_or_none_carry(tmp_path):
    data = toy_data(multi_label=True)
    for m in ("image", "text"):
        data[m].y = data[m].y.clone()
        data[m].y[:, 1] = 1.0
        data[m].y[:, 2] = 0.0
    model = solved(data, center=True)
    posterior = model.posterior(data["image"].x, "image")
    assert bool((posterior[:, 1] == 1).all()) and bool((posterior[:, 2] == 0).all())
    # centred, a label that everybody has says nothing: its code plays no part
    assert len(model.encode(data, "image").unique(dim=0)) > 1
    model.save(tmp_path)  # with infinite biases
    again = ClassCodes.load(tmp_path)
    assert torch.equal(again.encode(data, "image"), model.encode(data, "image"))


def test_the_kind_of_labels_is_stored(tmp_path):
    data = toy_data(multi_label=True)
    solved(data).save(tmp_path)
    assert bool(ClassCodes.load(tmp_path).multi_label)
    model = solved(data).solve(toy_data())
    assert not bool(model.multi_label)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_classes"):
        ClassCodes((12, 9), 0)
    for penalty in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="penalty"):
            ClassCodes((12, 9), 4, penalty=penalty)
    with pytest.raises(ValueError, match="outside"):
        ClassCodes((12, 9), 3).solve(toy_data())


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match=r"pip install 'pyg_hash\[baselines\]'"):
        solved(toy_data())
