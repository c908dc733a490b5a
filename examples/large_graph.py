"""MCGCN in mini-batches: what a graph too large to train on at once needs.

python examples/large_graph.py
python examples/large_graph.py --epochs 2 --cell-size 1
"""

import argparse

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe


def main() -> None:
    """Build the graph, train on samples of it, encode all nodes exactly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--k", type=int, help="neighbours in each modality")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--cell-size", type=int, default=32, help="seeds that are neighbours")
    args = parser.parse_args()

    batches = {"num_neighbors": (30, 10), "num_members": 256, "cell_size": args.cell_size}
    settings = {"epochs": args.epochs, "k": args.k, "batch_size": args.batch_size}
    mcgcn = recipe("mcgcn", loader_options=batches, **settings)
    data = Emoji(args.root, pre_transform=mcgcn.transforms)[0]
    model = mcgcn.model(data)
    history = mcgcn.fit(model, data)  # batches of the anchors: what training may see
    print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
    print(evaluate(model, data))


if __name__ == "__main__":
    main()
