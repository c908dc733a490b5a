"""Around every request: who may be asked for, and what a browser may do with the answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every response: no inline script, no frame, nothing from elsewhere."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Names of this machine to itself."""


class Guard:
    """Middleware that adds :data:`HEADERS` and answers to known host names only.

    A page from elsewhere can make its own name point at 127.0.0.1 and then read what a local
    server says (DNS rebinding); its requests carry that name.

    Args:
        app: what is guarded.
        hosts: names that may be asked for, without port; None lets every name in.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self.app = app
        self.hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        from starlette.responses import JSONResponse

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        app = self.app
        if scope["type"] == "http" and self.hosts is not None and _host(scope) not in self.hosts:
            app = JSONResponse({"error": "host: this server does not answer to that name"}, 421)
        await app(scope, receive, guarded)


def _host(scope: Scope) -> str:
    """The name in the Host header, lower-case, without port."""
    found = [value for name, value in scope["headers"] if name == b"host"]
    if len(found) != 1:
        return ""
    host: str = found[0].decode("latin-1").strip().lower()
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
