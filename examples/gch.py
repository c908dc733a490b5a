"""GCH on emoji: supervised, an optimiser for each part, new items encoded by one network alone.

python examples/gch.py
python examples/gch.py --epochs 2 --label-rate 0.3
"""

import argparse

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe


def main() -> None:
    """Train, print the mAP, encode new texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int, help="rounds of Algorithm 1 (the recipe's)")
    parser.add_argument("--label-rate", type=float)
    args = parser.parse_args()

    rates = {"label": 1e-3, "image": 1e-3, "text": 1e-3, "gcn": 1e-3}
    gch = recipe("gch", epochs=args.epochs, label_rate=args.label_rate, lr=rates)
    raw = Emoji(args.root)[0]
    data = gch.transforms(raw)  # no graph: each batch makes its own of its labels
    model = gch.model(data)
    history = gch.fit(model, data)
    print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
    print(evaluate(model, data))
    print(model.encode_text(raw["text"].x[:3])[:, :8])  # the model scales new items itself


if __name__ == "__main__":
    main()
