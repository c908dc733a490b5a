"""Results and gallery: what a page says is what the metrics and the index say."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small import graph_for, model_for

from pyg_hash import metrics, report
from pyg_hash.codes import hamming_distance
from pyg_hash.models import MCGCN
from pyg_hash.report.results import gallery, thumbnail
from pyg_hash.typing import IMAGE, TEXT


@pytest.fixture(scope="module", params=[False, True], ids=["index", "multi-hot"])
def pair(request):
    data = graph_for(MCGCN, multi_label=request.param)
    return model_for(MCGCN, data).eval(), data


@pytest.fixture(scope="module")
def results(pair):
    return report.Results.of(*pair)


def test_evaluation_is_that_of_evaluate(pair, results):
    assert results.evaluation == metrics.evaluate(*pair)


def test_curves_agree_with_the_metrics(pair, results):
    model, data = pair
    image, text = (model.encode(data, m) for m in (IMAGE, TEXT))
    query, database, y = data[IMAGE].query_mask, data[IMAGE].database_mask, data[IMAGE].y
    own = image[query], text[database], y[query], y[database]
    curve = results.curves()["image to text"]
    assert torch.equal(curve.precision, metrics.pr_curve(*own).precision)
    values, topn = results.precisions()
    assert topn == [1, 2, 5, 10, 20]  # of 48 items
    assert torch.equal(values["image to text"], metrics.precision_at_n(*own, topn=topn))
    assert list(values) == ["image to text", "text to image", "image to image", "text to text"]


def test_sample(results):
    assert results.sample(1000).tolist() == list(range(60))
    assert results.sample(5, seed=1).numel() == results.sample(5, seed=1).unique().numel() == 5
    assert not torch.equal(results.sample(5, seed=1), results.sample(5, seed=2))


def test_gallery_holds_the_nearest(pair, results):
    data = pair[1]
    rows = gallery(results, TEXT, IMAGE, num_queries=3, k=5)
    assert len(rows) == 3
    for query, answers in rows:
        assert bool(data[TEXT].query_mask[query])
        every = hamming_distance(
            results.codes[TEXT][query][None], results.codes[IMAGE][results.database]
        )
        assert [a.distance for a in answers] == every[0].sort().values[:5].tolist()
        for answer in answers:
            assert bool(data[IMAGE].database_mask[answer.row])
            own, other = (data[m].y[i] for m, i in ((TEXT, query), (IMAGE, answer.row)))
            shared = bool(own == other) if own.dim() == 0 else bool((own * other).sum() > 0)
            assert answer.right is shared


def test_gallery_takes_what_is_there(results):
    rows = gallery(results, IMAGE, TEXT, num_queries=1000, k=1000)
    assert len(rows) == 12
    assert len(rows[0][1]) == 48
    again = gallery(results, IMAGE, TEXT, num_queries=4, seed=7)
    assert again == gallery(results, IMAGE, TEXT, num_queries=4, seed=7)


def test_without_labels(pair):
    model, data = pair
    data = data.clone()
    for modality in (IMAGE, TEXT):
        del data[modality].y
    blind = report.Results.of(model, data)
    assert blind.evaluation == metrics.evaluate(model, data)
    assert blind.evaluation.i2t is None and blind.evaluation.pair_recall
    assert gallery(blind, IMAGE, TEXT)[0][1][0].right is None
    for ask in (
        blind.curves,
        blind.precisions,
        lambda: blind.relevant(IMAGE, 0, TEXT, torch.arange(2)),
    ):
        with pytest.raises(ValueError, match="labels: the data have none"):
            ask()


@pytest.mark.parametrize("name", ["query_mask", "database_mask"])
def test_splits_are_needed(pair, name):
    model, data = pair
    data = data.clone()
    data[IMAGE][name] = torch.zeros(60, dtype=torch.bool)
    with pytest.raises(ValueError, match=f"{name}: missing or empty"):
        report.Results.of(model, data)


def test_results_cannot_be_changed(results):
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.num_bits = 3


def test_thumbnail(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.png"
    image.new("RGBA", (200, 50), (255, 0, 0, 0)).save(path)
    data = thumbnail(path)
    assert data.startswith("data:image/jpeg;base64,")
    assert len(data) < 2000
    (tmp_path / "b.png").write_text("no picture")
    assert thumbnail(tmp_path / "b.png") is None
    assert thumbnail(tmp_path / "missing.png") is None
