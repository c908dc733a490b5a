"""``pyg-hash report`` on runs with pictures and on runs without."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pyg_hash.cli import main
from pyg_hash.datasets import write_feature_file

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.usefixtures("shapes")

SHORT = ("--points=20", "--queries=2")
SETTINGS = ("--k=3", "--num_bits=16", "--epochs=2")


def test_report_with_pictures(shapes_run, capsys):
    assert main(["report", str(shapes_run), *SHORT]) == 0
    path = shapes_run / "report.html"
    assert capsys.readouterr().out == f"report: {path}\n"
    page = path.read_text(encoding="utf-8")
    assert "<h1>MCGCN on shapes</h1>" in page
    at_random, by_precision, by_pair = 2 * 8 + 2 * 8 + 2, 2 * 4 + 2 * 4 + 2, 2 * 4 + 2 * 4 + 2 + 2
    assert page.count("data:image/jpeg") == at_random + by_precision + by_pair
    assert "5 epochs" in page
    assert "num_bits" in page
    assert "cannot be read:" not in page


def test_a_page_of_somebody_else_is_not_replaced(shapes_run, undrawn, tmp_path, capsys):
    out = tmp_path / "index.html"
    out.write_text("<h1>my page</h1>")
    for more in ([], [str(shapes_run)]):
        assert main(["report", str(shapes_run), *more, f"--out={out}"]) == 2
        assert "index.html is there already" in capsys.readouterr().err
    assert out.read_text() == "<h1>my page</h1>"
    compared = tmp_path / "both.html"
    for _ in range(2):
        assert main(["report", str(shapes_run), str(shapes_run), f"--out={compared}"]) == 0


def test_report_of_features_without_labels_and_history(tmp_path):
    rng = np.random.default_rng(0)
    file = write_feature_file(
        tmp_path / "mine.h5",
        image=rng.normal(size=(40, 6)),
        text=rng.normal(size=(40, 5)),
        train=np.arange(40) >= 8,
        query=np.arange(40) < 8,
    )
    run, out = tmp_path / "run", tmp_path / "new" / "page.html"
    model = ["--model=sgeh", "--graph_options.num_clusters=3"]
    assert main(["train", f"--dataset={file}", f"--out={run}", *model, *SETTINGS]) == 0
    (run / "history.json").unlink()
    assert main(["report", str(run), f"--out={out}", *SHORT]) == 0
    assert not (run / "report.html").exists()
    page = out.read_text(encoding="utf-8")
    for words in (
        "on mine.h5</h1>",
        "without picture files",
        "The data have no labels",
        "kept no history",
        "all pairs",
    ):
        assert words in page
    assert "Pair recall" in page and "mAP, and lookups" not in page and 'id="curves"' not in page
    assert "✗" not in page and "Farthest from its own text" in page
    assert "Lowest average precision" not in page


def test_a_class_name_may_have_dollars_and_what_no_xml_may_have(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 2
    file = write_feature_file(
        tmp_path / "mine.h5",
        image=x,
        text=x,
        labels=y,
        class_names=["$\\frac{", "5 $ and \x1b[31m\ufffe $"],
        train=range(32),
        query=range(32, 40),
    )
    words = [f"--dataset={file}", f"--out={tmp_path}/run", "--model=lsh", "--num_bits=8"]
    assert main(["train", *words]) == 0
    assert main(["report", f"{tmp_path}/run", *SHORT]) == 0


def test_runs_side_by_side(shapes_run, shapes_root, tmp_path, capsys):
    other, small = tmp_path / "other", tmp_path / "small"
    words = ["--num_bits=8", "--model=classcodes"]
    assert (
        main(["train", "--dataset=shapes", f"--root={shapes_root}", f"--out={other}", *words]) == 0
    )
    data = "--dataset_options={n: 40, num_features: [3, 3]}"
    assert (
        main(["train", "--dataset=synthetic", data, f"--out={small}", "--model=lsh", words[0]]) == 0
    )
    out = tmp_path / "both.html"
    assert main(["report", str(shapes_run), str(other), f"--out={out}"]) == 0
    page = out.read_text(encoding="utf-8")
    values = json.loads((other / "metrics.json").read_text())["query"]
    assert f"<td>{values['num_labels']}</td><td>{values['label_rate']:.3f}</td>" in page
    assert "All runs have the same data" in page  # labels that were read are a setting
    for words in (f"<td>{values['i2t']:.3f}</td>", "<td>classcodes</td>", "<td>mcgcn</td>"):
        assert words in page
    assert '<th scope="row">num_bits</th><td>16</td><td>8</td>' in page
    assert main(["report", str(shapes_run), str(other), str(small)]) == 0
    page = (shapes_run / "comparison.html").read_text(encoding="utf-8")
    assert "cannot be compared" in page and "<td>B</td>" in page
    assert "other data than" in page[page.index("<main>") :]  # notes too are in a landmark
    (other / "metrics.json").unlink()
    capsys.readouterr()
    assert main(["report", str(shapes_run), str(other)]) == 1
    assert "has no evaluation; make it with: pyg-hash evaluate" in capsys.readouterr().err
    assert main(["report", str(shapes_run), str(small), "--queries=3"]) == 2
    assert "queries: is for the report of one run" in capsys.readouterr().err


def test_errors(shapes_run, tmp_path, capsys):
    assert main(["report", str(shapes_run), "--seed=-1"]) == 2
    assert "seed: expected an integer from 0" in capsys.readouterr().err
    assert main(["report", str(shapes_run), "--points=0"]) == 2
    assert "points: expected a positive integer" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "is no folder" in capsys.readouterr().err
    assert main(["report", str(shapes_run), f"--out={tmp_path}"]) == 1
    assert "out: cannot write" in capsys.readouterr().err
