"""Train SGEH on emoji, without a single label: its graph first, then its codes.

python examples/sgeh.py
python examples/sgeh.py --epochs 2 --num-clusters 4
"""

import argparse

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe


def main() -> None:
    """Build the graph, train, print the mAP."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--num-clusters", type=int, default=9, help="components of the graph")
    parser.add_argument("--k", type=int, help="neighbours in each modality")
    args = parser.parse_args()

    # one rate a part, and in the codes one a modality
    rates = {"codes": {"encoders.image": 1e-3, "encoders.text": 1e-3}, "discriminator": 1e-3}
    clusters = {"num_clusters": args.num_clusters}
    sgeh = recipe("sgeh", epochs=args.epochs, k=args.k, lr=rates, graph_options=clusters)
    data = Emoji(args.root, pre_transform=sgeh.transforms)[0]
    print(f"graph: {data.affinity['num_components']} components, weights of the modalities:")
    print({name: round(weight, 3) for name, weight in data.affinity["weights"].items()})
    model = sgeh.model(data)
    sgeh.fit(model, data)
    print(evaluate(model, data))  # labels are looked at here, and here only


if __name__ == "__main__":
    main()
