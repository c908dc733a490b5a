"""``make demo``: train on emoji, evaluate, search, report. Prints each command as it runs it.

Everything here can be typed in a shell as well; afterwards, try words of your own:
``pyg-hash search runs/demo/taught --text "..."``.
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
from pyg_hash.runs import Run

EMOJI = ("--dataset", "emoji", "--label_rate", "0.3")
TEXTS_WITH_MEANING = ("--dataset_options", "{texts: both, languages: [de, es, fr]}")
# more of the thing and less of the category than the defaults
LEANING = ("--model_options", "{weights: {contrast: 0.3}, temperature: 0.2, dropout: 0.2}")
RUNS = {  # the library's own method, which finds the thing too; a paper's, for the category
    "taught": (
        *("--model", "taughthash", "--num_bits", "64"),
        *(*LEANING, *EMOJI, *TEXTS_WITH_MEANING),
    ),
    "mcgcn": (*EMOJI, "--model", "mcgcn", "--num_bits", "32"),
}
TEXTS = ("dog", "birthday cake", "soccer ball", "smiling cat", "rain", "guitar", "Hund")
PICTURES = ("1f436", "1f682")  # dog face, locomotive: queries, so never trained on


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
    parser.add_argument("--epochs", help="of both trainings (default: each method's)")
    args = parser.parse_args()
    out, start = unused(args.out), time.perf_counter()
    folder = out / "taught"

    more = ["--root", args.root, *(["--epochs", args.epochs] if args.epochs else [])]
    run("train", *RUNS["taught"], *more, "--out", str(folder))
    for text in TEXTS:
        run("search", str(folder), "--text", text, "-k", "5")
    items = Run.open(folder).items()
    for name in PICTURES:
        picture = items.image_paths[items.ids.index(name)]
        run("search", str(folder), "--image", short_path(str(picture)), "-k", "5")
    run("report", str(folder))
    run("train", *RUNS["mcgcn"], *more, "--out", str(out / "mcgcn"))

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{time.perf_counter() - start:.0f} s, at most {memory:.1f} GB of memory. Run folders:")
    print(f"  {folder}\n  {out / 'mcgcn'}")
    print(f"Open in a browser: {folder / 'report.html'}")


if __name__ == "__main__":
    main()
