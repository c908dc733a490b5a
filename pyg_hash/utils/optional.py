"""Optional packages: imported when first needed, named by their extra when missing."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyg_hash.utils.settings import SettingError


def imported(name: str, argument: str) -> Any:
    """What a user, never a file, names as ``module:name``; ``SettingError``: there is none."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise SettingError(f"{argument}: expected MODULE:NAME, got {name!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module may raise anything
        why = f"{type(error).__name__}: {error}"
        raise SettingError(f"{argument}: {name} cannot be imported ({why})") from error


def require(module: str, package: str, *, extra: str = "demo") -> Any:
    """Import ``module``; ``ImportError``, if broken too, names ``package`` and our ``extra``."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        first: BaseException = error
        for _ in range(20):  # a context may be what the caller was about
            before = first.__cause__ or first.__context__
            hidden = first.__cause__ is None and first.__suppress_context__
            if before is None or hidden or not (first.__cause__ or isinstance(before, ImportError)):
                break
            first = before
        why, root = " ".join(str(first).split()), module.partition(".")[0]
        told = f"this needs the package {package} ({why}); install it with"
        if root in sys.modules or find_spec(root) is not None:
            told = f"the package {package} is installed, but its import fails ({why}); mend it"
        raise ImportError(f"{told}: pip install 'pyg_hash[{extra}]'") from error


def package_folder(module: str, package: str, *, extra: str = "demo") -> Path:
    """The folder of an installed package, which is not imported; errors as of :func:`require`."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"this needs the package {package}; install it with: pip install 'pyg_hash[{extra}]'"
        )
    return Path(spec.submodule_search_locations[0])
