"""``pyg-hash encode``: codes of new pictures, texts or features, as HDF5 or into a store."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.options import UsageError, add_run
from pyg_hash.cli.queries import Coder, NewItems, feature_rows, load_model, pictures, text_lines
from pyg_hash.cli.stores import is_store, put, store_for
from pyg_hash.runs import Run
from pyg_hash.typing import IMAGE, TEXT
from pyg_hash.utils.files import atomic_path, check_writable

if TYPE_CHECKING:
    from pyg_hash.features.each import Encoded
    from pyg_hash.stores import CodeStore


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash encode``."""
    add_run(parser)
    for name, text in (
        ("images", "a folder of pictures, or a pattern: 'a/*.png', 'a/**/*.png'"),
        ("texts", "a text file in UTF-8, one text a line"),
        ("features", "feature vectors: HDF5 (image, text or both) or NPY (with --source)"),
        ("source", "what the rows of --features are: image or text"),
        ("image_encoder", "your own encoder of pictures, MODULE:FUNCTION"),
        ("text_encoder", "your own encoder of texts, MODULE:FUNCTION"),
    ):
        parser.add_argument(f"--{name}", type=str | None, default=None, help=text)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        help="the HDF5 file to write; or a store, new or not, to put the codes into: NAME.store, "
        "NAME.lance, NAME.db or http://HOST:PORT",
    )
    parser.add_argument(
        "--index",
        type=str | None,
        default=None,
        help="how a new NAME.store looks codes up: flat, multiindex, ivf or hnsw (flat)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="write nothing if an item cannot be encoded"
    )


def write_codes(path: str, results: list[tuple[NewItems, Encoded]]) -> None:
    """Write codes and names as HDF5.

    For each modality: ``codes`` int8 ``[n, num_bits]`` and ``ids`` of the items that were encoded,
    ``lines`` (of texts: their line numbers), and ``skipped``, one message for each other item.
    """
    import h5py

    strings = h5py.string_dtype()
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for items, found in results:
            if found.values is None:
                continue
            group = file.create_group(items.modality)
            group.create_dataset("codes", data=found.values.cpu().numpy(), compression="gzip")
            group.create_dataset("ids", data=[items.ids[row] for row in found.kept], dtype=strings)
            if items.lines is not None:
                group.create_dataset("lines", data=[items.lines[row] for row in found.kept])
            if found.problems:
                group.create_dataset("skipped", data=messages(items, found), dtype=strings)


def messages(items: NewItems, found: Encoded) -> list[str]:
    """One line for each item that could not be encoded; it begins with where the item stands."""
    lines = []
    for row, problem in found.problems.items():
        place = items.where[row]
        problem = problem.removeprefix(f"{place}: ").removeprefix("texts: ")
        problem = re.sub(r"^x: 1 of 1 rows (.*?) \(first: row 0\)", r"its features \1", problem)
        lines.append(f"{place}: {problem}")
    return lines


def run(args: Namespace) -> int:
    """Encode and write."""
    raw = args.images is not None or args.texts is not None
    if not raw and args.features is None:
        raise UsageError("input: give --images DIR, --texts FILE or --features FILE.h5")
    if args.features is not None and raw:
        raise UsageError("features: give either --features or raw --images and --texts")
    if args.source is not None and args.features is None:
        raise UsageError("source: says what --features holds; give that too")
    if args.index is not None and not is_store(args.out):
        raise UsageError("index: is for --out NAME.store")
    folder = Run.open(args.run, need=("config", "model"))
    if not is_store(args.out):
        try:
            check_writable(args.out)  # before the work, not after it
        except OSError as error:
            raise OSError(f"out: cannot write to {args.out} ({error.strerror or error})") from error
    if args.features is not None:
        inputs = feature_rows(args.features, args.source)
    else:
        inputs = [text_lines(args.texts)] if args.texts is not None else []
        if args.images is not None:
            inputs.insert(0, pictures(args.images))
    if is_store(args.out) and len(inputs) > 1:
        raise UsageError("out: a store is for codes of pictures or of texts; call encode for each")
    own = {IMAGE: args.image_encoder, TEXT: args.text_encoder}
    # every encoder is found before the first one starts to work
    model = load_model(folder, args.model)
    coders = [Coder(folder, i.modality, raw=raw, own=own[i.modality], model=model) for i in inputs]
    store = None
    if is_store(args.out):
        store = store_for(args.out, coders[0].model.num_bits, args.index)
    results = []
    for items, coder in zip(inputs, coders, strict=True):
        found = coder.each(items)
        for line in messages(items, found):
            print(f"pyg-hash: skipped: {line}", file=sys.stderr)
        if raw and items.modality == TEXT:
            kept = found.kept
            coder.note_unknown_words(
                [items.values[row] for row in kept], [items.where[row] for row in kept]
            )
        results.append((items, found))
    return finish(args.out, store, results, strict=args.strict)


def finish(
    out: str, store: CodeStore | None, results: list[tuple[NewItems, Encoded]], *, strict: bool
) -> int:
    """Write what there is, to a file or into a store, and sum it up.

    Raises:
        ValueError: no item could be encoded, or ``strict`` and some could not.
    """
    lost = sum(len(found.problems) for _, found in results)
    total = sum(len(items.ids) for items, _ in results)
    if lost == total:
        first = messages(*results[0])[0] if total else "no items"
        raise ValueError(f"none of {total} items could be encoded; the first: {first}")
    if strict and lost:
        raise ValueError(f"{lost} of {total} items could not be encoded; {out} was not written")
    if store is None:
        write_codes(out, results)
    for items, found in results:
        bits = "" if found.values is None else f" of {found.values.size(1)} bits"
        skipped = f", {len(found.problems)} skipped" if found.problems else ""
        where = out
        if store is not None:
            known = put(store, items, found)
            skipped += f", {known} replaced" if known else ""
            where += f" ({len(store)} items)"
        print(f"{items.modality}: {len(found.kept)} codes{bits}{skipped} -> {where}")
    return 0
