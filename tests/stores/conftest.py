"""Every kind of store, one after the other, and a folder for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import CASES, Case, case_or_skip


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return case_or_skip(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, as Milvus Lite needs."""
    path = Path(tempfile.mkdtemp(prefix="st"))
    yield path
    shutil.rmtree(path)
