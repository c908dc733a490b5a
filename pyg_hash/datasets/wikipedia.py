"""The Wikipedia data set of Rasiwasia et al., 2010."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform, stamp
from pyg_hash.datasets.build import build_hetero
from pyg_hash.datasets.raw import RawMatrix, absent, whole
from pyg_hash.datasets.splits import load_manifest
from pyg_hash.features import BagOfWords
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import CorruptFileError

LISTS = {"train": "trainset_txt_img_cat.list", "test": "testset_txt_img_cat.list"}
CATEGORIES = "categories.list"
MAT = "raw_features.mat"
ARTICLES = "articles.jsonl.gz"
IMAGE128 = "image128.h5"

_MANIFEST = load_manifest("wikipedia")  # sizes and SHA-256 of the files, and where they are from
_IN_MAT = {"sift": "I", "lda": "T", "tfidf": "T_tfidf"}
_WORDS: dict[str, dict[str, Any]] = {
    "bow3000": {"mode": "count", "max_features": 3000},
    "lsa200": {"mode": "tfidf", "min_df": 2, "lsa": 200},
}
ImageKind = Literal["sift", "image128"]
TextKind = Literal["lda", "tfidf", "bow3000", "lsa200"]


class Wikipedia(CrossModalDataset):
    """2,866 Wikipedia sections with a picture, 10 classes, official split.

    The 2,173 training rows come first and are the database, the 693 test rows are the queries.
    Labels are 0..9. Source: Rasiwasia et al., "A New Approach to Cross-Modal Multimedia
    Retrieval", ACM Multimedia 2010.

    The raw files have to lie in ``<root>/raw``; :meth:`download` lists them.

    Args:
        root: folder of ``raw/`` and of what is computed.
        image: ``'sift'``, the official 128-d bag of SIFT words, or ``'image128'``, a stronger
            128-d feature of the same rows.
        text: ``'lda'`` (official, 10 topics), ``'tfidf'`` (official, 1,000-d), ``'bow3000'``
            (counts of the 3,000 most frequent words) or ``'lsa200'`` (TF-IDF, then truncated SVD
            to 200-d, seed 0). The last two leave English stop words out and are fitted on the
            training texts.
        transform: applied at every access.
        pre_transform: applied once and stored.
        force_reload: build the stored data again.

    Raises:
        FileNotFoundError: a raw file is missing.
        CorruptFileError: a raw file is damaged, or the files do not belong together.
        ImportError: scikit-learn is missing (``'bow3000'``, ``'lsa200'``).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image: ImageKind = "image128",
        text: TextKind = "lsa200",
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        force_reload: bool = False,
    ) -> None:
        check_choice(image, ("sift", "image128"), "image")
        check_choice(text, ("lda", "tfidf", "bow3000", "lsa200"), "text")
        self.image = image
        self.text = text
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The files that this choice of features needs."""
        names = [*LISTS.values(), CATEGORIES]
        if self.image in _IN_MAT or self.text in _IN_MAT:
            names.append(MAT)
        if self.image == "image128":
            names.append(IMAGE128)
        if self.text in _WORDS:
            names.append(ARTICLES)
        return names

    def download(self) -> None:
        """Say which files to get, as no server promises to keep them.

        Raises:
            FileNotFoundError: always; lists missing files, sizes, SHA-256 and the source.
        """
        missing = absent(Path(self.raw_dir), self.raw_file_names)
        known = _MANIFEST["files"]
        lines = [
            f"  {name}  {known[name]['bytes']} bytes  SHA-256 {known[name]['sha256']}"
            for name in missing
        ]
        raise FileNotFoundError(
            f"Wikipedia cannot be downloaded automatically. Put these files into {self.raw_dir}:\n"
            + "\n".join(lines)
            + f"\n{_MANIFEST['where']}"
        )

    def settings(self) -> dict[str, Any]:
        """The features chosen, and sizes and times of the raw files."""
        stamps = {name: stamp(self.raw_dir, name) for name in self.raw_file_names}
        return {"image": self.image, "text": self.text, "raw": stamps}

    def build(self) -> HeteroData:
        """Read the chosen features; fit the text encoder, if any, on the training texts."""
        rows = self._rows()
        num_train = sum(row["split"] == "train" for row in rows)
        train = torch.arange(len(rows)) < num_train
        image = self._image128(rows) if self.image == "image128" else self._mat(self.image)
        encoder = None
        if self.text in _WORDS:
            texts = self._articles(rows)
            encoder = BagOfWords(stop_words="english", min_length=2, **_WORDS[self.text])
            text = encoder.fit(texts[:num_train])(texts)
        else:
            text = self._mat(self.text)
        for name, x in (("image", image), ("text", text)):
            if x.size(0) != len(rows):
                raise CorruptFileError(
                    f"{self.raw_dir}: {x.size(0)} {name} rows but {len(rows)} lines in the lists; "
                    "the files do not belong together, get them again"
                )
        data = build_hetero(
            image,
            text,
            y=torch.tensor([row["label"] for row in rows]),
            num_classes=len(self._class_names()),
            train=train,
            query=~train,
        )
        if encoder is not None:
            encoder.save(self.text_encoder_dir)
        return data

    def read_items(self) -> Items:
        """Text ids; the texts if ``articles.jsonl.gz`` is there; the pictures are not published."""
        rows = self._rows()
        has_texts = (Path(self.raw_dir) / ARTICLES).is_file()
        return Items(
            ids=[row["text_id"] for row in rows],
            class_names=self._class_names(),
            image_paths=[None] * len(rows),
            texts=list(self._articles(rows)) if has_texts else [None] * len(rows),
        )

    # raw files -------------------------------------------------------------------------------

    def _class_names(self) -> list[str]:
        return (Path(self.raw_dir) / CATEGORIES).read_text(encoding="utf-8").split()

    def _rows(self) -> list[dict[str, Any]]:
        """Text id, label 0..9 and split of every row, train first."""
        rows = []
        for split, name in LISTS.items():
            path = Path(self.raw_dir) / name
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                parts = line.split()
                if len(parts) != 3 or not parts[2].isdigit():
                    raise CorruptFileError(
                        f"{path}: line {number} is not 'text-id image-id class'; get it again"
                    )
                label = int(parts[2]) - 1
                rows.append({"text_id": _text_id(parts[0]), "label": label, "split": split})
        return rows

    def _mat(self, kind: str) -> Tensor:
        """Both parts of one matrix of the official MATLAB file, train first."""
        path, name = Path(self.raw_dir) / MAT, _IN_MAT[kind]
        return torch.cat([RawMatrix(path, f"{name}_{part}").read() for part in ("tr", "te")])

    def _image128(self, rows: list[dict[str, Any]]) -> Tensor:
        path = Path(self.raw_dir) / IMAGE128
        labels = RawMatrix(path, "labels").read().flatten().tolist()
        if labels != [row["label"] + 1 for row in rows]:
            raise CorruptFileError(f"{path}: its labels are not those of the lists; get it again")
        return RawMatrix(path, "image").read()

    def _articles(self, rows: list[dict[str, Any]]) -> list[str]:
        path = Path(self.raw_dir) / ARTICLES
        with whole(path), gzip.open(path, "rt", encoding="utf-8") as file:
            articles = [json.loads(line) for line in file]
            ids = [_text_id(article["text_id"]) for article in articles]
            texts = [str(article["text"]) for article in articles]
        if ids != [row["text_id"] for row in rows]:
            raise CorruptFileError(f"{path}: its text ids are not those of the lists; get it again")
        return texts


def _text_id(name: str) -> str:
    """The id without the stray ``A`` that stands before the first one of the train list."""
    return re.sub(r"^A(?=[0-9a-f]{32}-)", "", name)
