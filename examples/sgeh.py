"""Train SGEH on emoji, without a single label: its graph first, then its codes.

python examples/sgeh.py
python examples/sgeh.py --epochs 2 --num-clusters 4
"""

import argparse

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import SGEH
from pyg_hash.training import fit
from pyg_hash.transforms import ScaleFeatures, UnifiedAffinity


def main() -> None:
    """Build the graph, train, print the mAP."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--num-clusters", type=int, default=9, help="components of the graph")
    parser.add_argument("--k", type=int, default=50, help="neighbours in each modality")
    args = parser.parse_args()
    torch.manual_seed(0)
    graph = T.Compose([ScaleFeatures(), UnifiedAffinity(args.num_clusters, args.k)])
    data = graph(Emoji(args.root)[0])
    print(f"graph: {data.affinity['num_components']} components, weights of the modalities:")
    print({name: round(weight, 3) for name, weight in data.affinity["weights"].items()})
    model = SGEH(data.num_features, num_bits=32)
    # one optimiser a part; a group a modality, so that each may have a learning rate of its own
    codes = torch.optim.Adam(
        [
            {"params": model.encoders["image"].parameters(), "lr": 1e-3},
            {"params": model.encoders["text"].parameters(), "lr": 1e-3},
        ]
    )
    discriminator = torch.optim.Adam(model.discriminator.parameters(), lr=1e-3)
    fit(model, data, {"codes": codes, "discriminator": discriminator}, epochs=args.epochs)
    print(evaluate(model, data))  # labels are looked at here, and here only


if __name__ == "__main__":
    main()
