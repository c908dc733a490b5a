"""MCGCN in mini-batches: what a graph too large to train on at once needs.

python examples/large_graph.py
python examples/large_graph.py --epochs 2 --cell-size 1
"""

import argparse

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import MCGCN
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import fit
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate, ScaleFeatures


def main() -> None:
    """Build the graph, train on samples of it, encode all nodes exactly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--label-rate", type=float, default=0.3)
    parser.add_argument("--k", type=int, default=20, help="neighbours in each modality")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--cell-size", type=int, default=32, help="seeds that are neighbours")
    args = parser.parse_args()
    torch.manual_seed(0)
    graph = [IntraKNN(args.k), InterKNN(), LabelHub()]
    data = T.Compose([LabelRate(args.label_rate), ScaleFeatures(), *graph])(Emoji(args.root)[0])

    model = MCGCN(data.num_features, num_classes=data.num_classes, num_bits=32)
    loader = InstanceLoader(
        model.training_view(data),  # the anchors: what training may see
        num_neighbors=(30, 10),
        num_members=256,
        batch_size=args.batch_size,
        cell_size=args.cell_size,
        shuffle=True,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = fit(model, data, optimizer, epochs=args.epochs, loader=loader)
    print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
    print(evaluate(model, data))


if __name__ == "__main__":
    main()
