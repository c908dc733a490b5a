"""Every method through the console command: its own graph, settings and defaults."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from small import BASELINES, MODELS, SOLVED, WIDTHS, graph_for, model_for

from pyg_hash.cli import build, main
from pyg_hash.cli.options import Report, TrainConfig, UsageError
from pyg_hash.cli.train import save_indexes
from pyg_hash.datasets import SyntheticCrossModal, write_feature_file
from pyg_hash.models import MCGCN, SGEH, TaughtHash
from pyg_hash.recipes import METHODS, presets
from pyg_hash.report import Results
from pyg_hash.runs import Run
from pyg_hash.utils.files import load_json

NAMES = [kind.__name__ for kind in MODELS]
GRAPHS = {"MCGCN": ["--k=3"], "SGCH": ["--k=3"], "SGEH": ["--k=3"]}


pytestmark = pytest.mark.usefixtures("shapes")


def words(kind, out, *more):
    known = inspect.signature(kind).parameters
    widths = [f"--model_options.{name}={WIDTHS[name]}" for name in WIDTHS if name in known]
    small = ["--num_bits=16", "--epochs=3", f"--model={kind.__name__.lower()}", f"--out={out}"]
    return ["train", *small, *widths, *GRAPHS.get(kind.__name__, []), *more]


def test_every_model_has_an_entry():
    assert set(METHODS) == {*NAMES, *(kind.__name__ for kind in BASELINES)}


@pytest.mark.parametrize("kind", MODELS, ids=NAMES)
def test_train_evaluate_search(kind, shapes_root, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(words(kind, out, "--dataset=shapes", f"--root={shapes_root}")) == 0
    assert "i2t" in capsys.readouterr().out
    assert load_json(out / "metrics.json")["query"]["protocol"] == "inductive"
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["lr"] == METHODS[kind.__name__]["lr"]  # nothing is left unsaid
    assert main(["evaluate", str(out)]) == 0
    assert main(["search", str(out), "--text", "red box", "-k", "3"]) == 0
    if kind is MCGCN:
        assert main(["train", f"--out={out}", "--resume"]) == 0


@pytest.mark.parametrize("kind", [MCGCN, TaughtHash])
def test_features_of_ones_own(kind, tmp_path, capsys):
    from toy import toy_data

    data = toy_data()
    masks = {name: data["image"][f"{name}_mask"] for name in ("train", "query")}
    file = tmp_path / "features.h5"
    write_feature_file(
        file, image=data["image"].x, text=data["text"].x, labels=data["image"].y, **masks
    )
    assert main(words(kind, tmp_path / "run", f"--dataset={file}")) == 0
    assert "12 queries, 48 database" in capsys.readouterr().out


@pytest.mark.parametrize("kind", SOLVED, ids=lambda kind: kind.__name__)
def test_a_closed_form(kind, shapes_root, tmp_path, capsys):
    out = tmp_path / "run"
    known = inspect.signature(kind).parameters
    few = ["--model_options.k=3"] if "k" in known else []
    shapes = ["--dataset=shapes", f"--root={shapes_root}"]
    name = f"--model={kind.__name__.lower()}"
    assert main(["train", name, f"--out={out}", "--num_bits=8", "--seed=3", *shapes, *few]) == 0
    assert "protocol inductive" in capsys.readouterr().out
    if "seed" in known:
        assert kind.load(out / "model").config["seed"] == 3
    assert main(["evaluate", str(out)]) == 0
    if kind is SOLVED[0]:
        assert main(["search", str(out), "--text", "red box", "-k", "3"]) == 0
        assert main(["train", f"--out={out}", "--resume"]) == 0


def test_a_rate_for_each_part(shapes_root, tmp_path, capsys):
    from pyg_hash.models import GCH

    rates = "{label: 0.01, image: 0.001, text: 0.001, gcn: 0.001}"
    shapes = ["--dataset=shapes", f"--root={shapes_root}"]
    assert main(words(GCH, tmp_path / "run", *shapes, f"--lr={rates}")) == 0
    assert main(words(GCH, tmp_path / "no", *shapes, "--lr={label: 0.01}")) == 2
    assert "parts label, image, text, gcn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=gch", "--k=5"], "k: GCH has no such setting"),
        (["--model=gch", "--protocol=transductive"], "protocol: GCH has no such setting"),
        (["--model=sgeh", "--label_rate=0.5"], "label_rate: SGEH has no such setting"),
        (["--model=gch", "--graph_options.a=1"], "graph_options: GCH"),
        (["--model=mcgcn", "--graph_options.a=1"], "IntraKNN has no option 'a'"),
        (["--model=sgch", "--graph_options.a=1"], "SGCHGraph has no option 'a'"),
        (["--model=sgeh", "--graph_options.a=1"], "UnifiedAffinity has no option 'a'"),
        (["--model=sgch", "--protocol=transductive"], "inductive or strict, not transductive"),
        (["--model=cca", "--epochs=5"], "epochs: CCA has no such setting; leave it out (it has no"),
        (["--model=scm", "--lr=0.1"], "lr: SCM has no such setting; leave it out (it has label_ra"),
        (["--model=itq", "--patience=2", "--val_rate=0.1"], "patience: ITQ has no such setting"),
        (["--model=itq", "--precision=bf16"], "precision: itq has a closed form"),
        (["--model=itq", "--accumulate=2"], "batch_size: itq takes all data at once"),
        (["--model=itq", "--model_options.seed=2"], "ITQ has no option 'seed'"),
    ],
)
def test_settings_of_another_method_are_refused(options, message, shapes_root, tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(["train", f"--out={out}", f"--root={shapes_root}", "--dataset=shapes", *options]) == 2
    )
    assert message in capsys.readouterr().err
    assert not out.exists()


SYNTHETIC = ["--dataset=synthetic", '--dataset_options={"n": 120, "num_queries": 20}']
NARROW = "--model_options={hidden_channels: 12, out_channels: 8}"


def test_a_preset(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "--recipe=sgch/wikipedia", *SYNTHETIC, "--epochs=1", NARROW, f"--out={out}"]
    assert main(words) == 0
    settings = yaml.safe_load((out / "config.yaml").read_text())
    stated = presets()["sgch/wikipedia"].settings
    assert settings["recipe"] == "sgch/wikipedia" and settings["model"] == "sgch"
    assert settings["model_options"]["hidden_channels"] == 12
    assert settings["model_options"]["weights"] == stated["model_options"]["weights"]
    for name in ("protocol", "k", "lr", "graph_options"):
        assert settings[name] == stated[name]
    assert load_json(out / "metrics.json")["query"]["protocol"] == "strict"
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_json(out / "metrics.json")["query"]
    assert main(["train", f"--out={out}", "--resume"]) == 0
    rows = SyntheticCrossModal(120, num_queries=20)[0]["image"].x[:2]
    np.save(tmp_path / "x.npy", rows.numpy())
    assert main(["search", str(out), f"--features={tmp_path}/x.npy", "--source=image"]) == 0


def test_rates_that_decay_and_an_optimiser(shapes_root, tmp_path):
    from pyg_hash.models import GCH

    out = tmp_path / "run"
    more = ["--optimizer={name: SGD, momentum: 0.9}", "--decay=0.5", "--scaling.norm=null"]
    assert main(words(GCH, out, "--dataset=shapes", f"--root={shapes_root}", *more)) == 0
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["optimizer"] == {"name": "SGD", "momentum": 0.9}
    assert settings["decay"] == 0.5 and settings["scaling"] == {"norm": None}


def test_a_class_of_ones_own_is_named_each_time(tmp_path, monkeypatch, capsys):
    (tmp_path / "hash_of_mine.py").write_text(
        "from pyg_hash.models import DJSRH\nclass Mine(DJSRH): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name, out = "--model=hash_of_mine:Mine", tmp_path / "run"
    assert main(["train", name, *SYNTHETIC, "--epochs=1", f"--out={out}"]) == 0
    assert main(["evaluate", str(out), name]) == 0
    del sys.modules["hash_of_mine"]
    for command in (
        ["evaluate", str(out)],
        ["report", str(out)],
        ["search", str(out), "--text=a"],
        ["encode", str(out), "--texts=a", "--out=b.h5"],
        ["train", f"--out={out}", "--resume"],
        ["train", f"--config={out}/config.yaml", "--out=again"],
    ):
        Path("a").write_text("a")
        assert main(command) == 2
        assert f"add {name.replace('=', ' ')}" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--model=djsrh"]) == 2
    assert "is a run of hash_of_mine:Mine, not of djsrh" in capsys.readouterr().err
    assert "hash_of_mine" not in sys.modules
    assert main(["train", f"--out={out}", "--resume", name]) == 0


ODD_SETS = """
from pyg_hash.datasets import CrossModalDataset, SyntheticCrossModal
number = 3
class Drawn(SyntheticCrossModal): ...
class Bare(CrossModalDataset): ...
class Closed(CrossModalDataset):
    def __init__(self, root): ...
"""


def test_a_data_set_of_ones_own_is_named_each_time(tmp_path, undrawn, monkeypatch, capsys):
    (tmp_path / "odd_sets.py").write_text(ODD_SETS)
    shutil.copy(Path(__file__).parents[1] / "examples" / "own_dataset.py", tmp_path)
    (tmp_path / "data" / "pairs").mkdir(parents=True)
    x, label = np.eye(40)[:, :20] + 1, np.arange(40) % 3
    np.savez(tmp_path / "data" / "pairs" / "pairs.npz", image=x, text=x, label=label)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name, out, model = "--dataset=own_dataset:Pairs", tmp_path / "run", "--model=lsh"
    words = [model, "--num_bits=8", f"--out={out}"]
    assert main(["train", name, "--dataset_options.every=4", *words]) == 0
    assert (tmp_path / "data" / "pairs" / "processed").is_dir()
    drawn = ["--dataset", "odd_sets:Drawn", "--dataset_options.n=40"]
    assert main(["train", *drawn, *words[:2], "--out=drawn"]) == 0
    capsys.readouterr()
    for command in (["evaluate", str(out), "--json"], ["report", str(out)]):
        assert main([*command, name]) == 0
    assert '"num_queries": 10' in capsys.readouterr().out
    (tmp_path / "data").rename(tmp_path / "moved")
    assert main(["evaluate", str(out), name, "--data=moved/pairs"]) == 0
    del sys.modules["own_dataset"]
    for command in (
        ["evaluate", str(out)],
        ["report", str(out)],
        ["train", f"--out={out}", "--resume"],
        ["train", f"--config={out}/config.yaml", "--out=again"],
    ):
        assert main(command) == 2
        assert f"add {name.replace('=', ' ')}" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--dataset=emoji"]) == 2
    assert "is a run of own_dataset:Pairs, not of emoji" in capsys.readouterr().err
    assert "own_dataset" not in sys.modules
    (tmp_path / "moved").rename(tmp_path / "data")
    assert main(["train", f"--out={out}", "--resume", name]) == 0
    for own, status, message in (
        ("gone:Pairs", 2, "dataset: gone:Pairs cannot be imported"),
        ("odd_sets:Gone", 2, "dataset: odd_sets:Gone cannot be imported"),
        ("odd_sets:number", 2, "odd_sets:number is no class of data sets"),
        ("odd_sets:CrossModalDataset", 2, "is no class of data sets"),
        ("odd_sets:Closed", 2, "takes no pre_transform"),
        ("odd_sets:Drawn", 2, "Drawn needs 'n'; give --dataset_options.n"),
        ("odd_sets:Bare", 1, "Bare: implement settings(), which returns a dict"),
    ):
        assert main(["train", f"--dataset={own}", model, "--out=odd"]) == status, own
        assert message in capsys.readouterr().err
    assert main(["train", name, model, "--out=odd", "--dataset_options.m=1"]) == 2
    assert "Pairs has no option 'm'; use some of every" in capsys.readouterr().err


ODD_GRAPH = """
import torch
from pyg_hash.models import LSH
from torch_geometric.transforms import BaseTransform
class Last(BaseTransform):
    def forward(self, data):
        return data.subgraph({m: torch.arange(9, 40) for m in data.node_types})
class Late(LSH):
    @staticmethod
    def recipe_graph(settings):
        return [Last()]
"""


def test_a_graph_that_drops_rows_is_refused_before_the_training(tmp_path, monkeypatch, capsys):
    (tmp_path / "odd_graph.py").write_text(ODD_GRAPH)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["--model=odd_graph:Late", "--dataset=synthetic", "--dataset_options.n=40"]
    assert main(["train", *words, "--out=run"]) == 2
    assert "recipe_graph: drops or permutes rows, or a transform " in capsys.readouterr().err
    assert not (tmp_path / "run" / "items.json").exists()


def test_defaults_do_not_replace_what_was_said():
    config = build.with_defaults(TrainConfig(k=7, label_rate=0.0))
    assert (config.k, config.label_rate, config.protocol) == (7, 0.0, "inductive")
    with pytest.raises(UsageError, match="unknown"):
        build.with_defaults(TrainConfig(model="unknown"))


@pytest.mark.parametrize(
    ("kind", "more"),
    [(SGEH, ["--graph_options.num_clusters=4"]), (TaughtHash, ["--label_rate=0"])],
    ids=["SGEH", "TaughtHash"],
)
def test_unlabelled_features(kind, more, tmp_path, capsys):
    from toy import toy_data

    data = toy_data()
    masks = {name: data["image"][f"{name}_mask"] for name in ("train", "query")}
    file = tmp_path / "features.h5"
    write_feature_file(file, image=data["image"].x, text=data["text"].x, **masks)
    out = tmp_path / "run"
    assert main(words(kind, out, f"--dataset={file}", *more)) == 0
    printed = capsys.readouterr().out
    assert "no labels" in printed and "pair recall t2i R@1 " in printed
    assert (out / "index_image.safetensors").is_file()
    metrics = load_json(out / "metrics.json")["query"]
    assert metrics["i2t"] is None and 0 < metrics["pair_recall"]["t2i"]["10"] <= 1
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == metrics
    np.save(tmp_path / "x.npy", data["text"].x[:2].numpy())
    queries = [f"--features={tmp_path}/x.npy", "--source=text"]
    assert main(["search", str(out), *queries, "-k=3"]) == 0
    assert capsys.readouterr().out.count("query ") == 2
    assert main(["encode", str(out), *queries, f"--out={tmp_path}/codes.h5"]) == 0


def test_labels_that_are_missing_are_named(tmp_path, capsys):
    file = tmp_path / "features.h5"
    masks = {"train": torch.arange(9) < 6, "query": torch.arange(9) >= 6}
    write_feature_file(file, image=torch.rand(9, 4), text=torch.rand(9, 4), **masks)
    assert main(words(TaughtHash, tmp_path / "run", f"--dataset={file}")) == 1
    assert "needs none: TaughtHash at label rate 0" in capsys.readouterr().err


def test_a_held_out_item_of_words_that_no_other_has_keeps_its_direction():
    data = SyntheticCrossModal(60, 3, num_queries=12)[0]
    data["text"].x = torch.eye(60, 900)
    config = build.with_defaults(TrainConfig(model="ClassCodes", label_rate=1.0, val_rate=0.2))
    split = build.recipe_of(config).transforms(data)
    held_out = split["text"].x[split["text"].val_mask]
    assert len(held_out) and bool((held_out != 0).any(dim=1).all())


@pytest.mark.parametrize("kind", [*MODELS, *SOLVED], ids=lambda kind: kind.__name__)
def test_indexes_keep_relaxed_codes_of_the_same_signs(kind, tmp_path):
    data = graph_for(kind)
    model = model_for(kind, data, num_bits=8)
    model = model.solve(data) if kind in SOLVED else model.attach(data)
    save_indexes(Run(tmp_path), model, data)
    with torch.no_grad():
        out = model.eval()(data)
    for m in ("image", "text"):
        index = Run(tmp_path).index(m)
        assert torch.equal(index.codes(index.ids), model.encode(data, m)[index.ids])
        assert index.has_relaxed
        step = (index.relaxed(index.ids) - out[m][index.ids]).abs().max()
        assert step <= 1 / 127 + 1e-6  # half of one, or what 0 becomes


class Flipped(MCGCN):
    """Its codes are not the signs of its relaxed codes."""

    def encode(self, data, modality):
        return -super().encode(data, modality)


class Wide(MCGCN):
    """Its relaxed codes go beyond 1."""

    def propagate(self, x, places):
        return {name: 3 * value for name, value in super().propagate(x, places).items()}


@pytest.mark.parametrize("kind", [Flipped, Wide])
def test_no_relaxed_codes_where_they_do_not_fit(kind, tmp_path):
    data = graph_for(MCGCN)
    model = model_for(kind, data).attach(data)
    save_indexes(Run(tmp_path), model, data)
    for m in ("image", "text"):
        index = Run(tmp_path).index(m)
        assert not index.has_relaxed
        assert torch.equal(index.codes(index.ids), model.encode(data, m)[index.ids])


OWN = """
import torch
from torch import nn
from pyg_hash.losses import contrastive_loss
from pyg_hash.models import EncoderHashModel, Objective
class Whole(EncoderHashModel):
    recipe_defaults = {"epochs": 1, "lr": 1e-3, "num_bits": 8}
    reads_labels = False
    def __init__(self, num_features, num_bits=32, act="tanh"):
        super().__init__(num_bits, num_features=num_features)
        self.of = nn.ModuleDict({m: nn.Linear(d, num_bits) for m, d in self.num_features.items()})
    def relaxed(self, x, modality):
        return torch.tanh(self.of[modality](x))
    def loss(self, out, data):
        train = data["image"].train_mask
        return {"loss": contrastive_loss(out.image[train], out.text[train])}
class Batches(Whole):
    def objectives(self, data, epoch):
        yield Objective(self.loss(self(data), data))
class Function(Whole):
    def __init__(self, num_features, num_bits=32, act=nn.ReLU):
        super().__init__(num_features, num_bits)
"""


RANGES = """
from own_lines import Whole
class Wide(Whole):
    def relaxed(self, x, modality):
        return 20 * self.of[modality](x)
class Cut(Whole):
    def relaxed(self, x, modality):
        return self.of[modality](x).sigmoid()
    def encode(self, data, modality):
        return (2 * (self(data)[modality] > 0.5) - 1).char()
    def encode_image(self, x):
        return (2 * (self.relax_image(x) > 0.5) - 1).char()
    def encode_text(self, x):
        return (2 * (self.relax_text(x) > 0.5) - 1).char()
"""


@pytest.mark.parametrize("name", ["Wide", "Cut"])
def test_values_of_another_range_than_ours(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_lines.py").write_text(OWN)
    (tmp_path / "own_ranges.py").write_text(RANGES)
    monkeypatch.syspath_prepend(tmp_path)
    out, of = tmp_path / "run", f"--model=own_ranges:{name}"
    assert main(["train", of, *SYNTHETIC, f"--out={out}"]) == 0
    assert main(["report", str(out), of, "--points=20"]) == 0
    run = Run(out)
    settings = build.settings_of(Report(run=str(out), model=of[8:]), run)
    model = build.load_model(run, settings)
    results = Results.of(model, build.build_dataset(settings)[0])
    assert results.evaluation.to_dict() == load_json(out / "metrics.json")["query"]
    x = SyntheticCrossModal(120, num_queries=20)[0]["text"].x[results.query]
    np.save(tmp_path / "x.npy", x.numpy())
    asked = [of, f"--features={tmp_path}/x.npy", "--source=text"]
    codes = model.encode_text(x)
    assert torch.equal(codes, results.codes["text"][results.query])
    assert main(["encode", str(out), *asked, f"--out={tmp_path}/codes.h5"]) == 0
    with h5py.File(tmp_path / "codes.h5") as file:
        assert np.array_equal(file["text/codes"], codes)
    capsys.readouterr()
    assert main(["search", str(out), *asked, "-k=1", "--rescore=none", "--json"]) == 0
    found = [json.loads(line)["answers"][0] for line in capsys.readouterr().out.splitlines()]
    index = run.index("image")
    assert [one["distance"] for one in found] == index.search(codes, 1)[0][:, 0].tolist()
    assert main(["search", str(out), *asked]) == 0


def test_a_class_of_ones_own(shapes_root, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_lines.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    more = ["--dataset=shapes", f"--root={shapes_root}"]
    for name, options, status, message in (
        ("Whole", ["--precision=bf16"], 0, ""),
        ("Whole", ["--accumulate=2"], 2, "Whole takes all data at once"),
        ("Whole", ["--label_rate=0.3"], 2, "label_rate: Whole has no such setting"),
        ("Whole", ["--batch_size=9"], 2, "or name it in recipe_defaults"),
        ("Batches", ["--accumulate=2"], 2, "Batches.objectives: does not share out its batches"),
        ("Function", [], 1, "act: no file can hold this keyword of the model"),
    ):
        run = [f"--model=own_lines:{name}", f"--out={tmp_path / name}{len(options)}", *options]
        assert main(["train", *run, *more]) == status
        assert message in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "Whole1" / "config.yaml").read_text())["num_bits"] == 8
    assert not list(tmp_path.glob("Function0/checkpoint*"))
    # without labels too
    rng = np.random.default_rng(0)
    x = {m: rng.normal(size=(40, 6)).astype(np.float32) for m in ("image", "text")}
    train = np.arange(40) < 30
    write_feature_file(tmp_path / "x.h5", **x, train=train, query=~train, database=train)
    run = ["train", "--model=own_lines:Whole", f"--out={tmp_path / 'bare'}"]
    assert main([*run, f"--dataset={tmp_path / 'x.h5'}"]) == 0
