"""The protocols of MCGCN in one table."""

import pytest
from scripts import benchmark_scripts
from toy import toy_data


@pytest.fixture(autouse=True)
def scripts():
    with benchmark_scripts():
        yield


def test_accuracy_measures_every_method_and_protocol(monkeypatch):
    import accuracy

    monkeypatch.setattr(accuracy, "EPOCHS", 2)
    monkeypatch.setattr(accuracy, "K", 4)
    rows = accuracy.measure("toy", toy_data(noise=0.5), 0.5, [0, 1])
    found = {(row["method"], row["protocol"]) for row in rows}
    assert ("class codes", "inductive") in found
    assert {("MCGCN", p) for p in ("inductive", "strict", "transductive")} < found
    assert all(len(row["scores"]["i2t"]) == 2 for row in rows)
    assert "| toy | 50% | MCGCN | strict |" in accuracy.table(rows)
