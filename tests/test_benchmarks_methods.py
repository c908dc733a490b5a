"""The benchmark of all methods: which runs, what is stored, and what the tables say."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from scripts import benchmark_scripts
from toy import toy_data

import pyg_hash.models
from pyg_hash.cli.methods import METHODS as COMMAND_LINE

MODELS = ["MCGCN", "GCH", "SGCH", "SGEH"]


@pytest.fixture(autouse=True)
def scripts():
    with benchmark_scripts():
        yield


@pytest.fixture
def tiny(monkeypatch):
    """Two epochs, eight bits: the toy's features allow no more canonical directions."""
    import suite

    monkeypatch.setattr(suite, "NUM_BITS", 8)
    for name in suite.SETTINGS:
        monkeypatch.setitem(suite.SETTINGS, name, {"epochs": 2, "lr": 1e-3})
    return suite


def there(family):
    return family not in MODELS or family in pyg_hash.models.__all__


def rows():
    with benchmark_scripts():
        import suite

        return [(row.name, row.family) for row in suite.METHODS.values() if there(row.family)]


# --- which runs ---------------------------------------------------------------------------------


def test_every_table_names_known_methods():
    import suite

    assert set(suite.SETTINGS) == set(MODELS)
    listed = {*suite.SUPERVISED, *suite.UNSUPERVISED}
    for family, (_, ablations) in suite.ABLATIONS.items():
        for ablation in ablations:
            assert suite.METHODS[ablation.variant].family == family
            assert suite.METHODS[ablation.full].family == family
            assert set(ablation.claimed) <= {"+", "-", "?"}
            assert ablation.source
            listed |= {ablation.variant, ablation.full}
    assert listed == set(suite.METHODS)


def test_settings_are_the_command_lines():
    """What the tables report is what ``pyg-hash train`` does without options."""
    import suite

    for name, settings in suite.SETTINGS.items():
        defaults = COMMAND_LINE[name].defaults
        for key in ("epochs", "lr"):
            assert settings[key] == defaults[key]
        assert defaults.get("k", 0) == {"MCGCN": 20, "SGCH": 20, "SGEH": 30, "GCH": 0}[name]


@pytest.mark.parametrize("family", [name for name in MODELS if there(name)])
def test_options_are_keywords_of_the_models(family):
    import suite

    known = inspect.signature(getattr(pyg_hash.models, family)).parameters
    for row in suite.METHODS.values():
        if row.family == family:
            assert set(row.options) <= set(known), row.name


def test_jobs_come_once_in_table_order():
    import suite

    everything = suite.jobs(["supervised", "unsupervised", "ablations"])
    names = [(job.method.name, job.labels) for job in everything]
    assert len(names) == len(set(names))
    assert names[: len(suite.SUPERVISED)] == [(name, 0.3) for name in suite.SUPERVISED]
    assert ("SGEH", None) in names
    assert ("SGCH v1", 0.3) in names
    assert {job.labels for job in suite.jobs(["unsupervised"])} == {None}
    only = suite.jobs(["ablations"], ["SGCH", "GCH-A"])
    assert {job.method.family for job in only} == {"SGCH", "GCH"}
    assert [job.method.name for job in only if job.method.family == "GCH"] == ["GCH-A"]
    with pytest.raises(ValueError, match="'GCN' is not known"):
        suite.jobs(["ablations"], ["GCN"])


# --- one cell -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, _ in rows()])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")  # the toy's pairs need not fall into four parts
def test_every_row_runs(tiny, name, multi_label):
    import cells

    method = tiny.METHODS[name]
    labels = None if method.family == "SGEH" or "CCA" in method.family else 1.0
    raw = toy_data(num_nodes=100, noise=0.5, multi_label=multi_label, num_queries=20)
    cell = cells.run("toy", raw, tiny.Job(method, labels), seed=1)
    assert 0 < cell["i2t"] <= 1
    expected = "inductive"
    if "all anchors" in name:
        expected = "transductive" if "code graph" in name else "strict"
    assert cell["protocol"] == expected
    assert cell["definition"] == "mAP@all, expected ties, denominator=hits"
    assert cell["described"] == method.described()
    assert "scaling" not in raw  # what was given is left alone


def test_a_cell_is_a_function_of_its_seed(tiny):
    import cells

    job = tiny.Job(tiny.METHODS["MCGCN"], 0.5)
    raw = toy_data()
    first, again, other = (cells.run("toy", raw, job, seed) for seed in (0, 0, 1))
    tasks = list(cells.TASKS)
    assert [first[t] for t in tasks] == [again[t] for t in tasks]
    assert [first[t] for t in tasks] != [other[t] for t in tasks]


def test_unsupervised_cells_need_no_labelled_node(tiny):
    import cells

    raw = toy_data()
    for modality in ("image", "text"):
        raw[modality].labeled_mask = torch.zeros_like(raw[modality].train_mask)
    cell = cells.run("toy", raw, tiny.Job(tiny.METHODS["ITQ on CCA, weighted"], None), 0)
    assert cell["labels"] is None


def test_a_graph_without_seed_is_built_once(tiny):
    import cells

    raw = toy_data()
    sign, itq = (tiny.Job(tiny.METHODS[name], None) for name in ("sign of CCA", "ITQ on CCA"))
    first = cells.prepared("toy", raw, sign, 0)[0]
    assert cells.prepared("toy", raw, itq, 1)[0] is first
    assert cells.prepared("other", raw, itq, 1)[0] is not first
    labelled = tiny.Job(tiny.METHODS["class codes"], 0.5)
    masks = [cells.prepared("toy", raw, labelled, s)[0]["image"].labeled_mask for s in (0, 1)]
    assert not torch.equal(*masks)


# --- results ------------------------------------------------------------------------------------


def test_results_survive_and_know_stale_cells(tmp_path):
    from cells import Results

    results = Results(tmp_path / "deep" / "methods.json")
    assert not results.has("x", {"epochs": 1})
    results.add("x", {"described": {"epochs": 1}, "i2t": 0.5}, {"threads": 1})
    assert Results(results.path).has("x", {"epochs": 1})
    assert not results.has("x", {"epochs": 2})
    results.add("a", {"described": {}}, {"command": "c"})
    content = results.read()
    assert list(content["cells"]) == ["a", "x"]
    assert content["about"] == {"threads": 1, "command": "c"}


def test_writers_do_not_lose_each_others_cells(tmp_path):
    from cells import Results

    path = tmp_path / "methods.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Results(path).add(f"{i:02d}", {"i2t": i}, {}), range(40)))
    assert list(Results(path).read()["cells"]) == [f"{i:02d}" for i in range(40)]
    assert [p.name for p in tmp_path.iterdir()] == ["methods.json"]  # no lock, no temporary file


@pytest.fixture
def toys(tiny, monkeypatch):
    import methods

    monkeypatch.setitem(methods.LOADERS, "Emoji", lambda root: toy_data(noise=0.5))
    monkeypatch.setitem(methods.LOADERS, "COCO", lambda root: toy_data(multi_label=True))
    return methods


def test_script_goes_on_where_it_stopped(toys, tmp_path, capsys, tiny, monkeypatch):
    import cells

    words = ["--emoji=x", "--coco=y", f"--out={tmp_path}", "--seeds", "0", "1"]
    words += ["--only", "supervised", "--methods", "class codes", "MCGCN"]
    toys.main([*words, "--data", "Emoji"])
    content = cells.Results(tmp_path / "methods.json").read()
    assert len(content["cells"]) == 12  # three methods, two label rates, two seeds
    assert content["about"]["Emoji"].startswith("48 train, 12 query, 48 database")
    assert capsys.readouterr().out.count("i2t") == 12
    toys.main([*words, "--data", "Emoji"])
    assert "12 cells are in" in (said := capsys.readouterr().out) and "i2t" not in said
    toys.main([*words, "--data", "Emoji", "COCO"])
    assert capsys.readouterr().out.count("COCO |") == 12
    monkeypatch.setitem(tiny.SETTINGS, "MCGCN", {"epochs": 1, "lr": 1e-3})
    toys.main([*words, "--data", "Emoji"])
    assert capsys.readouterr().out.count("MCGCN") == 4
    toys.main([*words, "--data", "Emoji", "--force"])
    assert capsys.readouterr().out.count("i2t") == 12
    text = (tmp_path / "methods.md").read_text(encoding="utf-8")
    assert "### Emoji, 30% of the labels" in text
    assert "| MCGCN | inductive | 2 |" in text
    assert "MCGCN: epochs 1, lr 0.001" in text
    (tmp_path / "methods.md").unlink()
    toys.main(["--render", f"--out={tmp_path}"])
    assert (tmp_path / "methods.md").read_text(encoding="utf-8") == text


def test_a_run_that_diverges_does_not_end_the_others(toys, tmp_path, capsys, tiny, monkeypatch):
    monkeypatch.setitem(tiny.SETTINGS, "MCGCN", {"epochs": 2, "lr": 1e30})
    words = ["--emoji=x", f"--out={tmp_path}", "--seeds", "0", "--only", "supervised"]
    with pytest.raises(SystemExit) as stop:
        toys.main([*words, "--methods", "MCGCN", "class codes"])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "diverged: Emoji | 30% | MCGCN | seed 0; Emoji | 100% | MCGCN | seed 0" in said.err
    assert said.out.count("i2t") == 4  # class codes and centred ones at both label rates


def test_script_says_what_is_wrong(toys, tmp_path, capsys):
    with pytest.raises(SystemExit):
        toys.main([f"--out={tmp_path}"])
    assert "no data set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        toys.main([f"--out={tmp_path}", "--emoji=x", "--methods", "HASH"])
    assert "'HASH' is not known" in capsys.readouterr().err


def test_a_choice_is_made_on_labelled_nodes_held_out(tiny, monkeypatch):
    import cells

    raw = toy_data(120, num_queries=30)
    job = tiny.Job(tiny.METHODS["SGCH, weight chosen"], 0.5)
    seen = []

    def score(model, data, split="query"):
        seen.append((split, data.graph["neighbor_weight"]))
        if split == "val":
            held_out = data["image"].val_mask
            assert held_out.any() and not (held_out & raw["image"].query_mask).any()
        value = {("val", 0.1): 0.4, ("val", 0.2): 0.6}.get(seen[-1], 0.5)
        return Scores(value)

    class Scores:
        protocol, definition = "inductive", "none"

        def __init__(self, value):
            self.i2t = self.t2i = self.i2i = self.t2t = value

    monkeypatch.setattr(cells, "evaluate", score)
    cell = cells.run("toy", raw, job, 0)
    expected = [("val", 0.1)] * 3 + [("val", 0.2)] * 3 + [("query", 0.2)]
    assert seen == expected
    cells.run("toy", raw, job, 1)
    assert seen == [*expected, ("query", 0.2)]  # chosen once for all seeds
    assert cell["validation"] == pytest.approx(
        {"neighbor_weight=0.1": 0.4, "neighbor_weight=0.2": 0.6}
    )
