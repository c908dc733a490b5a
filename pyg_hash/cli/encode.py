"""``pyg-hash encode``: codes of new pictures, texts or features, written as HDF5."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.options import UsageError
from pyg_hash.cli.search import load_model, query_codes
from pyg_hash.io import atomic_path, check_writable
from pyg_hash.runs import Run
from pyg_hash.typing import IMAGE, TEXT

if TYPE_CHECKING:
    from torch import Tensor

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash encode``."""
    parser.add_argument("run", type=str, help="a run folder")
    parser.add_argument(
        "--images",
        type=str | None,
        default=None,
        help="a folder of pictures, or a pattern: 'a/*.png'",
    )
    parser.add_argument(
        "--texts", type=str | None, default=None, help="a text file, one text a line"
    )
    parser.add_argument(
        "--features",
        type=str | None,
        default=None,
        help="a feature file in HDF5: image, text or both",
    )
    parser.add_argument("--out", type=str, required=True, help="the HDF5 file to write")


def picture_files(where: str) -> list[str]:
    """The pictures in a folder, or the files that match a pattern, sorted.

    Raises:
        FileNotFoundError: there are none.
    """
    if os.path.isdir(where):
        names = sorted(os.listdir(where))
        found = [os.path.join(where, n) for n in names if n.lower().endswith(_PICTURES)]
    else:
        found = sorted(glob.glob(where))
    if not found:
        raise FileNotFoundError(f"images: no picture in {where}; give a folder or a pattern")
    return found


def text_lines(path: str) -> list[str]:
    """The non-empty lines of a UTF-8 file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no text in it.
    """
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"texts: {path} holds no text; write one text a line")
    return lines


def feature_codes(folder: Run, path: str) -> dict[str, tuple[Tensor, list[str]]]:
    """Codes of the features in a file of the :class:`~pyg_hash.datasets.FeatureFile` layout.

    Raises:
        CorruptFileError: the file is damaged or no HDF5 file.
        ValueError: no features in it, or features of another width than the model's.
    """
    from pyg_hash.datasets.feature_layout import StoredMatrix, open_feature_file, read_strings

    model = load_model(folder)
    codes = {}
    with open_feature_file(path) as file:
        for modality, encode in ((IMAGE, model.encode_image), (TEXT, model.encode_text)):
            if modality in file:
                x = StoredMatrix(file, modality).read()
                ids = read_strings(file, "ids", len(x)) or [str(row) for row in range(len(x))]
                codes[str(modality)] = encode(x), ids
    if not codes:
        raise ValueError(f"features: {path} has neither 'image' nor 'text'")
    return codes


def write_codes(path: str, codes: dict[str, tuple[Tensor, list[str]]]) -> None:
    """Write codes and names as HDF5: ``/image/codes`` int8 ``[n, num_bits]``, ``/image/ids``."""
    import h5py

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for modality, (values, ids) in codes.items():
            group = file.create_group(modality)
            group.create_dataset("codes", data=values.cpu().numpy(), compression="gzip")
            group.create_dataset("ids", data=ids, dtype=h5py.string_dtype())


def run(args: Namespace) -> int:
    """Encode and write."""
    if args.images is None and args.texts is None and args.features is None:
        raise UsageError("input: give --images DIR, --texts FILE or --features FILE.h5")
    if args.features is not None and (args.images is not None or args.texts is not None):
        raise UsageError("features: give either --features or raw --images and --texts")
    folder = Run.open(args.run, need=("config", "model"))
    try:
        check_writable(args.out)  # before the work, not after it
    except OSError as error:
        raise OSError(f"out: cannot write to {args.out} ({error.strerror or error})") from error
    codes: dict[str, tuple[Tensor, list[str]]] = {}
    lines = text_lines(args.texts) if args.texts is not None else []
    if args.images is not None:
        names = picture_files(args.images)
        codes[IMAGE] = query_codes(folder, names, IMAGE), names
    if args.texts is not None:
        codes[TEXT] = query_codes(folder, lines, TEXT), lines
    if args.features is not None:
        codes = feature_codes(folder, args.features)
    write_codes(args.out, codes)
    for modality, (values, _) in codes.items():
        print(f"{modality}: {values.size(0)} codes of {values.size(1)} bits -> {args.out}")
    return 0
