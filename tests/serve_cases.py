"""A search engine over toy data, and a client that calls an ASGI application directly."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import torch
from small import graph_for, model_for

from pyg_hash.features import load_image
from pyg_hash.index import HammingIndex
from pyg_hash.models import MCGCN
from pyg_hash.runs import RunItems, with_fields
from pyg_hash.serve import Limits, SearchEngine, create_app
from pyg_hash.serve.app import address_of, listen, make_server
from pyg_hash.typing import MODALITIES, binarize

COLORS = ("red", "green", "blue", "gray")
RGB = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "gray": (99, 99, 99)}
SIZE = 60  # of toy_data; the last 12 are queries


class Words:
    """Knows four words; each stands for the mean of its class."""

    num_features = 9

    def __init__(self, x):
        self.rows = {color: x[number::4].mean(0) for number, color in enumerate(COLORS)}

    def unknown_words(self, text):
        return [word for word in text.lower().split() if word not in self.rows]

    def __call__(self, texts):
        rows = []
        for number, text in enumerate(texts):
            known = [self.rows[word] for word in text.lower().split() if word in self.rows]
            if not known:
                raise ValueError(f"texts: text {number} ({text[:60]!r}) has no known word")
            rows.append(torch.stack(known).mean(0))
        return torch.stack(rows)


class Pictures:
    """Knows the four colours; a picture is the class that its mean is nearest to."""

    num_features = 12
    progress = True

    def __init__(self, x):
        self.rows = [x[number::4].mean(0) for number in range(4)]

    def __call__(self, paths):
        means = torch.stack([load_image(path, 8).float().mean((1, 2)) for path in paths])
        centers = torch.tensor([RGB[color] for color in COLORS]).float()
        return torch.stack([self.rows[i] for i in torch.cdist(means, centers).argmin(1).tolist()])


def png(color="red", size=(20, 16), form="PNG"):
    """The content of a picture file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, RGB[color]).save(buffer, form)
    return buffer.getvalue()


def make_engine(folder: Path | None = None, *, encoders=MODALITIES, texts=True, **more):
    """60 items of four classes; pictures are written to ``folder`` if there is one.

    The index of pictures has relaxed codes, that of texts has not.
    """
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data).attach(data).eval()
    names = [COLORS[row % 4] for row in range(SIZE)]
    paths = [None] * SIZE
    if folder is not None:
        paths = [str(folder / f"{row}.png") for row in range(SIZE)]
        for path, name in zip(paths, names, strict=True):
            Path(path).write_bytes(png(name))
    words = [name if row < 24 else f"{name} thing {row}" for row, name in enumerate(names)]
    items = RunItems(
        ids=[f"id {row}" for row in range(SIZE)],
        texts=words if texts else [None] * SIZE,
        image_paths=paths,
        labels=[[name] for name in names],
    )
    rows = data["image"].database_mask.nonzero().flatten()
    indexes = {}
    for modality in MODALITIES:
        indexes[modality] = HammingIndex(model.num_bits)
        with torch.no_grad():
            relaxed = model(data)[modality][rows]
        more_of_it = {"relaxed": relaxed} if modality == "image" else {}
        indexes[modality].add(binarize(relaxed), ids=rows, **more_of_it)
    kinds = {"image": Pictures, "text": Words}
    ready = {m: kinds[m](data[m].x) for m in encoders}
    indexes = {modality: with_fields(index, items) for modality, index in indexes.items()}
    return SearchEngine(model, indexes, ready, title="toy <b>", **more)


FIELDS = {"text": str, "image": str, "labels": list, "year": int}


def make_catalog(folder: Path, **more):
    """An engine over a catalogue: ``make_engine``'s items under string ids, with fields.

    Every third item has no picture, and every fifth no text.
    """
    plain = make_engine(folder)
    for modality, every in (("image", 3), ("text", 5)):
        old = plain.indexes[modality]
        rows = [row for row in old.ids.tolist() if row % every]
        store = HammingIndex.create(
            folder / f"{modality}.store", old.num_bits, ids=str, fields=FIELDS
        )
        known = old.metadata(rows)
        kept = {
            "text": [
                text if row % 5 else None for text, row in zip(known["text"], rows, strict=True)
            ],
            "image": [f"{row}.png" if row % 3 else None for row in rows],
            "labels": known["labels"],
            "year": [2000 + row if row % 7 else None for row in rows],
        }
        relaxed = old.relaxed(rows)
        store.add(old.codes(rows), [f"set/{row}" for row in rows], kept, relaxed=relaxed)
        store.save()
    return open_catalog(plain, folder, **more)


def open_catalog(plain, folder, **more):
    """The engine over what was saved, with the model and encoders of another one."""
    stores = {m: HammingIndex.open(folder / f"{m}.store") for m in MODALITIES}
    places = {"images_root": str(folder), "added": folder / "added"}
    return SearchEngine(plain.model, stores, plain.encoders, **places, **more)


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


async def request(app, method, target, body=b"", headers=(), *, chunk=1 << 16, client="127.0.0.1"):
    """Send one request, ``target`` being what stands behind the host in an address."""
    path, _, query = target.partition("?")
    parts = [body[i : i + chunk] for i in range(0, len(body), chunk)] or [b""]
    sent, messages = iter(range(len(parts))), []

    async def receive():
        number = next(sent, None)
        if number is None:  # the client waits for the answer
            await asyncio.sleep(3600)
        await asyncio.sleep(0)
        more = number + 1 < len(parts)
        return {"type": "http.request", "body": parts[number], "more_body": more}

    async def send(message):
        messages.append(message)

    raw = [("host", "localhost:1")] if not any(k == "host" for k, _ in headers) else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": query.encode("latin-1", "replace"),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in [*raw, *headers]],
        "client": (client, 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    start = messages[0]
    headers = {k.decode().lower(): v.decode("latin-1") for k, v in start["headers"]}
    return Answer(start["status"], headers, b"".join(m.get("body", b"") for m in messages[1:]))


@contextmanager
def running(engine, token=None, private=False, root_path="", **limits):
    """The address of a server that ends with the block."""
    with listen("127.0.0.1", 0) as listening:
        limits = Limits(**{"drain": 1.0, **limits})
        access = {"token": token, "private": private, "root_path": root_path}
        server = make_server(engine, listening, limits=limits, **access)
        address = address_of(listening)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(20)
            server.config.app.state.work.close()  # as `serve` does


class Client:
    """An application under test."""

    def __init__(self, engine=None, **options):
        self.app = create_app(engine or make_engine(), **options)

    def get(self, target, **headers):
        return asyncio.run(request(self.app, "GET", target, b"", list(headers.items())))

    def send(self, method, target, body=b"", headers=()):
        return asyncio.run(request(self.app, method, target, body, headers))

    def post(self, target, body, headers=()):
        return self.send("POST", target, body, headers)
