"""FAISS, which may not be installed: the only file that imports it."""

from __future__ import annotations

import importlib.util
from typing import Any


def is_installed() -> bool:
    """Whether ``import faiss`` would find something, without importing it."""
    return importlib.util.find_spec("faiss") is not None


def load() -> Any:
    """Import FAISS; ``ImportError`` says why it cannot be, or names the extras that bring it."""
    try:
        import faiss
    except ImportError as error:
        if is_installed():
            raise ImportError(f"FAISS is installed, but its import fails ({error})") from error
        raise ImportError(
            "FAISS is not installed: pip install 'pyg_hash[cpu]', or 'pyg_hash[gpu]' on a "
            "machine with CUDA (never both: they share one import name)"
        ) from error
    return faiss
