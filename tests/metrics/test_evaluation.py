"""evaluate() with a model that only remembers codes."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import graph_for, model_for
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.codes import binarize
from pyg_hash.metrics import (
    CollapseWarning,
    Evaluation,
    OddDataWarning,
    evaluate,
    mean_average_precision,
    ndcg,
    pair_recall,
)
from pyg_hash.models import MCGCN
from pyg_hash.utils.provenance import data_rows

MODALITIES = ("image", "text")


class Remembered:
    """Fixed codes, whatever the data."""

    def __init__(self, codes: dict[str, Tensor]) -> None:
        self.codes = codes
        self.num_bits = codes["image"].size(1)
        self.calls: list[str] = []

    def encode(self, data: HeteroData, modality: str) -> Tensor:
        self.calls.append(modality)
        return self.codes[modality]


@pytest.fixture
def data() -> HeteroData:
    """60 nodes: 0-9 queries, 10-59 database, of these 10-19 for validation and 20-49 training."""
    row = torch.arange(60)
    y = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(0))
    data = HeteroData()
    for modality in MODALITIES:
        data[modality].y = y
        data[modality].query_mask = row < 10
        data[modality].database_mask = row >= 10
        data[modality].val_mask = (row >= 10) & (row < 20)
        data[modality].train_mask = (row >= 20) & (row < 50)
    return data


@pytest.fixture
def model() -> Remembered:
    generator = torch.Generator().manual_seed(1)
    return Remembered({m: binarize(torch.randn(60, 12, generator=generator)) for m in MODALITIES})


@pytest.mark.parametrize("split", ["query", "val"])
def test_four_directions(data: HeteroData, model: Remembered, split: Any) -> None:
    query = slice(0, 10) if split == "query" else slice(10, 20)
    database = slice(10, 60) if split == "query" else slice(20, 60)
    y = data["image"].y
    result = evaluate(model, data, split=split)
    for name, source, target in [
        ("i2t", "image", "text"),
        ("t2i", "text", "image"),
        ("i2i", "image", "image"),
        ("t2t", "text", "text"),
    ]:
        want = mean_average_precision(
            model.codes[source][query], model.codes[target][database], y[query], y[database]
        )
        assert getattr(result, name) == want
    assert (result.num_queries, result.num_bits, result.split) == (10, 12, split)
    assert result.num_database == (50 if split == "query" else 40)
    assert result.protocol == "none"
    assert model.calls == ["image", "text"]  # each modality is encoded once


def test_options_reach_the_metric(data: HeteroData, model: Remembered) -> None:
    y = data["image"].y
    result = evaluate(model, data, topk=7, ties="pessimistic", denominator="R")
    assert result.i2t == mean_average_precision(
        model.codes["image"][:10],
        model.codes["text"][10:],
        y[:10],
        y[10:],
        topk=7,
        ties="pessimistic",
        denominator="R",
    )
    assert result.definition == "mAP@7, pessimistic ties, denominator=R"


def test_printed_table_names_what_the_numbers_mean() -> None:
    result = Evaluation(0.5, 0.25, 1.0, 0.125, "inductive", "mAP@all, expected ties", 400, 1480, 32)
    text = str(result)
    for part in ("inductive", "mAP@all, expected ties", "400 queries", "1480 database", "32 bits"):
        assert part in text
    header, numbers = text.splitlines()[-2:]
    assert header.split() == ["i2t", "t2i", "i2i", "t2t"]
    assert numbers.split() == ["0.5000", "0.2500", "1.0000", "0.1250"]
    assert Evaluation(**result.to_dict()) == result


@pytest.mark.parametrize(
    ("anchors", "name"),
    [
        (("all", "all"), "transductive"),
        (("all", "train"), "strict"),
        (("train", "train"), "inductive"),
    ],
)
def test_protocol_comes_from_the_graph(
    data: HeteroData, model: Remembered, anchors: tuple[str, str], name: str
) -> None:
    data.graph = {"intra_anchors": anchors[0], "inter_anchors": anchors[1]}
    assert evaluate(model, data).protocol == name


def test_multi_hot_labels(data: HeteroData, model: Remembered) -> None:
    want = evaluate(model, data).i2t
    for modality in MODALITIES:
        data[modality].y = torch.nn.functional.one_hot(data[modality].y, 3).float()
    assert evaluate(model, data).i2t == want


def test_queries_in_the_database(data: HeteroData, model: Remembered) -> None:
    data["image"].database_mask[4] = True
    with pytest.raises(ValueError, match=r"\['image'\]: 1 queries are also in the .*row 4"):
        evaluate(model, data)
    assert model.calls == []  # found before the encoding


@pytest.mark.parametrize("key", ["query_mask", "database_mask", "val_mask"])
def test_empty_parts(data: HeteroData, model: Remembered, key: str) -> None:
    data["text"][key][:] = False
    split: Any = "val" if key == "val_mask" else "query"
    with pytest.raises(ValueError, match=rf"\['text'\].{key}: selects no node"):
        evaluate(model, data, split=split)


def test_database_that_is_all_validation(data: HeteroData, model: Remembered) -> None:
    data["image"].val_mask = data["image"].database_mask
    with pytest.raises(ValueError, match="database_mask: selects no node"):
        evaluate(model, data, split="val")


def test_missing_parts(data: HeteroData, model: Remembered) -> None:
    del data["text"].val_mask
    with pytest.raises(ValueError, match="has no val_mask; apply ValidationSplit"):
        evaluate(model, data, split="val")
    del data["image"].y
    with pytest.raises(ValueError, match=r"\['image'\]: has no y"):
        evaluate(model, data)


def test_unknown_options(data: HeteroData, model: Remembered) -> None:
    for option in ({"split": "test"}, {"ties": "none"}, {"denominator": "x"}, {"topk": 0}):
        with pytest.raises(ValueError, match=next(iter(option))):
            evaluate(model, data, **option)  # type: ignore[arg-type]
    assert model.calls == []


def test_codes_of_the_wrong_shape_or_type(data: HeteroData, model: Remembered) -> None:
    model.codes["text"] = model.codes["text"][:59]
    with pytest.raises(ValueError, match=r"encode\(data, 'text'\): gave \[59, 12\], not \[60, 12"):
        evaluate(model, data)
    model.codes["text"] = torch.ones(60, 12)
    with pytest.raises(TypeError, match="int8"):
        evaluate(model, data)


def test_pair_recall_is_among_the_queries(data: HeteroData, model: Remembered) -> None:
    for split, rows in (("query", slice(0, 10)), ("val", slice(10, 20))):
        result = evaluate(model, data, split=split)  # type: ignore[arg-type]
        image, text = (model.codes[m][rows] for m in MODALITIES)
        for k in (1, 5, 10):
            assert result.pair_recall["i2t"][k] == pair_recall(image, text, k)
            assert result.pair_recall["t2i"][k] == pair_recall(text, image, k)
        assert result.pair_recall["i2t"][10] == 1.0  # of ten
        assert f"pair recall t2i R@1 {result.pair_recall['t2i'][1]:.4f}" in str(result)
        assert "R@5" in str(result) and "R@10" not in str(result)


def test_no_pairs_where_the_queries_are_other_rows(data: HeteroData, model: Remembered) -> None:
    data["text"].query_mask = data["text"].query_mask.roll(50)
    data["text"].database_mask = ~data["text"].query_mask
    result = evaluate(model, data)
    assert result.pair_recall == {} and "pair recall" not in str(result)


def test_codes_of_the_database_are_judged(data: HeteroData, model: Remembered) -> None:
    model.codes["text"][10:30] = model.codes["text"][10]
    model.codes["text"][30:33] = model.codes["text"][30]
    result = evaluate(model, data)
    database = model.codes["text"][10:]
    found = result.codes["text"]
    assert found["distinct_codes"] == len(set(map(tuple, database.tolist())))
    assert found["largest_bucket"] == 20
    ties = []
    for code in model.codes["image"][:10]:
        distance = (code != database).sum(1)
        ties.append(int((distance == distance.sort().values[9]).sum()))
    assert found["edge_ties"] == pytest.approx(sum(ties) / 10)
    words = f"text codes: {found['distinct_codes']} different, at most 20 items with one, "
    assert words + f"{found['edge_ties']:.1f} as far" in str(result)


def test_collapse_is_said(data: HeteroData, model: Remembered) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(model, data)
    model.codes["text"][10:36] = 1
    with pytest.warns(CollapseWarning, match="26 of the 50 texts of the database have one and"):
        evaluate(model, data)
    model.codes["text"][:] = 1
    with pytest.warns(CollapseWarning, match="50 of the 50 texts"):
        result = evaluate(model, data)
    assert result.codes["text"] == {"distinct_codes": 1, "largest_bucket": 50, "edge_ties": 50}


def test_data_without_labels(data: HeteroData, model: Remembered) -> None:
    want = evaluate(model, data)
    for modality in MODALITIES:
        del data[modality].y
    result = evaluate(model, data)
    assert (result.i2t, result.t2i, result.i2i, result.t2t, result.ndcg) == (None,) * 4 + ({},)
    assert (result.pair_recall, result.codes) == (want.pair_recall, want.codes)
    assert str(result).splitlines()[3].split() == ["-", "-", "-", "-"]
    assert Evaluation(**json.loads(json.dumps(result.to_dict()))) == result
    with pytest.raises(ValueError, match="y: the data have no labels"):
        _ = result.cross_modal
    assert want.cross_modal == 0.5 * (want.i2t + want.t2i)  # type: ignore[operator]


def test_json_has_strings_for_keys(data: HeteroData, model: Remembered) -> None:
    result = evaluate(model, data)
    stored = result.to_dict()
    assert list(stored["pair_recall"]["i2t"]) == ["1", "5", "10"]
    assert json.loads(json.dumps(stored)) == stored
    assert Evaluation(**stored) == result and list(result.pair_recall["i2t"]) == [1, 5, 10]
    old = {k: v for k, v in stored.items() if k not in ("pair_recall", "ndcg", "codes")}
    assert Evaluation(**old).pair_recall == {}
    assert hash(result) == hash(Evaluation(**stored))


def test_finer_relevance(data: HeteroData, model: Remembered) -> None:
    """mAP by the finer labels; NDCG gains 2 for the same finer one, 1 for the same class."""
    generator = torch.Generator().manual_seed(2)
    y, fine = data["image"].y, torch.randint(0, 4, (60,), generator=generator)
    want = evaluate(model, data)
    for modality in MODALITIES:
        data[modality].fine = fine
    assert evaluate(model, data) == want
    result = evaluate(model, data, relevance="fine")
    image, text = (model.codes[m] for m in MODALITIES)
    parts = image[:10], text[10:]
    assert result.i2t == mean_average_precision(*parts, fine[:10], fine[10:])
    both = torch.cat([torch.nn.functional.one_hot(x) for x in (y, fine)], 1)
    got = ndcg(*parts, both[:10], both[10:], gains="shared")
    assert result.ndcg["i2t"] == pytest.approx(got)
    assert want.ndcg["i2t"] == pytest.approx(ndcg(*parts, y[:10], y[10:]))
    assert result.relevance == "fine" and result.definition.endswith(", relevance=fine")
    assert result.pair_recall == want.pair_recall


@pytest.mark.parametrize("relevance", ["y", "fine"])
def test_indices_on_one_side_and_columns_on_the_other(
    data: HeteroData, model: Remembered, relevance: str
) -> None:
    y = data["image"].y
    for modality in MODALITIES:
        data[modality].fine = 2 * y + torch.arange(60) % 2
    want = evaluate(model, data, relevance=relevance)
    for name, labels in (("y", y), ("fine", data["image"].fine)):
        data["text"][name] = torch.nn.functional.one_hot(labels)
        assert evaluate(model, data, relevance=relevance) == want
    data["text"].y = data["text"].y[:, :1]
    with pytest.raises(ValueError, match=r"data\['image'\].y: class indices .* outside 0\.\.0"):
        evaluate(model, data, relevance=relevance)


def test_graded_ndcg_of_multi_hot_labels(data: HeteroData, model: Remembered) -> None:
    y = (torch.rand(60, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    for modality in MODALITIES:
        data[modality].y = y
    image, text = (model.codes[m] for m in MODALITIES)
    has = y[:10].any(dim=1)
    assert not has.all()
    want = ndcg(text[:10][has], image[10:], y[:10][has], y[10:], topk=9, gains="shared")
    assert evaluate(model, data, topk=9).ndcg["t2i"] == pytest.approx(want)


def test_queries_without_a_label_count_for_pairs_alone(data: HeteroData, model: Remembered) -> None:
    y = torch.nn.functional.one_hot(data["image"].y, 3).float()
    want = {m: data[m].query_mask.clone() for m in MODALITIES}
    y[:4] = 0
    for modality in MODALITIES:
        data[modality].y = y
    found = evaluate(model, data)
    assert found.notes == ["4 queries have no label: mAP and NDCG are of the other 6"]
    assert (found.num_queries, found.unanswered) == (10, 0)
    for modality in MODALITIES:
        data[modality].query_mask = want[modality] & (torch.arange(60) >= 4)
    of_six = evaluate(model, data)
    assert of_six.notes == [] and found.pair_recall != of_six.pair_recall
    for name in ("i2t", "t2i", "i2i", "t2t", "ndcg"):
        assert getattr(found, name) == pytest.approx(getattr(of_six, name))


@pytest.mark.parametrize("split", ["query", "val"])
def test_training_rows_among_the_queries_are_noted(
    data: HeteroData, model: Remembered, split: Any
) -> None:
    want = evaluate(model, data, split=split)
    assert want.notes == []  # training rows of the database are none of them
    for modality in MODALITIES:
        data[modality].train_mask = (torch.arange(60) >= 7) & (torch.arange(60) < 12)
    found = evaluate(model, data, split=split)
    learnt = {"query": 3, "val": 2}[split]
    assert found.notes == [f"training rows among the queries: {learnt} of them"]
    assert replace(found, notes=[]) == want


@pytest.mark.parametrize("split", ["query", "val"])
def test_masks_of_bytes_count_and_row_numbers_are_no_mask(
    data: HeteroData, model: Remembered, split: Any
) -> None:
    for store in (data["image"], data["text"]):
        store.labeled_mask = store.train_mask
    want = evaluate(model, data, split=split)
    for store in (data["image"], data["text"]):
        for key in ("query_mask", "database_mask", "val_mask", "train_mask", "labeled_mask"):
            store[key] = store[key].byte()
    assert evaluate(model, data, split=split) == want
    for store in (data["image"], data["text"]):
        store.train_mask = store.train_mask.nonzero().flatten()
    unknown = {"num_labels": None, "label_rate": None}
    assert evaluate(model, data, split=split) == replace(want, **unknown)


def test_masks_that_are_none_are_named(data: HeteroData, model: Remembered) -> None:
    data["text"].query_mask = data["text"].query_mask.long()
    with pytest.raises(TypeError, match=r"\['text'\].query_mask: expected a bool .*int64"):
        evaluate(model, data)


def test_codes_are_listed_as_the_modalities_are(data: HeteroData, model: Remembered) -> None:
    assert list(evaluate(model, data).codes) == list(MODALITIES)


def test_queries_that_repeat_a_pair_of_the_database_are_said(
    data: HeteroData, model: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(5)
    for modality, width in (("image", 6), ("text", 4)):
        data[modality].x = torch.randn(60, width, generator=draw)
    want = evaluate(model, data)
    data["image"].x[3] = data["image"].x[40]  # a picture with another text is none
    assert evaluate(model, data) == want
    monkeypatch.setattr("pyg_hash.metrics.evaluation.same_rows", lambda a, b: a.long() * 0 + 7)
    assert evaluate(model, data) == want  # numbers of rows that are near by chance
    monkeypatch.undo()
    for own in (3, 5):
        for modality in MODALITIES:
            data[modality].x[own] = data[modality].x[38 + own]
    with pytest.warns(OddDataWarning, match="2 of 10 queries repeat a pair of the database"):
        found = evaluate(model, data)
    assert found.notes[-1].startswith("2 of 10 queries repeat a pair") and found.i2t == want.i2t
    model.intake = SimpleNamespace(trained=data_rows(data))  # what it was trained on is said once
    data["text"].val_mask = data["text"].val_mask.numpy()  # is not read
    assert evaluate(model, data).notes == found.notes


def test_relevance_that_the_data_lack(data: HeteroData, model: Remembered) -> None:
    with pytest.raises(ValueError, match=r"\['image'\]: has no subgroup; name labels that"):
        evaluate(model, data, relevance="subgroup")
    for modality in MODALITIES:
        data[modality].subgroup = torch.zeros(59, dtype=torch.long)
    with pytest.raises(ValueError, match=r"data\['image'\].subgroup: has 59 rows, expected 60"):
        evaluate(model, data, relevance="subgroup")
    assert model.calls == []


@pytest.mark.parametrize("way", ["same", "other", "none", "stub", "broken"])
def test_codes_of_queries_as_new_items_that_differ_are_said(way: str) -> None:
    data = graph_for(MCGCN)

    class Own(MCGCN):
        def relaxed_new(self, x: Tensor, modality: Any) -> Tensor:
            if way == "none":
                raise NotImplementedError
            if way == "broken":
                raise RuntimeError("there are no new items")
            if way == "stub":
                return None  # type: ignore[return-value]
            z = super().relaxed_new(x, modality)
            return z if way == "same" else -z

    model = model_for(Own, data).attach(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        evaluate(torch.compile(model, backend="eager"), data)  # type: ignore[arg-type]
        evaluate(model, graph_for(MCGCN, "transductive"))  # where they may
        evaluate(model, data, warn=False)
    lines = [str(one.message) for one in said if "relaxed_new" in str(one.message)]
    assert len(lines) == (way == "other")
    assert way != "other" or lines[0].startswith("Own: 100% of the bits of queries differ")
    failed = [str(one.message) for one in said if "cannot encode a new" in str(one.message)]
    assert len(failed) == 2 * (way in ("stub", "broken"))
    assert way != "broken" or failed[0] == (
        "Own: cannot encode a new image, as a search asks (RuntimeError: there are no new items)"
    )


@pytest.mark.parametrize("alike", [True, False])
def test_thresholds_of_ones_own_are_compared_as_they_are(alike: bool) -> None:
    data = graph_for(MCGCN, scale=False)

    class Own(MCGCN):
        def encode(self, data: HeteroData, modality: Any) -> Tensor:
            return -super().encode(data, modality)

        def encode_image(self, x: Tensor) -> Tensor:
            return -super().encode_image(x)

        def encode_text(self, x: Tensor) -> Tensor:
            return (-1) ** alike * super().encode_text(x)

    model = model_for(Own, data).attach(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        evaluate(model, data)
    assert len([one for one in said if "100% of the bits" in str(one.message)]) == (not alike)
