"""Files on disk: written atomically, as safetensors and JSON; nothing is ever unpickled."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.parameter import is_lazy
from xxhash import xxh3_64_hexdigest

from pyg_hash.utils.checksums import BLOCK, blank_sums, seal, verify, verify_tensors
from pyg_hash.utils.checksums import CorruptFileError as CorruptFileError

_ALIGN = 64
_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only if the block succeeds, sealed.

    A link stays one, and what it names is replaced; mode and owner stay; what killed processes
    left beside is removed. ``OSError``: there is something that is no file, such as a device. See
    :mod:`pyg_hash.utils.checksums` for the checksum.
    """
    target = _target(path)
    _sweep(target.parent)
    # a name has 255 bytes at most, and a letter four
    name = f".{target.name[:45]}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    temporary = target.with_name(name)
    temporary.touch(0o600 if target.exists() else 0o666, exist_ok=False)
    try:
        yield temporary
        seal(temporary, os.fspath(path))
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            old = target.stat()
            with suppress(OSError, AttributeError):  # only root may, and only where there are such
                os.chown(temporary, old.st_uid, old.st_gid)
            os.chmod(temporary, stat.S_IMODE(old.st_mode))
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in _FULL:
            why = f"{error.strerror}, nothing was changed; make room or write elsewhere"
            raise OSError(error.errno, why, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file behind links, its folder made; ``OSError``: it is there, and is no file."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the path of a file")
    if target.exists() and not target.is_file():
        raise OSError(f"{path}: is a device, pipe or socket; give the path of a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_LEFT = re.compile(rf"\..+\.{_HOST}\.(\d+)\.\w+\.tmp")
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.\d+\.\w+\.tmp")  # of any machine


@cache
def _sweep(folder: Path) -> None:
    """Remove, once, what processes of this machine left that are gone."""
    if os.name != "posix":  # which processes live is not known
        return
    with suppress(OSError):
        for entry in os.scandir(folder):
            if found := _LEFT.fullmatch(entry.name):
                try:
                    os.kill(int(found.group(1)), 0)
                except ProcessLookupError:
                    os.unlink(entry.path)
                except PermissionError:  # somebody else's, which lives
                    continue


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` if the file ``path`` cannot be written; makes its folder, nothing else."""
    tempfile.TemporaryFile(dir=_target(path).parent).close()


def check_file(
    path: str | os.PathLike[str], name: str = "", *, kind: str = "file", remedy: str = ""
) -> None:
    """Raise ``FileNotFoundError`` unless ``path`` is a file; a pipe would be waited for."""
    if not Path(path).is_file():
        why = "no regular file" if os.path.exists(path) else f"no such {kind}"
        raise FileNotFoundError(f"{name and f'{name}: '}{path}: {why}{remedy}")


def check_path(value: object, name: str = "path") -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``value`` can name a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected the path of a file or folder, got {value!r}")
    if not (text := os.fspath(value)) or re.search("[\0\ud800-\udc7f\udd00-\udfff]", text):
        raise ValueError(f"{name}: {value!r} names no file or folder; give its path")


def check_folder(path: str | os.PathLike[str] | None, name: str) -> None:
    """Raise ``NotADirectoryError`` unless ``path`` is a folder, or None."""
    if path is not None and not os.path.isdir(path):
        raise NotADirectoryError(f"{name}: {path} is no folder")


def bad_name() -> str:
    """What is wrong with a file whose name is no text."""
    if (encoding := sys.getfilesystemencoding().lower()) == "utf-8":
        return "its name is not valid UTF-8; rename it"
    return f"its name is not in {encoding}; set a UTF-8 locale, or PYTHONUTF8=1"


def relative_path(path: str, folder: str | os.PathLike[str]) -> str:
    """A path from a folder on, with ``/``; the absolute one if none leads there: from C: to D:."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()


def below_one(paths: Sequence[str | None]) -> tuple[str | None, list[str | None]]:
    """The folder of all files, and their paths from it; None, and as they come: there is none."""
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths if path is not None])
    except ValueError:  # no file, or two drives of Windows
        return None, [*paths]
    return root, [path and relative_path(path, root) for path in paths]


def bad_text(text: str) -> str:
    """What keeps a text out of files and stores; empty if nothing does."""
    if "\0" in text:
        return "contains a NUL character; remove it"
    surrogate = any("\ud800" <= letter <= "\udfff" for letter in text)
    return "contains half a character (a surrogate); decode it again" if surrogate else ""


def sha256(*parts: str | bytes | Path) -> str:
    """SHA-256, in hexadecimal, of texts, bytes and the files of paths, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with open(part, "rb") as file:
                hashlib.file_digest(file, lambda: digest)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of the files in an encoder's folder, by name, without weights put into it later."""
    beside = {path for about in folder.rglob("encoder.json") for path in _weights_beside(about)}
    found = (path for path in folder.rglob("*") if beside.isdisjoint((path, *path.parents)))
    files = {path.relative_to(folder): path for path in found if path.is_file()}
    named = sorted(files.items(), key=lambda file: file[0].parts)  # alike on every system
    return sha256(*(part for name, path in named for part in (name.as_posix(), path)))


def _weights_beside(about: Path) -> Iterator[Path]:
    """Where weights are looked for that the settings of an encoder know by their own digest."""
    with suppress(OSError, ValueError):  # damaged settings have another digest anyhow
        settings = load_json(about, dict)
        if "weights_sha256" in settings and isinstance(settings.get("weights"), str):
            yield about.parent / Path(settings["weights"]).name


def save_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_number)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def as_json(value: Any) -> Any:
    """``value`` as it comes back from a JSON file: tuples are lists."""
    return json.loads(json.dumps(value, default=_number))


def json_text(value: Any, **how: Any) -> str:
    """Values of items as JSON, which has no infinite number: these are ``"inf"`` and ``"-inf"``."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        return json.dumps(_finite(value), **how)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, its checksum compared if it has one and left out."""
    path = Path(path)
    ending = path.suffix.lower()
    check_file(path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
        if ending in (".json", ".yaml"):
            verify(path, file.buffer)
    return text.rstrip(" \t\n") + "\n" if ending == ".json" else text


def _number(value: Any) -> Any:
    """NumPy's numbers and tensors of one as plain ones; ``TypeError`` for what is no JSON."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        raise TypeError(f"a {type(value).__name__} cannot be stored; use numbers, texts or lists")
    return value.item()


def load_json(path: str | os.PathLike[str], kind: type = object) -> Any:
    """A JSON file of this kind; raises ``FileNotFoundError`` or :class:`CorruptFileError`."""
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptFileError(f"{path}: not valid JSON ({error}); write it again") from error
    if not isinstance(value, kind):
        what = f"expected a {kind.__name__}, got {value!r:.60}"
        raise CorruptFileError(f"{path}: {what}; save it again")
    return value


Part = tuple[str, Sequence[int], Any]  # name of a dtype in safetensors, shape, flat buffer


def is_storable(x: Tensor) -> bool:
    """Whether :func:`save_tensors` can hold it."""
    return x.layout == torch.strided and x.dtype in _DTYPES and not (x.is_meta or is_lazy(x))


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Any = None
) -> None:
    """Write named tensors and JSON metadata into one safetensors file, atomically."""
    parts: dict[str, Part] = {}
    for name, x in tensors.items():
        if x.dtype not in _DTYPES:
            raise TypeError(f"{name}: {x.dtype} cannot be stored; convert it")
        plain = x.detach().cpu().contiguous()
        data = plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b""
        parts[name] = _DTYPES[x.dtype], list(x.shape), data
    write_parts(path, parts, metadata)


def write_parts(path: str | os.PathLike[str], parts: Mapping[str, Part], metadata: Any) -> None:
    """Write a safetensors file atomically, with checksums and parts that can be mapped."""
    header, data, end = {}, [], 0

    def by_width(named: tuple[str, Part]) -> tuple[int, str]:
        return -int(re.sub(r"\D", "", named[1][0]) or 8), named[0]  # BOOL has 8 bits

    for name, (dtype, shape, part) in sorted(parts.items(), key=by_width):
        start, end = end, end + len(part)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        data.append(part)
    about = {"json": json.dumps(metadata, ensure_ascii=False)}
    with atomic_path(path) as temporary, open(temporary, "wb+") as file:
        blank = _head(header, {**about, "xxh3": blank_sums(end)})
        file.writelines([blank, *data])
        file.seek(len(blank))
        blocks = chain([blank], iter(partial(file.read, BLOCK), b""))
        sums = "".join(map(xxh3_64_hexdigest, blocks))
        file.seek(0)
        file.write(_head(header, {**about, "xxh3": sums}))


def _head(header: Mapping[str, Any], about: Mapping[str, str]) -> bytes:
    """The first bytes of a safetensors file."""
    text = json.dumps({"__metadata__": about, **header}, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return len(text).to_bytes(8, "little") + text


def load_tensors(
    path: str | os.PathLike[str], *, check: bool = True
) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`save_tensors` wrote; ``check=False``: its digest is compared elsewhere."""
    check_file(path)
    if check:
        verify_tensors(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("json", "null"))
            # a private copy: a mapped file could be replaced while it is in use
            return {name: torch.clone(file.get_tensor(name)) for name in file.keys()}, metadata
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"truncated or not a safetensors file ({error}); write or copy it again"
        raise CorruptFileError(f"{path}: {what}") from error
