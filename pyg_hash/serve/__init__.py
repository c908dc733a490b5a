"""A local search page for a trained run, with a JSON API; it needs the extra ``serve``."""

from pyg_hash.serve.app import create_app, serve
from pyg_hash.serve.engine import SearchEngine
from pyg_hash.serve.guard import Limits

__all__ = ["Limits", "SearchEngine", "create_app", "serve"]
