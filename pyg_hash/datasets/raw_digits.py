"""Text files of zeros and ones, read into sparse matrices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from pyg_hash.utils.files import CorruptFileError

Array = np.ndarray[Any, Any]
_BYTES = 1 << 18  # of a file in one block: what a cache holds
_NEWLINE, _ZERO, _ONE = b"\n01"
_ONE_MASK = 0xFE  # 0 and 1 differ in the last bit
_IS_SPACE = np.isin(np.arange(256), list(b"\t\n\r "))


def read_digits(path: str | os.PathLike[str], width: int) -> sp.csr_matrix:
    """A text file of zeros and ones, one row a line, apart by white space, as it is sparse.

    Args:
        path: the file; 540 MB (NUS-WIDE's tags) need little more memory than their ones.
        width: digits a line.

    Returns:
        uint8 ``[number of lines, width]``; blank lines do not count.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: anything else than that stands in it; the message names the line.
    """
    path = Path(path)
    counts, columns, num_lines = [], [np.zeros(0, np.int32)], 0
    with open(path, "rb") as file:
        carry, more = b"", True
        while more:
            block = file.read(_BYTES)
            more = bool(block)
            text = carry + block if more else carry + b"\n"
            end = text.rfind(b"\n") + 1
            text, carry = text[:end], text[end:]
            if text:
                lengths, found = _digit_rows(text, width, path, num_lines)
                counts.append(lengths)
                columns.append(found)
                num_lines += text.count(b"\n")
    index = np.concatenate(columns)
    pointer = np.concatenate([[0], np.cumsum(np.concatenate([index[:0], *counts]))])
    shape = (len(pointer) - 1, width)
    return sp.csr_matrix((np.ones(len(index), np.uint8), index, pointer), shape=shape)


def _digit_rows(text: bytes, width: int, path: Path, line: int) -> tuple[Array, Array]:
    """Number of ones in each row of whole lines, and their columns."""
    codes = np.frombuffer(text, np.uint8)
    digit = codes & _ONE_MASK == _ZERO
    ends = np.flatnonzero(codes == _NEWLINE) + 1
    digits = np.add.reduceat(digit, np.concatenate([[0], ends[:-1]]), dtype=np.int64)
    wrong = ~(digit | _IS_SPACE[codes])
    wrong[1:] |= digit[1:] & digit[:-1]  # 10 is no digit
    bad = (digits != 0) & (digits != width)
    bad[np.searchsorted(ends, np.flatnonzero(wrong), side="right")] = True
    if bad.any():
        raise CorruptFileError(
            f"{path}: line {line + int(bad.argmax()) + 1} is not {width} times 0 or 1; get it again"
        )
    ones = np.flatnonzero(codes[digit] == _ONE)
    lengths = np.bincount(ones // width, minlength=int((digits > 0).sum()))
    return lengths, (ones % width).astype(np.int32)
