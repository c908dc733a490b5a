"""What a benchmark writes: tables, goals met and missed, and a picture."""

from __future__ import annotations

import argparse
import json

import pytest

from benchmarks import picture
from benchmarks.measure import cell
from benchmarks.record import Record

PNG = b"\x89PNG\r\n"


def new(tmp_path, *flags):
    given = {"short": "--short" in flags, "flags": flags, "protocol": "Toys."}
    return Record("toy", "A toy", argparse.Namespace(out=tmp_path, **given))


def test_goals_say_what_was_reached(tmp_path, capsys):
    record = new(tmp_path)
    record.goal("speed", 6.0, at_least=6)
    record.goal("speed", 5.94, at_least=6)
    record.goal("memory", 0.05, at_most=0.1)
    record.goal("memory", 0.2, at_most=0.1)
    record.goal("more", None, at_least=1)
    record.goal("undefined", float("nan"), at_least=1)
    assert [g["met"] for g in record.goals] == ["yes", "no", "yes", "no", "not measured", "no"]
    assert "goal: speed >= 6: 5.94 (no)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="one of them"):
        record.goal("both", 1.0, at_least=1, at_most=2)
    with pytest.raises(ValueError, match="one of them"):
        record.goal("none", 1.0)


def test_short_forms_decide_nothing(tmp_path):
    record = new(tmp_path, "--short", "--limit_gb", "7")
    record.goal("speed", 100.0, at_least=6)
    record.goal("other", None, at_most=6)
    assert [goal["met"] for goal in record.goals] == ["short form", "not measured"]
    assert "too small for conclusions" in record.markdown()
    assert record.about["command"] == "python -m benchmarks.toy --short --limit_gb 7"


def test_files_hold_everything(tmp_path):
    record = new(tmp_path / "new")
    record.table("Times", [{"case": "a", "s": 0.123456}, {"case": "b", "MB": 2}], note="A note.")
    record.goal("speed", 7.0, at_least=6)
    record.plot(
        "Lines",
        {"a": [(1, 2.0), (1000, 3.0)], "dead": [], "a (predicted)": [(1000, 3.0), (2000, 9.0)]},
        x="nodes",
        y="seconds",
    )
    record.plot("None", {"dead": []}, x="nodes", y="seconds")
    record.bars("Bars", {"a": 1.0, "b": 2.0}, x="times as fast")
    record.save()
    content = json.loads((tmp_path / "new" / "toy.json").read_text())
    assert content["tables"][0]["rows"][0] == {"case": "a", "s": 0.123456}
    assert content["goals"][0]["met"] == "yes" and content["protocol"] == "Toys."
    assert {"processor", "memory", "threads", "load", "versions"} <= set(content["about"])
    assert "torch " in content["about"]["versions"]
    text = (tmp_path / "new" / "toy.md").read_text()
    assert (
        "| case | s | MB |\n| --- | --- | --- |\n| a | 0.123 | - |\n| b | - | 2 |\n\nA note."
        in text
    )
    assert "| speed | >= 6 | 7 | yes |" in text
    assert (tmp_path / "new" / "toy.png").read_bytes().startswith(PNG)
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_nothing_to_draw_leaves_no_picture(tmp_path):
    new(tmp_path).save()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.json", "toy.md"]


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        new(tmp_path / "file")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0012345, "0.00123"),
        (12.345, "12.3"),
        (123456.7, "123,457"),
        (1000000, "1,000,000"),
        (True, "True"),
        ("dead", "dead"),
    ],
)
def test_cells(value, text):
    assert cell(value) == text


def test_a_name_has_one_colour_in_all_panels(tmp_path, monkeypatch):
    seen = []
    real = picture.Figure.savefig
    monkeypatch.setattr(
        picture.Figure,
        "savefig",
        lambda figure, *args, **kwargs: (seen.append(figure), real(figure, *args, **kwargs)),
    )
    panel = {"title": "T", "x": "n", "y": "s", "log": "xy"}
    first = panel | {"series": {"a": [(1, 1), (9, 2)], "b": [(1, 2)]}}
    second = panel | {"series": {"b": [(1, 2)], "b (predicted)": [(1, 2), (9, 9)]}}
    picture.draw([first, second], tmp_path / "panels.png")
    assert (tmp_path / "panels.png").read_bytes().startswith(PNG)
    (_, b), (b_again, dashed) = (axis.get_lines() for axis in seen[0].axes)
    assert b.get_color() == b_again.get_color() == dashed.get_color()
    assert dashed.get_linestyle() == "--"
    legend = seen[0].axes[1].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["b"]
