"""The web application: routes of the search page and of the API beside it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pyg_hash.features import UnreadableImageError
from pyg_hash.features.images import square_jpeg
from pyg_hash.serve.batches import Batches
from pyg_hash.serve.engine import Answers, NotFoundError, QueryError, Question, SearchEngine
from pyg_hash.serve.guard import LOOPBACK, Guard
from pyg_hash.serve.limits import Limits
from pyg_hash.serve.openapi import describe_api
from pyg_hash.serve.replies import (
    Refused,
    Reply,
    error_reply,
    integer,
    json_reply,
    modality,
    parameters,
)
from pyg_hash.serve.worker import BusyError, Worker
from pyg_hash.typing import IMAGE, TEXT, Modality, other
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

Handler = Callable[["Request"], Awaitable[Reply]]

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
        hosts: host names that requests may carry, see :class:`~pyg_hash.serve.guard.Guard`; None
            allows every name, for servers that others should reach.

    Raises:
        ImportError: Starlette or Pillow is not installed.
    """
    require("PIL.Image", "pillow", extra="serve")
    routing = require("starlette.routing", "starlette", extra="serve")
    application = require("starlette.applications", "starlette", extra="serve").Starlette
    guard = require("starlette.middleware", "starlette", extra="serve").Middleware
    http_error = require("starlette.exceptions", "starlette", extra="serve").HTTPException
    handlers = Handlers(engine, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        handlers.close()

    app: Starlette = application(
        routes=[
            routing.Route(path, _endpoint(handler), methods=[method])
            for (method, path), handler in handlers.routes().items()
        ],
        middleware=[guard(Guard, hosts=hosts)],
        exception_handlers={http_error: _http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host header
    return app


class Handlers:
    """One method a route."""

    def __init__(self, engine: SearchEngine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.worker = Worker(threads=limits.threads, waiting=limits.waiting, timeout=limits.timeout)
        self.batches = {
            modality: Batches(
                partial(engine.answers, modality), limits, more=lambda: self.worker.crowded
            )
            for modality in (IMAGE, TEXT)
        }
        self._picture = lru_cache(limits.pictures)(self._read_picture)
        self._about = json_reply({**engine.about(), "limits": limits.to_dict()})
        self._api = json_reply(describe_api(limits))
        here, report = files("pyg_hash.serve"), files("pyg_hash.report")
        style = report.joinpath("page.css").read_bytes() + here.joinpath("page.css").read_bytes()
        self._files = {
            "/": _file(here.joinpath("page.html").read_bytes(), "text/html"),
            "/page.css": _file(style, "text/css"),
            "/page.js": _file(here.joinpath("page.js").read_bytes(), "text/javascript"),
        }

    def close(self) -> None:
        """End all threads."""
        self.worker.close()
        for batches in self.batches.values():
            batches.close()

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Handlers by method and path."""
        return {
            **{("GET", path): partial(self.file, path) for path in self._files},
            ("GET", "/healthz"): self.health,
            ("GET", "/api/openapi.json"): self.api,
            ("GET", "/api/run"): self.about,
            ("GET", "/api/search"): self.search_text,
            ("POST", "/api/search"): self.search_image,
            ("GET", "/api/item/{row}"): self.item,
            ("GET", "/api/item/{row}/similar"): self.similar,
            ("GET", "/api/item/{row}/picture"): self.picture,
        }

    async def file(self, path: str, request: Request) -> Reply:
        """A file of the page."""
        return self._files[path]

    async def health(self, request: Request) -> Reply:
        """That the event loop lives."""
        return json_reply({"status": "ok"})

    async def api(self, request: Request) -> Reply:
        """The description of the API."""
        return self._api

    async def about(self, request: Request) -> Reply:
        """What the run is and can do."""
        return self._about

    async def search_text(self, request: Request) -> Reply:
        """Nearest items to words."""
        values = parameters(request.query_params.multi_items(), ("text", "k", "modality"))
        text = values.get("text", "").strip()
        if not text:
            raise Refused(400, "text: is missing or empty; send some words")
        if len(text) > self.limits.letters:
            raise Refused(400, f"text: {len(text)} letters; at most {self.limits.letters} are read")
        target, k = self._target(values, TEXT)
        return await self._answer(self._new(TEXT, partial(self.engine.ask_text, text, target, k)))

    async def search_image(self, request: Request) -> Reply:
        """Nearest items to the picture in the body."""
        values = parameters(request.query_params.multi_items(), ("k", "modality"))
        target, k = self._target(values, IMAGE)
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refused(415, "image: send the picture itself as the body, not a form")
        content = await self._body(request)
        if not content:
            raise Refused(400, "image: the body is empty; send a picture in it")
        ask = partial(self.engine.ask_image, content, target, k)
        return await self._answer(self._new(IMAGE, ask))

    async def item(self, request: Request) -> Reply:
        """What is known of an item."""
        parameters(request.query_params.multi_items(), ())
        return json_reply(self._described(self._row(request)))

    async def similar(self, request: Request) -> Reply:
        """Nearest items to an item of the database."""
        values = parameters(request.query_params.multi_items(), ("by", "k", "modality"))
        source = modality(values.get("by", IMAGE), "by")
        target, k = self._target(values, source)
        row = self._row(request)
        search = partial(self.engine.by_item, row, source, target, k)
        return await self._answer(self.worker.run(search))

    async def picture(self, request: Request) -> Reply:
        """The small picture of an item."""
        parameters(request.query_params.multi_items(), ())
        try:
            path = self.engine.picture_path(self._row(request))
            content, tag = await self.worker.run(partial(self._picture, path))
        except UnreadableImageError as error:
            # the message would name a file of the server
            raise Refused(404, "picture: its file is missing or cannot be read") from error
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Reply(b"", "image/jpeg", 304, headers)
        return Reply(content, "image/jpeg", 200, headers)

    async def _new(self, source: Modality, ask: Callable[[], Question]) -> Answers:
        """Features of each new item in the threads, codes of all that wait in one call."""
        return await self.batches[source].run(await self.worker.run(ask))

    async def _answer(self, search: Awaitable[Answers]) -> Reply:
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
        return json_reply(value)

    def _described(self, row: int) -> dict[str, Any]:
        value = self.engine.describe(row)
        there = value.pop("has_picture")
        return {**value, "picture": f"/api/item/{row}/picture" if there else None}

    def _target(self, values: dict[str, str], source: Modality) -> tuple[Modality, int]:
        """Which codes to search, and for how many items."""
        target = modality(values.get("modality", other(source)), "modality")
        return target, integer(values.get("k", str(self.limits.k)), "k", 1, self.limits.max_k)

    def _row(self, request: Request) -> int:
        return integer(request.path_params["row"], "item", 0, len(self.engine.items) - 1)

    def _read_picture(self, path: str) -> tuple[bytes, str]:
        content = square_jpeg(path, 192, quality=82)
        return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    async def _body(self, request: Request) -> bytes:
        """The body of a request, within the limits."""
        disconnected = require("starlette.requests", "starlette", extra="serve").ClientDisconnect
        try:
            return await asyncio.wait_for(self._read(request), self.limits.upload_timeout)
        except asyncio.TimeoutError as error:
            seconds = self.limits.upload_timeout
            raise Refused(408, f"image: not received within {seconds:g} seconds") from error
        except disconnected as error:
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


def _file(content: bytes, media_type: str) -> Reply:
    return Reply(content, f"{media_type}; charset=utf-8", headers={"Cache-Control": "no-cache"})


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A handler with its errors as JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            reply = await handler(request)
        except Refused as refused:
            reply = error_reply(refused)
        except NotFoundError as error:
            reply = error_reply(Refused(404, str(error)))
        except QueryError as error:
            reply = error_reply(Refused(422, str(error)))
        except BusyError as error:
            reply = json_reply({"error": str(error)}, 503, {"Retry-After": "1"})
        except Exception:
            _log.exception("%s %s", request.method, request.url.path)
            reply = error_reply(Refused(500, "the server failed; its log says why"))
        return _response(reply)

    return endpoint


def _response(reply: Reply) -> Response:
    response: Response = require("starlette.responses", "starlette", extra="serve").Response(
        reply.body, reply.status, dict(reply.headers), reply.media_type
    )
    return response


async def _http_error(request: Request, error: Any) -> Response:
    """Unknown paths and methods, as Starlette finds them."""
    words = {404: "there is nothing at this address", 405: "this address knows other methods"}
    message = f"{words.get(error.status_code, error.detail)}; see /api/openapi.json"
    return _response(json_reply({"error": message}, error.status_code, error.headers))
