"""Programs that are killed at any moment lose and mix nothing: the short form of ``kills.py``."""

import os

import pytest
from kills import kills


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_programs_lose_nothing(tmp_path):
    pytest.importorskip("faiss")
    assert kills(tmp_path, 14, seed=1, most_s=0.8).total() > 3
