"""New items of the command line: pictures, lines of text, feature vectors, and their codes."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_hash.cli import build
from pyg_hash.cli.options import UsageError
from pyg_hash.runs import Run
from pyg_hash.typing import IMAGE, MODALITIES, Modality
from pyg_hash.utils.optional import imported

if TYPE_CHECKING:
    from torch import Tensor

    from pyg_hash.features.each import Encoded
    from pyg_hash.models import HashModel

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_BATCH = {"image": 32, "text": 1024}  # items in a call of an encoder


@dataclass
class NewItems:
    """Items that are to be encoded.

    Attributes:
        modality: of all of them.
        values: picture files, texts, or feature rows ``[n, d]``.
        ids: a name for each.
        where: a place for messages about each, e.g. ``texts.txt:7``.
        lines: line numbers of texts in their file, from 1; None for anything else.
        problems: position -> what made an item useless before any encoder saw it.
    """

    modality: Modality
    values: Any
    ids: list[str]
    where: list[str]
    lines: list[int] | None = None
    problems: dict[int, str] | None = None


def pictures(where: str) -> NewItems:
    """The pictures in a folder, or the files that match a pattern, sorted.

    Raises:
        FileNotFoundError: there are none.
    """
    if os.path.isdir(where):
        names = sorted(os.listdir(where))
        found = [os.path.join(where, n) for n in names if n.lower().endswith(_PICTURES)]
    elif os.path.isfile(where):
        found = [where]
    else:
        found = sorted(name for name in glob.glob(where, recursive=True) if os.path.isfile(name))
    if not found:
        raise FileNotFoundError(f"images: no picture in {where}; give a folder or a pattern")
    return NewItems(IMAGE, found, found, found)


def text_lines(path: str) -> NewItems:
    """The lines of a UTF-8 file; blank ones and those in another encoding are problems.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no text in it.
    """
    # only line feeds end a line, so that numbers are those of an editor
    raw = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    if not any(line.strip() for line in raw):
        raise ValueError(f"texts: {path} holds no text; write one text a line")
    values, problems = [], {}
    for number, line in enumerate(raw):
        try:
            values.append(line.decode("utf-8").strip())
            if not values[-1]:
                problems[number] = "empty text"
        except UnicodeDecodeError as error:
            values.append("")
            problems[number] = f"not UTF-8 ({error.reason} at byte {error.start})"
    numbers = list(range(1, len(raw) + 1))
    where = [f"{path}:{number}" for number in numbers]
    return NewItems("text", values, values, where, numbers, problems)


def feature_rows(path: str, source: str | None) -> list[NewItems]:
    """Feature vectors of a file: HDF5 in the layout of FeatureFile (either modality), or NPY.

    Args:
        path: the file.
        source: the modality of the rows; needed for NPY, a choice for HDF5 with both.

    Raises:
        CorruptFileError: the file is damaged or of another format.
        UsageError: NPY without ``source``.
        ValueError: no features of the asked modality in it.
    """
    if source not in (None, *MODALITIES):
        raise UsageError(f"source: {source!r} is not known; use image or text")
    if path.endswith(".npy"):
        if source is None:
            raise UsageError(f"source: {path} does not say what it holds; give --source image|text")
        return [_rows_of(path, source, _read_npy(path), None)]
    from pyg_hash.datasets.feature_layout import StoredMatrix, open_feature_file, read_strings

    items = []
    with open_feature_file(path) as file:
        for modality in MODALITIES:
            if modality in file and source in (None, modality):
                x = StoredMatrix(file, modality).read()
                items.append(_rows_of(path, modality, x, read_strings(file, "ids", len(x))))
    if not items:
        wanted = "neither 'image' nor 'text'" if source is None else f"no {source!r}"
        raise ValueError(f"features: {path} has {wanted}")
    return items


def _rows_of(path: str, modality: str, x: Tensor, ids: list[str] | None) -> NewItems:
    names = [str(row) for row in range(len(x))] if ids is None else ids
    where = [f"{path}: {modality} row {row}" for row in range(len(x))]
    return NewItems(IMAGE if modality == IMAGE else "text", x, names, where)


def _read_npy(path: str) -> Tensor:
    import numpy as np
    import torch

    from pyg_hash.utils.files import CorruptFileError

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptFileError(f"{path}: not a plain NPY file ({error}); write it again") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"features: {path} holds {array.dtype} {list(array.shape)}; "
            "expected numbers [n, d], or [d] for one item"
        )
    return torch.from_numpy(np.atleast_2d(array).astype(np.float32))


def load_model(folder: Run, own: str | None = None) -> HashModel:
    """The trained model of a run; ``own`` is the user's MODULE:CLASS if it is of that."""
    return build.model_class(build.trained_with(folder, own=own)).load(folder.path / "model")


class Coder:
    """What turns new items into codes: the model of a run, and its encoder if they are raw.

    Args:
        folder: the run.
        modality: of the items.
        raw: pictures or texts; False for feature rows.
        own: ``module:function`` of the user's own encoder, in place of the run's.
        model: of the run, if it is loaded already.

    Raises:
        FileNotFoundError: the run has no encoder for raw items.
        ValueError: the encoder gives rows of another width than the model takes.
    """

    def __init__(
        self,
        folder: Run,
        modality: Modality,
        *,
        raw: bool = True,
        own: str | None = None,
        model: HashModel | None = None,
    ) -> None:
        self.modality = modality
        self.encoder = self._encoder(folder, own) if raw else None
        self.model = load_model(folder) if model is None else model
        self.code = self.model.encode_image if modality == IMAGE else self.model.encode_text

    def _encoder(self, folder: Run, own: str | None) -> Any:
        encoder = folder.encoder(self.modality) if own is None else own_function(own)
        if hasattr(encoder, "progress"):
            encoder.progress = False  # one bar for all items is enough
        return encoder

    @property
    def width(self) -> int | None:
        """Width of a feature row that the model takes; None if it takes something else."""
        intake = self.model.intake
        if intake is None or not intake.is_features[self.modality]:
            return None
        return intake.shapes[self.modality][0]

    def features(self, values: Any) -> Tensor:
        """Features of raw items; feature rows stay what they are."""
        if self.encoder is None:
            x: Tensor = values
        else:
            x = self.encoder(values)
        if self.width is not None and x.dim() == 2 and x.size(1) != self.width:
            raise TypeError(  # not a matter of one item
                f"{self.modality}: got {x.size(1)} features, the model takes {self.width}; "
                "use the features that it was trained with"
            )
        return x

    def __call__(self, values: Any) -> Tensor:
        """Codes int8 ``[n, num_bits]``.

        Raises:
            ValueError, OSError: an item is bad.
        """
        return self.code(self.features(values))

    def each(self, items: NewItems) -> Encoded:
        """Codes of all items that can be encoded, and what is wrong with the others."""
        from pyg_hash.features.each import encode_each

        early = items.problems or {}
        good = [row for row in range(len(items.ids)) if row not in early]
        values = [items.values[row] for row in good] if early else items.values
        name = "pictures" if self.modality == IMAGE else "texts"
        batch = _BATCH[self.modality] if self.encoder is not None else 4096
        found = encode_each(self, values, batch_size=batch, progress=name)
        late = {good[row]: text for row, text in found.problems.items()}
        found.problems = dict(sorted({**early, **late}.items()))
        found.kept = [good[row] for row in found.kept]
        return found

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the encoder does not know, if it can tell."""
        tell: Callable[[str], list[str]] | None = getattr(self.encoder, "unknown_words", None)
        return [] if tell is None else tell(text)

    def note_unknown_words(self, texts: Sequence[str], where: Sequence[str] | None = None) -> None:
        """Say on the standard error which words carry no meaning for the model."""
        for row, text in enumerate(texts):
            unknown = self.unknown_words(text)
            if not unknown:
                continue
            place = "" if where is None else f"{where[row]}: "
            shown = ", ".join(unknown[:10]) + (", ..." if len(unknown) > 10 else "")
            print(f"pyg-hash: {place}note: not in the vocabulary: {shown}", file=sys.stderr)
            if not set(text.lower().split()) - set(unknown):
                print(
                    f"pyg-hash: {place}note: no word of {text!r} is known; "
                    "the answer rests on letter groups",
                    file=sys.stderr,
                )


def own_function(name: str) -> Any:
    """The user's own encoder, named as ``module:function``.

    Raises:
        UsageError: it cannot be imported, or is not callable.
    """
    found = imported(name, "encoder")
    if not callable(found):
        raise UsageError(f"encoder: {name} is {type(found).__name__}, which cannot be called")
    return found


def query_codes(folder: Run, values: list[str], modality: Modality) -> Tensor:
    """Codes of raw items: pictures by file name, texts as they are; int8 ``[n, num_bits]``.

    Raises:
        FileNotFoundError: a picture is not there, or the run has no encoder.
        ValueError: a text without a known word.
    """
    return Coder(folder, modality)(values)
