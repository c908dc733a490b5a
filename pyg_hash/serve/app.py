"""The web application: routes of the search page and of the API beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pyg_hash.features import UnreadableImageError
from pyg_hash.features.images import square_jpeg
from pyg_hash.report.style import page_css
from pyg_hash.serve.engine import Answers, QueryError, Question, SearchEngine
from pyg_hash.serve.openapi import Json, describe_api
from pyg_hash.serve.worker import Batches, BusyError, Limits, Worker
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, other
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Handler = Callable[..., Awaitable[Response]]

_log = logging.getLogger(__name__)

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


def create_app(
    engine: SearchEngine,
    *,
    limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK,
) -> Starlette:
    """An ASGI application that searches one run.

    Args:
        engine: what answers.
        limits: of uploads, waiting and time.
        hosts: host names that requests may carry, by default those of this machine to itself, so
            that no page from elsewhere reads the answers by way of a name of its own; None allows
            every name, for servers that others should reach.

    Raises:
        ImportError: Starlette or Pillow is not installed.
    """
    require("PIL.Image", "pillow", extra="serve")
    require("starlette", "starlette", extra="serve")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware

    handlers = Handlers(engine, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        handlers.close()

    app = Starlette(
        routes=handlers.routes(),
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host header
    return app


class Guard:
    """Middleware: adds :data:`HEADERS`, answers known host names only (against DNS rebinding)."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self.app = app
        self.hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        app = self.app
        if scope["type"] == "http" and self.hosts is not None and _host(scope) not in self.hosts:
            app = _error("host: this server does not answer to that name", 421)
        await app(scope, receive, guarded)


def _host(scope: Scope) -> str:
    """The name in the Host header, lower-case, without port."""
    found = [value for name, value in scope["headers"] if name == b"host"]
    if len(found) != 1:
        return ""
    host: str = found[0].decode("latin-1").strip().lower()
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


class Handlers:
    """One method a route; it gets the parameters as the description of the API has them."""

    def __init__(self, engine: SearchEngine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.worker = Worker(limits)
        self.batches = {
            source: Batches(
                partial(engine.answers, source), limits, more=lambda: self.worker.crowded
            )
            for source in MODALITIES
        }
        self._picture = lru_cache(limits.pictures)(_small_picture)

    def close(self) -> None:
        """End all threads."""
        for pool in (self.worker, *self.batches.values()):
            pool.close()

    def routes(self) -> list[Route]:
        """All there is at an address."""
        from starlette.routing import Route

        here, api = files("pyg_hash.serve"), describe_api(self.limits)
        told = {n: getattr(self.limits, n) for n in ("upload_bytes", "letters", "k", "max_k")}
        style = page_css() + here.joinpath("page.css").read_text("utf-8")
        fixed = {
            "/": _page(here.joinpath("page.html").read_text("utf-8"), "html"),
            "/page.css": _page(style, "css"),
            "/page.js": _page(here.joinpath("page.js").read_text("utf-8"), "javascript"),
            "/healthz": _json({"status": "ok"}),
            "/api/openapi.json": _json(api),
            "/api/run": _json({**self.engine.about(), "limits": told}),
        }
        handlers: dict[tuple[str, str], Handler] = {
            ("get", "/api/search"): self.search_text,
            ("post", "/api/search"): self.search_image,
            ("get", "/api/item/{row}"): self.item,
            ("get", "/api/item/{row}/similar"): self.similar,
            ("get", "/api/item/{row}/picture"): self.picture,
        }
        routes = [Route(path, partial(_same, reply)) for path, reply in fixed.items()]
        for (method, path), handler in handlers.items():
            endpoint = _endpoint(handler, api["paths"][path][method]["parameters"])
            routes.append(Route(path, endpoint, methods=[method.upper()]))
        return routes

    async def search_text(
        self, request: Request, k: int, text: str = "", modality: Modality = IMAGE
    ) -> Response:
        """Nearest items to words."""
        text = text.strip()
        if not text:
            raise QueryError("text: is missing or empty; send some words", 400)
        if len(text) > self.limits.letters:
            raise QueryError(
                f"text: {len(text)} letters; at most {self.limits.letters} are read", 400
            )
        return await self._answer(self._new(TEXT, partial(self.engine.ask_text, text, modality, k)))

    async def search_image(self, request: Request, k: int, modality: Modality = TEXT) -> Response:
        """Nearest items to the picture in the body."""
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise QueryError("image: send the picture itself as the body, not a form", 415)
        content = await self._body(request)
        if not content:
            raise QueryError("image: the body is empty; send a picture in it", 400)
        ask = partial(self.engine.ask_image, content, modality, k)
        return await self._answer(self._new(IMAGE, ask))

    async def item(self, request: Request) -> Response:
        """What is known of an item."""
        return _json(self._described(self._row(request)))

    async def similar(
        self, request: Request, k: int, by: Modality, modality: Modality | None = None
    ) -> Response:
        """Nearest items to an item of the database."""
        row = self._row(request)
        search = partial(self.engine.by_item, row, by, modality or other(by), k)
        return await self._answer(self.worker.run(search))

    async def picture(self, request: Request) -> Response:
        """The small picture of an item."""
        from starlette.responses import Response

        try:
            path = self.engine.picture_path(self._row(request))
            content, tag = await self.worker.run(partial(self._picture, path))
        except UnreadableImageError as error:
            # the message would name a file of the server
            raise QueryError("picture: its file is missing or cannot be read", 404) from error
        known = request.headers.get("if-none-match") == tag
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        return Response(b"" if known else content, 304 if known else 200, headers, "image/jpeg")

    async def _new(self, source: Modality, ask: Callable[[], Question]) -> Answers:
        """Features of each new item in the threads, codes of all that wait in one call."""
        return await self.batches[source].run(await self.worker.run(ask))

    async def _answer(self, search: Awaitable[Answers]) -> Response:
        start = time.perf_counter()
        found = await search
        near: list[Json] = [{"distance": far, "score": None} for far in found.distances]
        for how, score in zip(near, found.scores or (), strict=found.scores is not None):
            how["score"] = round(score, 4)
        value = {
            "modality": found.modality,
            "num_bits": self.engine.model.num_bits,
            "seconds": round(time.perf_counter() - start, 4),
            "notes": found.notes,
            "tied": found.tied,
            "answers": [
                {**how, **self._described(row)} for row, how in zip(found.rows, near, strict=True)
            ],
        }
        return _json(value)

    def _described(self, row: int) -> dict[str, Any]:
        value = self.engine.describe(row)
        there = value.pop("has_picture")
        return {**value, "picture": f"/api/item/{row}/picture" if there else None}

    def _row(self, request: Request) -> int:
        return _integer(request.path_params["row"], "item", 0, len(self.engine.items) - 1)

    async def _body(self, request: Request) -> bytes:
        """The body of a request, within the limits."""
        from starlette.requests import ClientDisconnect

        try:
            return await asyncio.wait_for(self._read(request), self.limits.upload_timeout)
        except asyncio.TimeoutError as error:
            seconds = self.limits.upload_timeout
            raise QueryError(f"image: not received within {seconds:g} seconds", 408) from error
        except ClientDisconnect as error:
            raise QueryError("image: the connection ended before its end", 400) from error

    async def _read(self, request: Request) -> bytes:
        limit, size, content = self.limits.upload_bytes, 0, bytearray()
        async for part in request.stream():
            size += len(part)
            if size > 4 * limit:
                break
            if size <= limit:  # else read on a little: who hangs up on a sender is not heard
                content += part
        if size > limit:
            raise QueryError(f"image: larger than the limit of {limit:,} bytes", 413)
        return bytes(content)


def _endpoint(handler: Handler, parameters: list[Json]) -> Handler:
    """A handler that gets its parameters, with its errors as JSON."""
    schemas = {known["name"]: known["schema"] for known in parameters if known["in"] == "query"}

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request, **_values(request.query_params.multi_items(), schemas))
        except (QueryError, BusyError) as error:
            return _error(error, error.status, {"Retry-After": "1"} if error.status == 503 else {})
        except Exception:  # here, for Starlette would send its own answer outside of the guard
            _log.exception("%s %s", request.method, request.url.path)
            return _error("the server failed; its log says why", 500)

    return endpoint


async def _same(reply: Response, _: Request) -> Response:
    return reply


async def _http_error(request: Request, error: Any) -> Response:
    """Unknown paths and methods, as Starlette finds them."""
    words = {404: "there is nothing at this address", 405: "this address knows other methods"}
    message = f"{words.get(error.status_code, error.detail)}; see /api/openapi.json"
    return _error(message, error.status_code, error.headers)


def _error(message: object, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": str(message)}, status, headers)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON; only ASCII, so that any string of the data can be sent."""
    from starlette.responses import Response

    body = json.dumps(value, separators=(",", ":"))
    fresh = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, status, fresh, "application/json")


def _page(content: str, kind: str) -> Response:
    from starlette.responses import Response

    return Response(content, headers={"Cache-Control": "no-cache"}, media_type=f"text/{kind}")


def _small_picture(path: str) -> tuple[bytes, str]:
    content = square_jpeg(path, 192, quality=82)
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _values(given: list[tuple[str, str]], schemas: Mapping[str, Json]) -> dict[str, Any]:
    """The query parameters as their schemas say; one that is not known, or twice, is refused."""
    values = {name: schema["default"] for name, schema in schemas.items() if "default" in schema}
    for number, (name, text) in enumerate(given):
        if name not in schemas:
            listed = ", ".join(schemas) or "none"
            raise QueryError(f"{name[:40]}: this parameter is not known; use {listed}", 400)
        if name in dict(given[:number]):
            raise QueryError(f"{name}: is given twice", 400)
        schema = schemas[name]
        values[name] = text
        if schema["type"] == "integer":
            values[name] = _integer(text, name, schema["minimum"], schema["maximum"])
        elif text not in schema.get("enum", [text]):
            known = " or ".join(schema["enum"])
            raise QueryError(f"{name}: {text[:20]!r} is not known; use {known}", 400)
    return values


def _integer(text: str, name: str, low: int, high: int) -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) else None
    if number is None or not low <= number <= high:
        raise QueryError(f"{name}: expected a number from {low} to {high}, got {text[:20]!r}", 400)
    return number
