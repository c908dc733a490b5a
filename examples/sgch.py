"""SGCH on emoji: three labels in ten; the codes and the modality discriminator take turns.

python examples/sgch.py
python examples/sgch.py --epochs 2 --graph code
"""

import argparse

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import SGCH
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ScaleFeatures, SGCHGraph


def main() -> None:
    """Build the graph, train, print the mAP, encode new texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--label-rate", type=float, default=0.3)
    parser.add_argument("--k", type=int, default=20, help="neighbours in each modality")
    parser.add_argument("--graph", choices=("paper", "code"), default="paper")
    args = parser.parse_args()
    torch.manual_seed(0)
    raw = Emoji(args.root)[0]
    new_texts = raw["text"].x[:3]  # as the data set delivers them: the model scales them itself
    graph = SGCHGraph(args.k, graph=args.graph)
    data = T.Compose([LabelRate(args.label_rate), ScaleFeatures(), graph])(raw)

    model = SGCH(data.num_features, num_classes=data.num_classes, num_bits=32)
    # one optimiser a part; torch.optim.Adam(model.parameters(), ...) would do as well
    optimizers = {part: torch.optim.Adam(p, lr=5e-3) for part, p in model.parts().items()}
    history = fit(model, data, optimizers, epochs=args.epochs)
    print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
    print(evaluate(model, data))
    print(model.encode_text(new_texts)[:, :8])  # joined to their nearest anchors, one by one


if __name__ == "__main__":
    main()
