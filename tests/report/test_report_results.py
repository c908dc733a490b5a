"""Results and gallery: what a page says is what the metrics and the index say."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small import graph_for, model_for

from pyg_hash import metrics, report
from pyg_hash.index import HammingIndex
from pyg_hash.models import MCGCN
from pyg_hash.report.page import cases, drawn, gallery, thumbnail
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


def test_what_is_drawn():
    rows = torch.arange(60)
    assert drawn(rows, 1000, 0).sort().values.tolist() == list(range(60))
    assert drawn(rows, 5, 1).numel() == drawn(rows, 5, 1).unique().numel() == 5
    assert not torch.equal(drawn(rows, 5, 1), drawn(rows, 5, 2))


def test_gallery_is_what_a_search_gives(pair, results):
    data = pair[1]
    queries = drawn(results.query, 3, 0)
    rows = gallery(results, TEXT, IMAGE, queries, k=5)
    index = HammingIndex(results.num_bits)
    index.add(
        results.codes[IMAGE][results.database],
        ids=results.database,
        relaxed=results.relaxed[IMAGE][results.database],
    )
    assert [asked.row for asked in rows] == queries.tolist()
    for query, _, answers in rows:
        assert bool(data[TEXT].query_mask[query])
        own = results.relaxed[TEXT][query][None]
        best = index.search(results.codes[TEXT][query][None], 5, rescore=own)
        assert [a.row for a in answers] == best.ids[0].tolist()
        assert [a.score for a in answers] == best.scores[0].tolist()
        for answer in answers:
            codes = results.codes[TEXT][query], results.codes[IMAGE][answer.row]
            assert answer.distance == int((codes[0] != codes[1]).sum())
            assert bool(data[IMAGE].database_mask[answer.row])
            own, other = (data[m].y[i] for m, i in ((TEXT, query), (IMAGE, answer.row)))
            shared = bool(own == other) if own.dim() == 0 else bool((own * other).sum() > 0)
            assert answer.kind == ("same" if shared else "other")


def test_gallery_takes_what_is_there(results):
    assert len(drawn(results.query, 1000, 0)) == 12
    rows = gallery(results, IMAGE, TEXT, drawn(results.query, 1000, 0), k=1000)
    assert len(rows) == 12 and len(rows[0].answers) == 48
    assert drawn(results.query, 4, 7).tolist() == drawn(results.query, 4, 7).tolist()
    wide = dataclasses.replace(results, database=torch.arange(60))  # the queries are in it
    (asked,) = gallery(wide, IMAGE, TEXT, torch.tensor([5]), k=60)
    assert [a.row for a in asked.answers if a.kind == "own"] == [5]


def test_the_worst_are_the_worst(results):
    found = {case.title: case for case in cases(results, 3, 0)}
    for source, target in ((TEXT, IMAGE), (IMAGE, TEXT)):
        query, database, own, others = results.split(source, target)
        each = [
            metrics.mean_average_precision(query[i][None], database, own[i][None], others)
            for i in range(12)
        ]
        case = found[f"Lowest average precision, {source} to {target}"]
        lowest = [f"average precision {value:.3f}" for value in sorted(each)[:3]]
        assert [a.note for a in case.asked] == lowest
        far = (results.codes[source] != results.codes[target]).sum(1)[results.query]
        case = found[f"Farthest from its own {target}"]
        wanted = far.sort(descending=True).values[:3].tolist()
        assert [int(a.note.split("distance ")[1].split(",")[0]) for a in case.asked] == wanted
        row = (results.query == case.asked[0].row).nonzero().item()
        distances = (query[row] != results.codes[target][results.query]).sum(1)
        assert f"{int((distances < distances[row]).sum())} of the other 11" in case.asked[0].note


def test_queries_without_a_label_are_left_out_as_evaluate_does():
    data = graph_for(MCGCN, multi_label=True)
    bare = data[IMAGE].query_mask.nonzero().flatten()[:4]
    for modality in (IMAGE, TEXT):
        data[modality].y[bare] = 0
    found = report.Results.of(model_for(MCGCN, data).eval(), data)
    assert found.evaluation.notes and len(found.query) == 12
    query, _, own, _ = split = found.split(IMAGE, TEXT)
    assert len(query) == len(own) == int(own.any(dim=1).sum()) < 12
    assert metrics.mean_average_precision(*split) == found.evaluation.i2t
    for case in cases(found, 12, 0):
        if case.title.startswith("Lowest"):
            rows = [asked.row for asked in case.asked]
            assert sorted(rows) == found.asked(case.source).tolist()


def test_what_has_no_label_is_neither_right_nor_wrong():
    data = graph_for(MCGCN, multi_label=True)
    asks, base = (data[IMAGE][f"{name}_mask"].nonzero()[:, 0] for name in ("query", "database"))
    for modality in (IMAGE, TEXT):
        data[modality].y[[*asks[:4].tolist(), *base[::3].tolist()]] = 0
    model, y = model_for(MCGCN, data).eval(), data[IMAGE].y
    results = report.Results.of(model, data)
    seen = set()
    for query, _, answers in gallery(results, IMAGE, TEXT, results.query, k=20):
        for answer in answers:
            told = bool(y[query].any()) and bool(y[answer.row].any())
            wanted = "same" if (y[query] * y[answer.row]).any() else "other"
            assert answer.kind == (wanted if told else "unknown")
            seen.add(answer.kind)
    assert seen == {"same", "other", "unknown"}
    worst = [case for case in cases(results, 12, 0) if case.title.startswith("Lowest")]
    assert len(worst) == 2 and not any(
        {*asks[:4].tolist()} & {a.row for a in case.asked} for case in worst
    )


def test_without_labels(pair):
    model, data = pair
    data = data.clone()
    for modality in (IMAGE, TEXT):
        del data[modality].y
    blind = report.Results.of(model, data)
    assert blind.evaluation == metrics.evaluate(model, data)
    assert blind.evaluation.i2t is None and blind.evaluation.pair_recall
    assert gallery(blind, IMAGE, TEXT, blind.query)[0].answers[0].kind is None
    assert len(cases(blind, 2, 0)) == 4
    for ask in (blind.curves, blind.precisions):
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
