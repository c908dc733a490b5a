"""What commands print, and where they may write."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any
from unicodedata import category

from pyg_hash.cli.options import UsageError

_ENDS = 1 << 16


def say(text: str) -> None:
    """Tell people something on the standard error: the standard output is the answer alone."""
    print(plain(f"pyg-hash: {text}"), file=sys.stderr)


def plain(text: object) -> str:
    """A text for people, without what a terminal would obey: names and files may be anybody's."""
    return "".join(sign for sign in str(text) if sign in "\n\t" or category(sign) != "Cc")


def cell(value: Any, width: int = 40) -> str:
    """A value as one short line, without what a terminal would obey."""
    text = "; ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
    text = plain(" ".join(text.split()))
    return text if len(text) <= width else text[: width - 1] + "…"


def printed(names: list[str], rows: list[list[str]], right: Collection[str] = ()) -> str:
    """Cells below the names of their columns, aligned."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    signs = [">" if name in right else "<" for name in names]
    form = "  ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths, strict=True))
    return "\n".join(form.format(*line).rstrip() for line in (names, *rows))


_OURS = {  # what the first or last bytes of a file hold that a command wrote
    "encode": rb"\A\x89HDF(?!.*(pyg_hash\.features|num_bits)\0).*model\0.*[0-9a-f]{64}",
    "import": rb"\A\x89HDF.*pyg_hash\.features\0",
    "report": rb'<meta name="generator" content="pyg_hash ',
    "onnx": rb"num_features",
    "npz": rb"codes\.npy.*ids\.npy.*num_bits\.npy",
    "h5": rb"\A\x89HDF.*num_bits\0",
    "parquet": rb"\APAR1.*num_bits.*model.*PAR1\Z",
    "csv": rb'\Aid,code[^\n]*\n(\Z|("([^"]|"")*"|[^,"\n]*),[01]+[,\r\n])',
    "faiss": rb"\AIB(M2|xF)",  # says no more than that it is a binary index
    "pgvector": rb"\A-- codes of \d+ bits, of the model ",
}
_OURS |= {"milvus": _OURS["parquet"], "ids": rb"[ \t]{64}\n\Z"}


def check_out(path: str | Path, kind: str) -> None:
    """See that ``--out`` can be written: before the work, not after it.

    ``OSError``: it cannot. ``UsageError``: what is there is not an earlier one of its kind.
    """
    from pyg_hash.utils.files import check_writable  # torch, which --help does without

    if kind == "faiss":
        check_out(f"{path}.ids.json", "ids")
    try:
        check_writable(path)
        with suppress(FileNotFoundError), open(path, "rb") as file:
            some = file.read(_ENDS)
            file.seek(max(_ENDS, file.seek(0, os.SEEK_END) - _ENDS))
            some += file.read()
            if some and not re.search(_OURS[kind], some, re.DOTALL):
                raise UsageError(
                    f"out: {path} is there already, and no earlier one of this command; give "
                    "another name, or remove it"
                )
    except OSError as error:
        raise OSError(f"out: cannot write to {path} ({error.strerror or error})") from error
