"""The tables of the papers: what they declare, and which cells follow."""

import argparse
import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pyg_hash.models
from benchmarks.accuracy import methods
from benchmarks.accuracy.data import SOURCES, _papers, add_options, given
from benchmarks.accuracy.measures import CUTS
from benchmarks.accuracy.methods import FACTORS, LETTERS, METHODS, WEIGHTS, varied
from benchmarks.accuracy.page import METRICS
from benchmarks.accuracy.tables import TABLES, TASKS, short
from pyg_hash.datasets import write_feature_file
from pyg_hash.recipes import METHODS as DEFAULTS
from pyg_hash.recipes import presets

ASKED_FOR = {
    *("mcgcn-table1", "mcgcn-table2", "mcgcn-table3", "mcgcn-fig4", "mcgcn-fig5"),
    *("gch-table1", "gch-table2", "gch-table3", "gch-curves", "sgch-table"),
    *("sgeh-table1", "sgeh-table2", "sgeh-fig3", "gch-reproduction-1", "gch-reproduction-2"),
    "recipes",
    *("overview", "choices"),
    *(f"ablations-{name}" for name in ("mcgcn", "gch", "sgch", "sgeh")),
}


def test_every_table_of_the_papers_is_there():
    assert set(TABLES) == ASKED_FOR


@pytest.mark.parametrize("name", TABLES)
def test_declarations_name_what_exists(name):
    table = TABLES[name]
    assert set(table.methods) <= set(METHODS)
    assert set(table.data) <= set(SOURCES)
    assert table.metric in METRICS
    assert table.metric == "all" or int(table.metric.split()[0]) in CUTS
    assert set(table.tasks) <= set(TASKS)
    assert set(table.champions) <= set(table.methods)
    for claim in table.claims:
        assert {claim.variant, claim.full} <= set(table.methods)
        assert METHODS[claim.variant].model == METHODS[claim.full].model
        first, second = claim.signs.split(" / ")
        assert {first, second} <= {"+", "-", "?"}
        assert claim.source.startswith("no claim") == ("?" in claim.signs)
        for variant, full in claim.protocols:
            assert variant in METHODS[claim.variant].protocols
            assert full in METHODS[claim.full].protocols
            assert (claim.variant, variant) != (claim.full, full)
    for data, printed in table.printed.items():
        assert data in table.data
        source = presets()[printed.recipe].tables[printed.table]
        assert set(table.bits) & set(presets()[printed.recipe].bits)
        assert any(row in {*source.values, *printed.names} for row in table.methods)
        assert {*printed.names.values(), *printed.only} <= set(source.values)
        # a number may only stand beside one's own on the paper's own features
        assert data.endswith(("-vgg", "-cnnf", "-use"))


@pytest.mark.parametrize("name", TABLES)
def test_cells_are_the_product_of_the_declaration(name):
    table = TABLES[name]
    cells = list(table.cells())
    assert len(set(cells)) == len(cells)
    wanted = 0
    for row in (METHODS[m] for m in table.methods):
        rates = len(table.rates) if row.labels else 1
        protocols = len(set(row.protocols) & set(table.protocols)) or 1
        wanted += rates * protocols * len(set(row.data or table.data) & set(table.data))
    without = sum(len(names) for names, _ in table.impossible.values())  # none of them has labels
    each = len(table.bits) * len(table.seeds)
    assert len(cells) == (wanted - without) * each
    for cell in cells:
        assert (cell.labels is None) != METHODS[cell.method].labels
        assert cell.protocol in METHODS[cell.method].protocols


def test_a_method_without_a_protocol_asked_for_is_run_under_what_it_has():
    table = replace(TABLES["mcgcn-table1"], protocols=("transductive",))
    found = {(cell.method, cell.protocol) for cell in table.cells()}
    assert ("MCGCN", "transductive") in found
    assert ("MCGCN", "inductive") not in found
    assert ("GCH", "inductive") in found
    assert {p for m, p in found if m == "SGCH, code's graph"} == {"transductive"}


def test_ablations_run_what_their_claims_need():
    for name in ("mcgcn", "gch", "sgch", "sgeh"):
        table = TABLES[f"ablations-{name}"]
        needed = {
            place
            for claim in table.claims
            for own, other in claim.protocols
            for place in ((claim.variant, own), (claim.full, other))
        }
        found = {(cell.method, cell.protocol) for cell in table.cells()}
        assert needed <= found
        # SGCH under the strict protocol is the one thing that comes along; overview has it anyway
        assert found - needed <= {("SGCH", "strict")}
        assert {cell.labels for cell in table.cells()} == {
            {"gch": 1.0, "sgeh": None}.get(name, 0.3)
        }


def test_ablations_vary_one_thing():
    for claim in (claim for table in TABLES.values() for claim in table.claims):
        own, other = claim.protocols[0]
        variant, full = METHODS[claim.variant].settings(own), METHODS[claim.full].settings(other)
        options = {k for k, v in variant["options"].items() if v != full["options"][k]}
        if claim.variant == "SGEH, edge batches":  # an epoch is more steps, so it has fewer
            assert options == {"batches", "batch_size"}
            continue
        if claim.variant == "MCGCN, paper terms":
            assert options == {"weights"}
        else:
            assert len(options) + (variant["graph"] != full["graph"]) == 1, claim.variant
        assert variant["training"] == full["training"]


def test_tables_that_share_cells_share_rows():
    """So that a cell of one is copied to the other."""
    shared = {
        ("ablations-sgeh", "sgeh-table2"): 5 * 2 * 3,  # rows, data, seeds
        ("ablations-mcgcn", "mcgcn-table3"): 5 * 2 * 3 * 3,  # and protocols
        ("ablations-sgch", "overview"): 2 * 2 * 3,
        ("ablations-gch", "gch-reproduction-2"): 3 * 2 * 3,
    }
    for (one, other), count in shared.items():
        assert len(set(TABLES[one].cells()) & set(TABLES[other].cells())) == count, one


def test_settings_are_the_command_lines_defaults():
    for name in ("GCH", "MCGCN", "SGCH", "SGEH"):
        settings = METHODS[name].settings("inductive")
        defaults = DEFAULTS[name]
        assert settings["training"]["epochs"] == defaults["epochs"]
        assert settings["training"]["lr"] == defaults["lr"]
        known = inspect.signature(getattr(pyg_hash.models, name)).parameters.values()
        for parameter in known:
            if parameter.default is not parameter.empty and parameter.name != "num_bits":
                found, default = settings["options"][parameter.name], parameter.default
                # groups and pairs are written out
                assert found in (default, [default, default]) or isinstance(found, dict)


def test_settings_tell_variants_protocols_and_defaults_apart(monkeypatch):
    full, variant = METHODS["MCGCN"], METHODS["MCGCN-S"]
    assert full.settings("inductive") != variant.settings("inductive")
    assert full.settings("inductive") != full.settings("strict")
    assert full.settings("inductive") != full.settings("inductive", epochs=1)
    before = full.settings("inductive")
    monkeypatch.setitem(DEFAULTS["MCGCN"], "lr", 0.5)
    assert full.settings("inductive") != before
    closed = METHODS["ITQ"].settings("inductive")
    assert closed["model"] == "ITQ" and "training" not in closed


def test_the_papers_terms_are_without_those_of_ours():
    settings = METHODS["MCGCN, paper terms"].settings("transductive")
    literal = presets()["mcgcn/wikipedia"].settings["model_options"]["weights"]
    off = {name for name, value in literal.items() if value == 0.0}
    assert {"view", "pairing"} <= off
    assert all(settings["options"]["weights"][name] == 0.0 for name in off)
    assert "weight='binary'" in " ".join(settings["graph"])


def test_a_row_with_a_choice_tells_its_candidates_apart(monkeypatch):
    row = methods.METHODS["SGCH, chosen"]
    now = row.settings("inductive")
    plain = methods.METHODS["SGCH"].settings("inductive")
    assert {k: v for k, v in now.items() if k != "choices"} == plain
    longer = [{"epochs": 200}, {"epochs": 200, "graph.neighbor_weight": 0.05}]
    expected = {"of": [{}, {"graph.neighbor_weight": 0.2}, *longer], "held_out": 0.2}
    assert now["choices"] == {**expected, "seeds": [0, 1, 2], "bits": 32}
    other = replace(row, choices=({"graph.neighbor_weight": 0.1},))
    assert other.settings("inductive") != now
    monkeypatch.setattr(methods, "HELD_OUT", 0.3)
    assert row.settings("inductive") != now


def test_fig_5_varies_one_weight_at_a_time():
    defaults = METHODS["MCGCN"].settings("inductive")["options"]
    for name, value in WEIGHTS.items():
        term = LETTERS[name]
        assert defaults["weights"][term] == value
        for factor in FACTORS:
            options = METHODS[varied(name, factor)].settings("inductive")["options"]
            assert options["weights"][term] == pytest.approx(value * factor)
            assert options | {"weights": options["weights"] | {term: value}} == defaults


def test_a_model_for_any_share_of_labels_has_a_row_for_none():
    with_labels, without = METHODS["TaughtHash"], METHODS["TaughtHash, no labels"]
    assert with_labels.labels and not without.labels
    assert with_labels.train_config(8, 0.7, 0, "inductive").label_rate == 0.7
    assert without.train_config(8, None, 0, "inductive").label_rate == 0
    assert with_labels.settings("inductive") == without.settings("inductive")
    found = {(cell.method, cell.labels) for cell in TABLES["overview"].cells()}
    assert {labels for name, labels in found if name == with_labels.name} == {0.3, 0.7, 1.0}
    assert {labels for name, labels in found if name == without.name} == {None}


def test_short_form_has_one_of_everything():
    for table in TABLES.values():
        small = short(table)
        assert small.data == ("synthetic",)
        assert len(small.bits) == len(small.rates) == len(small.seeds) == 1
        assert small.methods == table.methods


def test_places_and_what_is_missing(capsys):
    names = ("wikipedia", "wikipedia-bow", "coco", "synthetic", "wikipedia-vgg", "nuswide10k")
    parser = argparse.ArgumentParser()
    add_options(parser, names)
    places = given(parser, names, parser.parse_args(["--wikipedia", "there"]))
    assert places == {"wikipedia": "there", "wikipedia-bow": "there", "synthetic": ""}
    text = capsys.readouterr().err
    assert "--coco PLACE" in text and "coco15k.h5" in text
    assert "--wikipedia-vgg PLACE" in text and "image features 4,096" in text
    assert "NUSWIDE10K" in text
    with pytest.raises(SystemExit):
        given(parser, names[:3], parser.parse_args([]))
    assert "there are no data" in capsys.readouterr().err


def test_sgehs_tables_use_its_own_protocol(monkeypatch):
    import pyg_hash.datasets as datasets
    from pyg_hash.datasets import published_protocols

    asked = []
    for kind in ("MIRFlickr25K", "NUSWIDE", "MSCOCO"):
        monkeypatch.setattr(
            datasets, kind, lambda root, kind=kind, **o: [asked.append((kind, root, o))]
        )
    names = ("mirflickr25k-sgeh", "nuswide10-sgeh", "mscoco-sgeh")
    for name in names:
        SOURCES[name].load("there")
    assert asked == [
        ("MIRFlickr25K", "there", {"protocol": "sgeh"}),
        ("NUSWIDE", "there", {"concepts": 10, "protocol": "sgeh"}),
        ("MSCOCO", "there", {"protocol": "sgeh"}),
    ]
    for manifest in ("mirflickr25k", "nuswide-10", "mscoco"):
        assert published_protocols(manifest)["sgeh"].train is None  # all that is searched
    for table in ("sgeh-table1", "sgeh-table2", "sgeh-fig3"):
        data = set(TABLES[table].data)
        assert set(names) <= data and not {"mirflickr25k", "nuswide21", "mscoco"} & data
    titles = [SOURCES[name].title for name in names]
    assert titles[1] == "NUSWIDE, concepts 10, protocol sgeh"
    assert SOURCES["nuswide10-sgeh"].option == SOURCES["nuswide21"].option == "nuswide"


def stored(folder, width, about=None):
    """A file of 20 pairs."""
    parts = {"labels": torch.arange(20) % 2, "train": range(15), "query": range(15, 20)}
    image, text = torch.rand(20, width), torch.rand(20, 7)
    return str(write_feature_file(folder / "x.h5", image=image, text=text, about=about, **parts))


def test_features_that_are_not_the_papers_are_refused(tmp_path):
    path = stored(tmp_path, 4096)
    sizes = "pairs: 20, not 2866; train: 15, not 2173; query: 5, not 693; database: 15, not 2173; "
    with pytest.raises(ValueError, match=f"{sizes}classes: 2, not 10; text_features: 7, not 3000"):
        SOURCES["wikipedia-vgg"].load(path)
    with pytest.raises(ValueError, match="text_features: 7, not 512.*not 'MIRFlickr, vgg16-fc7"):
        SOURCES["mirflickr25k-use"].load(path)


def test_features_of_the_papers_sizes_have_to_say_what_they_are(tmp_path):
    """VGG's fc7 is as wide as CNN-F's."""
    sizes = {"pairs": 20, "query": 5, "image_features": 9}
    source = _papers("Toy", "toy", "cnn-f + bow1386", sizes)
    assert source.needs.endswith("about 'cnn-f + bow1386': image features 9, pairs 20, query 5")
    assert source.load(stored(tmp_path, 9, "cnn-f + bow1386")).num_classes == 2
    for about in (None, "vgg16-fc7 + bow1386"):
        with pytest.raises(ValueError, match=f"about: {about!r}".replace("+", r"\+")) as raised:
            source.load(stored(tmp_path, 9, about))
        assert "write_feature_file(..., about='cnn-f + bow1386')" in str(raised.value)
        assert "pairs" not in str(raised.value)


def test_the_papers_sources_state_all_sizes_that_their_papers_do():
    stated = ("pairs", "train", "query", "database", "image features")
    for name, source in SOURCES.items():
        if name.endswith(("-vgg", "-cnnf")):
            assert all(f"{size} " in source.needs.split(": ")[1] for size in stated), name
        if name.endswith(("-vgg", "-cnnf", "-use")):
            assert "about '" in source.needs


@pytest.mark.parametrize("name", ["data", "methods", "tables"])
def test_no_declaration_takes_the_place_of_another(name):
    """Of two equal keys YAML keeps the last."""
    text = Path(methods.__file__).with_name(f"{name}.yaml").read_text()
    indent = "  " if name == "tables" else ""
    keys = re.findall(rf"^{indent}(\w[^:]*):", text, re.MULTILINE)
    assert len(set(keys)) == len(keys) >= 20
