"""The Wikipedia data set of Rasiwasia et al., 2010."""

from __future__ import annotations

import gzip
import json
import os
import re

import numpy as np

from pyg_hash.datasets.base import Transform
from pyg_hash.datasets.published import LSA, WORDS, Content, PublishedDataset
from pyg_hash.datasets.raw import open_matrix, whole
from pyg_hash.features import TextEncoder
from pyg_hash.utils.files import CorruptFileError

LISTS = {"train": "trainset_txt_img_cat.list", "test": "testset_txt_img_cat.list"}
CATEGORIES = "categories.list"
MAT = "raw_features.mat"
ARTICLES = "articles.jsonl.gz"
IMAGE128 = "image128.h5"
_PLAIN = {"any_script": False}  # all published results here are of such words


class Wikipedia(PublishedDataset):
    """2,866 Wikipedia sections with a picture, 10 classes, official split.

    The 2,173 training rows come first and are the database, the 693 test rows are the queries.
    Labels are 0..9. Source: Rasiwasia et al., "A New Approach to Cross-Modal Multimedia
    Retrieval", ACM Multimedia 2010.

    The raw files have to lie in ``<root>/raw``; :meth:`download` lists them. Arguments that are not
    named here are those of :class:`~pyg_hash.datasets.CrossModalDataset`.

    Args:
        root: folder of ``raw/`` and of what is computed.
        image: ``'sift'``, the official 128-d bag of SIFT words, or ``'image128'``, a stronger
            128-d feature of the same rows; or ``FILE[:NAME]``, a matrix of your own, as of
            :class:`~pyg_hash.datasets.published.PublishedDataset`.
        text: ``'lda'`` (official, 10 topics), ``'tfidf'`` (official, 1,000-d), ``'bow3000'``
            (counts of the 3,000 most frequent words) or ``'lsa200'`` (TF-IDF, then truncated SVD
            to 200-d, seed 0). The last two leave English stop words out and are fitted on the
            training texts. Or a file of your own, or a text encoder.

    Raises:
        FileNotFoundError: a raw file is missing.
        CorruptFileError: a raw file is damaged, or the files do not belong together.
        ImportError: scikit-learn is missing (``'bow3000'``, ``'lsa200'``).
    """

    manifest = "wikipedia"
    single_label = True
    words = {
        "bow3000": WORDS | _PLAIN | {"mode": "count", "max_features": 3000},
        "lsa200": LSA | _PLAIN,
    }

    def __init__(
        self,
        root: str | os.PathLike[str],
        image: str = "image128",
        text: str | TextEncoder = "lsa200",
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
        *,
        force_reload: bool = False,
    ) -> None:
        choices = (image, text, None, transform, pre_transform)
        super().__init__(root, "official", *choices, force_reload=force_reload)

    def _official_files(self) -> list[str]:
        """Who is in which part, and the names of the classes."""
        return [*LISTS.values(), CATEGORIES]

    def _official_content(self) -> Content:
        """Ids without the stray ``A`` before the first one of the train list, train first."""
        classes = self._text_of(CATEGORIES).split()
        ids, labels, parts = list[str](), list[int](), list[str]()
        for part, name in LISTS.items():
            for number, line in enumerate(self._text_of(name).splitlines(), 1):
                words = line.split()
                if len(words) != 3 or words[2] not in map(str, range(1, len(classes) + 1)):
                    raise CorruptFileError(
                        f"{self._raw / name}: line {number} is not 'text-id image-id class'; get "
                        "it again"
                    )
                ids.append(_text_id(words[0]))
                labels.append(int(words[2]) - 1)
                parts.append(part)
        if self.image == "image128":
            path = self._raw / IMAGE128
            if (open_matrix(path, "labels").read().flatten() - 1).tolist() != labels:
                raise CorruptFileError(
                    f"{path}: its labels are not those of the lists; get it again"
                )
        texts: dict[str, str] = {}
        if (path := self._raw / ARTICLES).is_file():
            with whole(path), gzip.open(path, "rt", encoding="utf-8") as file:
                articles = [json.loads(line) for line in file]
                texts = {_text_id(article["text_id"]): str(article["text"]) for article in articles}
            if [*texts] != ids:
                raise CorruptFileError(
                    f"{path}: its text ids are not those of the lists; get it again"
                )
        hot, rows = np.eye(len(classes), dtype=np.uint8)[labels], np.arange(len(ids))
        return Content(ids, classes, hot, rows, words=[*texts.values()], parts=np.array(parts))


def _text_id(name: str) -> str:
    return re.sub(r"^A(?=[0-9a-f]{32}-)", "", name)
