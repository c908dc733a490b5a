"""Optional packages: imported when first needed, named by their extra when missing."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, package: str, *, extra: str = "demo") -> Any:
    """Import ``module``, or say how to install it.

    Args:
        module: name to import, e.g. ``'sklearn.decomposition'``.
        package: its name on PyPI, for the message.
        extra: extra of ``pyg_hash`` that brings the package.

    Raises:
        ImportError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs the package {package} ({error}); "
            f"install it with: pip install 'pyg_hash[{extra}]'"
        ) from error
