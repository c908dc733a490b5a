"""Search page: 200 requests at a time on loopback.

    python -m benchmarks.serve_load [--short] [--run RUN]

`pyg-hash serve RUN` runs in a process of its own with two threads for its models; this process is
200 visitors who each open a connection, ask, read the whole answer (24 items), and ask again.
"at a time 1" is one visitor alone. Latency is wall time from connecting to the last byte, so that
with 200 visitors it holds the wait for the 199 others; an error is any status but 200 or a
connection that breaks. "CPU" is the work of the server's process, which depends less than latency
on what else the machine does. Kinds that the run cannot answer (no encoder) are left out; without
RUN, an MCGCN on synthetic features is trained first, which answers "similar item" alone.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks.measure import ROOT
from benchmarks.record import benchmark
from pyg_hash.cli import main as pyg_hash
from pyg_hash.runs import Run


@contextmanager
def server(run):
    """A server of a run in its own process; its port and process number."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-u", "-m", "pyg_hash", "serve", str(run), "--port=0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            for line in process.stdout:
                found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
                if found:
                    yield int(found[1]), process.pid
                    return
            raise RuntimeError(f"{run}: the server ended; see above")
        finally:
            process.terminate()


def cpu_seconds(process):
    """Processor time of a process so far; NaN where there is no /proc."""
    with suppress(FileNotFoundError):
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, stat[11:13])) / os.sysconf("SC_CLK_TCK")
    return float("nan")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return json.load(answer)


def message(method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def kinds(port, run):
    """Requests that the run can answer: number -> bytes."""
    index, about = run.searched("image"), get(port, "/api/run")
    ids = index.list(limit=len(index)).tolist()
    known, asks = index.metadata(ids), {}
    texts = [quote(text[:200]) for text in known.get("text", ()) if text]
    if "text" in about["queries"] and texts:
        asks["words"] = lambda i: message("GET", f"/api/search?text={texts[i % len(texts)]}")
    root = Path(run.pictures_root() if run.has_catalog else "")
    pictures = [(root / path).read_bytes() for path in known.get("image", ())[:64] if path]
    if "image" in about["queries"] and pictures:
        asks["picture"] = lambda i: message("POST", "/api/search", pictures[i % len(pictures)])
    items = [quote(str(item), safe="") for item in ids]
    asks["similar item"] = lambda i: message("GET", f"/api/similar?id={items[i % len(items)]}")
    return asks


async def load(port, ask, visitors, times):
    """Let visitors ask, each ``times`` times; returns what they saw, of the table's row."""
    latencies = []

    async def visit(visitor):
        for number in range(times):
            content = ask(visitor * times + number)
            start = time.perf_counter()
            with suppress(OSError, ValueError, KeyError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(content)
                await writer.drain()
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                writer.close()
                if head.startswith(b"HTTP/1.1 200 ") and json.loads(body)["answers"]:
                    latencies.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(visit(visitor) for visitor in range(visitors)))
    seconds, asked, answered = time.perf_counter() - start, visitors * times, len(latencies)
    row = {"at a time": visitors, "requests": asked, "errors": asked - answered}
    for name, part in {"p50, ms": 0.5, "p99, ms": 0.99, "slowest, ms": 1.0}.items():
        row[name] = 1e3 * float(np.quantile(latencies or [np.nan], part, method="higher"))
    return row | {"requests/s": answered / seconds}


def synthetic_run(folder):
    words = ["--dataset=synthetic", "--dataset_options.n=600", f"--root={folder / 'data'}"]
    words += [f"--out={folder / 'run'}", "--epochs=1", "--label_rate=0.5"]
    if pyg_hash(["train", *words]) != 0:
        raise RuntimeError("no run could be trained; see above")
    return folder / "run"


@benchmark("Search page", run="")
def main(record, args):
    visitors, times, alone = (20, 2, 5) if args.short else (200, 3, 50)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(args.run or synthetic_run(Path(folder)))
        with server(run.path) as (port, process):
            for kind, ask in kinds(port, run).items():
                asyncio.run(load(port, ask, 1, 3))  # what the first call loads
                for count, each in ((1, alone), (visitors, times)):
                    before = cpu_seconds(process)
                    seen = asyncio.run(load(port, ask, count, each))
                    cpu = 1e3 * (cpu_seconds(process) - before)
                    answered = max(1, seen["requests"] - seen["errors"])
                    rows.append({"request": kind, **seen, "CPU a request, ms": cpu / answered})
            get(port, "/healthz")  # it is still there
            items = get(port, "/api/run")["database"]["image"]
    record.table(f"{items:,} items in the database", rows)
    crowds = rows[1::2]
    errors, total = (sum(row[name] for row in crowds) for name in ("errors", "requests"))
    record.goal(f"errors in {total:,} requests, {visitors} at a time", errors, at_most=0)
    bars = {f"{row['request']}, {p}": row[f"{p}, ms"] for row in crowds for p in ("p50", "p99")}
    record.bars(f"{visitors} at a time", bars, x="milliseconds")
