"""A local search page for a trained run, with a JSON API. Needs the ``serve`` extra when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyg_hash.serve.engine import SearchEngine
from pyg_hash.serve.worker import Limits
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from pyg_hash.serve.app import create_app
    from pyg_hash.serve.server import serve

__all__ = ["Limits", "SearchEngine", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    """What needs the web framework, without which the command line searches."""
    home = {"create_app": "app", "serve": "server"}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("fastapi", "fastapi", extra="serve")
    return getattr(import_module(f"{__name__}.{home}"), name)
