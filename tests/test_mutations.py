"""Files changed at random bring a value or an error of ours: the short ``mutations.py``.

Hypothesis draws changes too, and whole contents, for each of its readers.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
few = settings(
    derandomize=True,
    deadline=None,
    max_examples=8,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
CONTENT = st.binary(max_size=99) | st.text(max_size=33).map(str.encode)


def test_changed_files_bring_a_value_or_an_error_of_ours(tmp_path):
    pytest.importorskip("faiss")
    from mutations import mutations  # needs the system's limits of memory

    done, failures = mutations(tmp_path, 150, seed=3)
    assert done == 150 and not failures


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """By name: a file, what reads it, its content, and other contents."""
    from mutations import make

    cases = make(tmp_path_factory.mktemp("readers"))
    contents = {path: path.read_bytes() for path, _ in cases.values()}
    return {name: (path, use, contents[path], [*contents.values()])
            for name, (path, use) in cases.items()}  # fmt: skip


def check_reader(path, use, content, others):
    """Try drawn contents and drawn changes of one file."""
    from mutations import damage, problem

    @few
    @given(CONTENT | st.none(), st.sampled_from(others), st.randoms(use_true_random=False))
    def each(data, other, draw):
        try:
            path.write_bytes(content if data is None else data)
            if data is None:
                damage(path, other, draw)
            assert not (said := problem(path, use)), said
        finally:
            path.write_bytes(content)

    each()


@pytest.mark.filterwarnings("ignore")
def test_every_reader_ends_in_a_value_or_an_error_of_ours(readers, monkeypatch):
    from mutations import hdf5, matlab

    monkeypatch.setattr(hdf5, "LIMIT_S", 5.0)
    monkeypatch.setattr(matlab, "LIMIT_S", 5.0)
    for reader in readers.values():
        check_reader(*reader)
