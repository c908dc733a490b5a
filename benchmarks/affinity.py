"""SGEH's stage 1 at 20,000 pairs: time and extra memory, with a dense search beside it.

    python -m benchmarks.affinity

Features are planted: groups in a latent space, seen through a random ReLU layer with noise,
centred and of equal length, in two modalities (128 and 64 columns). Neighbours are given: they are
searched and written to a file first, with their own time in the table. Each search runs in a fresh
process that has only read this file:

* seconds: wall and CPU time of the search alone;
* extra MB: the process's largest resident set during the search (``VmHWM``, reset just before)
  minus the resident set at its start, with features and neighbours in memory. Linux only.

The dense search holds m x m float64 matrices: all pairs of distances, full rows in every step and
LAPACK for the c smallest eigenvectors. It takes the same steps, so its graph must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.linalg
import scipy.sparse as sp
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyg_hash import __version__
from pyg_hash.transforms.affinity import Neighbours, nearest_neighbours, unified_affinity
from pyg_hash.transforms.affinity.embedding import components
from pyg_hash.transforms.affinity.steps import (
    neighbour_weights,
    update_unified,
    update_view,
    view_weight,
)
from pyg_hash.transforms.affinity.unified import next_lambda
from pyg_hash.utils.files import atomic_path, save_json

K, MAX_ITER, WIDTHS, LATENT = 5, 20, (128, 64), 16
CASES: dict[str, dict[str, Any]] = {  # spread: how far apart the groups are
    "20k, overlapping groups": {"m": 20_000, "groups": 20, "spread": 1.0, "c": 10},
    "20k, groups that touch": {"m": 20_000, "groups": 20, "spread": 2.0, "c": 20},
    "20k, hardly any groups": {"m": 20_000, "groups": 20, "spread": 0.3, "c": 30},
    "2k": {"m": 2_000, "groups": 10, "spread": 1.0, "c": 10, "compare": True},
    "400": {"m": 400, "groups": 6, "spread": 1.0, "c": 6, "compare": True},
}
Result = dict[str, Any]


def features(m: int, groups: int, spread: float, seed: int = 0) -> list[Tensor]:
    """Two modalities of planted groups, float32 ``[m, d]``, rows of squared length 10."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(groups, (m,), generator=g)
    latent = spread * torch.randn(groups, LATENT, generator=g)[y]
    latent = latent + torch.randn(m, LATENT, generator=g)
    views = []
    for width in WIDTHS:
        layer = torch.randn(LATENT, width, generator=g) / LATENT**0.5
        x = torch.relu(latent @ layer) + 0.6 * torch.randn(m, width, generator=g)
        x = x - x.mean(0)
        views.append(x * (10.0**0.5) / x.norm(dim=1, keepdim=True))
    return views


def dense_search(views: list[Tensor], c: int) -> tuple[np.ndarray, list[int]]:
    """The same search with m x m matrices throughout: Z and the components of each turn."""
    distances, orders, m = [], [], len(views[0])
    support = np.zeros((m, m), dtype=bool)
    for x in views:
        wide = x.double().numpy()
        b = np.stack([((wide - row) ** 2).sum(1) for row in wide])
        np.fill_diagonal(b, np.inf)
        order = np.argsort(b, axis=1, kind="stable")[:, : K + 1]
        np.put_along_axis(support, order[:, :K], True, axis=1)
        distances.append(b)
        orders.append(order)
    s = [neighbour_weights(b, K) for b in distances]
    z = np.mean(s, axis=0)
    weights = [0.5, 0.5]
    counts: list[int] = []
    lam, d = 1.0, embedding_distances(z, c)
    for _ in range(MAX_ITER):
        parts = zip(distances, orders, weights, strict=True)
        s = [update_view(b, order, z, w) for b, order, w in parts]
        weights = [view_weight(z, view) for view in s]
        z = update_unified(s, weights, d, lam, support)
        counts.append(components(sp.csr_array(z))[0])
        if counts[-1] == c:
            break
        if counts[-1] < c:
            d = embedding_distances(z, c)
        lam = next_lambda(lam, counts[-1], c)
    return z, counts


def embedding_distances(z: np.ndarray, c: int) -> np.ndarray:
    """All squared distances between the rows of the c smallest eigenvectors."""
    half = (z + z.T) / 2
    lap = np.diag(half.sum(1)) - half
    f = scipy.linalg.eigh(lap, subset_by_index=[0, c - 1])[1]
    square = (f**2).sum(1)
    return np.maximum(square[:, None] + square - 2.0 * (f @ f.T), 0.0)


def memory_mb(field: str) -> float:
    """``VmRSS``, the resident set of this process, or ``VmHWM``, its largest since the reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def search_once(folder: Path, c: int, dense: bool) -> None:
    """What a fresh process does: read, search, write the graph and its figures."""
    stored = load_file(folder / "given.safetensors")
    views = [stored["x0"].clone(), stored["x1"].clone()]
    given = [Neighbours(stored[f"d{v}"].clone(), stored[f"i{v}"].clone(), views[v]) for v in (0, 1)]
    del stored
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, wall, cpu = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    result: Result = {"residual": 0.0}
    if dense:
        z, counts = dense_search(views, c)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the figures say whether c was reached
            graph = unified_affinity(given, c, K, max_iter=MAX_ITER, progress=False)
        counts = [row["num_components"] for row in graph.history]
        result["residual"] = max(row["residual"] or 0.0 for row in graph.history)
    result |= {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "extra_mb": memory_mb("VmHWM") - before,
        "components": counts,
    }
    name = "dense" if dense else "sparse"
    if not dense:
        parts = (graph.values.numpy(), graph.indices.numpy(), graph.indptr.numpy())
        z = sp.csr_array(parts, shape=(len(views[0]),) * 2)
    z = sp.coo_array(z)
    entries = {"row": z.coords[0], "column": z.coords[1], "value": z.data}
    kept = {key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in entries.items()}
    save_file(kept, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(result))


def measure(name: str, case: Result) -> Result:
    """One case: make the data, run the searches in processes of their own, compare."""
    m, c = case["m"], case["c"]
    views = features(m, case["groups"], case["spread"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = time.perf_counter()
        lists = [nearest_neighbours(x, K) for x in views]
        row: Result = {"case": name, **case, "knn_seconds": time.perf_counter() - start}
        given = {f"x{v}": x for v, x in enumerate(views)}
        for v, view in enumerate(lists):
            given |= {f"d{v}": view.distance, f"i{v}": view.index}
        save_file(given, folder / "given.safetensors")
        kinds = ["sparse", "dense"] if case.get("compare") else ["sparse"]
        graphs = {}
        for kind in kinds:
            command = [sys.executable, "-m", "benchmarks.affinity"]
            command += ["--child", str(folder), str(c), kind]
            env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            subprocess.run(command, check=True, env=env)
            row[kind] = json.loads((folder / f"{kind}.json").read_text())
            stored = load_file(folder / f"{kind}.safetensors")
            index = (stored["row"].numpy(), stored["column"].numpy())
            graphs[kind] = sp.coo_array((stored["value"].numpy(), index), shape=(m, m)).tocsr()
    row["edges"] = int(graphs["sparse"].nnz)
    if "dense" in graphs:
        labels = [components(graph)[1] for graph in graphs.values()]
        row["largest_difference"] = float(abs(graphs["sparse"] - graphs["dense"]).max())
        row["same_components"] = bool((labels[0] == labels[1]).all())
    print(json.dumps(row), flush=True)
    return row


def table(rows: list[Result]) -> str:
    """Both tables in Markdown."""
    lines = [
        "| case | pairs | clusters | turns | components | seconds (CPU) | extra MB | edges "
        "| worst residual | kNN seconds, not included |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row["sparse"]
        lines.append(
            f"| {row['case']} | {row['m']:,} | {row['c']} | {len(found['components'])} | "
            f"{found['components'][-1]} | {found['seconds']:.1f} ({found['cpu_seconds']:.1f}) | "
            f"{found['extra_mb']:.0f} | {row['edges']:,} | {found['residual']:.0e} | "
            f"{row['knn_seconds']:.1f} |"
        )
    lines += [
        "",
        "| against the dense search | seconds, dense / sparse | extra MB, dense / sparse "
        "| same components | largest difference of Z |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if "dense" not in row:
            continue
        a, b = row["dense"], row["sparse"]
        same = row["same_components"] and a["components"] == b["components"]
        lines.append(
            f"| {row['m']:,} pairs | {a['seconds']:.1f} / {b['seconds']:.2f} = "
            f"{a['seconds'] / b['seconds']:.0f}x | {a['extra_mb']:.0f} / {b['extra_mb']:.0f} = "
            f"{a['extra_mb'] / b['extra_mb']:.0f}x | {'yes, in every turn' if same else 'no'} | "
            f"{row['largest_difference']:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all cases, print the tables, and store them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        folder, c, kind = args.child
        search_once(Path(folder), int(c), kind == "dense")
        return
    load = os.getloadavg()[0]
    rows = [measure(name, case) for name, case in CASES.items()]
    about = {
        "command": "python -m benchmarks.affinity",
        "settings": f"k={K}, max_iter={MAX_ITER}, float64, all other settings are the defaults",
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "load before and after": f"{load:.1f}, {os.getloadavg()[0]:.1f}",
        "versions": {
            "pyg_hash": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    }
    save_json(args.out / "affinity.json", {"about": about, "rows": rows})
    text = "\n".join(f"- {key}: {value}" for key, value in about.items())
    with atomic_path(args.out / "affinity.md") as temporary:
        page = f"# The unified affinity graph\n\n{text}\n\n{table(rows)}\n"
        temporary.write_text(page, encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
