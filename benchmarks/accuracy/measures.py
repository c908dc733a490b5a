"""What is measured of the codes of one cell."""

from itertools import product

import torch

from benchmarks.accuracy.tables import CROSS, WORDS
from pyg_hash.codes import binarize, quantize
from pyg_hash.metrics import mean_average_precision, pair_recall, pr_curve, precision_at_n
from pyg_hash.metrics.evaluation import RECALL_AT
from pyg_hash.metrics.mean_ap import DENOMINATORS
from pyg_hash.metrics.scored import scored_average_precision, scored_pair_recall
from pyg_hash.typing import IMAGE, TEXT

CUTS = (50, 500)
DEFINITION = WORDS["definition"]  # of the scores, for their lines
RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000)
RECALL = "R@10"  # what is shown of pair recall, for texts that ask
RESCORED = ("scored", "int8")  # "all, int8" is a metric, for one
CLASSES = 5  # of a t-SNE, as in MCGCN's Fig. 4
_CUT = {f"{k} {of}": {"topk": k, "denominator": of} for k in CUTS for of in DENOMINATORS}
_TIES = {f"all, {ties}": {"ties": ties} for ties in ("index", "optimistic", "pessimistic")}
_SIDES = {"i2t": (IMAGE, TEXT), "t2i": (TEXT, IMAGE), "i2i": (IMAGE, IMAGE), "t2t": (TEXT, TEXT)}


def _asked(codes, data, task, among="database"):
    """Codes of the queries and of what is searched, and the labels of both."""
    source, target = _SIDES[task]
    query, database = data[source].query_mask, data[target][f"{among}_mask"]
    y = data[source].y[query], data[target].y[database]
    return codes[source][query], codes[target][database], *y


def scores(codes, data, *, ties=False):
    if bool((data[IMAGE].query_mask & data[IMAGE].database_mask).any()):
        raise ValueError("query_mask: queries are in the database and would find themselves")
    found = {}
    for task in _SIDES:
        asked = query, database, query_y, y = _asked(codes, data, task)
        definitions = {"all": {}} | _CUT | (_TIES if ties else {})
        ways = {name: (asked, how) for name, how in definitions.items()}
        if ties:
            by_class = (y if y.dim() == 1 else y.argmax(dim=1)).argsort(stable=True)
            sorted_file = query, database[by_class], query_y, y[by_class]
            ways["all, index by class"] = sorted_file, {"ties": "index"}
            ways["all, among queries"] = _asked(codes, data, task, "query"), {}
        for name, (of, how) in ways.items():
            found.setdefault(name, {})[task] = round(mean_average_precision(*of, **how), 6)
    for task in CROSS:
        query, others, *_ = _asked(codes, data, task, "query")
        for k in RECALL_AT:
            found.setdefault(f"R@{k}", {})[task] = round(pair_recall(query, others, k), 6)
    return found


def rescored(relaxed, data):
    """mAP@all and R@10 where the real-valued code of the query ranks all items, in both ways."""
    bits = {m: binarize(x) for m, x in relaxed.items()}
    int8 = {m: quantize(x, bits[m]) for m, x in relaxed.items()}
    found = {}
    for (name, stored), task in product(zip(RESCORED, (bits, int8), strict=True), CROSS):
        query, *_ = _asked(relaxed, data, task)
        _, items, *y = _asked(stored, data, task)
        _, others, *_ = _asked(stored, data, task, "query")
        mean = scored_average_precision(query, items, *y)
        found.setdefault(f"all, {name}", {})[task] = round(mean, 6)
        recall = scored_pair_recall(query, others, 10)
        found.setdefault(f"{RECALL}, {name}", {})[task] = round(recall, 6)
    return found


def curves(codes, data):
    """Precision (of queries that find something) and recall in every radius, precision at ranks."""
    found = {}
    for task in CROSS:
        asked = _asked(codes, data, task)
        curve = pr_curve(*asked)
        ranks = [n for n in RANKS if n <= len(asked[1])]
        pairs = zip(curve.precision.tolist(), curve.answered.tolist(), strict=True)
        found[task] = {
            "precision": [round(p / part, 5) if part > 0 else None for p, part in pairs],
            "recall": _rounded(curve.recall, 5),
            "ranks": ranks,
            "at": _rounded(precision_at_n(*asked, topn=ranks), 5),
        }
    return found


def embeddings(codes, data, seed):
    """t-SNE of the training items of the first classes: features of each modality, and codes."""
    from sklearn.manifold import TSNE

    store = data[IMAGE]
    y = store.y if store.y.dim() == 1 else store.y.argmax(dim=1)
    rows = (store.train_mask & (y < CLASSES)).nonzero().flatten()
    parts = {"image features": data[IMAGE].x[rows], "text features": data[TEXT].x[rows]}
    parts["codes"] = torch.cat([codes[IMAGE][rows], codes[TEXT][rows]]).float()
    found = {"classes": y[rows].tolist()}
    for name, x in parts.items():
        perplexity = min(30.0, (len(x) - 1) / 3)
        tsne = TSNE(random_state=seed, perplexity=perplexity, init="pca")
        found[name] = [_rounded(point, 2) for point in tsne.fit_transform(x.numpy())]
    return found


def _rounded(values, digits):
    return [round(value, digits) for value in values.tolist()]
