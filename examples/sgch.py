"""SGCH on emoji: three labels in ten; the codes and the modality discriminator take turns.

python examples/sgch.py
python examples/sgch.py --epochs 2 --graph code --protocol transductive
"""

import argparse

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe


def main() -> None:
    """Build the graph, train, print the mAP, encode new texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--k", type=int, help="neighbours in each modality")
    parser.add_argument("--graph", choices=("paper", "code"), default="paper")
    parser.add_argument("--protocol", choices=("inductive", "strict", "transductive"))
    args = parser.parse_args()

    settings = {"epochs": args.epochs, "k": args.k, "protocol": args.protocol}
    sgch = recipe("sgch", graph_options={"graph": args.graph}, **settings)  # None: the default
    raw = Emoji(args.root)[0]
    data = sgch.transforms(raw)
    model = sgch.model(data)
    history = sgch.fit(model, data)
    print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
    print(evaluate(model, data))
    print(model.encode_text(raw["text"].x[:3])[:, :8])  # joined to their nearest anchors


if __name__ == "__main__":
    main()
