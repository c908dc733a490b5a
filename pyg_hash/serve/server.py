"""Binding to an address and running there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyg_hash.serve.app import create_app
from pyg_hash.serve.engine import SearchEngine
from pyg_hash.serve.guard import LOOPBACK
from pyg_hash.serve.worker import Limits
from pyg_hash.utils.optional import require
from pyg_hash.utils.settings import SettingError


def listen(host: str, port: int) -> socket.socket:
    """A bound socket (port 0: a free one); ``ValueError``: no port; ``OSError``: it cannot be."""
    if not 0 <= port <= 65535:
        raise SettingError(f"port: expected 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.socket(*found[0][:3])
    except (OSError, UnicodeError) as error:
        raise OSError(f"host: {host!r} cannot be used ({error})") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[0][4])
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


def make_server(
    engine: SearchEngine,
    listening: socket.socket,
    *,
    limits: Limits | None = None,
    proxy: str | None = None,
    **access: Any,
) -> Any:
    """The ``uvicorn.Server`` of :func:`serve`, with its arguments, not running yet."""
    uvicorn = require("uvicorn", "uvicorn", extra="serve")
    limits = limits or Limits()
    hosts = {*LOOPBACK, listening.getsockname()[0]} if is_loopback(listening) else None
    app = create_app(engine, limits=limits, hosts=hosts, **access)
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        log_level="error",
        access_log=False,
        lifespan="on",
        ws="none",
        backlog=256,  # as many are taken at once, before one of them is looked at
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        server_header=False,
        h11_max_incomplete_event_size=1 << 16,  # of the head of a request
        timeout_keep_alive=limits.idle_timeout,
        timeout_graceful_shutdown=limits.drain,
    )
    server = uvicorn.Server(config)
    stop = server.handle_exit

    def handle_exit(*signal: Any) -> None:
        app.state.work.is_stopping = True
        stop(*signal)

    server.handle_exit = handle_exit
    listening.listen(config.backlog)
    return server


def serve(
    engine: SearchEngine,
    listening: socket.socket,
    *,
    limits: Limits | None = None,
    ready: Callable[[], None] | None = None,
    **access: Any,
) -> None:
    """Serve the search page until the process is told to stop (Ctrl-C or SIGTERM).

    Requests under way are then answered; no new ones are taken.

    Args:
        engine: what answers.
        listening: a bound socket, see ``pyg_hash.serve.server.listen``. On loopback only this
            machine's own names for itself are answered to.
        limits: of connections, uploads, waiting and time.
        ready: called just before the first request can be answered.
        **access: ``token`` and ``private`` of :func:`create_app`; ``proxy``, the address of a
            proxy whose word on who the client is is taken.

    Raises:
        ImportError: uvicorn, FastAPI or Pillow is not installed.
    """
    server = make_server(engine, listening, limits=limits, **access)
    if ready is not None:
        ready()
    try:
        server.run(sockets=[listening])
    finally:
        server.config.app.state.work.close()


def _files() -> int:
    """How many files this process may have open; more than usual, where the system lets it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        most = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _protocol(limits: Limits) -> Any:
    """Uvicorn's HTTP protocol, with an end to what a client leaves unfinished.

    uvicorn ends idle connections between requests, but waits for the first one, and for the rest of
    a head, for ever; and its own limit of connections (``limit_concurrency``) refuses the newest,
    which is whoever comes after an attacker.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    most = max(16, min(limits.connections, _files() - 400))  # 256 may be on their way, see backlog
    waited_for: dict[Any, Any] = {}  # connections whose request is not whole; oldest first

    class Guarded(H11Protocol):  # type: ignore[misc, unused-ignore]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > most and waited_for:
                next(iter(waited_for)).transport.abort()

        def _wait(self) -> None:
            self._calm()
            waited_for[self] = self.loop.call_later(limits.header_timeout, self._late)

        def _late(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()
            # else a body is on its way, for which the application has a limit

        def _calm(self) -> None:
            if timer := waited_for.pop(self, None):
                timer.cancel()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle and not self.cycle.more_body and not self.cycle.response_complete:
                self._calm()

        def on_response_complete(self) -> None:
            self._wait()
            super().on_response_complete()

        def connection_lost(self, error: Exception | None) -> None:
            self._calm()
            super().connection_lost(error)

    return Guarded
