"""Your own features, from NumPy arrays to mAP and search.

Writes a feature file with three topics, 120 picture-text pairs each. Replace ``make_arrays`` by
your own arrays; ``pyg-hash data check my_data.h5`` says what is wrong with them.
"""

from __future__ import annotations

import numpy as np
import torch

from pyg_hash.datasets import FeatureFile, check_feature_file, write_feature_file
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe

TOPICS = ["sport", "music", "food"]


def make_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture features [360, 64], text features [360, 32] and a topic for each row [360]."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 120)
    image = rng.normal(size=(3, 64))[labels] + 2 * rng.normal(size=(360, 64))
    text = rng.normal(size=(3, 32))[labels] + 2 * rng.normal(size=(360, 32))
    return image, text, labels


def main() -> None:
    """Run the example."""
    image, text, labels = make_arrays()
    query = np.arange(360) % 6 == 0
    write_feature_file(
        "my_data.h5",
        image=image,
        text=text,
        labels=labels,
        class_names=TOPICS,
        train=~query,
        query=query,
    )
    print(check_feature_file("my_data.h5"))

    mcgcn = recipe("mcgcn", k=10, label_rate=0.3, epochs=30)
    data = FeatureFile("my_data.h5", pre_transform=mcgcn.transforms)[0]
    model = mcgcn.model(data)
    mcgcn.fit(model, data, progress=False)
    print(evaluate(model, data))

    # the five nearest pictures to a text that the model has never seen
    rows = data["image"].database_mask.nonzero().flatten()
    index = HammingIndex(model.num_bits)
    index.add(model.encode(data, "image")[rows], ids=rows)
    codes = model.encode_text(torch.from_numpy(text[query][:1]).float())
    distances, ids = index.search(codes, k=5)
    print("query topic:", TOPICS[labels[query][0]])
    for distance, row in zip(distances[0].tolist(), ids[0].tolist(), strict=True):
        print(f"  distance {distance:2d}  picture {row:3d}  {TOPICS[labels[row]]}")


if __name__ == "__main__":
    main()
