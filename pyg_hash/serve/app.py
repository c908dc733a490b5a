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
from pyg_hash.serve.engine import Answers, NotFoundError, QueryError, Question, SearchEngine
from pyg_hash.serve.guard import LOOPBACK, Guard
from pyg_hash.serve.limits import Limits
from pyg_hash.serve.openapi import describe_api
from pyg_hash.serve.worker import Batches, BusyError, Worker
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, other
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger(__name__)


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
    from starlette.routing import Route

    handlers = Handlers(engine, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        handlers.close()

    app = Starlette(
        routes=[
            Route(path, _endpoint(handler), methods=[method])
            for (method, path), handler in handlers.routes().items()
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host header
    return app


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: for the one who asked.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Handlers:
    """One method a route."""

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
        here = files("pyg_hash.serve")
        style = page_css() + here.joinpath("page.css").read_text("utf-8")
        self._fixed = {
            "/": _page(here.joinpath("page.html").read_text("utf-8"), "html"),
            "/page.css": _page(style, "css"),
            "/page.js": _page(here.joinpath("page.js").read_text("utf-8"), "javascript"),
            "/healthz": _json({"status": "ok"}),
            "/api/openapi.json": _json(describe_api(limits)),
            "/api/run": _json({**engine.about(), "limits": limits.to_dict()}),
        }

    def close(self) -> None:
        """End all threads."""
        for pool in (self.worker, *self.batches.values()):
            pool.close()

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Handlers by method and path."""
        return {
            **{("GET", path): partial(_same, reply) for path, reply in self._fixed.items()},
            ("GET", "/api/search"): self.search_text,
            ("POST", "/api/search"): self.search_image,
            ("GET", "/api/item/{row}"): self.item,
            ("GET", "/api/item/{row}/similar"): self.similar,
            ("GET", "/api/item/{row}/picture"): self.picture,
        }

    async def search_text(self, request: Request) -> Response:
        """Nearest items to words."""
        values = _parameters(request, "text", "k", "modality")
        text = values.get("text", "").strip()
        if not text:
            raise Refused(400, "text: is missing or empty; send some words")
        if len(text) > self.limits.letters:
            raise Refused(400, f"text: {len(text)} letters; at most {self.limits.letters} are read")
        target, k = self._target(values, TEXT)
        return await self._answer(self._new(TEXT, partial(self.engine.ask_text, text, target, k)))

    async def search_image(self, request: Request) -> Response:
        """Nearest items to the picture in the body."""
        target, k = self._target(_parameters(request, "k", "modality"), IMAGE)
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refused(415, "image: send the picture itself as the body, not a form")
        content = await self._body(request)
        if not content:
            raise Refused(400, "image: the body is empty; send a picture in it")
        ask = partial(self.engine.ask_image, content, target, k)
        return await self._answer(self._new(IMAGE, ask))

    async def item(self, request: Request) -> Response:
        """What is known of an item."""
        _parameters(request)
        return _json(self._described(self._row(request)))

    async def similar(self, request: Request) -> Response:
        """Nearest items to an item of the database."""
        values = _parameters(request, "by", "k", "modality")
        source = _modality(values.get("by", IMAGE), "by")
        target, k = self._target(values, source)
        search = partial(self.engine.by_item, self._row(request), source, target, k)
        return await self._answer(self.worker.run(search))

    async def picture(self, request: Request) -> Response:
        """The small picture of an item."""
        from starlette.responses import Response

        _parameters(request)
        try:
            path = self.engine.picture_path(self._row(request))
            content, tag = await self.worker.run(partial(self._picture, path))
        except UnreadableImageError as error:
            # the message would name a file of the server
            raise Refused(404, "picture: its file is missing or cannot be read") from error
        known = request.headers.get("if-none-match") == tag
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        return Response(b"" if known else content, 304 if known else 200, headers, "image/jpeg")

    async def _new(self, source: Modality, ask: Callable[[], Question]) -> Answers:
        """Features of each new item in the threads, codes of all that wait in one call."""
        return await self.batches[source].run(await self.worker.run(ask))

    async def _answer(self, search: Awaitable[Answers]) -> Response:
        start = time.perf_counter()
        found = await search
        pairs = zip(found.rows, found.distances, strict=True)
        value = {
            "modality": found.modality,
            "num_bits": self.engine.model.num_bits,
            "seconds": round(time.perf_counter() - start, 4),
            "notes": found.notes,
            "answers": [{"distance": far, **self._described(row)} for row, far in pairs],
        }
        return _json(value)

    def _described(self, row: int) -> dict[str, Any]:
        value = self.engine.describe(row)
        there = value.pop("has_picture")
        return {**value, "picture": f"/api/item/{row}/picture" if there else None}

    def _target(self, values: Mapping[str, str], source: Modality) -> tuple[Modality, int]:
        """Which codes to search, and for how many items."""
        target = _modality(values.get("modality", other(source)), "modality")
        return target, _integer(values.get("k", str(self.limits.k)), "k", 1, self.limits.max_k)

    def _row(self, request: Request) -> int:
        return _integer(request.path_params["row"], "item", 0, len(self.engine.items) - 1)

    async def _body(self, request: Request) -> bytes:
        """The body of a request, within the limits."""
        from starlette.requests import ClientDisconnect

        try:
            return await asyncio.wait_for(self._read(request), self.limits.upload_timeout)
        except asyncio.TimeoutError as error:
            seconds = self.limits.upload_timeout
            raise Refused(408, f"image: not received within {seconds:g} seconds") from error
        except ClientDisconnect as error:
            raise Refused(400, "image: the connection ended before its end") from error

    async def _read(self, request: Request) -> bytes:
        limit = self.limits.upload_bytes
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > 4 * limit:
                break
            if size <= limit:
                parts.append(part)
            else:  # read on a little: who hangs up while a client sends is not heard
                parts.clear()
        if size > limit:
            raise Refused(413, f"image: larger than the limit of {limit:,} bytes")
        return b"".join(parts)


def _endpoint(handler: Handler) -> Handler:
    """A handler with its errors as JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as error:
            return _error(error, error.status)
        except NotFoundError as error:
            return _error(error, 404)
        except QueryError as error:
            return _error(error, 422)
        except BusyError as error:
            return _error(error, 503, {"Retry-After": "1"})
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


def _parameters(request: Request, *known: str) -> dict[str, str]:
    """The query parameters by name; one that is not known, or given twice, is refused."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Refused(400, f"{name[:40]}: this parameter is not known; use {listed}")
        if name in values:
            raise Refused(400, f"{name}: is given twice")
        values[name] = value
    return values


def _integer(text: str, name: str, low: int, high: int) -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) else None
    if number is None or not low <= number <= high:
        raise Refused(400, f"{name}: expected a number from {low} to {high}, got {text[:20]!r}")
    return number


def _modality(text: str, name: str) -> Modality:
    for known in MODALITIES:
        if text == known:
            return known
    raise Refused(400, f"{name}: {text[:20]!r} is not known; use {' or '.join(MODALITIES)}")
