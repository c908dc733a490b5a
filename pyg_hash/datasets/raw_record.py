"""SHA-256 of raw files as the first build found them: files that change later are noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pyg_hash.utils.files import CorruptFileError, file_sha256, load_json, save_json

RECORD = "raw-sha256.json"
_MANY = 12  # files that one message names


def checked_digests(raw: Path, names: Sequence[str], record: Path) -> dict[str, str]:
    """SHA-256 of each file, the same as in the record if that names the file.

    Raises:
        CorruptFileError: files have other bytes; the message lists them.
    """
    known = _read(record)
    found = {name: file_sha256(raw / name) for name in names}
    other = [name for name in found if known.get(name, found[name]).lower() != found[name]]
    if other:
        lines = [
            f"  {name}\n    recorded SHA-256 {known[name]}\n    found SHA-256    {found[name]}"
            for name in other[:_MANY]
        ]
        lines += [f"  and {len(other) - _MANY:,} more"] if len(other) > _MANY else []
        raise CorruptFileError(
            f"{raw}: these files are not the recorded ones:\n" + "\n".join(lines) + "\n"
            f"Put the recorded ones back; or, if these are the right ones, delete {record}"
        )
    return found


def keep_digests(record: Path, found: Mapping[str, str]) -> None:
    """Add files to the record."""
    known = _read(record)
    if not found.items() <= known.items():
        save_json(record, known | dict(found))


def _read(record: Path) -> dict[str, str]:
    known = load_json(record) if record.is_file() else {}
    if not isinstance(known, dict) or not all(isinstance(item, str) for item in known.values()):
        raise CorruptFileError(f"{record}: not SHA-256 by file name; delete it")
    return known
