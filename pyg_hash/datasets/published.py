"""Base of the data sets that come as published raw files, in several layouts and splits."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.encoding import WORD_FEATURES, encode_all, encoder_digest, word_encoder
from pyg_hash.datasets.protocols import Protocol, draw_split, read_protocols
from pyg_hash.datasets.raw_files import absent, existing, short_places, unpack, wanted
from pyg_hash.datasets.raw_record import RECORD, checked_digests, keep_digests
from pyg_hash.datasets.sources import Array, Source, Table, is_file_name, read_own
from pyg_hash.features import BagOfWords, EfficientNetLite0, ImageEncoder, TextEncoder
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import load_tensors, save_tensors

Layout = Literal["official", "features"]
LAYOUTS = ("official", "features")
ROWS_FILE = "rows.safetensors"  # row numbers in the raw files
_PICTURES_LISTED = 40  # lines of a message: NUS-WIDE keeps its pictures in 704 folders


class PublishedDataset(CrossModalDataset):
    """A data set in the layout of its publishers, split as a paper says.

    A subclass hands over its :class:`~pyg_hash.datasets.sources.Source` and manifest.

    Args:
        root: folder of ``raw/`` and of what is computed.
        source: the chosen layout.
        layout: its name.
        image: name of features of the layout, ``FILE[:NAME]`` of features of one's own, an image
            encoder, or ``'efficientnet_lite0'``; None: the layout's features or else that encoder.
        text: the same; ``'bow2000'`` and ``'lsa200'`` are fitted on the training texts.
        protocol: the name of a published split; None: the manifest's default.
        transform: applied at every access.
        pre_transform: applied once and stored.
        seed: of the drawing of the split.
        force_reload: build the stored data again.
    """

    #: whether labels are one class index a row
    single_label: ClassVar[bool] = False

    def __init__(
        self,
        root: str | os.PathLike[str],
        source: Source,
        *,
        layout: str,
        image: str | ImageEncoder | None,
        text: str | TextEncoder | None,
        protocol: str | None,
        transform: Transform | None,
        pre_transform: Transform | None,
        seed: int,
        force_reload: bool,
    ) -> None:
        self._source, self.layout, self.seed = source, layout, seed
        known = read_protocols(source.manifest)
        known = {name: p for name, p in known.items() if p.layout in (None, layout)}
        self.protocol: str = source.manifest["default"] if protocol is None else protocol
        check_choice(self.protocol, tuple(known), "protocol")
        self._protocol: Protocol = known[self.protocol]
        self.image = self._choice(image, "image")
        self.text = self._choice(text, "text")
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    def _choice(self, choice: Any, argument: str) -> Any:
        """A name of features, a file's name or an encoder; anything else is refused."""
        source, is_image = self._source, argument == "image"
        own = tuple(source.images if is_image else source.texts)
        encoded: tuple[str, ...] = ()
        if source.raw_items:
            encoded = (EfficientNetLite0.kind,) if is_image else WORD_FEATURES
        if choice is None:
            choice = (own + encoded)[0]
        if isinstance(choice, str):
            if not is_file_name(choice):
                check_choice(choice, own + encoded, argument)
            known = choice == EfficientNetLite0.kind
            return EfficientNetLite0(progress=False) if known else choice
        if not callable(choice) or not hasattr(choice, "save"):
            raise TypeError(
                f"{argument}: expected a name, a file's name or an encoder of pyg_hash.features, "
                f"got {type(choice).__name__}"
            )
        if not source.raw_items:
            raise ValueError(
                f"{argument}: the layout {self.layout!r} has no raw items to encode; "
                f"use one of {', '.join(own)} or a file of your own"
            )
        return choice

    # files -----------------------------------------------------------------------------------

    @property
    def raw_file_names(self) -> list[str]:
        """The files that this choice needs, pictures apart."""
        choices = [choice for choice in (self.image, self.text) if isinstance(choice, str)]
        own = [choice.split(":")[0] for choice in choices if is_file_name(choice)]
        return list(dict.fromkeys(self._published_names + own))

    @property
    def _published_names(self) -> list[str]:
        """Those of them that are the publishers', not one's own."""
        source, names = self._source, list(self._source.files)
        for choice, known in ((self.image, source.images), (self.text, source.texts)):
            if isinstance(choice, str):
                names += known.get(choice, [])
        if self._needs_words:
            names += source.word_files
        return names

    @property
    def _needs_words(self) -> bool:
        return not isinstance(self.text, str) or self.text in WORD_FEATURES

    def download(self) -> None:
        """Unpack what lies in ``raw/`` as an archive of known SHA-256; say what is missing.

        Raises:
            FileNotFoundError: lists the missing files, their places and where to get them.
            CorruptFileError: an archive is not the published one.
        """
        raw = Path(self.raw_dir)
        names = self.raw_file_names
        unpack(raw, self._source.manifest["archives"], absent(raw, names))
        missing = absent(raw, names)
        if missing:
            raise FileNotFoundError(
                f"{type(self).__name__} cannot be downloaded automatically. "
                f"Put these files into {raw}:\n"
                + wanted(self._source.manifest, missing, self._short_places())
            )

    def _short_places(self) -> dict[str, int]:
        """The places of pictures, if they are needed and not all there."""
        if isinstance(self.image, str):
            return {}
        folder, source = self._protocol.pictures or "", self._source
        places = source.picture_places.items()
        needed = {pattern: number for pattern, number in places if pattern.startswith(folder)}
        return short_places(Path(self.raw_dir), needed, source.manifest["archives"])

    def settings(self) -> dict[str, Any]:
        """Layout, features, split, and one digest of names, sizes and times of the raw files."""
        stamps = hashlib.sha256()
        for name in self.raw_file_names:
            stat = (Path(self.raw_dir) / name).stat()
            stamps.update(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode())
        return {
            "layout": self.layout,
            "image": self.image if isinstance(self.image, str) else encoder_digest(self.image),
            "text": self.text if isinstance(self.text, str) else encoder_digest(self.text),
            "protocol": self.protocol,
            "seed": self.seed,
            "raw": stamps.hexdigest(),
        }

    # rows ------------------------------------------------------------------------------------

    @property
    def _split(self) -> tuple[Table, Array, dict[str, Array]]:
        """The usable rows, the positions of those of the protocol, and their parts."""
        protocol = self._protocol
        table = self._source.table(unlabeled=protocol.unlabeled, pictures=protocol.pictures)
        if protocol.own_parts and table.parts is not None:
            rows = np.flatnonzero(np.isin(table.parts, ("train", "test")))
            query = table.parts[rows] == "test"
            return table, rows, {"train": ~query, "query": query, "database": ~query}
        return table, *draw_split(protocol, table.y, self.seed)

    def build(self) -> HeteroData:
        """Read labels, split them, and read or compute the features of the rows of the split.

        Rows without a word that the training texts have are left out, with a warning.

        Raises:
            CorruptFileError: a published file is not the one of the first build, or is damaged.
        """
        record = Path(self.root) / "processed" / RECORD
        digests = checked_digests(Path(self.raw_dir), self._published_names, record)
        table, rows, masks = self._split
        encoder, text = self._text_features(table, rows, masks["train"])
        image = self._image_features(table, rows)
        known = torch.ones(len(rows), dtype=torch.bool) if encoder is None else text.any(dim=1)
        if not bool(known.all()):
            warnings.warn(
                f"text: {int((~known).sum())} of {len(rows)} rows have no known word and are "
                "left out; use other text features to keep them",
                stacklevel=2,
            )
            image, text, rows = image[known], text[known], rows[known.numpy()]
            masks = {name: mask[known.numpy()] for name, mask in masks.items()}
        y = torch.from_numpy(table.y[rows])
        data = build_hetero(
            image,
            text,
            y=y.argmax(dim=1) if self.single_label else y.float(),
            num_classes=table.y.shape[1],
            **{name: torch.from_numpy(mask) for name, mask in masks.items()},
        )
        if encoder is not None:
            encoder.save(self._text_encoder_dir)
        save_tensors(self.base_dir / ROWS_FILE, {"rows": torch.from_numpy(table.rows[rows])})
        keep_digests(record, digests)  # only now: files that cannot be read are no reference
        return data

    def read_items(self) -> Items:
        """Ids, classes, pictures (those that exist) and texts of the rows."""
        index = load_tensors(self.base_dir / ROWS_FILE)[0]["rows"].numpy()
        raw, source = Path(self.raw_dir), self._source
        paths = source.picture_paths(index)
        has_words = all((raw / name).is_file() for name in source.word_files)
        words = source.words(index) if has_words else None
        return Items(
            ids=source.ids(index),
            class_names=source.class_names,
            image_paths=[None] * len(index) if paths is None else existing(raw, paths),
            texts=[None] * len(index) if words is None else [text or None for text in words],
        )

    # features --------------------------------------------------------------------------------

    def _image_features(self, table: Table, rows: Array) -> Tensor:
        if not isinstance(self.image, str):
            return self._encoded_pictures(table.rows[rows])
        if is_file_name(self.image):
            return read_own(Path(self.raw_dir), self.image, table, rows)
        return self._source.image(self.image, table.rows[rows])

    def _encoded_pictures(self, index: Array) -> Tensor:
        """Features of the pictures from their file, else computed and stored there at once.

        Pictures that still are in an archive of known SHA-256 are unpacked.
        """
        raw, paths = Path(self.raw_dir), self._source.picture_paths(index) or []
        unpack(raw, self._source.manifest["archives"], absent(raw, paths))
        missing = absent(raw, paths)
        if missing:
            raise FileNotFoundError(
                f"image: these pictures are missing in {raw}:\n"
                + wanted(self._source.manifest, missing, {}, most=_PICTURES_LISTED)
            )
        digest = hashlib.sha256(encoder_digest(self.image).encode())
        for path in paths:
            stat = (raw / path).stat()
            digest.update(f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode())
        name = f"image-{digest.hexdigest()[:12]}.safetensors"
        cache = Path(self.root) / "features" / name
        if cache.is_file():
            return load_tensors(cache)[0]["image"]
        features = encode_all(self.image, [str(raw / path) for path in paths], "image")
        save_tensors(cache, {"image": features})
        return features

    def _text_features(
        self, table: Table, rows: Array, train: Array
    ) -> tuple[BagOfWords | None, Tensor]:
        """The encoder that was fitted here, if any, and the features."""
        if not self._needs_words:
            if is_file_name(self.text):
                return None, read_own(Path(self.raw_dir), self.text, table, rows)
            return None, self._source.text(self.text, table.rows[rows])
        texts = self._source.words(table.rows[rows]) or []
        if not isinstance(self.text, str):
            return None, encode_all(self.text, texts, "text")
        known = [text for text, used in zip(texts, train, strict=True) if used]
        encoder = word_encoder(self.text).fit(known)
        return encoder, encoder.transform(texts, allow_unknown=True)

    @property
    def _text_encoder_dir(self) -> Path:
        return self.base_dir / "text_encoder"

    def image_encoder(self) -> ImageEncoder:
        """The encoder of the pictures, where they were encoded here."""
        if isinstance(self.image, str):
            return super().image_encoder()
        encoder: ImageEncoder = self.image
        return encoder

    def text_encoder(self) -> TextEncoder:
        """The encoder of the texts, where they were encoded here."""
        if not self._needs_words:
            return super().text_encoder()
        encoder: TextEncoder = self.text
        return BagOfWords.load(self._text_encoder_dir) if isinstance(self.text, str) else encoder
