"""One cell of a table: what is trained, measured and said of it."""

import copy
from dataclasses import replace

import pytest
import torch
from toy import toy_data

from benchmarks.accuracy import cell as module
from benchmarks.accuracy.cell import Bench, choice
from benchmarks.accuracy.data import SOURCES, DataSource
from benchmarks.accuracy.methods import METHODS, Method
from benchmarks.accuracy.tables import Cell
from pyg_hash.cli import build
from pyg_hash.metrics import evaluate
from pyg_hash.training import fit

QUICK = {"epochs": 2}


def toy(**more):
    return toy_data(100, noise=3.0, num_queries=20, features=(24, 21), **more)


def poisoned():
    """Other labels and features of the queries."""
    data = toy()
    queries = data["image"].query_mask
    for modality in ("image", "text"):
        data[modality].y[queries] = 0
        data[modality].x[queries] = torch.randn_like(data[modality].x[queries])
    return data


@pytest.fixture
def bench(monkeypatch):
    """Toys in place of data, two epochs in place of a training."""
    for name, multi in (("toy", False), ("multi", True)):
        source = DataSource(name, None, lambda _, multi=multi: toy(multi_label=multi))
        monkeypatch.setitem(SOURCES, name, source)
    return Bench({"toy": "", "multi": ""}, QUICK)


def cell(method="MCGCN", *, data="toy", bits=8, labels=0.5, seed=0, protocol="inductive"):
    return Cell(data, method, bits, labels if METHODS[method].labels else None, seed, protocol)


# a toy has fewer pairs than these have clusters
LARGE = [f"SGEH, paper's settings ({data})" for data in ("MIRFlickr", "MS-COCO", "NUS-WIDE")]
ROWS = [
    r for r in METHODS.values() if " x " not in r.name and not r.choices and r.name not in LARGE
]
FIRST = list({row.model: row for row in reversed(ROWS)}.values())  # of each class


@pytest.mark.parametrize(
    ("name", "protocol", "data"),
    [(row.name, p, "toy") for row in FIRST for p in row.protocols[:-1]]
    + [(row.name, row.protocols[-1], "multi") for row in FIRST],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # the toy's pairs need not fall into four parts
def test_every_method_runs(bench, name, protocol, data):
    which = cell(name, protocol=protocol, data=data)
    line = bench.run(which)
    assert Cell(*(line[field] for field in Cell._fields)) == which
    assert 0 < line["scores"]["all"]["i2t"] <= 1
    assert (line["labelled_sha256"] is None) == (which.labels is None)
    parts = {"graph", "train", "encode", "measure"}
    assert set(line["seconds"]) == parts | ({"choose"} if "choice" in line else set())


def test_a_line_says_which_rows_were_labelled(bench):
    def of(**how):
        return bench.run(cell(**{"method": "SCM"} | how))["labelled_sha256"]

    assert of() == of(method="ClassCodes") == of(bits=4)
    assert len({of(), of(seed=1), of(labels=0.3)}) == 3


@pytest.mark.parametrize("row", [row for row in ROWS if row not in FIRST], ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_row_has_a_model_and_the_graph_of_its_protocol(bench, row):
    labels, protocol = 0.5 if row.labels else None, row.protocols[0]
    recipe = build.recipe_of(row.train_config(8, labels, 0, protocol, **QUICK))
    data = recipe.transforms(copy.copy(bench.raw("toy")))
    assert recipe.model(data).protocol(data) == protocol


def test_a_cell_of_stated_settings_is_what_its_recipe_says(bench):
    """By hand: labels, scaled features, the paper's graph, loss and optimiser."""
    import torch_geometric.transforms as T

    from pyg_hash import transforms
    from pyg_hash.models import MCGCN

    line = bench.run(cell("MCGCN, paper's settings", protocol="transductive", seed=3))
    assert line["settings"]["training"] == {"optimizer": "SGD", "lr": 1e-4, "epochs": 2}
    assert line["settings"]["options"]["weights"]["pairing"] == 0
    as_they_come = line["settings"]["scaling"]
    assert as_they_come == {"center": [], "text_components": None, "norm": None}
    steps = [transforms.LabelRate(0.5, seed=3), transforms.ScaleFeatures(**as_they_come)]
    steps.append(transforms.IntraKNN(k=20, anchors="all", weight="binary"))
    steps.append(transforms.InterKNN(anchors="all", pair_edges="labeled"))
    steps.append(transforms.LabelHub(self_loops="literal"))
    data = T.Compose(steps)(toy())
    torch.manual_seed(3)
    model = MCGCN(data.num_features, data.num_classes, 8, **line["settings"]["options"])
    fit(model, data, torch.optim.SGD(model.parameters(), lr=1e-4), epochs=2, progress=False)
    result = evaluate(model, data)
    assert result.protocol == "transductive"
    for task in ("i2t", "t2i"):
        assert line["scores"]["all"][task] == pytest.approx(getattr(result, task), abs=1e-6)


def test_a_cell_is_what_the_command_line_trains(bench):
    """The same settings by hand: transforms, model, optimiser, training, evaluation."""
    which = cell(protocol="transductive", seed=3)
    line = bench.run(which)
    config = METHODS["MCGCN"].train_config(8, 0.5, 3, "transductive", **QUICK)
    assert (config.protocol, config.label_rate, config.seed) == ("transductive", 0.5, 3)
    recipe = build.recipe_of(config)
    data = recipe.transforms(toy())
    model = recipe.model(data)
    fit(model, data, recipe.optimizers(model), epochs=2, progress=False)
    result = evaluate(model, data)
    assert result.protocol == "transductive"
    for task in ("i2t", "t2i", "i2i", "t2t"):
        assert line["scores"]["all"][task] == pytest.approx(getattr(result, task), abs=1e-6)
    cut = evaluate(model, data, topk=50, denominator="dcmh")
    assert line["scores"]["50 dcmh"]["t2i"] == pytest.approx(cut.t2i, abs=1e-6)


def test_a_closed_form_is_solved(bench):
    from pyg_hash.models import ITQ
    from pyg_hash.transforms import ScaleFeatures

    line = bench.run(cell("ITQ", seed=4))
    data = ScaleFeatures()(toy())
    result = evaluate(ITQ(data.num_features, 8, seed=4).solve(data), data)
    assert line["scores"]["all"]["i2t"] == pytest.approx(result.i2t, abs=1e-6)
    assert line["settings"]["options"]["weighted"] is True


@pytest.mark.parametrize("name", ["ITQ", "SGEH", "DGCPN", "TaughtHash, no labels"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unsupervised_cells_need_no_labelled_node(bench, name):
    expected = bench.run(cell(name))
    raw = toy()
    for modality in ("image", "text"):
        raw[modality].labeled_mask = torch.zeros_like(raw[modality].train_mask)
    bench._raw, bench._graphs = {"toy": raw}, {}
    line = bench.run(cell(name))
    assert line["scores"] == expected["scores"]
    assert line["labels"] is None and line["labelled_sha256"] is None


def test_a_cell_is_a_function_of_its_seed_and_leaves_the_data_alone(bench):
    before = copy.copy(bench.raw("toy"))
    first, again = (bench.run(cell(seed=0))["scores"] for _ in range(2))
    other = bench.run(cell(seed=1))
    assert first == again != other["scores"]
    assert "scaling" not in bench.raw("toy")
    assert torch.equal(before["image"].x, bench.raw("toy")["image"].x)


def test_graphs_without_labels_are_built_once(bench):
    bench.run(cell("CCA"))
    (graph,) = bench._graphs.values()
    bench.run(cell("ITQ", seed=1))
    assert list(bench._graphs.values()) == [graph]
    bench.run(cell("ClassCodes", seed=1))
    assert list(bench._graphs.values()) != [graph]


LIGHTER = "graph.neighbor_weight=0.2"


@pytest.fixture
def two(monkeypatch):
    """A row that has two settings to choose from, by two seeds."""
    monkeypatch.setattr(module, "CHOICE_SEEDS", (0, 1))
    row = replace(METHODS["SGCH, chosen"], choices=({}, {"graph.neighbor_weight": 0.2}))
    monkeypatch.setitem(METHODS, row.name, row)
    return row.name


def test_a_choice_is_that_of_held_out_labels_and_made_once(bench, monkeypatch, two):
    asked = []
    worth = bench.worth

    def counted(which, row):
        asked.append((which.seed, which.bits, row.config))
        return worth(which, row)

    monkeypatch.setattr(bench, "worth", counted)
    first = bench.run(cell(two, seed=7))
    configs = ({}, {"graph_options": {"neighbor_weight": 0.2}})
    assert asked == [(seed, 32, config) for config in configs for seed in (0, 1)]
    found = first["choice"]["worths"]
    assert list(found) == ["defaults", LIGHTER]
    assert found[first["choice"]["chosen"]] == max(found.values())

    # by hand: a fifth of the labelled items are the queries
    row = METHODS["SGCH"].with_values({"graph.neighbor_weight": 0.2})
    by_hand = []
    for seed in (0, 1):
        config = row.train_config(32, 0.5, seed, "inductive", val_rate=0.2, **QUICK)
        recipe = build.recipe_of(config)
        data = recipe.transforms(toy())
        model = recipe.model(data)
        fit(model, data, recipe.optimizers(model), epochs=2, progress=False)
        result = evaluate(model, data, split="val")
        by_hand.append((result.i2t + result.t2i) / 2)
    assert found[LIGHTER] == pytest.approx(sum(by_hand) / 2, abs=1e-6)

    # other seeds and code lengths share it; other label rates do not
    second = bench.run(cell(two, seed=8, bits=16))
    assert len(asked) == 4 and second["choice"] == first["choice"]
    bench.run(cell(two, labels=0.8))
    assert len(asked) == 8


def test_what_is_chosen_is_trained(bench):
    plain = bench.run(cell("SGCH"))
    for wanted, worths in (
        ("defaults", {"defaults": 0.3, LIGHTER: 0.2}),
        (LIGHTER, {"defaults": 0.1, LIGHTER: 0.2}),
    ):
        bench._worths.clear()
        line = bench.run(cell("SGCH, chosen"), worths=worths)
        assert line["choice"] == {"chosen": wanted, "worths": worths}
        assert (line["scores"] == plain["scores"]) == (wanted == "defaults")
        assert line["seconds"]["choose"] < 0.05


def test_any_setting_can_be_chosen(bench, monkeypatch):
    """Those of the model and of the training, and several at once."""
    monkeypatch.setattr(module, "CHOICE_SEEDS", (0,))
    bench.changes.clear()
    row = Method(
        "X", "GCH", choices=({"epochs": 1}, {"epochs": 2, "model.weights": {"pairwise": 2.0}})
    )
    monkeypatch.setitem(METHODS, "X", row)
    names = ["epochs=1", "epochs=2, model.weights={'pairwise': 2.0}"]
    assert list(row.candidates()) == names
    last = row.candidates()[names[-1]]
    assert not last.choices and not last.candidates()
    config = last.train_config(8, 0.5, 0, "inductive")
    assert (config.epochs, config.model_options) == (2, {"weights": {"pairwise": 2.0}})
    assert set(bench.run(cell("X"))["choice"]["worths"]) == set(names)


def test_queries_have_no_say_in_a_choice(bench, two, monkeypatch):
    monkeypatch.setattr(module, "CHOICE_SEEDS", (0,))
    before = bench.worths(cell(two))
    bench._raw, bench._graphs = {"toy": poisoned()}, {}
    assert bench.worths(cell(two)) == before


def test_the_first_of_equals_is_chosen():
    assert choice({"a": 0.5, "b": 0.7, "c": 0.7})["chosen"] == "b"


def test_the_graph_must_have_the_protocol_of_the_cell(bench):
    with pytest.raises(ValueError, match="graph is inductive"):
        bench.run(cell("GCH")._replace(protocol="strict"))


def test_queries_labels_do_not_reach_the_codes(bench, monkeypatch):
    seen = {}

    def keep(codes, data, **_):
        seen.setdefault("codes", []).append(codes)
        return {"all": {}}

    monkeypatch.setattr(module.measures, "scores", keep)
    bench.run(cell())
    other = toy()
    for modality in ("image", "text"):
        other[modality].y[other["image"].query_mask] = 0
    bench._raw, bench._graphs = {"toy": other}, {}
    bench.run(cell())
    first, second = seen["codes"]
    for modality in ("image", "text"):
        assert torch.equal(first[modality], second[modality])
