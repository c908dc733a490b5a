"""The history and its files."""

import csv
import json

import pytest

from pyg_hash.training.state import History

ROWS = [
    {"epoch": 1, "loss": 0.1 + 0.2, "val_map": 0.5},
    {"epoch": 2, "loss": 1e-30},
    {"epoch": 3, "loss": -1.5, "note": 'a "quoted", line\nbreak ä'},
]


def test_is_a_plain_list():
    history = History(ROWS)
    assert history == ROWS and history[-1]["epoch"] == 3 and len(history[:2]) == 2


def test_json_keeps_every_bit(tmp_path):
    History(ROWS).to_json(tmp_path / "new" / "history.json")
    assert json.loads((tmp_path / "new" / "history.json").read_text(encoding="utf-8")) == ROWS


def test_csv_keeps_every_bit_and_leaves_gaps_empty(tmp_path):
    History(ROWS).to_csv(str(tmp_path / "history.csv"))
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "val_map", "note"]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in ROWS]
    assert [row["val_map"] for row in rows] == ["0.5", "", ""]
    assert rows[2]["note"] == ROWS[2]["note"]


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_an_empty_history_and_an_old_file(tmp_path, method):
    file = tmp_path / "history"
    getattr(History(ROWS), method)(file)
    size = file.stat().st_size
    getattr(History(), method)(file)
    assert file.stat().st_size < size
    assert [p.name for p in tmp_path.iterdir()] == ["history"]
