"""Binding to an address and running there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from pyg_hash.serve.app import LOOPBACK, create_app
from pyg_hash.serve.engine import SearchEngine
from pyg_hash.serve.worker import Limits
from pyg_hash.utils.optional import require


def listen(host: str, port: int) -> socket.socket:
    """A bound socket (port 0: a free one); ``ValueError``: no port; ``OSError``: it cannot be."""
    if not 0 <= port <= 65535:
        raise ValueError(f"port: expected 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise OSError(f"host: {host!r} cannot be used ({error})") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        taken = error.errno == errno.EADDRINUSE
        remedy = "; choose another port, or 0 for a free one" if taken else ""
        raise OSError(f"port: cannot listen at {host}:{port} ({error.strerror}){remedy}") from error
    return listening


def address_of(listening: socket.socket) -> str:
    """Where a browser finds the server."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    host: str = listening.getsockname()[0]
    return host.startswith("127.") or host == "::1"


def serve(
    engine: SearchEngine,
    listening: socket.socket,
    *,
    limits: Limits | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve the search page until the process is told to stop (Ctrl-C or SIGTERM).

    Args:
        engine: what answers.
        listening: a bound socket, see ``pyg_hash.serve.server.listen``. On loopback only this
            machine's own names for itself are answered to.
        limits: of uploads, waiting and time.
        ready: called just before the first request can be answered.

    Raises:
        ImportError: uvicorn, Starlette or Pillow is not installed.
    """
    uvicorn = require("uvicorn", "uvicorn", extra="serve")
    hosts = {*LOOPBACK, listening.getsockname()[0]} if is_loopback(listening) else None
    config = uvicorn.Config(
        create_app(engine, limits=limits, hosts=hosts),
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        backlog=2048,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,  # seconds, for requests that are open then
    )
    listening.listen(config.backlog)
    if ready is not None:
        ready()
    uvicorn.Server(config).run(sockets=[listening])
