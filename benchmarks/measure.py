"""How every benchmark measures: side by side in time, alone in memory.

A benchmark is one file, ``map.py`` for one. Its docstring says in three paragraphs what is
compared, by which command, and what is computed on which data: shown with the results. Cases are
made at the top level of the file, where :func:`alone` finds them, and ``main``, which stands last
under ``@benchmark``, fills a ``Record`` with tables, goals and panels. ``docs/performance.rst``
says what time and memory mean.
"""

import ctypes
import gc
import importlib.util
import multiprocessing
import os
import re
import resource
import socket
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from threadpoolctl import threadpool_limits
from torch.multiprocessing import start_processes

from pyg_hash.graph import SparseMap
from pyg_hash.utils import faiss

quick = False  # whether side_by_side() takes one turn: short forms decide nothing
ROOT = Path(__file__).resolve().parents[1]
# a parser that shows a docstring as it is written
command_line = partial(ArgumentParser, formatter_class=RawDescriptionHelpFormatter)


def options(doc, arguments=None, *, picture=True, **more):
    """The command line of a benchmark; one turn if it is ``--short``.

    ``picture`` says whether the benchmark draws, which needs matplotlib; ``more`` are other options
    and their defaults. What comes back has ``flags``, all that was given except for ``--out``, and
    ``protocol``, the third paragraph of ``doc``, too.
    """
    where = ArgumentParser(add_help=False)
    about = "folder of the files (benchmarks/results; build/bench if --short)"
    where.add_argument("--out", type=Path, help=about)
    parser = command_line(description=doc, parents=[where])
    parser.add_argument("--short", action="store_true", help="tiny sizes, a few seconds")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(arguments)
    args.flags = where.parse_known_args(arguments)[1]
    args.protocol = " ".join((doc or "").split("\n\n")[2].split())
    if picture and importlib.util.find_spec("matplotlib") is None:  # found out now, not later
        parser.error("matplotlib is not installed; pip install 'pyg_hash[bench]'")
    args.out = args.out or ROOT / ("build/bench" if args.short else "benchmarks/results")
    global quick
    quick = args.short
    return args


def one_thread():
    torch.set_num_threads(1)
    threadpool_limits(1)
    if faiss.is_installed():
        faiss.load().omp_set_num_threads(1)


def cuda_seconds():
    """Wall time, once the GPU has done all that it was asked for."""
    torch.cuda.synchronize()
    return time.perf_counter()


CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter, "cuda": cuda_seconds}


def side_by_side(cases, *, repeats=3, at_least=0.2, clock="cpu"):
    """The smallest time of each case in seconds; the cases take turns, the first is a warm-up too.

    Short cases get up to 50 turns, until a turn of each adds up to ``at_least`` seconds. ``clock``
    is ``'cpu'``, ``'wall'`` (where processes or files matter) or ``'cuda'``.
    """
    now = CLOCKS[clock]
    best = dict.fromkeys(cases, float("inf"))
    turns, total = 0, 0.0
    if quick:
        repeats, at_least = 1, 0.0
    while turns < repeats or (total < at_least and turns < 50):
        turns += 1
        for name, case in cases.items():
            start = now()
            result = case()
            seconds = now() - start
            del result  # not in the time, and not in the way of the next case
            best[name] = min(best[name], seconds)
            total += seconds
    return best


def faster(seconds, reference):
    return {name: seconds[reference] / s for name, s in seconds.items()}


def difference(found, expected):
    """Of tensors or numbers, or of lists of them: the largest, relative to the largest value."""
    if isinstance(expected, (list, tuple)):
        each = [difference(a, b) for a, b in zip(found, expected, strict=True)]
        return float(torch.tensor(each, dtype=torch.float64).max())  # NaN if one is
    a, b = (torch.as_tensor(x).detach().cpu().double() for x in (found, expected))
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def recall(found, true):
    """The part of the true neighbours, ids by row, that was found."""
    return float((true.unsqueeze(2) == found.unsqueeze(1)).any(2).double().mean())


def gemm_rate(dtype=torch.float32, size=2048, device="cpu", clock="cpu"):
    """What the machine reaches in a square matrix product right now, in FLOP/s: the floor."""
    n = min(256, size)
    while True:  # sizes grow until one is slow, as large products in bfloat16 may be
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        seconds = side_by_side({"mm": partial(torch.mm, a, b)}, clock=clock)["mm"]
        if n == size or seconds > 0.2:
            return 2 * n**3 / seconds
        n = min(2 * n, size)


class Alone(NamedTuple):
    """What one call of a case took."""

    extra_bytes: int  # largest memory during it minus memory at its start, data included there
    cpu_seconds: float
    wall_seconds: float
    value: Any  # what it returned, if that is a number or a dictionary, else None


def alone(prepare, *args, limit_gb=10.0, **kwargs):
    """Run one case in a fresh process: a fork of one that has loaded the libraries and no data.

    Linux only. ``prepare(*args, **kwargs)``, at the top level of a file, makes the data and returns
    the case; it should call the method once on tiny data, so that libraries are loaded. A case that
    needs more than ``limit_gb`` is a ``MemoryError``, one that fails otherwise a ``RuntimeError``
    that holds what it printed.
    """
    with ProcessPoolExecutor(1, mp_context=forks()) as own:
        try:
            return own.submit(_alone, prepare, args, kwargs, int(limit_gb * 1e9)).result()
        except Exception as error:
            said = f"{error.__cause__ or error}"  # the traceback there, or that it was killed
            signs = re.search("MemoryError|can't allocate|out of mem", said)
            kind = MemoryError if signs or isinstance(error, BrokenProcessPool) else RuntimeError
            raise kind(f"{prepare.__name__}{args}: {said[-2000:]}") from error


def _alone(prepare, args, kwargs, limit):
    one_thread()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return measured(prepare(*args, **kwargs))


def in_ranks(count, work, *args):
    """Call a function in processes that find each other as those of ``torchrun``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    place |= {"WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "none"}
    forks()
    start_processes(_rank, (place, work, args), count, start_method="forkserver")


def _rank(rank, place, work, args):
    one_thread()
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    work(*args)


@cache
def forks():
    """A context of processes that are forks of one that has loaded the libraries, and no more."""
    context = multiprocessing.get_context("forkserver")
    here = [name for name in sys.modules if name.startswith("benchmarks.")]
    context.set_forkserver_preload(["faiss", "pyg_hash.models", "pyg_hash.transforms", *here])
    settings = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "262144"}  # freed is given back
    with patch.dict(os.environ, settings, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context


def measured(case):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest resident set so far
    before = resident("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    value = case()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    kept = value if isinstance(value, (dict, float)) else None
    return Alone(max(0, resident("VmHWM") - before), cpu, wall, kept)


def resident(key):
    """Bytes of this process in memory: ``'VmRSS'`` now, ``'VmHWM'`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def num_bytes(of):
    """Memory of a matrix; of all that a map has, those of the backward pass included."""
    if isinstance(of, SparseMap):
        parts = (of.matrix, of._scatter, of._gather, of._middle, *of._transposes)
        return sum(map(num_bytes, {id(part): part for part in parts if part is not None}.values()))
    sparse = of.layout == torch.sparse_csr
    arrays = (of.crow_indices(), of.col_indices(), of.values()) if sparse else (of,)
    return sum(array.numel() * array.element_size() for array in arrays)


def cell(value):
    """One value of a table: three digits of a float, thousands of an integer."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
