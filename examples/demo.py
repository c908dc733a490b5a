"""``make demo``: train on emoji, evaluate, search, report. Prints each command as it runs it.

Everything here can be typed in a shell as well; afterwards, try words of your own:
``pyg-hash search runs/demo/inductive --text "..."``.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import sys
import time
from pathlib import Path

from pyg_hash.cli import main as pyg_hash
from pyg_hash.cli.search import short_path
from pyg_hash.recipes import METHODS
from pyg_hash.runs import Run

TEXTS = ("dog", "birthday cake", "soccer ball")
PICTURES = ("1f436", "1f382", "1f682")  # dog, cake, locomotive: queries, so never trained on


def run(*words: str) -> None:
    """Print a command, run it, and stop the demo if it fails."""
    print(f"\n$ pyg-hash {shlex.join(words)}", flush=True)
    status = pyg_hash(words)
    if status:
        sys.exit(status)


def unused(folder: Path) -> Path:
    """``folder``, or ``folder-2``, ``folder-3``, ... so that no earlier run is touched."""
    number, path = 1, folder
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    return path


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data/emoji", help="where the data set is kept")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="where runs are written"
    )
    parser.add_argument("--epochs", type=int, default=METHODS["MCGCN"]["epochs"])
    args = parser.parse_args()
    out, start = unused(args.out), time.perf_counter()

    for protocol in ("inductive", "transductive"):
        settings = ["--dataset", "emoji", "--root", args.root, "--model", "mcgcn"]
        settings += ["--num_bits", "32", "--label_rate", "0.3", "--epochs", str(args.epochs)]
        run("train", *settings, "--protocol", protocol, "--out", str(out / protocol))

    folder = out / "inductive"
    for text in TEXTS:
        run("search", str(folder), "--text", text, "-k", "5")
    items = Run.open(folder).items()
    for name in PICTURES:
        picture = items.image_paths[items.ids.index(name)]
        run("search", str(folder), "--image", short_path(str(picture)), "-k", "5")
    run("report", str(folder))

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{time.perf_counter() - start:.0f} s, at most {memory:.1f} GB of memory. Run folders:")
    print(f"  {folder}\n  {out / 'transductive'}")
    print(f"Open in a browser: {folder / 'report.html'}")


if __name__ == "__main__":
    main()
