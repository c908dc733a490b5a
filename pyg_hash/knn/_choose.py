"""Which exact backend is the fastest here: measured once, on a sample of the machine's work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from pyg_hash.knn import _faiss, _flat, _sparse, _torch
from pyg_hash.knn._rows import is_csr

_SMALL = 1 << 34  # multiplications: a tenth of a second, not worth a measurement
_SPARSE = 0.05  # part of entries that are not zero: below, sparse products are faster
_BF16_WIDTH, _BF16_ROWS = 512, 2000  # from here on the product is what a search takes
_BF16_GAIN = 2.0
_FAISS_GAIN = 1.1


def choose(query: Tensor, database: Tensor) -> str:
    """The backend that ``'auto'`` stands for.

    What is timed chooses between backends that score the same pairs in the same way, so the
    answer does not depend on it.

    Args:
        query: float ``[q, d]``, dense or CSR.
        database: float ``[n, d]`` on the same device.
    """
    if is_csr(query) or is_csr(database):
        return "sparse"
    if query.device.type != "cpu":
        return "torch"
    work = query.size(0) * database.size(0) * query.size(1)
    if work < _SMALL:
        return "torch"
    if _flat.has_gpu():
        return "faiss"
    if max(_sparse.density(query), _sparse.density(database)) <= _SPARSE:
        return "sparse"
    seconds = measured(torch.get_num_threads())
    once = 0.7 if _torch.symmetric(query, database) else 1.0
    if (
        query.size(1) >= _BF16_WIDTH
        and database.size(0) >= _BF16_ROWS
        and seconds["torch"] > _BF16_GAIN * seconds["bf16"]
    ):
        return "bf16"
    return "faiss" if once * seconds["torch"] > _FAISS_GAIN * seconds["faiss"] else "torch"


@lru_cache
def measured(threads: int) -> dict[str, float]:
    """Seconds of one product ``512 x 1024 x 2048`` in torch's float32 and bfloat16 and in FAISS.

    Repeated in turns, the smallest counts. It takes about 0.1 s once per process.

    Args:
        threads: of torch; another number is another measurement.
    """
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(512, 1024, generator=generator)
    database = torch.randn(2048, 1024, generator=generator)
    low_query, low_database = query.bfloat16(), database.bfloat16()
    cases: dict[str, Callable[[], object]] = {
        "torch": lambda: query @ database.T,
        "bf16": lambda: low_query @ low_database.T,
    }
    if _faiss.is_installed():
        index = _flat.flat_index(database, False)
        cases["faiss"] = lambda: index.search(query.numpy(), 1)
    seconds = dict.fromkeys(("torch", "bf16", "faiss"), float("inf"))
    for _ in range(3):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds
