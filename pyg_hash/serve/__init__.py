"""A local search page for a trained run, with a JSON API. Needs the ``serve`` extra when used."""

from pyg_hash.serve.app import create_app
from pyg_hash.serve.engine import Answers, NotFoundError, QueryError, SearchEngine
from pyg_hash.serve.limits import Limits
from pyg_hash.serve.server import listen, serve

__all__ = [
    "Answers",
    "Limits",
    "NotFoundError",
    "QueryError",
    "SearchEngine",
    "create_app",
    "listen",
    "serve",
]
