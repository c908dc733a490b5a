"""Files on disk: written atomically, as safetensors and JSON; nothing is ever unpickled."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pyg_hash.utils.provenance import BLOCK, blank_sums, seal, verify, verify_tensors
from pyg_hash.utils.provenance import CorruptFileError as CorruptFileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

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
    :mod:`pyg_hash.utils.provenance` for the checksum.
    """
    target = _target(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    prefix = f".{target.name[:180]}.{_HOST}.{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        seal(temporary, Path(path).suffix)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            old = target.stat()
            with suppress(OSError, AttributeError):  # only root may, and only where there are such
                os.chown(temporary, old.st_uid, old.st_gid)
            mode = stat.S_IMODE(old.st_mode)
        else:
            umask = os.umask(0)
            os.umask(umask)
            mode = 0o666 & ~umask
        os.chmod(temporary, mode)  # mkstemp makes files that only the owner may read
        os.replace(temporary, target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file behind links; ``OSError`` if there is something else that must not be replaced."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the path of a file")
    if target.exists() and not target.is_file():
        raise OSError(f"{path}: is a device, pipe or socket; give the path of a file")
    return target


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in the place of another one, if there is one.

    A process that is killed between the two steps leaves the old one under its name with ``.old``.
    """
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.rename(old)
    new.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_LEFT = re.compile(rf"\..+\.{_HOST}\.(\d+)\.\w+\.tmp")


@cache
def _sweep(folder: Path) -> None:
    """Remove, once, what processes of this machine left that are gone."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            found = _LEFT.fullmatch(entry.name)
            if found and not _lives(int(found.group(1))):
                os.unlink(entry.path)


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # not known
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` if the file ``path`` cannot be written; makes its folder, nothing else."""
    target = _target(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=target.parent):
        pass


class BusyError(OSError):
    """Another process, or another object of this one, is changing the same thing."""


class Lock:
    """The right to change something, until :meth:`release` or the end of the process.

    It is a lock of the system's on a file that holds the process' number; without such locks, or
    where nothing can be written, it is none.

    Args:
        path: the file, which is removed by the release.
        what: what is changed, for the message.
        wait_s: seconds to wait for somebody else.

    Raises:
        BusyError: somebody else has the right.
    """

    def __init__(self, path: Path, what: str, wait_s: float = 0.0) -> None:
        self._file: TextIO | None = None
        until = time.monotonic() + wait_s
        self._path, self._owner = path, os.getpid()
        while fcntl is not None and self._file is None:
            try:
                file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                if error.errno in (errno.EROFS, errno.EACCES, errno.ENOENT, errno.EPERM):
                    return
                raise
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                file.close()
                if time.monotonic() < until:
                    time.sleep(0.02)
                    continue
                raise BusyError(
                    f"{what}: is being changed by {owner}; wait until that is done, or choose "
                    "another"
                ) from None
            except OSError:  # a file system without locks
                file.close()
                return
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                    self._file = file
                    continue
            file.close()  # its owner removed it meanwhile
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {platform.node()}")
            self._file.flush()

    def release(self) -> None:
        """Let others change it."""
        if self._file is not None:
            if self._owner == os.getpid():  # a fork has the file too, not the right
                self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    __del__ = release

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


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
                while block := file.read(1 << 20):
                    digest.update(block)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def checked(path: Path, digest: str, remedy: str) -> Path:
    """``path``, if its SHA-256 is ``digest``; else an error that tells the remedy.

    ``FileNotFoundError``: there is no such file; :class:`CorruptFileError`: it is another one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: weights file missing; {remedy}")
    found = sha256(path)
    if found != digest:
        raise CorruptFileError(f"{path}: SHA-256 is {found}, expected {digest}; {remedy}")
    return path


def save_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_number)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, its checksum compared if it has one and left out."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".json", ".yaml"):
        verify(path)
    return text.rstrip(" \t\n") + "\n" if path.suffix == ".json" else text


def _number(value: Any) -> Any:
    """NumPy's numbers and tensors of one as plain ones; ``TypeError`` for what is no JSON."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        raise TypeError(f"a {type(value).__name__} cannot be stored; use numbers, texts or lists")
    return value.item()


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; raises ``FileNotFoundError`` or :class:`CorruptFileError`."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptFileError(f"{path}: not valid JSON ({error}); write it again") from error


def check_yaml(text: str) -> None:
    """Raise ``yaml.YAMLError`` for aliases, by which a few lines stand for gigabytes, or damage.

    And for more than 50 mappings and lists in one another.
    """
    import yaml  # few files need it

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.YAMLError(f"the alias *{event.anchor}; write its value out")
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if depth > 50:
            raise yaml.YAMLError("more than 50 mappings and lists in one another")


Part = tuple[str, Sequence[int], Any]
"""Name of a dtype in safetensors, shape, and the bytes, as a flat buffer."""


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Any = None
) -> None:
    """Write named tensors and JSON metadata into one safetensors file, atomically.

    ``TypeError``: a dtype that cannot be stored.
    """
    parts: dict[str, Part] = {}
    for name, x in tensors.items():
        if x.dtype not in _DTYPES:
            raise TypeError(f"{name}: {x.dtype} cannot be stored; convert it")
        plain = x.detach().cpu().contiguous()
        data = plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b""
        parts[name] = _DTYPES[x.dtype], list(x.shape), data
    write_parts(path, parts, metadata)


def write_parts(path: str | os.PathLike[str], parts: Mapping[str, Part], metadata: Any) -> None:
    """Write a safetensors file with JSON metadata and checksums, atomically.

    Each part starts at a multiple of its element's size, so that the file can be mapped.
    """
    with atomic_path(path) as temporary:
        save_file(temporary, parts, metadata)


def save_file(path: Path, parts: Mapping[str, Part], metadata: Any) -> None:
    """Write it in place."""
    ordered = sorted(parts.items(), key=lambda item: (-_bits(item[1][0]), item[0]))
    header: dict[str, Any] = {"__metadata__": {}}
    end = 0
    for name, (dtype, shape, data) in ordered:
        start, end = end, end + len(data)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    about = {"json": json.dumps(metadata, ensure_ascii=False), "crc32": blank_sums(end)}
    header["__metadata__"] = about
    with open(path, "wb") as file:
        file.write(_head(header))
        sums, crc, left = [zlib.crc32(_head(header))], 0, BLOCK
        for _, (_, _, data) in ordered:
            while len(data):
                piece, data = data[:left], data[left:]
                file.write(piece)
                crc, left = zlib.crc32(piece, crc), left - len(piece)
                if left == 0:
                    sums.append(crc)
                    crc, left = 0, BLOCK
        sums += [crc] if left < BLOCK else []
        about["crc32"] = "".join(f"{value:08x}" for value in sums)
        file.seek(0)
        file.write(_head(header))


def _bits(dtype: str) -> int:
    return int(re.sub(r"\D", "", dtype) or 8)


def _head(header: Mapping[str, Any]) -> bytes:
    """The first bytes of a safetensors file."""
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return len(text).to_bytes(8, "little") + text


def load_tensors(
    path: str | os.PathLike[str], *, check: bool = True
) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`save_tensors` wrote; raises as :func:`load_json`.

    ``check=False`` is for files whose digest is known, and compared, elsewhere.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if check:
        verify_tensors(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("json", "null"))
            # a private copy: a mapped file could be replaced while it is in use
            return {name: torch.clone(file.get_tensor(name)) for name in file.keys()}, metadata
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptFileError(
            f"{path}: truncated or not a safetensors file ({error}); write or copy it again"
        ) from error
