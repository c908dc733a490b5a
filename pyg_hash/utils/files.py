"""Files on disk: written atomically, as safetensors and JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


class CorruptFileError(ValueError):
    """A file exists but is truncated, damaged or of another format."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only the owner may read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` if the file ``path`` cannot be written; makes its folder, nothing else."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the path of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


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


def _number(value: Any) -> Any:
    """NumPy's numbers and tensors of one as plain ones; ``TypeError`` for what is no JSON."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        raise TypeError(f"a {type(value).__name__} cannot be stored; use numbers, texts or lists")
    return value.item()


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; raises ``FileNotFoundError`` or :class:`CorruptFileError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path}: not valid JSON ({error}); write it again") from error


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Any = None
) -> None:
    """Write named tensors and JSON metadata into one safetensors file, atomically."""
    owned = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(owned, temporary, metadata={"json": json.dumps(metadata, ensure_ascii=False)})


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`save_tensors` wrote; raises as :func:`load_json`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("json", "null"))
            # a private copy: a mapped file could be replaced while it is in use
            return {name: torch.clone(file.get_tensor(name)) for name in file.keys()}, metadata
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(
            f"{path}: truncated or not a safetensors file ({error}); write or copy it again"
        ) from error
