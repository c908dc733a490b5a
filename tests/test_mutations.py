"""Files changed at random bring a value or an error of ours: the short ``mutations.py``."""

import os

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_changed_files_bring_a_value_or_an_error_of_ours(tmp_path):
    pytest.importorskip("faiss")
    from mutations import mutations  # needs the system's limits of memory

    done, failures = mutations(tmp_path, 150, seed=3)
    assert done == 150 and not failures
