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
from pyg_hash.datasets.raw import absent, open_matrix, whole
from pyg_hash.datasets.splits import load_manifest
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
_IMAGES = ("sift", "image128")
_FILES = dict.fromkeys(_IN_MAT, MAT) | {"image128": IMAGE128} | dict.fromkeys(_WORDS, ARTICLES)


class Wikipedia(CrossModalDataset):
    """2,866 Wikipedia sections with a picture, 10 classes, official split.

    The 2,173 training rows come first and are the database, the 693 test rows are the queries.
    Labels are 0..9. Source: Rasiwasia et al., "A New Approach to Cross-Modal Multimedia
    Retrieval", ACM Multimedia 2010.

    The raw files have to lie in ``<root>/raw``; :meth:`download` lists them. Arguments that are not
    named here are those of :class:`~pyg_hash.datasets.CrossModalDataset`.

    Args:
        root: folder of ``raw/`` and of what is computed.
        image: ``'sift'``, the official 128-d bag of SIFT words, or ``'image128'``, a stronger
            128-d feature of the same rows.
        text: ``'lda'`` (official, 10 topics), ``'tfidf'`` (official, 1,000-d), ``'bow3000'``
            (counts of the 3,000 most frequent words) or ``'lsa200'`` (TF-IDF, then truncated SVD
            to 200-d, seed 0). The last two leave English stop words out and are fitted on the
            training texts.

    Raises:
        FileNotFoundError: a raw file is missing.
        CorruptFileError: a raw file is damaged, or the files do not belong together.
        ImportError: scikit-learn is missing (``'bow3000'``, ``'lsa200'``).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image: Literal["sift", "image128"] = "image128",
        text: Literal["lda", "tfidf", "bow3000", "lsa200"] = "lsa200",
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        force_reload: bool = False,
    ) -> None:
        check_choice(image, _IMAGES, "image")
        check_choice(text, [name for name in _FILES if name not in _IMAGES], "text")
        self.image, self.text = image, text
        super().__init__(root, transform, pre_transform, force_reload=force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The files that this choice of features needs."""
        chosen = dict.fromkeys((_FILES[self.image], _FILES[self.text]))
        return [*LISTS.values(), CATEGORIES, *chosen]

    def download(self) -> None:
        """Raise ``FileNotFoundError``: missing files, their SHA-256, and where they are from."""
        known = _MANIFEST["files"]
        lines = [
            f"  {name}  {known[name]['bytes']} bytes  SHA-256 {known[name]['sha256']}\n"
            for name in absent(Path(self.raw_dir), self.raw_file_names)
        ]
        raise FileNotFoundError(
            f"Wikipedia cannot be downloaded automatically. Put these files into {self.raw_dir}:\n"
            f"{''.join(lines)}{_MANIFEST['where']}"
        )

    def settings(self) -> dict[str, Any]:
        """The features chosen, and sizes and times of the raw files."""
        stamps = {name: stamp(self.raw_dir, name) for name in self.raw_file_names}
        return {"image": self.image, "text": self.text, "raw": stamps}

    def build(self) -> HeteroData:
        """Read the chosen features; fit the text encoder, if any, on the training texts."""
        ids, labels, num_train = self._lists()
        train = torch.arange(len(ids)) < num_train
        image = self._matrix(self.image, labels)
        if self.text in _WORDS:
            # any_script: all published results here are of features without it
            words: dict[str, Any] = {"stop_words": "english", "min_length": 2, "any_script": False}
            text = self.fit_words(self._articles(ids), train, **words, **_WORDS[self.text])
        else:
            text = self._matrix(self.text, labels)
        for name, x in (("image", image), ("text", text)):
            if len(x) != len(ids):
                raise CorruptFileError(
                    f"{self.raw_dir}: {len(x)} {name} rows but {len(ids)} lines in the lists; "
                    "the files do not belong together, get them again"
                )
        y, num_classes = torch.tensor(labels), len(self._class_names())
        return build_hetero(image, text, y=y, num_classes=num_classes, train=train, query=~train)

    def read_items(self) -> Items:
        """Text ids; the texts if ``articles.jsonl.gz`` is there; the pictures are not published."""
        ids, _, _ = self._lists()
        has_texts = (Path(self.raw_dir) / ARTICLES).is_file()
        return Items(ids, self._class_names(), texts=self._articles(ids) if has_texts else ())

    def _class_names(self) -> list[str]:
        return (Path(self.raw_dir) / CATEGORIES).read_text(encoding="utf-8").split()

    def _lists(self) -> tuple[list[str], list[int], int]:
        """Text ids and labels 0..9, those of the training rows first, and how many these are."""
        ids, labels, sizes = [], [], []
        for name in LISTS.values():
            path = Path(self.raw_dir) / name
            lines = path.read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines, 1):
                parts = line.split()
                if len(parts) != 3 or not parts[2].isdigit():
                    raise CorruptFileError(
                        f"{path}: line {number} is not 'text-id image-id class'; get it again"
                    )
                ids.append(_text_id(parts[0]))
                labels.append(int(parts[2]) - 1)
            sizes.append(len(lines))
        return ids, labels, sizes[0]

    def _matrix(self, kind: str, labels: list[int]) -> Tensor:
        """A feature of the official MATLAB file, which holds it in two parts, or ``image128``."""
        path = Path(self.raw_dir) / _FILES[kind]
        if kind in _IN_MAT:
            parts = [open_matrix(path, f"{_IN_MAT[kind]}_{part}").read() for part in ("tr", "te")]
            return torch.cat(parts)
        if (open_matrix(path, "labels").read().flatten() - 1).tolist() != labels:
            raise CorruptFileError(f"{path}: its labels are not those of the lists; get it again")
        return open_matrix(path, "image").read()

    def _articles(self, ids: list[str]) -> list[str]:
        path = Path(self.raw_dir) / ARTICLES
        with whole(path), gzip.open(path, "rt", encoding="utf-8") as file:
            articles = [json.loads(line) for line in file]
            texts = {_text_id(article["text_id"]): str(article["text"]) for article in articles}
        if [*texts] != ids:
            raise CorruptFileError(f"{path}: its text ids are not those of the lists; get it again")
        return [*texts.values()]


def _text_id(name: str) -> str:
    """The id without the stray ``A`` that stands before the first one of the train list."""
    return re.sub(r"^A(?=[0-9a-f]{32}-)", "", name)
