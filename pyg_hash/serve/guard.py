"""What one visitor may ask, who may ask it, and where the work is done, which no loop waits for."""

from __future__ import annotations

import asyncio
import atexit
import errno
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import cache, partial
from logging.handlers import WatchedFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, unquote, unquote_to_bytes

from pyg_hash.utils.checks import check_collection, check_number, check_positive_int
from pyg_hash.utils.files import json_text
from pyg_hash.utils.guarded import Guarded
from pyg_hash.utils.pictures import FULL, MAX_PIXELS, MAX_SCANS, OURS, UnreadableImageError
from pyg_hash.utils.settings import SettingError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

access_log = logging.getLogger("pyg_hash.access")
_log = logging.getLogger(__name__)

HEADERS = {  # of every response: no inline script, no frame, nothing from elsewhere
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
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})  # names of this machine to itself
COOKIE = "pyg_hash_token"  # in which the page keeps the token, and then where it is mounted
_ITEM = "/api/item/"
_PROBES = ("/healthz", "/readyz")  # for balancers, which ask by address or by no name
_OPEN = (*_PROBES, "/", "/page.css", "/page.js", "/api/session")
_UNWRITTEN = dict.fromkeys((*OURS, errno.EACCES, errno.EPERM), 503)  # statuses by errno
_UNWRITTEN |= dict.fromkeys(FULL, 507)
_JSON = re.compile(r"application/([^\s/]+\+)?json")
_PARAMETERS = 100  # of an address, beside a batch of ids
_CLIENTS = 10_000  # whose rates are known
_SECONDS = "pyg_hash_request_seconds"
_TIMES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# formats from outside: Pillow knows dozens, and each is code that a stranger's file would run
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_ENOUGH = 8  # questions that share a call well
_LINGER = 2.0  # seconds in which the rest of a refused body is read and dropped
_TURN, _TURNS = 0.01, 20  # how often, in seconds, and how many times it is looked for more
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Limits of the search page; times are in seconds."""

    upload_bytes: int = 10_000_000  #: of a picture
    upload_total: int = 100_000_000  #: bytes of all uploads, of one client half, or 1 body (503)
    upload_timeout: float = 20.0  #: in which a body must have come (408)
    json_bytes: int = 4_000_000  #: of a body in JSON
    decode_timeout: float = 5.0  #: of a picture, in a process of its own that is then ended
    decode_memory: int = 1 << 30  #: bytes of address space of such a process
    pixels: int = MAX_PIXELS  #: of a picture
    side: int = 16_384  #: its longer side, in pixels
    scans: int = MAX_SCANS  #: of a JPEG; of one of more than ``pixels`` fewer, in proportion
    letters: int = 1000  #: of a text
    k: int = 24  #: answers, if nothing is said
    max_k: int = 200  #: answers at most, on a page of them
    depth: int = 5000  #: answers at most, on all pages
    batch: int = 100  #: queries, or items to add, in one request
    threads: int = 2  #: in which models run, and processes that decode pictures
    waiting: int = 512  #: requests that may run and wait for these; beyond, 503 to who has most
    timeout: float = 60.0  #: after which a request that still waits is given up (503)
    pictures: int = 2000  #: small pictures kept in memory, of some 10 kB each
    connections: int = 1000  #: open ones; one more ends that which is waited for the longest
    header_timeout: float = 10.0  #: in which a request's head must come, else the connection ends
    send_timeout: float = 30.0  #: in which an answer must have been read, else the connection ends
    idle_timeout: float = 5.0  #: between two requests of a connection
    rate: float = 0.0  #: requests a second of one client, in the long run (429); 0 for any number
    burst: int = 200  #: requests that a client may send at once
    drain: float = 10.0  #: that requests under way get when the server is told to stop

    def __post_init__(self) -> None:
        for each in fields(self):
            name, value = each.name, getattr(self, each.name)
            if each.type == "int":
                check_positive_int(value, name)
            elif not (0 < check_number(value, name) < 1e9 or (name, value) == ("rate", 0)):
                raise ValueError(f"{name}: expected more than 0, got {value!r}")
        if self.k > self.max_k:
            raise ValueError(f"k: {self.k} is more than max_k = {self.max_k}")


class QueryError(ValueError):
    """A request that is not answered: words for the one who asked, a status of HTTP, headers."""

    def __init__(
        self, message: str, status: int = 422, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or ({"Retry-After": "1"} if status == 503 else {})


@dataclass(frozen=True)
class Visit:
    """Who asks, and the end of the connection, with which what waits in pools is given up.

    What runs by then goes on to its end, so that a change is made or not, and told as it is.
    """

    client: str = ""
    root: str = ""  # where this application is mounted, as in addresses
    gone: asyncio.Future[None] = field(default_factory=asyncio.Future)

    async def watch(self, receive: Receive) -> None:
        """Wait for the end of the connection."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set_result(None)


VISIT: ContextVar[Visit] = ContextVar("VISIT")


@dataclass(eq=False)
class Guard:
    """Middleware: answers known host names only (against DNS rebinding), within the limits.

    A body is read whole before the application sees it. Each answer is noted in ``metrics`` and,
    as a line of JSON, in the log ``pyg_hash.access``. Arguments are those of ``create_app``.
    """

    app: ASGIApp
    hosts: Collection[str] | None
    limits: Limits
    token: str | None
    private: bool
    metrics: Metrics
    _uploading: Counter[str] = field(default_factory=Counter, init=False)  # bytes, by client
    _rates: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.datastructures import MutableHeaders
        from starlette.requests import Request

        whole = False  # whether the body has come to its end

        async def reading() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body")
            return message

        start, request = time.perf_counter(), Request(scope, reading)
        root = scope.get("root_path", "").strip("/")
        root = quote(f"/{root}") if root else ""
        visit, content = Visit(_client(scope), root), cast(Any, bytearray())
        name = request.headers.get("x-request-id", "")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            name = uuid.uuid4().hex
        path = scope["path"]
        scope = {**scope, **_with_id(scope)}
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope["method"] = "GET"
        status = sent = received = 0

        def forget() -> None:  # who is refused may go on sending, and that is dropped
            nonlocal received, content
            received += len(content)
            self._uploading[visit.client] -= len(content)
            content = b""

        async def guarded(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status, headers = message["status"], MutableHeaders(scope=message)
                headers.update({**HEADERS, "X-Request-ID": name})
                headers.setdefault("Cache-Control", "no-store")
            sent += len(message.get("body", b""))
            await send(message)

        self.metrics.running += 1
        try:
            self._admit(request, visit)
            if scope["method"] != "GET":
                await self._read(request, visit.client, content)
            whole, content = True, bytes(content)  # and no second copy
            body = [{"type": "http.request", "body": content, "more_body": False}]

            async def told() -> Message:
                return body.pop() if body else await receive()

            VISIT.set(visit)
            leaving = asyncio.create_task(visit.watch(receive))
            try:
                await self.app(scope, told, guarded)
            finally:
                leaving.cancel()
        except (Exception, asyncio.CancelledError) as error:
            # here: the framework would send its own outside of the guard
            refused = _refusal(error, f"{scope['method']} {repr(path)[1:-1]} (request {name})")
            ends = whole or isinstance(error, asyncio.CancelledError)

            async def last(message: Message) -> None:
                if message["type"] == "http.response.body" and not ends:
                    forget()
                    # an end before that of the body resets the connection, and loses the answer
                    await guarded({**message, "more_body": True})
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(_LINGER, self.limits.upload_timeout)):
                            while (await receive()).get("more_body"):
                                pass
                    message = {"type": "http.response.body"}
                await guarded(message)

            if not status:
                answer = as_json({"detail": str(refused)}, refused.status, refused.headers)
                await answer(scope, receive, last)
        finally:
            forget()
            self._uploading += Counter()  # which drops those with nothing
            self.metrics.running -= 1
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.note(scope["method"], route, status, seconds)
            line = {
                "time": time.time(),
                "id": name,
                "client": visit.client,
                "method": scope["method"][:20],
                "path": path[:500],
                "status": status,
                "seconds": round(seconds, 4),
                "received": received,
                "sent": sent,
            }
            access_log.info(json.dumps(line))

    def _admit(self, request: Request, visit: Visit) -> None:
        """Raise ``QueryError`` unless the request may be answered."""
        method, path = request.method, _route(request.scope)[1]
        given = request.headers.getlist("host")
        host = given[0].strip().lower() if len(given) == 1 else ""
        named = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]*)?", host)
        known = self.hosts is None or (named and named[1] in map(str.lower, self.hosts))
        if not known and path not in _PROBES:
            told = "this server does not answer to that name; --hosts (hosts=) adds names"
            raise QueryError(f"host: {told}", 421)
        most = self.limits.batch + _PARAMETERS
        if request.scope["query_string"].count(b"&") >= most:  # the framework takes their square
            raise QueryError(f"query: more than {most} parameters", 422)
        if self.limits.rate and path not in _PROBES:
            self._count(visit.client)
        changes = method not in ("GET", "HEAD") and path.startswith("/api/item")
        if not changes and (not self.private or path in _OPEN):
            return
        if self.token is None:
            told = "this server lets nobody change its items; start it with --token_file"
            raise QueryError(f"token: {told}", 403)
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        token = value.encode("latin-1")  # the bytes that were sent
        if kind.lower() != "bearer":
            token = unquote_to_bytes(request.cookies.get(cookie(visit.root, self.token), ""))
        if not hmac.compare_digest(token.strip(), self.token.encode()):
            told = "is missing or wrong; send the header Authorization: Bearer TOKEN"
            raise QueryError(f"token: {told}", 401, {"WWW-Authenticate": "Bearer"})
        sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.lower() != "bearer" and method == "POST" and changes and not _JSON.fullmatch(sent):
            # browsers send any other with the cookie for a page of another port, without asking
            raise QueryError("body: send it with Content-Type: application/json", 415)

    def _count(self, client: str) -> None:
        """One request of a client's; ``QueryError`` if it has none left."""
        now, rate = time.monotonic(), self.limits.rate
        left, then = self._rates.get(client, (float(self.limits.burst), now))
        left = min(self.limits.burst, left + (now - then) * rate)
        keep(self._rates, client, (max(0.0, left - 1), now), _CLIENTS)
        if left < 1:
            wait = {"Retry-After": str(max(1, round((1 - left) / rate)))}
            raise QueryError(f"rate: more than {rate:g} requests a second; slow down", 429, wait)

    async def _read(self, request: Request, client: str, content: bytearray) -> None:
        """The body, within the limits of size and time; ``QueryError``."""
        from starlette.requests import ClientDisconnect

        given, limits, close = request.headers, self.limits, {"Connection": "close"}
        is_json = "json" in given.get("content-type", "").lower()
        limit = limits.json_bytes if is_json else limits.upload_bytes

        too_large = QueryError(f"body: larger than the limit of {limit:,} bytes", 413, close)
        if int(given.get("content-length", 0)) > 4 * limit:
            raise too_large
        size = 0
        try:
            async with asyncio.timeout(limits.upload_timeout):
                async for part in request.stream():
                    size += len(part)
                    if size <= limit:
                        content.extend(part)
                        self._uploading[client] += len(part)
                    own, total = self._uploading[client], self._uploading.total()
                    if total > limits.upload_total or own > max(limit, limits.upload_total // 2):
                        raise QueryError("busy: too much is being uploaded", 503)
                    if size > 4 * limit:
                        break
        except ClientDisconnect as error:
            raise QueryError("body: the connection ended before its end", 400) from error
        except TimeoutError as error:
            message = f"body: not received within {limits.upload_timeout:g} seconds"
            raise QueryError(message, 408, close) from error
        if size > limit:
            raise too_large


def _with_id(scope: Scope) -> dict[str, Any]:
    """Path and query, of a path that ends in an item's id with the id in the query.

    An id ends in ``/similar`` if that slash was sent as ``%2F``, which the path no longer tells.
    """
    root, path = _route(scope)
    key, query, part = path.removeprefix(_ITEM), scope["query_string"], "item"
    if key == path:
        return {}
    sent = (scope.get("raw_path") or path.encode()).partition(b"?")[0]
    last = unquote(sent.rpartition(b"/")[2])
    if scope["method"] == "DELETE":
        part, query = "items", b""  # of which all ids of a query are removed
    elif last in ("similar", "picture") and key.endswith(f"/{last}"):
        key, part = key.removesuffix(f"/{last}"), last
    query = b"&".join([*filter(None, [query]), b"id=" + quote(key, safe="").encode()])
    return {"path": f"{root}/api/{part}", "query_string": query}


def cookie(root: str, token: str) -> str:
    """The token's cookie, each application's own: its path is ``/``, as of any proxy.

    Other ports of a host get it too. Only who sent the token learns its name, which tells of it.
    """
    own = hashlib.sha256(f"{COOKIE} {token}".encode()).hexdigest()[:8]
    return f"{COOKIE}{root.replace('/', '.')}.{own}"


def _route(scope: Scope) -> tuple[str, str]:
    """Where an application is mounted, and what of the path is its own."""
    root, path = scope.get("root_path", ""), scope["path"]
    is_below = path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")
    return (root, path[len(root) :]) if is_below else ("", path)


def _refusal(error: BaseException, request: str) -> QueryError:
    """What is told in place of an answer; what is a fault of the server's is in its log."""
    if isinstance(error, QueryError):
        return error
    if isinstance(error, UnreadableImageError):
        return QueryError(str(error))
    if isinstance(error, asyncio.CancelledError):  # the time to stop in is over
        return QueryError("stopping: the server ends; try again", 503)
    if isinstance(error, OSError) and error.errno in _UNWRITTEN:
        _log.error("%s: %s", request, error)
        return QueryError(f"the server cannot write: {error.strerror}", _UNWRITTEN[error.errno])
    _log.error("%s", request, exc_info=error)
    return QueryError("the server failed; its log says why", 500)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON; only ASCII, so that any string of the data can be sent."""
    from starlette.responses import Response

    return Response(json_text(value, separators=(",", ":")), status, headers, "application/json")


class Metrics:
    """Counts for Prometheus; ``gauges`` gives further values when they are shown."""

    def __init__(self, gauges: Callable[[], Mapping[str, float]] = dict) -> None:
        self.running = 0
        self.gauges = gauges
        self._counts: dict[str, float] = defaultdict(int)

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request that was answered, or refused."""
        known = method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
        of = f'method="{method if known else "other"}",route="{route}",status="{status}"'
        self._counts[f"pyg_hash_requests_total{{{of}}}"] += 1
        for edge in (*_TIMES, "+Inf"):
            place = f'{{route="{route}",le="{edge}"}}'
            self._counts[f"{_SECONDS}_bucket{place}"] += seconds <= float(edge)
        self._counts[f'{_SECONDS}_sum{{route="{route}"}}'] += seconds
        self._counts[f'{_SECONDS}_count{{route="{route}"}}'] += 1

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        values = {**self._counts, "pyg_hash_requests_running": self.running, **self.gauges()}
        values["process_cpu_seconds_total"] = time.process_time()
        with suppress(OSError, ValueError):  # where the system says
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            values["process_resident_memory_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
            values["process_open_fds"] = len(os.listdir("/proc/self/fd"))
        families: dict[str, list[str]] = {}
        for name, value in values.items():
            family = _SECONDS if name.startswith(_SECONDS) else name.partition("{")[0]
            kind = "counter" if family.endswith("_total") else "gauge"
            head = f"# TYPE {family} {'histogram' if family == _SECONDS else kind}"
            families.setdefault(head, []).append(f"{name} {value!r}")
        lines = [line for head, own in families.items() for line in (head, *own)]
        return "\n".join(lines) + "\n"


def log_access(where: str) -> None:
    """Write the access log to a file, or ``-`` for the standard error; losses are said once."""

    class File(WatchedFileHandler):  # others may rotate it
        def emit(self, record: logging.LogRecord) -> None:
            try:
                super().emit(record)
            except OSError:  # there is no new file
                self.handleError(record)

    @cache
    def say() -> None:
        _log.error("access log: cannot be written, lines are dropped: %s", sys.exc_info()[1])

    handler: Any = logging.StreamHandler() if where == "-" else File(where, encoding="utf-8")
    handler.handleError = lambda record: say()
    access_log.addHandler(handler)
    access_log.setLevel(logging.INFO)
    access_log.propagate = False


def check_proxy(proxy: str | None) -> None:
    """Raise ``SettingError`` unless it is ``*``, or addresses and networks of IP, by commas."""
    for one in () if proxy in (None, "*") else filter(str.strip, str(proxy).split(",")):
        try:
            ipaddress.ip_network(one.strip())
        except ValueError as error:
            raise SettingError(f"proxy: {error}; give the IP address of yours") from error


def with_mapped(proxy: str | None) -> str | None:
    """Also the form that IPv4 addresses have at a socket of IPv6."""
    if proxy is None or proxy == "*":
        return proxy
    own = [ipaddress.ip_network(one.strip()) for one in proxy.split(",") if one.strip()]
    four = [(n.network_address, n.prefixlen) for n in own if n.version == 4]
    return ",".join([proxy, *(f"::ffff:{at}" + f"/{96 + n}" * (n < 32) for at, n in four)])


def check_hosts(hosts: Collection[str]) -> None:
    """Raise ``TypeError`` or ``SettingError`` unless they are names that a Host may carry."""
    check_collection(hosts, "hosts")
    for name in hosts:
        if not isinstance(name, str) or not re.fullmatch(r"[^\s:/*\[\]]+|\[[\da-fA-F:.]+\]", name):
            what = "give names without scheme and port, IPv6 in brackets"
            raise SettingError(f"hosts: {name!r} is no name of a host; {what}")


def keep(known: dict[str, T], name: str, value: T, most: int) -> None:
    """Put a value last, and drop the first of more than ``most``."""
    known.pop(name, None)
    known[name] = value
    if len(known) > most:
        del known[next(iter(known))]


def _each(calls: list[Callable[[], T]]) -> list[T]:
    """What each call gives: the work of a pool whose questions are calls, one at a time."""
    return [call() for call in calls]


def _client(scope: Scope) -> str:
    """Who asks: an address, or the network that one household has in IPv6."""
    host: str = (scope.get("client") or ("",))[0]
    with suppress(ValueError):  # a name that a proxy gave
        address = ipaddress.ip_address(host)
        address = getattr(address, "ipv4_mapped", None) or address
        if address.version == 6 and not address.is_loopback:
            address = ipaddress.IPv6Network((int(address), 64), strict=False).network_address
        return str(address)
    return host


class Worker:
    """Calls in threads, for clients in turns; what one gave up in time never begins.

    ``call`` answers questions in order, at most ``most`` that wait at a time, with exceptions for
    those without answer; else a question is itself what is called. A lone question waits for
    others, not for long, only where ``more`` says that they are coming.

    Who asks for much makes itself wait, and nobody else: the next question is the oldest of the
    client that has had the least time, a new one starting level with the others; where too many
    wait, the newest of the client with the most waiting is refused.
    """

    def __init__(
        self,
        limits: Limits,
        threads: int | None = None,
        *,
        call: Callable[[list[Any]], list[Any]] = _each,
        most: int = 1,
        more: Callable[[], bool] = bool,
    ) -> None:
        self.limits, self.threads, self.pending = limits, threads or limits.threads, 0
        self.pool = ThreadPoolExecutor(self.threads, "pyg_hash-search")
        self._call, self._most, self._more = call, most, more
        self._waiting: dict[str, dict[asyncio.Future[Any], Any]] = {}  # by client, oldest first
        self._used: dict[str, float] = {}  # seconds, by client
        self._level = 0.0  # of who was served last
        self._tasks: set[asyncio.Task[None] | None] = set()  # one for each thread at work

    def close(self) -> None:
        """Drop what waits; what runs goes on to its end. A later call starts anew."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.pool = ThreadPoolExecutor(self.threads, "pyg_hash-search")

    @property
    def full(self) -> bool:
        """Whether the call of a client that has none waiting would be refused."""
        return self.pending >= self.limits.waiting and len(self._longest()) < 2

    def _longest(self) -> dict[asyncio.Future[Any], Any]:
        return max(self._waiting.values(), key=len, default={})

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """The result of a call, or what it raises; ``QueryError`` as of :meth:`ask`."""
        result: T = await self.ask(partial(call, *args))
        return result

    async def ask(self, question: Any) -> Any:
        """The answer, or its exception; ``QueryError``: too many wait, or it took too long."""
        visit, answer = VISIT.get(None) or Visit(), asyncio.Future[Any]()
        client, left = visit.client, QueryError("the connection ended before the answer", 400)
        if visit.gone.done():
            raise left
        if self.pending >= self.limits.waiting:
            message = f"busy: {self.pending} requests are waiting; try again in a moment"
            most = self._longest()
            if len(self._waiting.get(client, ())) + 1 >= len(most):
                raise QueryError(message, 503)
            newest, _ = most.popitem()
            if not newest.done():  # its caller gives up just now
                newest.set_exception(QueryError(message, 503))
        if client not in self._waiting:
            self._waiting[client] = {}
            self._charge(client, max(0.0, self._level - self._used.get(client, 0.0)))
        self._waiting[client][answer] = question

        def leave(_: object) -> None:
            if self._drop(client, answer) and not answer.done():
                answer.set_exception(left)

        visit.gone.add_done_callback(leave)
        self.pending += 1
        if len(self._tasks) < self.threads:
            self._tasks.add(asyncio.create_task(self._work()))
        try:
            async with asyncio.timeout(self.limits.timeout):
                return await answer
        except TimeoutError as error:
            message = f"busy: no answer within {self.limits.timeout:g} seconds; try again"
            raise QueryError(message, 503) from error
        finally:  # who gave up makes room at once
            self.pending -= 1
            visit.gone.remove_done_callback(leave)
            self._drop(client, answer)

    def _drop(self, client: str, answer: asyncio.Future[Any]) -> bool:
        """Give up a question; False: it has begun, or is no longer there."""
        own = self._waiting.get(client, {})
        found = own.pop(answer, None) is not None
        if found and not own:
            del self._waiting[client]
        return found

    def _charge(self, client: str, seconds: float) -> None:
        keep(self._used, client, self._used.get(client, 0.0) + seconds, _CLIENTS)

    def _next(self) -> tuple[str, asyncio.Future[Any], Any]:
        """What is next, whose it is, and where its answer goes."""
        client = min(self._waiting, key=lambda one: self._used.get(one, self._level))
        self._level = self._used.get(client, self._level)
        own = self._waiting.pop(client)
        answer = next(iter(own))
        question = own.pop(answer)
        if own:  # after those who had as little
            self._waiting[client] = own
        return client, answer, question

    async def _answers(self, questions: list[Any]) -> list[Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, self._call, questions)

    async def _work(self) -> None:
        """Calls until nobody waits."""
        try:
            while self._waiting:
                for _ in range(_TURNS):
                    if sum(map(len, self._waiting.values())) >= _ENOUGH or not self._more():
                        break
                    await asyncio.sleep(_TURN)
                asked: list[tuple[str, asyncio.Future[Any], Any]] = []
                while self._waiting and len(asked) < self._most:
                    asked.append(self._next())
                if not asked:  # all have left meanwhile
                    continue
                questions, start = [question for *_, question in asked], time.perf_counter()
                try:
                    answers = await self._answers(questions)
                except Exception as error:
                    answers = [error] * len(asked)
                seconds = time.perf_counter() - start
                for (client, future, _), answer in zip(asked, answers, strict=True):
                    self._charge(client, seconds / len(asked))
                    if future.done():  # its caller gave up
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._tasks.discard(asyncio.current_task())


class Steps(Worker):
    """Coroutine functions in the place of calls: each is work of several pools, begun in turns."""

    async def _answers(self, questions: list[Any]) -> list[Any]:
        return [await question() for question in questions]


class Pictures(Worker):
    """Decodes pictures of strangers in processes of limited time and memory, each in its turn."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._folder, self._owner = "", 0
        tempfile.gettempdir()  # raises where there is none, at once
        atexit.register(self._remove)
        memory = limits.decode_memory
        code = f"from pyg_hash.utils.pictures import watch; answer_all(watch({memory}))"
        self.helpers = [Guarded(code, "image: decoding it") for _ in range(limits.threads)]
        self._free: SimpleQueue[Guarded] = SimpleQueue()
        for helper in self.helpers:
            self._free.put(helper)
        self._how = [FORMATS, {name: getattr(limits, name) for name in ("pixels", "side", "scans")}]

    def close(self) -> None:
        """End the processes and remove all that they wrote, in one folder."""
        super().close()
        for helper in self.helpers:
            helper.stop()
        self._remove()
        self._owner = 0

    def _remove(self) -> None:
        if self._owner == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)

    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """A folder for one request, which ends with it; not for several threads at once."""
        if self._owner != os.getpid():  # each process that is forked has its own
            self._folder, self._owner = tempfile.mkdtemp(prefix="pyg_hash-serve-"), os.getpid()
        return tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True)

    def decode(self, content: bytes, folder: str) -> Path:
        """A picture as a file of plain pixels; for :meth:`run`; ``UnreadableImageError``."""
        source = Path(folder, "upload")
        source.write_bytes(content)
        return self._ask(source, Path(folder, "query.ppm"), *self._how)

    def small(self, path: str, folder: str) -> bytes:
        """A picture of the database as a small JPEG; for :meth:`run`; ``UnreadableImageError``."""
        return self._ask(Path(path).absolute(), Path(folder, "small.jpg"), 192).read_bytes()

    def _ask(self, source: Path, target: Path, *how: Any) -> Path:
        helper = self._free.get()
        try:
            number = helper.ask([str(source), str(target), *how], self.limits.decode_timeout)
        except (ChildProcessError, ValueError) as error:
            remedy = "" if isinstance(error, ValueError) else "; save it anew, smaller"
            raise UnreadableImageError(f"{error}{remedy}") from error
        finally:
            self._free.put(helper)
        if number:
            raise OSError(number, os.strerror(number))
        return target
