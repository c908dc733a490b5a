"""How every benchmark measures: side by side in time, alone in memory.

A benchmark is one file, and looks like this::

    '''Headline: what is compared.

        python -m benchmarks.name [--short]

    What is computed on which data, and what each method is: shown with the results.
    '''

    from benchmarks.measure import alone, options, side_by_side
    from benchmarks.record import Record

    def prepare_fast(n):                      # module level; arguments are JSON values
        x = torch.randn(n, 64)
        fast(x[:8])                           # load what the first call loads, outside the measure
        return lambda: fast(x)

    def main(arguments=None):
        args = options(__doc__, arguments)    # --short and --out; one thread
        record = Record("name", "Title", args)
        n = 500 if args.short else 10_000
        seconds = side_by_side({"slow": prepare_slow(n), "fast": prepare_fast(n)})
        extra = alone(prepare_fast, n).extra_bytes
        record.table("Title", [{"method": name, "s": s} for name, s in seconds.items()])
        record.goal("fast against slow", seconds["slow"] / seconds["fast"], at_least=6)
        record.plot("N = ...", {"fast": [(n, ...)]}, x="nodes", y="seconds")
        record.save()                         # DIR/name.json, .md, .png

Time is CPU time of the process at one thread, the smallest of repeats that take turns: on a shared
machine only ratios within one run mean anything. Memory is measured in a fresh process for each
case, so that nothing is left over from another.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

HERE = Path(__file__).resolve().parent
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Case = Callable[[], Any]


def options(
    doc: str | None,
    arguments: list[str] | None = None,
    *,
    device: str = "",
    picture: bool = True,
    **more: Any,
) -> argparse.Namespace:
    """The command line of a benchmark, and one thread for everything.

    Args:
        doc: the script's docstring: a headline, the command, what is computed on which data.
        arguments: of the command line; None takes the process's own.
        device: default of ``--device``; without one there is no such option.
        picture: whether the benchmark draws, which needs matplotlib.
        **more: other options and their default values, for example ``limit_gb=10.0``.

    Returns:
        the options; ``flags``, what was given on the command line except for ``--out``; and
        ``protocol``, the third paragraph of ``doc``.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="tiny sizes, a few seconds")
    parser.add_argument(
        "--out", type=Path, help="folder of the files (benchmarks/results; build/bench if --short)"
    )
    if device:
        parser.add_argument("--device", type=torch.device, default=torch.device(device))
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(arguments)
    elsewhere = argparse.ArgumentParser()
    elsewhere.add_argument("--out")
    args.flags = elsewhere.parse_known_args(arguments)[1]
    args.protocol = " ".join((doc or "").split("\n\n")[2].split())
    if picture and importlib.util.find_spec("matplotlib") is None:  # found out now, not later
        parser.error("matplotlib is not installed; pip install 'pyg_hash[bench]'")
    if args.out is None:
        args.out = HERE.parent / "build" / "bench" if args.short else HERE / "results"
    one_thread()
    return args


def one_thread() -> None:
    """Compute with one thread, in torch and in faiss."""
    torch.set_num_threads(1)
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(1)


def cuda_seconds() -> float:
    """Wall time, once the GPU has done all that it was asked for."""
    torch.cuda.synchronize()
    return time.perf_counter()


CLOCKS: dict[str, Callable[[], float]] = {
    "cpu": time.process_time,
    "wall": time.perf_counter,
    "cuda": cuda_seconds,
}


def side_by_side(
    cases: Mapping[str, Case], *, repeats: int = 3, at_least: float = 0.2, clock: str = "cpu"
) -> dict[str, float]:
    """The smallest time of each case in seconds; the cases take turns.

    Args:
        cases: functions without arguments, data ready. The first turn doubles as the warm-up.
        repeats: turns.
        at_least: seconds; short cases get up to 50 turns, until a turn of each adds up to this.
        clock: ``'cpu'``, ``'wall'`` (where processes or files matter) or ``'cuda'``.
    """
    now = CLOCKS[clock]
    best = dict.fromkeys(cases, float("inf"))
    turns, total = 0, 0.0
    while turns < repeats or (total < at_least and turns < 50):
        for name, case in cases.items():
            start = now()
            result = case()
            seconds = now() - start
            del result  # not in the time, and not in the way of the next case
            best[name] = min(best[name], seconds)
            total += seconds
        turns += 1
    return best


def gemm_rate(
    dtype: torch.dtype = torch.float32, size: int = 2048, device: torch.device | None = None
) -> float:
    """What the machine reaches in a square matrix product right now, in FLOP/s: the floor."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    clock = "cuda" if a.is_cuda else "cpu"
    return 2 * size**3 / side_by_side({"mm": lambda: a @ b}, clock=clock)["mm"]


class Alone(NamedTuple):
    """What a case took in a process of its own.

    Attributes:
        extra_bytes: largest memory during the call minus memory at its start, data included there.
        cpu_seconds: of the call; one run, for cases too large to repeat.
        wall_seconds: of the call.
        value: what the call returned, if JSON can hold it, else None.
    """

    extra_bytes: int
    cpu_seconds: float
    wall_seconds: float
    value: Any


def alone(prepare: Callable[..., Case], *args: Any, limit_gb: float = 10.0, **kwargs: Any) -> Alone:
    """Run one case in a fresh process: a fork of one that has imported the file and done nothing.

    Linux only.

    Args:
        prepare: a function at the top level of a file; makes the data and returns the case. It
            should call the method once on tiny data, so that libraries are loaded.
        *args: of ``prepare``, JSON values.
        limit_gb: the process may hold this much data, then its allocations fail.
        **kwargs: of ``prepare``, JSON values.

    Raises:
        MemoryError: the case needs more than ``limit_gb``.
        RuntimeError: it failed otherwise; the message holds what it printed.
    """
    module = prepare.__module__
    if module == "__main__":  # python -m benchmarks.NAME
        module = sys.modules[module].__spec__.name
    server = _servers.get(module)
    if server is None or server.poll() is not None:
        server = _servers[module] = _start(module)
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps([prepare.__name__, args, kwargs, limit_gb]) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    if not answer:
        raise RuntimeError(f"{module}: cannot be imported; see the error above")
    result = json.loads(answer)
    if "error" in result:
        lacking = any(s in result["error"] for s in ("MemoryError", "can't allocate", "out of mem"))
        raise (MemoryError if lacking else RuntimeError)(
            f"{prepare.__name__}{args}: {result['error'][-2000:]}"
        )
    return Alone(**result)


_servers: dict[str, subprocess.Popen[str]] = {}


def _start(module: str) -> subprocess.Popen[str]:
    """The process that :func:`alone` forks; it ends when this one does, or closes its input."""
    settings = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "262144"}  # freed is given back
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.measure", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def _serve(name: str) -> None:
    """The other side of :func:`alone`: a call a line comes, a result a line goes."""
    one_thread()
    module = importlib.import_module(name)
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as answer:
            child = os.fork()
            if child == 0:
                _answer(module, line, answer)
            status = os.waitpid(child, 0)[1]
            answer.seek(0)
            killed = {"error": f"MemoryError? it was killed, wait status {status}"}
            print(answer.read() or json.dumps(killed), flush=True)


def _answer(module: Any, line: str, file: Any) -> NoReturn:
    os.dup2(2, 1)  # what a case prints is no answer
    name, args, kwargs, limit_gb = json.loads(line)
    try:
        result = _measured(getattr(module, name), args, kwargs, int(limit_gb * 1e9))
    except BaseException:
        result = {"error": traceback.format_exc()}
    file.write(json.dumps(result))
    file.flush()
    os._exit(0)


def _measured(
    prepare: Callable[..., Case], args: list[Any], kwargs: dict[str, Any], limit: int
) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    case = prepare(*args, **kwargs)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    cuda = torch.cuda.is_initialized()
    wall_now = CLOCKS["cuda" if cuda else "wall"]
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        RESET.write_text("5")  # forget the largest resident set so far
        before = _status("VmRSS")
    cpu, wall = time.process_time(), wall_now()
    value = case()
    wall, cpu = wall_now() - wall, time.process_time() - cpu
    after = torch.cuda.max_memory_allocated() if cuda else _status("VmHWM")
    try:
        json.dumps(value)
    except TypeError:
        value = None
    return Alone(max(0, after - before), cpu, wall, value)._asdict()


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    _serve(sys.argv[1])
