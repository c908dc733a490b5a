"""Run folders: made before any work, complete or saying what they lack."""

from __future__ import annotations

import pytest

from pyg_hash.runs import CHECKPOINT, PARTS, IncompleteRunError, Run, RunItems
from pyg_hash.utils.files import CorruptFileError, digest_of_folder, load_json, save_json

CONFIG = {"dataset": "emoji", "seed": 0, "options": {"a": [1, 2]}, "lr": 2e-3, "none": None}


def fill(run: Run, parts) -> None:
    for part in parts:
        run.file(part).parent.mkdir(parents=True, exist_ok=True)
        run.file(part).touch()


def test_config_round_trip(tmp_path):
    run = Run.create(tmp_path / "deep" / "run", CONFIG)
    assert run.config() == CONFIG
    assert run.file("config").read_text().startswith("# repeat this run")


def test_create_refuses_a_folder_that_holds_a_run(tmp_path):
    run = Run.create(tmp_path, CONFIG)
    (run.path / CHECKPOINT).touch()
    with pytest.raises(FileExistsError, match="--resume"):
        Run.create(tmp_path, CONFIG)


def test_folder_with_nothing_but_settings_is_taken_over(tmp_path):
    Run.create(tmp_path, CONFIG)  # and then, say, the data set was not found
    run = Run.create(tmp_path, {**CONFIG, "dataset": "wikipedia"})
    assert run.config()["dataset"] == "wikipedia"


def test_resume_keeps_everything_and_names_changed_settings(tmp_path):
    run = Run.create(tmp_path, CONFIG)
    fill(run, ["model"])
    assert Run.create(tmp_path, CONFIG, resume=True).has("model")
    with pytest.raises(ValueError, match=r"lr \(0.002 there\), seed \(0 there\)"):
        Run.create(tmp_path, {**CONFIG, "lr": 1.0, "seed": 3}, resume=True)
    assert run.config() == CONFIG


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="out: cannot write to .*file/run: Not a directory"):
        Run.create(tmp_path / "file" / "run", CONFIG)


def test_open_lists_what_is_missing(tmp_path):
    with pytest.raises(IncompleteRunError, match="is no folder"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(IncompleteRunError, match="lacks config.yaml, .*a folder that pyg-hash"):
        Run.open(tmp_path)
    run = Run.create(tmp_path, CONFIG)
    fill(run, ["items"])
    with pytest.raises(IncompleteRunError, match=r"lacks model/config.json; finish .* --resume"):
        Run.open(tmp_path)
    assert Run.open(tmp_path, need=("config", "items")) == run


@pytest.mark.parametrize("part", PARTS)
def test_any_part_may_be_asked_for(tmp_path, part):
    run = Run(tmp_path)
    fill(run, PARTS)
    assert Run.open(tmp_path, need=PARTS) == run
    run.file(part).unlink()
    with pytest.raises(IncompleteRunError, match=PARTS[part]):
        Run.open(tmp_path, need=PARTS)


@pytest.mark.parametrize("text", ["- a list", "a: [1", ""])
def test_damaged_config(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CorruptFileError, match="config.yaml"):
        Run(tmp_path).config()


def test_items_round_trip(tmp_path):
    items = RunItems(["a", "b"], ["Wörter", None], [None, "b.png"], [["x"], []])
    run = Run(tmp_path)
    run.save_items(items)
    assert run.items() == items
    assert len(items) == 2


def test_items_of_different_lengths(tmp_path):
    with pytest.raises(ValueError, match="different lengths"):
        RunItems(["a"], [], [None], [[]])
    (tmp_path / "items.json").write_text('{"ids": ["a"]}')
    with pytest.raises(CorruptFileError, match="items.json"):
        Run(tmp_path).items()


def test_subfolder_appears_whole_or_not_at_all(tmp_path):
    run = Run(tmp_path)

    def broken(folder):
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.save_folder("encoders/text", broken)
    assert not (tmp_path / "encoders").exists()
    run.save_folder("encoders/text", lambda folder: (folder / "one").touch())
    mine = tmp_path / "encoders" / "text.old"
    mine.mkdir()
    run.save_folder("encoders/text", lambda folder: (folder / "two").touch())
    mine.rmdir()  # a person's copy is nothing that a killed process left
    assert [p.name for p in (tmp_path / "encoders" / "text").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["encoders"]


def test_missing_encoder_says_why(tmp_path):
    with pytest.raises(IncompleteRunError, match="text: run .* has no text .* --text_encoder"):
        Run(tmp_path).encoder("text")


def test_parts_of_a_run_without_settings_are_not_taken_over(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="parts of a run without config.yaml"):
            Run.create(tmp_path, {"seed": 0}, resume=resume)
    assert not (tmp_path / "config.yaml").exists()


def test_metrics_are_added_and_damaged_ones_replaced(tmp_path):
    run = Run.create(tmp_path, {"seed": 0})
    run.add_metrics("query", {"i2t": 0.5})
    run.add_metrics("val", {"i2t": 0.4})
    assert load_json(run.file("metrics")) == {"query": {"i2t": 0.5}, "val": {"i2t": 0.4}}
    run.file("metrics").write_text("{")
    run.add_metrics("query", {"i2t": 0.6})
    assert load_json(run.file("metrics")) == {"query": {"i2t": 0.6}}
    run.file("metrics").write_text("[1]")
    with pytest.raises(CorruptFileError, match="metrics.json: expected a dict, got"):
        run.metrics()
    run.add_metrics("query", {"i2t": 0.6})
    assert run.metrics() == {"query": {"i2t": 0.6}}


def test_nothing_is_written_through_a_link_out_of_a_run(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG)
    (tmp_path / "theirs").write_text("{}")
    for name in ("metrics.json", "record.json"):
        (run.path / name).symlink_to("../theirs")
        with pytest.raises(PermissionError, match=rf"{name} is a link out of the run, to .*theirs"):
            run.add_metrics("query", {"i2t": 0.5})
        with pytest.raises(PermissionError, match=f"{name} is a link out of the run"):
            Run.create(run.path, CONFIG, resume=True)
        (run.path / name).unlink()
    assert (tmp_path / "theirs").read_text() == "{}"
    (run.path / "metrics.json").symlink_to("own.json")
    run.add_metrics("query", {"i2t": 0.5})
    assert load_json(run.path / "own.json") == {"query": {"i2t": 0.5}}


def test_metrics_of_a_run_that_keeps_some_just_then(tmp_path, monkeypatch):
    run, left, note = Run.create(tmp_path, CONFIG), [], Run.note
    run.note(data="a")
    run.add_metrics("query", {"i2t": 0.5})
    with monkeypatch.context() as patch:  # one file is written, and the other not yet
        patch.setattr(Run, "note", lambda self, **more: left.append(more))
        run.add_metrics("query", {"i2t": 0.6})
    monkeypatch.setattr("time.sleep", lambda _: left and note(run, **left.pop()))
    assert run.metrics() == {"query": {"i2t": 0.6}}
    note(run, metrics={"query": {"values": "of others"}})
    with pytest.raises(ValueError, match="holds another 'query'"):
        run.metrics()


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "items.json", "record.json", "model/mine.py", "encoders/mine.txt", "model"],
)
def test_what_is_no_runs_is_never_replaced(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine: 1\n")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        FileExistsError, match=rf"out: .* holds {name.partition('/')[0]}, which may"
    ):
        Run.create(tmp_path, {"model": "mcgcn"})
    assert (tmp_path / name).read_text() == "mine: 1\n"
    run = Run.create(tmp_path / "new", {"model": "mcgcn"})  # and what a stopped one left is
    run.save_items(RunItems(["a"], ["a"], [None], [[]]))
    assert Run.create(run.path, {"model": "gch"}).config() == {"model": "gch"}
    assert not run.has("items")


def test_weights_beside_an_encoder_are_no_part_of_it(tmp_path):
    """Put there to ship a run, they are known by a digest of their own; all else is the run's."""
    run, folder = Run(tmp_path), tmp_path / "encoders" / "text"
    words = {"kind": "words", "weights": [1.0, 1.0]}  # numbers, of a file that save wrote too
    network = {"kind": "network", "weights": "/elsewhere/ml", "weights_sha256": "12"}
    for name, settings in {"0": words, "1": network}.items():
        save_json(folder / name / "encoder.json", settings)
        (folder / name / "fitted").write_text("word")
    run.note(text_encoder=digest_of_folder(folder))
    (folder / "1" / "ml" / "deep").mkdir(parents=True)
    for name in ("ml/w.safetensors", "ml/deep/tokenizer.json"):
        (folder / "1" / name).write_text("w")
    run.check_encoder("text")
    for path in ("0/encoder.json", "1/encoder.json", "0/fitted", "1/fitted", "1/more", "0/ml"):
        file = folder / path
        before = file.read_bytes() if file.exists() else None
        file.write_bytes((before or b"").replace(b"network", b"notwork") + b" ")
        with pytest.raises(ValueError, match="is not the text_encoder of the run"):
            run.check_encoder("text")
        file.unlink() if before is None else file.write_bytes(before)
    run.check_encoder("text")
