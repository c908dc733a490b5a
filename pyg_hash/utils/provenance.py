"""What a stored thing is made of: a checksum of its bytes, digests of its model and data.

Every file that is replaced through :func:`pyg_hash.utils.files.atomic_path` is **sealed** by the
CRC-32 of all its bytes, in a place where other programs do not mind it:

===================== ==========================================================================
``.safetensors``,     metadata ``crc32``: of the header (these digits as zeros), then of each MiB
``.store``            of the data, so that a mapped file can be checked as it is used
``.json``             a last line of 32 blanks and tabs, the bits (white space is no content)
``.h5``, ``.npz``,    a last line ``# crc32 xxxxxxxx crc32`` (HDF5 cuts it off when it writes, so a
``.yaml``             file that another program changed has none)
===================== ==========================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 20
_ENDINGS = (".h5", ".hdf5", ".npz", ".yaml")
_LINE = re.compile(rb"\n# crc32 ([0-9a-f]{8}) crc32\n")
_BITS = re.compile(rb"\n([ \t]{32})\n")
_TAIL = 64
_CLOSE = 1e-4  # of the mean print: what another processor may round otherwise
_SAME = 1e-7


class CorruptFileError(ValueError):
    """A file exists but is truncated, damaged or of another format."""


class UncheckedWarning(UserWarning):
    """A file has no checksum, or codes do not say which model they are of; said once."""


_said: set[str] = set()


def say_once(kind: str, message: str) -> None:
    """Warn of the first thing of a kind."""
    if kind not in _said:
        _said.add(kind)
        warnings.warn(message, UncheckedWarning, stacklevel=3)


# checksums -----------------------------------------------------------------------------------


def seal(path: Path, ending: str) -> None:
    """Append the checksum to a finished file whose name is to end so, if that is a kind of ours."""
    if ending == ".json":
        bits = f"{_crc(path):032b}".replace("0", " ").replace("1", "\t")
        line = f"{bits}\n"
    elif ending in _ENDINGS:
        line = f"\n# crc32 {_crc(path):08x} crc32\n"
    else:
        return
    with open(path, "ab") as file:
        file.write(line.encode())


def verify(path: str | os.PathLike[str]) -> bool:
    """Read a whole file and compare its checksum; False: it has none, which is warned of once.

    Raises:
        CorruptFileError: the bytes are others than those that were written.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    if path.suffix == ".json":
        found, marked = _BITS.search(tail), len(tail) - len(tail.rstrip()) > 16
    elif path.suffix in _ENDINGS:
        found, marked = _LINE.search(tail), b"crc32" in tail
    else:
        return verify_tensors(path)
    if not marked:
        if path.suffix != ".json":  # others write that too
            _unchecked(path)
        return False
    if found is None or found.end() != len(tail):
        raise _damaged(path, "its checksum cannot be read")
    value = found.group(1).replace(b" ", b"0").replace(b"\t", b"1")
    bits = path.suffix == ".json"
    # the line feed before the bits ends the JSON
    if _crc(path, size - len(tail) + found.start() + bits) != int(value, 2 if bits else 16):
        raise _damaged(path, "its checksum is that of other bytes")
    return True


def stored_files(path: Path) -> list[Path]:
    """The files below ``path``, or it alone, of kinds that are sealed.

    ``FileNotFoundError``: there is nothing of the kind.
    """
    every = sorted(path.rglob("*")) if path.is_dir() else [path]
    kinds = (".safetensors", ".store", ".json", *_ENDINGS)
    found = [file for file in every if file.is_file() and file.suffix in kinds]
    if not found:
        raise FileNotFoundError(f"path: no file that pyg_hash writes at {path}")
    return found


def verify_tensors(path: Path) -> bool:
    """:func:`verify` for a safetensors file, whatever its name."""
    whole = np.memmap(path, mode="r") if os.path.getsize(path) else np.empty(0, np.uint8)
    sums = Sums.of(whole, path)
    if sums is not None:
        sums.check()
    return sums is not None


def blank_sums(num_bytes: int) -> str:
    """As many zeros as the checksums of a header and so much data take."""
    return "0" * 8 * (1 - (-num_bytes // BLOCK))


class Sums:
    """Checksums of a safetensors file whose bytes are in memory or mapped."""

    def __init__(self, data: np.ndarray[Any, Any], sums: str, path: Any) -> None:
        self._data, self._path = data, path
        self._left = dict(enumerate(int(sums[i : i + 8], 16) for i in range(8, len(sums), 8)))

    @classmethod
    def of(cls, whole: np.ndarray[Any, Any], path: Any) -> Sums | None:
        """The checksums of a file, that of its header compared; None: it has none."""
        try:
            size = int(whole[:8].view("<u8")[0])
            header = whole[8 : 8 + size].tobytes()
            if len(header) < size:
                raise ValueError("the header is longer than the file")
            about = json.loads(header)
            sums = about.pop("__metadata__", {}).get("crc32")
            if len(whole) - 8 - size < max(
                (x["data_offsets"][1] for x in about.values()), default=0
            ):
                raise ValueError("its data end too early")
        except (LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
            raise CorruptFileError(
                f"{path}: truncated or not a safetensors file ({error}); write or copy it again"
            ) from error
        if sums is None:
            _unchecked(path)
            return None
        data = whole[8 + size :]
        zeros = blank_sums(len(data))
        if not isinstance(sums, str) or not re.fullmatch(f"[0-9a-f]{{{len(zeros)}}}", sums):
            raise _damaged(path, "its checksums do not fit its size")
        before = whole[:8].tobytes() + header.replace(sums.encode(), zeros.encode(), 1)
        if zlib.crc32(before) != int(sums[:8], 16):
            raise _damaged(path, "the checksum of its header is that of other bytes")
        return cls(data, sums, path)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Compare the blocks that these bytes of the data lie in, each once."""
        stop = len(self._data) if stop is None else stop
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            expected = self._left.get(block)
            if expected is None:
                continue
            at = block * BLOCK
            if zlib.crc32(np.ascontiguousarray(self._data[at : at + BLOCK]).data) != expected:
                raise _damaged(self._path, f"block {block} of a MiB has the checksum of others")
            del self._left[block]


def _crc(path: Path, size: int | None = None) -> int:
    """CRC-32 of the first ``size`` bytes of a file."""
    value, left = 0, os.path.getsize(path) if size is None else size
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(left, BLOCK))):
            value, left = zlib.crc32(block, value), left - len(block)
    return value


def _damaged(path: object, why: str) -> CorruptFileError:
    remedy = "copy or write it again"
    if os.fspath(path).endswith((".json", ".yaml")):  # type: ignore[call-overload]
        remedy += "; if it was edited on purpose, remove its last line"
    return CorruptFileError(f"{path}: truncated, damaged or changed since ({why}); {remedy}")


def _unchecked(path: object) -> None:
    say_once(
        "checksum",
        f"{path}: has no checksum, so damage to it goes unnoticed; files that this version writes "
        "have one",
    )


# digests -------------------------------------------------------------------------------------


def digest_of(tensors: Mapping[str, Tensor], about: Any = None) -> str:
    """SHA-256, in hexadecimal, of named tensors and JSON values."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def row_prints(x: Tensor) -> Tensor:
    """One number a row that tells rows apart and hardly feels rounding: float64 ``[N]``."""
    flat = x.detach().cpu().reshape(x.size(0), -1)
    weights = torch.cos(1.0 + 2.399963 * torch.arange(flat.size(1), dtype=torch.float64))
    step = max(1, (1 << 16) // max(1, flat.size(1)))  # what a cache holds
    # blocks of memory one after the other would all be held: aligned ones are seldom used again
    buffer, prints = weights.new_empty(step, flat.size(1)), weights.new_empty(len(flat))
    for part, out in zip(torch.split(flat, step), torch.split(prints, step), strict=True):
        torch.mv(buffer[: len(part)].copy_(part), weights, out=out)
    return prints


def same_rows(prints: Tensor, known: Tensor, tolerance: float = _SAME) -> Tensor:
    """For each print the position of its equal among ``known``, or -1: int64 ``[N]``."""
    if known.numel() == 0:
        return torch.full(prints.shape, -1)
    order = known.argsort(stable=True)
    ranked = known[order]
    low = torch.searchsorted(ranked, prints - tolerance * (1 + prints.abs()))
    low = low.clamp(max=known.numel() - 1)
    near = (ranked[low] - prints).abs() <= tolerance * (1 + prints.abs())
    return torch.where(near, order[low], -1)


MASKS = ("train", "labeled", "query", "database", "val")


def data_rows(prints: Mapping[str, Tensor], data: Any) -> dict[str, Tensor]:
    """What a run remembers of its data: prints of features and labels, and who is in what split.

    Args:
        prints: :func:`row_prints` of the features of each modality, as they come.
        data: the ``HeteroData`` that is trained on.
    """
    rows: dict[str, Tensor] = dict(prints)
    for m in prints:
        for name in MASKS:
            if f"{name}_mask" in data[m]:
                rows[f"{m}.{name}"] = data[m][f"{name}_mask"].cpu().clone()
        if "y" in data[m]:
            rows[f"{m}.labels"] = row_prints(data[m].y)
    return rows


def differences(stored: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[str]:
    """How :func:`data_rows` of now differ from stored ones, a line each; the same lines once."""
    found: dict[str, None] = {}
    for name in sorted({*stored, *now}):
        modality, _, what = name.partition(".")
        what = what or f"{modality} features"
        if name not in stored or name not in now:
            found[f"{what}: {'not there then' if name in now else 'no longer there'}"] = None
            continue
        old, new = stored[name], now[name]
        if len(old) != len(new):
            found[f"rows: {len(old):,} then, {len(new):,} now"] = None
            continue
        if old.dtype == torch.bool:
            gone, come = int((old & ~new).sum()), int((new & ~old).sum())
            if gone or come:
                found[f"{what}: {gone:,} rows are no longer in it and {come:,} are new"] = None
            continue
        other = int(((old - new).abs() > _CLOSE * old.abs().mean().clamp(min=1e-12)).sum())
        if other:
            found[f"{what}: those of {other:,} of {len(old):,} rows are others"] = None
    return list(found)


def trained_queries(stored: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> int:
    """How many queries of now were training rows then, whatever their row is now."""
    first, second = (m for m in stored if "." not in m)
    train = stored[f"{first}.train"]
    place = same_rows(now[first][now[f"{first}.query"]], stored[first][train])
    other = now[second][now[f"{first}.query"]]
    far = (stored[second][train][place] - other).abs() > _SAME * (1 + other.abs())
    return int(((place >= 0) & ~far).sum())


def check_model(stored: str | None, digest: str, what: str, *, force: bool = False) -> None:
    """Raise ``ValueError`` if ``what`` is of another model; a warning, once, if it does not say.

    Args:
        stored: digest that ``what`` keeps; None: it says nothing.
        digest: of the model that is to go with it.
        what: its name, for messages.
        force: of another model is right.
    """
    if stored is None:
        say_once(
            "model",
            f"{what}: does not say which model it is of, as an earlier version wrote it; that it "
            "is of this one is not checked",
        )
    elif stored != digest and not force:
        raise ValueError(
            f"{what}: is of another model ({stored[:12]}) than this one ({digest[:12]}), and codes "
            "of two models cannot be compared; use the run that it was made with, make it anew, "
            "or, if you know better, add --force"
        )
