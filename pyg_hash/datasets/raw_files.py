"""Files that have to be there: what is missing, and archives of known SHA-256."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyg_hash.io import CorruptFileError, atomic_path

_MANY = 12  # files of one pattern that become one line


def listed(names: Sequence[str]) -> list[str]:
    """One line a missing file; many that differ in numbers only share a line."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):  # one file may hold several things
        groups[re.sub(r"\d+", "#", name)].append(name)
    lines = []
    for group in groups.values():
        if len(group) > _MANY:
            lines.append(f"  {group[0]} ... {group[-1]}  ({len(group):,} files)")
        else:
            lines += [f"  {name}" for name in group]
    return lines


def listed_places(raw: Path, places: Mapping[str, int]) -> list[str]:
    """One line a pattern that fewer files fit than its number; their names are not known yet."""
    return [
        f"  {pattern}  ({number:,} files)"
        for pattern, number in places.items()
        if sum(1 for _ in raw.glob(pattern)) < number
    ]


def unpack(archive: Path, sha256: str, names: Sequence[str]) -> None:
    """Unpack the given members, if there are any, of an archive with a known SHA-256.

    Raises:
        CorruptFileError: the archive is another one.
    """
    if not zipfile.is_zipfile(archive):
        raise CorruptFileError(f"{archive}: not a zip archive; get it again")
    with zipfile.ZipFile(archive) as content:
        members = sorted(set(names) & set(content.namelist()))
        if not members:
            return
        digest = hashlib.sha256()
        with open(archive, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != sha256:
            raise CorruptFileError(
                f"{archive}: SHA-256 is {digest.hexdigest()}, expected {sha256}; get it again"
            )
        for name in members:
            with (
                atomic_path(archive.parent / name) as temporary,
                content.open(name) as member,
                open(temporary, "wb") as file,
            ):
                shutil.copyfileobj(member, file)
