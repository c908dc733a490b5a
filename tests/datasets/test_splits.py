import json
from pathlib import Path

import numpy as np
import pytest

import pyg_hash.datasets
from pyg_hash.datasets import Protocol, published_protocols
from pyg_hash.datasets.published import draw_split, load_manifest

NAMES = ["mirflickr25k", "mscoco", "nuswide10k", "nuswide-21", "nuswide-10"]
Y = (np.random.default_rng(0).random((200, 4)) < [0.05, 0.2, 0.5, 0.9]).astype(np.uint8)


def protocol(rule, **values):
    return Protocol("nobody", rule, **values)


def parts(split):
    rows, masks = split
    return {name: rows[mask].tolist() for name, mask in masks.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_published_protocol_says_what_it_is(name):
    manifest = load_manifest(name)
    protocols = published_protocols(name)
    assert manifest["default"] in protocols
    for own in protocols.values():
        assert own.source and own.note and own.query > 0
        assert (own.rule in ("first", "last")) == (own.layout == "features")  # row order known
        kept = manifest["kept"][0] if "kept" in manifest else 10_000
        total = own.items or (manifest["counts"]["train2014"] if own.pictures else kept)
        assert own.query + own.held_out + (own.train or 1) < total


def test_concepts_of_nuswide():
    concepts = load_manifest("nuswide-21")["classes"]
    assert len(concepts) == 81 and concepts == sorted(set(concepts))
    assert set(load_manifest("nuswide10k")["classes"]) <= set(concepts)


def test_manifests_hold_no_rows():
    folder = Path(pyg_hash.datasets.__file__).parent / "manifests"
    for name in ("mirflickr25k", "mscoco", "nuswide10k", "nuswide"):
        path = folder / f"{name}.json"
        assert path.stat().st_size < 8000 and json.loads(path.read_text())["name"] == name


def test_first_and_last_follow_the_rows():
    found = parts(draw_split(protocol("first", query=3, train=4), Y, 0))
    assert found["query"] == [0, 1, 2] and found["train"] == [3, 4, 5, 6]
    assert found["database"] == list(range(3, 200))
    found = parts(draw_split(protocol("last", query=3), Y, 0))
    assert found["query"] == [197, 198, 199] and found["train"] == list(range(197))


@pytest.mark.parametrize("rule", ["random", "per_label"])
def test_drawn_rows(rule):
    own = protocol(rule, query=30, train=50)
    rows, masks = draw_split(own, Y, 0)
    assert rows.tolist() == list(range(200))
    assert masks["query"].sum() == 30 and masks["train"].sum() == 50
    assert (masks["database"] == ~masks["query"]).all()
    assert not (masks["train"] & ~masks["database"]).any()
    again, other = draw_split(own, Y, 0)[1], draw_split(own, Y, 1)[1]
    assert (again["query"] == masks["query"]).all() and (again["train"] == masks["train"]).all()
    assert (other["query"] != masks["query"]).any()


def test_the_draw_is_fixed():
    rows, masks = draw_split(protocol("random", query=5), Y, 0)
    assert rows[masks["query"]].tolist() == [22, 131, 144, 172, 181]


def test_per_label_is_balanced_and_fills_up():
    single = np.eye(4, dtype=np.uint8)[np.arange(200) % 4]
    rows, masks = draw_split(protocol("per_label", query=20, train=40), single, 0)
    assert single[masks["query"]].sum(axis=0).tolist() == [5] * 4
    assert single[masks["train"]].sum(axis=0).tolist() == [10] * 4
    rare = Y[:, 0].sum()
    assert rare < 40  # too few for its quarter of 160 rows
    rows, masks = draw_split(protocol("per_label", query=160), Y, 0)
    assert masks["query"].sum() == 160 and Y[masks["query"]][:, 0].sum() == rare
    rows, masks = draw_split(protocol("per_label", query=6), single, 0)  # 6 = 1 + 1 + 2 + 2
    assert sorted(single[masks["query"]].sum(axis=0).tolist()) == [1, 1, 2, 2]


def test_items_are_drawn_first():
    rows, masks = draw_split(protocol("random", query=5, items=50), Y, 0)
    assert len(rows) == 50 and (np.diff(rows) > 0).all()
    assert masks["query"].sum() == 5 and masks["train"].sum() == masks["database"].sum() == 45


def test_held_out_rows_are_gone():
    single = np.eye(4, dtype=np.uint8)[np.arange(200) % 4]
    rows, masks = draw_split(protocol("per_label", query=20, held_out=40), single, 0)
    assert len(rows) == 160 and masks["query"].sum() == 20 and masks["train"].sum() == 140
    assert single[rows].sum(axis=0).tolist() == [40] * 4


@pytest.mark.parametrize(
    "values", [{"query": 200}, {"query": 150, "train": 60}, {"query": 5, "items": 300}]
)
def test_too_few_rows(values):
    with pytest.raises(ValueError, match=r"the data have 200; are the files complete"):
        draw_split(protocol("random", **values), Y, 0)


def test_documented_numbers():
    """The table of docs/datasets.rst is that of the manifests."""
    text = (Path(__file__).parents[2] / "docs" / "datasets.rst").read_text()
    table = text[text.index("Splits\n------") : text.index("The classes of ``NUSWIDE``")]
    rows = [row.split("\n     - ") for row in table.split("\n   * -")[2:]]
    documented = [[cell.strip() for cell in row[1:4]] for row in rows]
    expected = []
    for name in ("nuswide-21", "nuswide-10", "nuswide10k", "mirflickr25k", "mscoco"):
        manifest = load_manifest(name)
        for key, own in published_protocols(name).items():
            total = (
                manifest["counts"]["train2014"]
                if own.pictures
                else manifest.get("kept", [10000])[0]
            )
            rest = (own.items or total) - own.query - own.held_out
            star = " *" if name == "nuswide-10" and own.train is own.items is None else ""
            train = (
                "the rest" if (name, key) == ("mscoco", "ucch") else f"{own.train or rest:,}{star}"
            )
            expected.append([f"``{key}``", f"{own.query:,}", train])
    assert sorted(documented) == sorted(expected)
