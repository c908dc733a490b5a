"""``pyg-hash search``: the nearest items of a run to a new text or picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli import build
from pyg_hash.cli.options import TrainConfig, UsageError
from pyg_hash.runs import Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, other

if TYPE_CHECKING:
    from torch import Tensor

    from pyg_hash.models import HashModel

_NAME_WIDTH = 48
_BAR_FROM = 32  # fewer pictures are done before a progress bar could be read


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash search``."""
    parser.add_argument("run", type=str, help="a run folder")
    parser.add_argument("--text", type=str | None, default=None, help="search with these words")
    parser.add_argument("--image", type=str | None, default=None, help="search with this picture")
    parser.add_argument(
        "--modality",
        type=str | None,
        default=None,
        help="which codes to search, image or text (default: the other one than the query's)",
    )
    parser.add_argument("-k", "--k", type=int, default=10, help="number of answers")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """Search and print the answers."""
    if (args.text is None) == (args.image is None):
        raise UsageError("query: give either --text WORDS or --image FILE")
    if args.modality not in (None, *MODALITIES):
        raise UsageError(f"modality: {args.modality!r} is not known; use image or text")
    if args.k < 1:
        raise UsageError(f"k: expected a positive integer, got {args.k}")
    source: Modality = TEXT if args.image is None else IMAGE
    value = args.text if source == TEXT else args.image
    target: Modality = args.modality or other(source)
    folder = Run.open(args.run, need=("config", "model", "items", f"index_{target}"))
    answers = search(folder, value, source, target, args.k)
    print(json.dumps(answers, indent=2, ensure_ascii=False) if args.json else table(answers))
    return 0


def load_model(folder: Run) -> HashModel:
    """The trained model of a run."""
    config = TrainConfig.from_dict(folder.config())
    return build.model_class(config).load(folder.path / "model")


def query_codes(folder: Run, values: list[str], modality: Modality) -> Tensor:
    """Codes of raw items: pictures by file name, texts as they are; int8 ``[n, num_bits]``.

    Raises:
        FileNotFoundError: a picture is not there, or the run has no encoder.
        ValueError: a text without a known word.
    """
    if modality == IMAGE:
        lost = [value for value in values if not Path(value).is_file()]
        if lost:
            raise FileNotFoundError(f"image: {lost[0]}: no such file ({len(lost)} in all)")
    encoder = folder.encoder(modality)
    model = load_model(folder)
    if modality == IMAGE:
        encoder.progress = len(values) > _BAR_FROM
        return model.encode_image(encoder([Path(value) for value in values]))
    features = encoder(values)  # raises if nothing of a text is known, not even letter groups
    _note_unknown_words(encoder, values)
    return model.encode_text(features)


def _note_unknown_words(encoder: Any, texts: list[str]) -> None:
    """Say which words carry no meaning for the model; the others decide."""
    unknown = list(dict.fromkeys(word for text in texts for word in encoder.unknown_words(text)))
    if unknown:
        shown = ", ".join(unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        print(f"pyg-hash: note: not in the vocabulary: {shown}", file=sys.stderr)
    blind = [
        text for text in texts if not set(text.lower().split()) - set(encoder.unknown_words(text))
    ]
    if blind:
        print(
            f"pyg-hash: note: no word of {blind[0]!r} is known; the answer rests on letter groups",
            file=sys.stderr,
        )


def search(
    folder: Run, value: str, source: Modality, target: Modality, k: int
) -> list[dict[str, Any]]:
    """The ``k`` items of a run whose ``target`` codes are nearest to one raw item."""
    items = folder.items()
    index = folder.index(target)
    codes = query_codes(folder, [value], source)
    distances, ids = index.search(codes, min(k, len(index)))
    pairs = zip(distances[0].tolist(), ids[0].tolist(), strict=True)
    return [describe(items, row, distance) for distance, row in pairs]


def describe(items: RunItems, row: int, distance: int) -> dict[str, Any]:
    """One answer as plain values."""
    return {
        "distance": int(distance),
        "name": items.texts[row] or items.ids[row],
        "id": items.ids[row],
        "labels": items.labels[row],
        "path": items.image_paths[row],
    }


def short_path(path: str) -> str:
    """``path`` as seen from the working folder, if it lies in there."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def table(answers: list[dict[str, Any]]) -> str:
    """Answers as aligned text."""
    rows = [("distance", "name", "label", "id", "path")]
    for answer in answers:
        name = " ".join(answer["name"].split())
        if len(name) > _NAME_WIDTH:
            name = name[: _NAME_WIDTH - 1] + "…"
        label = ", ".join(answer["labels"])
        path = short_path(answer["path"]) if answer["path"] else "-"
        rows.append((str(answer["distance"]), name, label, answer["id"], path))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i == 0 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
