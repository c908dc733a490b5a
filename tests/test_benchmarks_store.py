"""benchmarks/store.py compares what gives the same answers, and writes its page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("faiss")


@pytest.mark.parametrize("kind", ["grouped", "random"])
def test_codes_are_as_described(kind):
    from benchmarks.store import packed_codes

    codes = packed_codes(4000, kind, 0)
    assert codes.shape == (4000, 8) and codes.dtype == torch.uint8
    assert torch.equal(codes, packed_codes(4000, kind, 0))
    assert not torch.equal(codes, packed_codes(4000, kind, 1))
    bits = np.unpackbits(codes.numpy(), axis=1)
    nearest = [(bits[i] != np.delete(bits, i, 0)).sum(1).min() for i in range(20)]
    # an eighth of both codes flipped: 14 of 64 bits, the nearest of several is nearer
    assert np.mean(nearest) < 15 if kind == "grouped" else np.mean(nearest) > 15


def test_a_file_is_replaced_as_the_store_does(tmp_path):
    from benchmarks.store import replaced

    path = tmp_path / "file"
    path.write_text("old")

    def write(name):
        assert path.read_text() == "old"
        with open(name, "w") as file:
            file.write("new")

    replaced(write, path)
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_different_answers_stop_the_benchmark(tmp_path, monkeypatch):
    from benchmarks import store as script
    from pyg_hash.stores import FaissStore

    def wrong(self, codes, radius):
        limits = torch.zeros(len(codes) + 1, dtype=torch.int64)
        return limits, torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int64)

    monkeypatch.setattr(FaissStore, "range_search", wrong)
    with pytest.raises(AssertionError, match="not the same matches"):
        script.radius_rows(tmp_path, 2000, 10)


def test_short_form(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.store import main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "store.json").read_text())
    assert stored["short"] and len(stored["tables"]) == 3 and len(stored["goals"]) == 10
    found = stored["tables"][1]["rows"]
    assert {row["codes"] for row in found} == {"grouped", "random"}
    assert all(row["matches a query"] >= 0.5 for row in found)  # half were made to match
    for row in stored["tables"][2]["rows"]:
        assert 0 < row["recall@10"] <= 1
    assert (tmp_path / "store.png").exists()
