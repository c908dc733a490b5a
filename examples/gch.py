"""GCH on emoji: supervised, an optimiser for each part, new items encoded by one network alone.

python examples/gch.py
python examples/gch.py --epochs 2 --label-rate 0.3
"""

import argparse

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import GCH
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ScaleFeatures


def main() -> None:
    """Train, print the mAP, encode new texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--label-rate", type=float, default=1.0)
    args = parser.parse_args()
    torch.manual_seed(0)
    raw = Emoji(args.root)[0]
    new_texts = raw["text"].x[:3]  # as the data set delivers them: the model scales them itself
    # no graph: each batch makes its own of its labels
    data = T.Compose([LabelRate(args.label_rate), ScaleFeatures()])(raw)

    model = GCH(data.num_features, num_classes=data.num_classes, num_bits=32)
    rates = {"label": 1e-3, "image": 1e-3, "text": 1e-3, "gcn": 1e-3}
    optimizers = {part: torch.optim.Adam(p, lr=rates[part]) for part, p in model.parts().items()}
    # an epoch is one round of Algorithm 1: teacher, encoders, beacon, encoders
    history = fit(model, data, optimizers, epochs=args.epochs)
    print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
    print(evaluate(model, data))
    print(model.encode_text(new_texts)[:, :8])


if __name__ == "__main__":
    main()
