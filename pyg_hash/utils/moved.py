"""Doors to names that moved: the old import path works until 1.0, and warns once."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def door(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of an old ``module``; ``names``: name -> the module where it is now."""

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        # Python's own filter shows one warning a place; a test or an app may want all of them
        warnings.warn(
            f"{module}.{name} moved: import it from {names[name]}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(names[name]), name)

    return __getattr__
