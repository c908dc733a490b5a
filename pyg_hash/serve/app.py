"""The web application, routes of the search page and of the API beside it, and its server."""

# no "from __future__ import annotations": FastAPI reads the annotations of functions in functions

import asyncio
import base64
import ctypes
import errno
import hashlib
import hmac
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired
from urllib.parse import quote

import torch
from torch import Tensor
from typing_extensions import TypedDict

from pyg_hash import __version__
from pyg_hash.codes import unpack_bits
from pyg_hash.serve import guard
from pyg_hash.serve.engine import OWN, Answers, NewItem, Question, SearchEngine, Wanted
from pyg_hash.serve.guard import Limits, QueryError, as_json
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.optional import require
from pyg_hash.utils.pictures import UnreadableImageError, jpeg
from pyg_hash.utils.settings import SettingError
from pyg_hash.utils.signals import handled

if TYPE_CHECKING:
    from fastapi import FastAPI


class Item(TypedDict):
    """What is known of an item."""

    item: str
    row: int | None
    id: str
    text: str | None
    labels: list[str]
    picture: str | None
    metadata: dict[str, Any]


class Answer(Item):
    """An item that was found: how far its code is, and the score by which answers are ordered."""

    distance: int
    score: float | None


class Found(TypedDict):
    """Answers, best first; ``tied`` items are as far away as the last one, itself included."""

    modality: Literal["image", "text"]
    num_bits: int
    offset: int
    seconds: float
    notes: list[str]
    tied: int
    answers: list[Answer]


class Refused(TypedDict):
    """Why there is no answer, and what to do."""

    detail: str


_TOGETHER = 64  # new items that are coded in one call
_TOLD = 10  # mistakes of one request, at most; each would be an object that the loop waits for
_LARGE = 8 << 20  # bytes of a decoded picture, whose memory goes back to the system at once
_KEY = "its id, or its row where items have rows"
_REFUSED = (400, 401, 403, 404, 408, 409, 413, 415, 421, 429, 503, 507)


class Results(TypedDict):
    """For each query its answers, or why there are none."""

    results: list[Found | Refused]


class Changed(TypedDict):
    """How many items were added, replaced or removed."""

    added: NotRequired[int]
    replaced: NotRequired[int]
    removed: NotRequired[int]


def create_app(
    engine: SearchEngine,
    *,
    limits: Limits | None = None,
    hosts: Collection[str] | None = guard.LOOPBACK,
    token: str | None = None,
    private: bool = False,
) -> "FastAPI":
    """An ASGI application that searches one run.

    Args:
        engine: what answers.
        limits: of uploads, waiting and time.
        hosts: host names that requests may carry, by default those of this machine to itself, so
            that no page from elsewhere reads the answers by way of a name of its own; None allows
            every name, for servers that others should reach.
        token: what requests must carry to add or delete items; None: nobody may.
        private: whether all requests must carry it, which the page then asks for.

    Raises:
        ImportError: FastAPI or Pillow is not installed.
        ValueError: ``private`` without ``token``.
    """
    require("PIL.Image", "pillow", extra="serve")
    require("fastapi", "fastapi", extra="serve")
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError

    if private and token is None:
        raise ValueError("private: needs a token that visitors can be asked for")
    limits = limits or Limits()
    work = Work(engine, limits)
    metrics = guard.Metrics(work.gauges)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    app = FastAPI(
        title="pyg_hash search",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header
        responses={status: {"model": Refused} for status in _REFUSED},
        lifespan=lifespan,
    )

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Any) -> Any:
        """As the framework's own, without the input, which may be large and is known."""
        kept = ("type", "loc", "msg")
        told = [{k: e[k] for k in kept} for e in error.errors()[:_TOLD]]
        return as_json({"detail": told}, 422)

    app.add_middleware(
        guard.Guard, hosts=hosts, limits=limits, token=token, private=private, metrics=metrics
    )
    app.state.work = work
    _add_pages(app, work, metrics, token)
    _add_searches(app, work)
    _add_items(app, work)
    return app


class Work:
    """What the routes share: the engine, the threads and processes, and small pictures."""

    def __init__(self, engine: SearchEngine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        self.worker, self.pictures = guard.Worker(limits), guard.Pictures(limits)
        # what is decoded, up to 75 MB each, waits for its features on the disk
        self.uploads = guard.Steps(limits, threads=2 * limits.threads)
        # one at a time, and no search waits with one that waits for another process
        self.changes = guard.Worker(limits, threads=1)
        more: Any = {"most": _TOGETHER, "more": lambda: self.worker.pending > limits.threads}
        # what waits is coded in one call, with what is on its way from the threads
        self.batches = {
            m: guard.Worker(limits, 1, call=partial(engine.answers, m), **more) for m in MODALITIES
        }
        self.server: Any = None  # uvicorn's, which knows whether it stops
        self._small: dict[str, bytes] = {}

    def close(self) -> None:
        """End all threads and processes."""
        pools = self.worker, self.changes, self.uploads, self.pictures, *self.batches.values()
        for pool in pools:
            pool.close()

    def gauges(self) -> dict[str, float]:
        """Values for Prometheus."""
        pools = {"models": self.worker, "pictures": self.pictures, "changes": self.changes}
        pools["uploads"] = self.uploads
        return {
            **{f'pyg_hash_waiting{{pool="{n}"}}': pool.pending for n, pool in pools.items()},
            **{f'pyg_hash_items{{modality="{m}"}}': len(i) for m, i in self.engine.indexes.items()},
        }

    async def by_text(self, text: str, wanted: Wanted) -> Answers:
        """Features of each new item in the threads, codes of all that wait in one call."""
        question = await self.worker.run(self.engine.ask_text, text, wanted)
        found: Answers = await self.batches[TEXT].ask(question)
        return found

    async def by_image(self, content: bytes, wanted: Wanted) -> Answers:
        """Items nearest to a picture."""
        features, _ = await self.image_features(content)
        found: Answers = await self.batches[IMAGE].ask(Question(features, wanted))
        return found

    async def image_features(self, content: bytes, *, keep: bool = False) -> tuple[Tensor, Any]:
        """Features of a picture, and itself as a JPEG to ``keep``."""
        self.engine.encoder(IMAGE)
        step = partial(self._image_features, content, keep)
        context = copy_context()  # of this visitor; the pool's may be another's
        ask = self.uploads.ask(lambda: asyncio.create_task(step(), context=context))
        found: tuple[Tensor, Any] = await ask
        return found

    async def _image_features(self, content: bytes, keep: bool) -> tuple[Tensor, Any]:
        with self.pictures.folder() as folder:
            path = await self.pictures.run(self.pictures.decode, content, folder)
            features = await self.worker.run(self.engine.features, IMAGE, path)
            if path.stat().st_size > _LARGE:
                with suppress(AttributeError, OSError, TypeError):  # glibc's, which would keep it
                    await self.worker.run(ctypes.CDLL(None).malloc_trim, 0)
            return features, await self.worker.run(jpeg, path) if keep else None

    async def small(self, path: str) -> bytes:
        """A small picture of the database."""
        if path not in self._small:
            with self.pictures.folder() as folder:
                content = await self.pictures.run(self.pictures.small, path, folder)
            guard.keep(self._small, path, content, self.limits.pictures)
        return self._small[path]

    async def found(self, search: Awaitable[Answers], offset: int) -> dict[str, Any]:
        """Answers as JSON values."""
        start = time.perf_counter()
        found = await search
        scores: list[Any] = [round(s, 4) for s in found.scores or ()] or [None] * len(found.rows)
        near = zip(found.items, found.distances, scores, strict=True)
        return {
            "modality": found.modality,
            "num_bits": self.engine.model.num_bits,
            "offset": offset,
            "seconds": round(time.perf_counter() - start, 4),
            "notes": found.notes,
            "tied": found.tied,
            "answers": [
                {"distance": far, "score": score} | _addressed(item) for item, far, score in near
            ],
        }


def _add_pages(app: "FastAPI", work: Work, metrics: guard.Metrics, token: str | None) -> None:
    """The page, and what watches the server."""
    from fastapi import Body, Request, Response
    from starlette.routing import Route

    from pyg_hash.report.figures import page_css  # a search on the command line needs none

    here, limits = files("pyg_hash.serve"), work.limits
    told = {n: getattr(limits, n) for n in ("upload_bytes", "letters", "k", "max_k", "depth")}
    pages = {
        "": ("html", here.joinpath("page.html").read_text("utf-8")),
        "page.css": ("css", page_css() + here.joinpath("page.css").read_text("utf-8")),
        "page.js": ("javascript", here.joinpath("page.js").read_text("utf-8")),
    }
    for name, (kind, content) in pages.items():
        page = Response(content, headers={"Cache-Control": "no-cache"}, media_type=f"text/{kind}")
        route = Route(f"/{name}", page, methods=["GET"], include_in_schema=False)
        app.router.routes.append(route)

    @app.get("/healthz", summary="Whether the server lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    unready: dict[int | str, Any] = {503: {"model": dict[str, str]}}

    @app.get("/readyz", summary="Whether it takes more work now", responses=unready)
    async def readyz(response: Response) -> dict[str, str]:
        stops = getattr(work.server, "should_exit", False)
        busy = work.worker.full or work.pictures.full or work.uploads.full
        old = "replaced" if work.engine.was_replaced else "ready"
        status = "stopping" if stops else "busy" if busy else old
        response.status_code = 200 if status == "ready" else 503
        return {"status": status}

    @app.get("/metrics", summary="Counts for Prometheus", response_class=Response)
    async def show_metrics() -> Any:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/api/run", summary="What the run is and can do")
    async def about() -> dict[str, Any]:
        value = {**await work.worker.run(work.engine.about), "limits": told}
        first = value["first_item"]
        value["first"] = None if first is None else _address(first)
        value["writable"] = token is not None and work.engine.is_writable
        return value

    @app.post("/api/session", summary="Keep the token in this browser", status_code=204)
    async def session(
        request: Request, response: Response, given: Annotated[str, Body(embed=True, alias="token")]
    ) -> None:
        if token is None or not hmac.compare_digest(given.strip().encode(), token.encode()):
            raise QueryError("token: is not that of this server", 401)
        name, secure = guard.cookie(guard.VISIT.get().root, token), request.url.scheme == "https"
        response.set_cookie(name, quote(given), secure=secure, httponly=True, samesite="strict")


def _strict() -> Any:
    """The base of all that is sent: another name is a mistake, and so are many, but only one."""
    from pydantic import BaseModel, model_validator

    class Strict(BaseModel, extra="forbid"):
        @model_validator(mode="before")
        @classmethod
        def few(cls, given: Any) -> Any:
            if isinstance(given, dict) and len(given) > (most := len(cls.model_fields) + _TOLD):
                raise ValueError(f"expected at most {most} names, got {len(given)}")
            return given

    return Strict


def _add_searches(app: "FastAPI", work: Work) -> None:
    """All kinds of queries."""
    from fastapi import Query, Request
    from pydantic import Field, FiniteFloat, StringConstraints

    engine, limits = work.engine, work.limits
    Strict: Any = _strict()
    Words = Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=limits.letters)
    ]

    class Page(Strict):  # type: ignore[misc, unused-ignore]
        """Which answers."""

        k: int = Field(limits.k, ge=1, le=limits.max_k, description="number of answers")
        offset: int = Field(0, ge=0, description="answers to leave out, those of earlier pages")
        where: str | None = Field(
            None,
            max_length=2 * limits.letters,
            description="a filter: year >= 2005 and labels has 'cat'",
        )
        modality: Modality | None = Field(
            None, description="which codes to search; default: the other one"
        )

        def wanted(self, source: Modality) -> Wanted:
            if self.offset + self.k > limits.depth:
                raise QueryError(f"offset: offset + k is at most {limits.depth}", 422)
            target = self.modality or engine.target(source)
            return Wanted(target, self.k, self.offset, self.where)

    class WordsPage(Page):
        """Words, and which answers."""

        text: Words = Field(description="what to search for")

    class ItemPage(Page):
        """Which code of an item, and which answers."""

        by: Modality | None = Field(None, description="which code of the item to search with")

    class SimilarPage(ItemPage):
        """An item, and which answers."""

        id: str = Field(description=_KEY)

    class OneQuery(ItemPage):
        """One of text, item, vector or code."""

        text: Words | None = None
        item: str | None = Field(None, description=_KEY)
        vector: list[FiniteFloat] | None = Field(
            None,
            max_length=1 << 16,
            fail_fast=True,
            description="features of the modality that ``by`` names",
        )
        code: Annotated[list[Literal[-1, 1]], Field(fail_fast=True)] | str | None = Field(
            None, description="bits as -1 and 1, or packed, in hexadecimal digits"
        )

        def ask(self) -> Awaitable[Answers]:
            """The search."""
            kinds = ("text", "item", "vector", "code")
            if sum(getattr(self, name) is not None for name in kinds) != 1:
                raise QueryError(f"queries: give one of {', '.join(kinds)} in each")
            if self.text is not None:
                return work.by_text(self.text, self.wanted(TEXT))
            if self.item is not None:
                return work.worker.run(by_item, self.item, self)
            if self.by is None:
                raise QueryError("by: say whose vector or code it is, image or text")
            wanted = self.wanted(self.by)
            if self.vector is not None:
                question = Question(torch.tensor([self.vector], dtype=torch.float32), wanted)
                return work.batches[self.by].ask(question)
            num_bits = engine.model.num_bits
            if isinstance(self.code, list):
                code = torch.tensor([self.code], dtype=torch.int8)
            else:
                try:
                    packed = torch.tensor([list(bytes.fromhex(self.code or ""))], dtype=torch.uint8)
                    code = unpack_bits(packed, num_bits)
                except ValueError as error:
                    raise QueryError(f"code: no code of {num_bits} bits ({error})") from error
            if code.size(1) != num_bits:
                raise QueryError(f"code: expected {num_bits} bits, got {code.size(1)}")
            return work.worker.run(lambda: engine.nearest(code.float(), wanted)[0])

    class ManyQueries(Strict):  # type: ignore[misc, unused-ignore]
        """Several queries."""

        queries: list[OneQuery] = Field(min_length=1, max_length=limits.batch)

    def by_item(key: str, page: ItemPage) -> Answers:
        row = engine.key(key)
        by = page.by or engine.coded(row)
        return engine.by_item(row, by, *page.wanted(by))

    @app.get("/api/search", summary="Items nearest to words", response_model=Found)
    async def search_text(page: Annotated[WordsPage, Query()]) -> Any:
        return as_json(await work.found(work.by_text(page.text, page.wanted(TEXT)), page.offset))

    picture = {"schema": {"type": "string", "format": "binary"}}

    @app.post(
        "/api/search",
        summary="Items nearest to the picture in the body",
        response_model=Found,
        openapi_extra={"requestBody": {"required": True, "content": {"image/*": picture}}},
    )
    async def search_image(request: Request, page: Annotated[Page, Query()]) -> Any:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise QueryError("image: send the picture itself as the body, not a form", 415)
        content = await request.body()
        if not content:
            raise QueryError("image: the body is empty; send a picture in it", 400)
        return as_json(await work.found(work.by_image(content, page.wanted(IMAGE)), page.offset))

    @app.post(
        "/api/search/batch",
        summary="Several queries: words, items, vectors, codes",
        response_model=Results,
    )
    async def search_batch(many: ManyQueries) -> Any:
        async def one(query: OneQuery) -> dict[str, Any]:
            try:
                return await work.found(query.ask(), query.offset)
            except QueryError as error:
                return {"detail": str(error)}

        return as_json({"results": await asyncio.gather(*map(one, many.queries))})

    @app.get("/api/similar", summary="Items nearest to an item", response_model=Found)
    async def similar(page: Annotated[SimilarPage, Query()]) -> Any:
        return as_json(await work.found(work.worker.run(by_item, page.id, page), page.offset))


def _add_items(app: "FastAPI", work: Work) -> None:
    """Items themselves: to look at, to add and to remove."""
    from fastapi import Depends, Query, Request, Response
    from fastapi.security import HTTPBearer
    from pydantic import Field, FiniteFloat

    engine, limits = work.engine, work.limits
    Strict: Any = _strict()
    # in the query: proxies decode paths, or refuse %2F in them; the guard puts it there from a path
    Key = Annotated[str, Query(description=_KEY)]
    Vector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=1 << 16, fail_fast=True)]

    class GivenItem(Strict):  # type: ignore[misc, unused-ignore]
        """An item to add: its codes are of its words, its picture, or of vectors of features."""

        id: str = Field(min_length=1, max_length=500)
        text: str | None = Field(None, max_length=limits.letters)
        image: str | None = Field(None, description="a picture file in base64")
        image_vector: Vector | None = None
        text_vector: Vector | None = None
        labels: list[str] | None = Field(None, fail_fast=True)
        metadata: dict[str, Any] = Field(default_factory=dict, description="by field")

        async def made(self) -> NewItem:
            """Its features, and where its picture is kept."""
            if own := [name for name in OWN if name in self.metadata]:
                raise QueryError(f"metadata: {', '.join(own)}: give these beside metadata")
            values, features, picture = dict(self.metadata), {}, None
            if self.labels is not None:
                values["labels"] = self.labels
            if self.text and "text" in engine.fields:
                values["text"] = self.text
            if self.image is not None:
                try:
                    content = base64.b64decode(self.image, validate=True)
                except ValueError as error:
                    raise QueryError(f"image: not in base64 ({error})") from error
                features[IMAGE], picture = await work.image_features(content, keep=True)
            for modality, vector in ((IMAGE, self.image_vector), (TEXT, self.text_vector)):
                if vector is not None:
                    features[modality] = torch.tensor([vector], dtype=torch.float32)
            if TEXT not in features and self.text and TEXT in engine.encoders:
                features[TEXT] = await work.worker.run(engine.features, TEXT, self.text)
            return NewItem(self.id, features, values, picture)

    class GivenItems(Strict):  # type: ignore[misc, unused-ignore]
        """Items to add."""

        items: list[GivenItem] = Field(min_length=1, max_length=limits.batch)
        replace: bool = Field(False, description="put them in the place of those that are there")

    change: dict[str, Any] = {
        "response_model": Changed,
        "dependencies": [Depends(HTTPBearer(auto_error=False))],  # the guard has looked at it
    }

    @app.get(
        "/api/picture",
        summary="Its picture, small",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 304: {}},
    )
    async def picture(request: Request, id: Key) -> Any:
        try:
            path = await work.worker.run(lambda: engine.picture_path(engine.key(id)))
            content = await work.small(path)
        except UnreadableImageError as error:
            # the message would name a file of the server
            raise QueryError("picture: its file is missing or cannot be read", 404) from error
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        asked = request.headers.get("if-none-match", "").split(",")
        known = any(one.strip().removeprefix("W/") in (tag, "*") for one in asked)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        return Response(b"" if known else content, 304 if known else 200, headers, "image/jpeg")

    @app.get("/api/item", summary="One item", response_model=Item)
    async def show(id: Key) -> Any:
        return as_json(_addressed(await work.worker.run(lambda: engine.describe(engine.key(id)))))

    @app.post("/api/items", summary="Add items", **change)
    async def add(given: GivenItems) -> Any:
        new = [await one.made() for one in given.items]
        replaced = await work.changes.run(partial(engine.add, new, replace=given.replace))
        return as_json({"added": len(new) - replaced, "replaced": replaced})

    @app.delete("/api/items", summary="Remove items", **change)
    async def remove(id: Annotated[list[str], Query(max_length=limits.batch)]) -> Any:
        return as_json({"removed": await work.changes.run(engine.remove, id)})


def _address(row: Any, what: str = "item") -> str:
    return f"{guard.VISIT.get().root}/api/{what}?id={quote(str(row), safe='')}"


def _addressed(item: dict[str, Any]) -> dict[str, Any]:
    """An item with addresses in this API in the place of paths of the server."""
    row = item["id"] if item["row"] is None else item["row"]
    picture = _address(row, "picture") if item["image"] else None
    labels = item["labels"] or []
    labels = labels if isinstance(labels, list) else [str(labels)]
    rest = {name: value for name, value in item.items() if name != "image"}
    return {"item": _address(row), **rest, "labels": labels, "picture": picture}


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0: a free one; ``ValueError``: no port, ``OSError``: taken."""
    if not 0 <= port <= 65535:
        raise SettingError(f"port: expected 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.socket(*found[0][:3])
    except (OSError, UnicodeError) as error:
        raise OSError(f"host: {host!r} cannot be used ({error})") from error
    try:
        # on Windows an address to use again is one that two servers have
        alone = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        listening.setsockopt(socket.SOL_SOCKET, alone, 1)
        listening.bind(found[0][4])
        listening.listen()  # two servers may bind one port, but not listen at it
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
    hosts: Collection[str] = (),
    root_path: str = "",
    **access: Any,
) -> Any:
    """The ``uvicorn.Server`` of :func:`serve`, with its arguments, not running yet."""
    guard.check_proxy(proxy)
    uvicorn = require("uvicorn", "uvicorn", extra="serve")
    limits = limits or Limits()
    guard.check_hosts(hosts)
    if not re.fullmatch(r"(/[\w.~-]+)*", root_path, re.ASCII):
        raise SettingError(f"root_path: expected a path as /search, got {root_path!r}")
    address = listening.getsockname()[0]
    own = {*guard.LOOPBACK, f"[{address}]" if ":" in address else address, *hosts}
    names = own if hosts or is_loopback(listening) else None
    app = create_app(engine, limits=limits, hosts=names, **access)
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        log_level="error",
        access_log=False,
        lifespan="off",  # `serve` closes the work; what a Ctrl-C cuts off would be a traceback
        ws="none",
        backlog=256,  # as many are taken at once, before one of them is looked at
        proxy_headers=proxy is not None,
        forwarded_allow_ips=guard.with_mapped(proxy),
        root_path=root_path,
        server_header=False,
        h11_max_incomplete_event_size=1 << 16,  # of the head of a request
        timeout_keep_alive=limits.idle_timeout,
        timeout_graceful_shutdown=limits.drain,
    )
    server = app.state.work.server = uvicorn.Server(config)
    # its own knows no SIGHUP, and raises them again when all is in order
    server.capture_signals = partial(handled, server.handle_exit)
    return server


def serve(
    engine: SearchEngine,
    listening: socket.socket,
    *,
    limits: Limits | None = None,
    ready: Callable[[], None] | None = None,
    **access: Any,
) -> None:
    """Serve the search page until the process is told to stop (Ctrl-C, SIGTERM or SIGHUP).

    Requests under way are then answered, no new ones are taken, and it returns.

    Args:
        engine: what answers.
        listening: a socket, see ``pyg_hash.serve.app.listen``. On loopback only this
            machine's own names for itself are answered to.
        limits: of connections, uploads, waiting and time.
        ready: called just before the first request can be answered.
        **access: ``token`` and ``private`` of :func:`create_app`; ``proxy``, the address of a
            proxy (of IP) whose word on who the client is is taken; ``hosts``, further names that
            are answered to, and then no others on a socket that the network reaches either;
            ``root_path``, what the proxy takes away of paths, such as ``/search``.

    Raises:
        ImportError: uvicorn, FastAPI or Pillow is not installed.
        ValueError: ``proxy`` is no address, ``root_path`` no path.
        KeyboardInterrupt: a Ctrl-C after that cut off what was under way.
    """
    server = make_server(engine, listening, limits=limits, **access)
    if ready is not None:
        ready()
    try:
        server.run(sockets=[listening])
        if server.force_exit:
            raise KeyboardInterrupt
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
        _until = 0.0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > most and waited_for:
                next(iter(waited_for)).transport.abort()

        def _wait(self) -> None:
            self._calm()
            waited_for[self] = self.loop.call_later(limits.header_timeout, self._late)

        def _late(self) -> None:
            if self.transport.get_write_buffer_size() and self.loop.time() < self._until:
                self._wait()  # the last answer is still being read
            elif self.cycle is None or self.cycle.response_complete:
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
            self._until = self.loop.time() + limits.send_timeout
            self._wait()
            super().on_response_complete()

        def connection_lost(self, error: Exception | None) -> None:
            self._calm()
            super().connection_lost(error)

    return Guarded
