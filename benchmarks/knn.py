"""kNN graphs: the backends of knn beside faiss.knn and plain matrix products.

    python -m benchmarks.knn [--short]

The k = 20 nearest of each row among the others by cosine, or the 20 nearest of new rows. Features
like those of an image network (ReLU of 30 clusters in 48 dimensions, with noise) and like bags of
words (Zipf's law). faiss.knn and three lines of torch (product, diagonal, topk) get normalised
rows and order no ties; knn checks, normalises, orders ties by index and scores every neighbour
alone. New rows meet stored ones, which knn has prepared. Recall is against backend='torch'.
"""

from functools import partial
from tempfile import TemporaryDirectory

import h5py
import torch
from torch.nn.functional import normalize

from benchmarks.measure import alone, faster, recall, side_by_side
from benchmarks.record import benchmark
from pyg_hash.datasets import StoredMatrix, open_feature_file
from pyg_hash.knn import knn, prepare

K, RIVALS = 20, ("faiss.knn", "three lines")
SHAPES = (  # new rows (0: every row among the others), stored rows, features
    (0, 2173, 128), (0, 1498, 1280), (0, 2000, 1024), (0, 2173, 4096), (0, 5000, 4096),
    (0, 10_000, 128), (100, 10_000, 128), (100, 2173, 4096), (100, 20_000, 512), (1, 2173, 4096),
)  # fmt: skip


def image_features(n, width, seed=0):
    """Rows as of an image network: not negative, in clusters."""
    g = torch.Generator().manual_seed(seed)
    same = torch.Generator().manual_seed(99)  # the clusters of all seeds
    centres = torch.randn(30, 48, generator=same)
    latent = centres[torch.randint(30, (n,), generator=g)] + 0.7 * torch.randn(n, 48, generator=g)
    x = latent @ torch.randn(48, width, generator=same) / 7
    return torch.relu_(x + 0.3 * torch.randn(n, width, generator=g) - 0.3)


def bags_of_words(n, words, seed=0):
    """Logarithms of word counts; about 1.4 % of the entries are not zero."""
    g = torch.Generator().manual_seed(seed)
    frequency = torch.arange(1, words + 1).float() ** -0.8
    drawn = torch.multinomial(frequency, n * words // 62, replacement=True, generator=g)
    row = torch.arange(n).repeat_interleave(words // 62)
    counts = torch.bincount(row * words + drawn[: row.numel()], minlength=n * words)
    return counts.view(n, words).float().log1p_()


def three_lines(query, database, k, own):
    scores = query @ database.T
    if own:
        scores.fill_diagonal_(-torch.inf)
    return scores.topk(k).indices


def searches(query, database):
    """Each exact way to search, ready to run; new rows meet prepared ones."""
    import faiss

    own = query is database
    find = partial(knn, query, database if own else prepare(database), K, exclude_self=own)
    unit, metric = normalize(database), faiss.METRIC_INNER_PRODUCT
    asked = unit if own else normalize(query)
    return {
        "faiss.knn": partial(faiss.knn, asked.numpy(), unit.numpy(), K + own, metric=metric),
        "three lines": partial(three_lines, asked, unit, K, own),
        "knn, torch": partial(find, backend="torch"),
        "knn, auto": find,
    }


def compared(record, title, calls, note="", **how):
    """A table; seconds, speed against the fastest rival (or "knn, torch"), and recall of knn."""
    found = {name: call()[1] for name, call in calls.items() if name not in RIVALS}
    seconds = side_by_side(calls, **how)
    rivals = seconds.keys() - found.keys()
    reference = min(rivals, key=seconds.__getitem__, default="knn, torch")
    parts = {name: recall(neighbours, found["knn, torch"]) for name, neighbours in found.items()}
    speed = faster(seconds, reference)
    columns = {"seconds": seconds, f"speed, {reference} = 1": speed, "recall": parts}
    record.columns(title, "method", columns, note)
    return seconds, speed, parts


def prepare_memory(n, width):
    x = image_features(n, width)
    knn(x[:100], x[:100], 3)
    return partial(knn, x, x, K, exclude_self=True, backend="torch")


def prepare_stored(path, width):
    query = image_features(100, width, seed=1)
    knn(query, query, 3)

    def run():
        with open_feature_file(path) as file:
            knn(query, StoredMatrix(file, "image"), K, backend="torch")

    return run


def exact(record, short):
    shapes = [(0, 500, 64), (50, 500, 64), (1, 500, 64)] if short else SHAPES
    speed, parts, lone = {}, [], 0.0
    for queries, n, width in shapes:
        x = image_features(n, width)
        query = image_features(queries, width, seed=1) if queries else x
        asked = f"{queries} new rows among {n:,}" if queries else f"all of {n:,} rows"
        found = compared(record, f"{asked}, {width} features", searches(query, x), at_least=2)
        seconds, times, part = (of["knn, auto"] for of in found)
        parts.append(part)
        if queries == 1:
            lone = seconds
        else:
            speed[f"{asked} x {width}"] = times
    record.bars("knn, auto (the better rival = 1)", speed, x="times as fast")
    slowest = min(speed.values())
    record.goal("the better rival, the slowest shape but the lone query", slowest, at_least=0.95)
    record.goal("2 ms against the time of a lone query", 0.002 / lone, at_least=1)
    record.goal("recall of knn, auto, the lowest of dense features", min(parts), at_least=0.999)


def words(record, short):
    n, width = (400, 620) if short else (6000, 3000)
    x = bags_of_words(n, width)
    x = x[(x != 0).any(1)]
    unit, csr = normalize(x), x.to_sparse_csr()
    find = partial(knn, k=K, exclude_self=True)
    calls = {
        "three lines": partial(three_lines, unit, unit, K, True),
        "knn, torch": partial(find, x, x, backend="torch"),
        "knn, auto, dense tensor": partial(find, x, x),
        "knn, auto, CSR tensor": partial(find, csr, csr),
    }
    title = f"Bags of words, {n:,} x {width:,}, {x.count_nonzero() / x.numel():.1%} not zero"
    note = "Recall below 1: cosines that differ in the last bit, in another order or at the k-th "
    speed = compared(record, title, calls, note + "place.", repeats=4)[1]["knn, auto, CSR tensor"]
    record.goal("sparse text kNN against three lines", speed, at_least=5)


def approximate(record, short):
    n, width = (1000, 256) if short else (10_000, 1024)
    x = image_features(n, width)
    find = partial(knn, x, x, K, exclude_self=True)
    calls = {way: partial(find, approximate=way) for way in ("pca", "ivf", "hnsw")}
    calls = {"knn, torch": partial(find, backend="torch"), **calls}
    title = f"Approximate, {n:,} x {width:,}, indexes built in the time"
    compared(record, title, calls, repeats=1, at_least=0)


def memory(record, short):
    rows = []

    def row(case, n, width, queries, extra):
        row = {"case": f"{case}, {width:,} features", "features, MB": n * width * 4 / 1e6}
        rows.append(row | {"all scores, MB": n * queries * 4 / 1e6, "extra MB": extra / 1e6})

    for n in (2000, 4000) if short else (10_000, 20_000):
        row(f"all of {n:,} rows in memory", n, 128, n, alone(prepare_memory, n, 128).extra_bytes)
    n, width = (2000, 256) if short else (40_000, 2048)
    with TemporaryDirectory() as folder:
        path = f"{folder}/features.h5"
        with h5py.File(path, "w") as file:  # never all in memory
            node = file.create_dataset("image", (n, width), "f4")
            for start in range(0, n, 1000):
                node[start : start + 1000] = image_features(1000, width, seed=start).numpy()
        extra = alone(prepare_stored, path, width).extra_bytes
    row(f"100 new rows among {n:,} in HDF5", n, width, 100, extra)
    record.table("Peak memory beyond the data", rows)


@benchmark("kNN graphs")
def main(record, args):
    for part in (exact, words, memory, approximate):
        part(record, args.short)
