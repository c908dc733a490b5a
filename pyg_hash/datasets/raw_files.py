"""Files that have to be there: what is missing, and archives of known SHA-256."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyg_hash.utils.files import CorruptFileError, atomic_path, file_sha256

Archives = Mapping[str, Mapping[str, Any]]  # as the manifests describe them
_MANY = 12  # files of one pattern that become one line


def absent(raw: Path, names: Sequence[str]) -> list[str]:
    """The files that are not there."""
    return [name for name in names if not (raw / name).is_file()]


def existing(raw: Path, names: Sequence[str]) -> list[str | None]:
    """The files with their folder; None for one that is not there."""
    return [str(raw / name) if (raw / name).is_file() else None for name in names]


def wanted(
    manifest: Mapping[str, Any],
    missing: Sequence[str],
    places: Mapping[str, int],
    most: int | None = None,
) -> str:
    """The missing files (of many pictures ``most`` lines), their places, and where to get them."""
    lines = listed(missing)
    if most is not None and len(lines) > most:
        lines = [*lines[:most], f"  and more, {len(missing):,} files in all"]
    if places:
        lines += [f"  {pattern}  ({number:,} files)" for pattern, number in places.items()]
        lines.append("Of the pictures only those of the split are read.")
    archives = listed_archives(holding(manifest["archives"], [*missing, *places]))
    return "\n".join([*lines, manifest["where"], *archives])


def listed(names: Sequence[str]) -> list[str]:
    """One line a missing file; many that differ in numbers only share a line."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"\d+", "#", name)].append(name)
    lines = []
    for group in groups.values():
        if len(group) > _MANY:
            lines.append(f"  {group[0]} ... {group[-1]}  ({len(group):,} files)")
        else:
            lines += [f"  {name}" for name in group]
    return lines


def short_places(raw: Path, places: Mapping[str, int], archives: Archives) -> dict[str, int]:
    """The patterns that fewer files fit than their number, apart from those of an archive there."""
    return {
        pattern: number
        for pattern, number in places.items()
        if not any((raw / name).is_file() for name in holding(archives, [pattern]))
        and sum(1 for _ in raw.glob(pattern)) < number
    }


def holding(archives: Archives, names: Iterable[str]) -> Archives:
    """Those of the archives that some of the files belong to."""
    names = list(names)
    return {
        archive: known
        for archive, known in archives.items()
        if any(name.startswith(known["holds"]) for name in names)
    }


def listed_archives(archives: Archives) -> list[str]:
    """One line an archive, with what is known of it."""
    return [
        f"  {name}  {known['bytes']} bytes  SHA-256 {known['sha256']}"
        for name, known in archives.items()
    ]


def unpack(raw: Path, archives: Archives, names: Sequence[str]) -> None:
    """Unpack the files from the archives that lie there and that they belong to.

    Raises:
        CorruptFileError: such an archive is not the one with the known SHA-256.
    """
    for name, known in holding(archives, names).items():
        if (raw / name).is_file():
            _check(raw / name, known["sha256"])
            _unpack(raw / name, names)


def _check(archive: Path, sha256: str) -> None:
    if not zipfile.is_zipfile(archive):  # cut off: known at once, without reading gigabytes
        raise CorruptFileError(f"{archive}: not a zip archive; get it again")
    found = file_sha256(archive)
    if found != sha256:
        raise CorruptFileError(f"{archive}: SHA-256 is {found}, expected {sha256}; get it again")


def _unpack(archive: Path, names: Sequence[str]) -> None:
    with zipfile.ZipFile(archive) as content:
        for name in sorted(set(names) & set(content.namelist())):
            with (
                atomic_path(archive.parent / name) as temporary,
                content.open(name) as member,
                open(temporary, "wb") as file,
            ):
                shutil.copyfileobj(member, file)
