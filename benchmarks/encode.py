"""New items: how fast a fitted model encodes feature vectors that it has never seen.

    python -m benchmarks.encode [--short]

Data of Wikipedia's size: 2,173 pairs to train on, all of them anchors, features of 4096 and 3000
numbers (random, 10 clusters), 64 bits, one thread. MCGCN has autoencoders of 2048 and GCN layers of
512 and 1024, the others layers of 512. encode_image and encode_text take features of new items,
check and scale them, join them to their 20 nearest anchors (MCGCN, SGCH) and give codes. Weights
are random, which costs the same as trained ones; "kNN" is the search for these anchors alone. "one"
is a single item at a time. All times are CPU times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from benchmarks.measure import gemm_rate, options, side_by_side
from benchmarks.record import Record
from benchmarks.training_step import CLASSES, SHORT, Sizes, mcgcn, pairs, sgch
from pyg_hash.knn import knn
from pyg_hash.models import GCH, SGEH, HashModel
from pyg_hash.typing import IMAGE, MODALITIES

WIKIPEDIA_TRAIN = 2_173
GOAL = 2_000


def gch(sizes: Sizes) -> HashModel:
    """GCH at its default widths."""
    return GCH((sizes.image, sizes.text), CLASSES, sizes.bits, hidden_channels=sizes.hidden)


def sgeh(sizes: Sizes) -> HashModel:
    """SGEH at its default widths."""
    return SGEH((sizes.image, sizes.text), sizes.bits, hidden_channels=sizes.hidden)


MODELS: dict[str, Callable[[Sizes], HashModel]] = {
    "MCGCN": mcgcn,
    "SGCH": sgch,
    "GCH": gch,
    "SGEH": sgeh,
}


def fitted(name: str, sizes: Sizes, data: HeteroData) -> HashModel:
    """A model that is ready for new items; nothing is trained."""
    torch.manual_seed(0)
    return MODELS[name](sizes).attach(data).eval()


def encoder(model: HashModel, modality: str) -> Callable[[Tensor], Tensor]:
    """The method of one modality."""
    return model.encode_image if modality == IMAGE else model.encode_text


def cases(sizes: Sizes, new: int, data: HeteroData) -> dict[str, Callable[[], Any]]:
    """All models on the same new items, and the search for neighbours alone."""
    calls: dict[str, Callable[[], Any]] = {}
    g = torch.Generator().manual_seed(1)
    for modality in MODALITIES:
        x = torch.rand(new, data[modality].num_features, generator=g)
        for name in MODELS:
            calls[f"{name} {modality}"] = partial(encoder(fitted(name, sizes, data), modality), x)
        anchors = data[modality].x[data[modality].anchor_mask]
        calls[f"kNN {modality}"] = partial(knn, x, anchors, sizes.k)
    return calls


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = options(__doc__, arguments)
    record = Record("encode", "New items", args)
    sizes, new = (SHORT, 50) if args.short else (Sizes(pairs=WIKIPEDIA_TRAIN), 2_000)
    data = pairs(sizes, 0.3)
    many = side_by_side(cases(sizes, new, data), repeats=2 if args.short else 5)
    one = side_by_side(cases(sizes, 1, data), repeats=3 if args.short else 10)
    rows = [
        {
            "method": name,
            "new items a second": new / seconds,
            "time, kNN = 1": seconds / many[f"kNN {name.split()[-1]}"],
            "one, ms": one[name] * 1e3,
        }
        for name, seconds in many.items()
    ]
    rate = gemm_rate() / 1e9
    note = f"A square matrix product reached {rate:.0f} GFLOP/s at the end of the run."
    record.table(f"{new:,} new items at a time, and one", rows, note)
    for name in MODELS:
        speed = min(new / many[f"{name} {modality}"] for modality in MODALITIES)
        record.goal(f"{name}: new items a second, the slower modality", speed, at_least=GOAL)
    record.bars(
        "New items a second, one thread",
        {row["method"]: row["new items a second"] for row in rows},
        x="items a second",
    )
    record.save()


if __name__ == "__main__":
    main()
