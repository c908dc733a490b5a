"""Bag-of-words text features, with TF-IDF weights and LSA as options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pyg_hash.features._extras import require
from pyg_hash.features.base import ENCODER_FILE
from pyg_hash.io import CorruptFileError, load_json, load_tensors, save_json, save_tensors
from pyg_hash.validation import check_choice, check_positive_int

TENSOR_FILE = "encoder.safetensors"


class BagOfWords:
    """Word counts or TF-IDF over a vocabulary that is learnt from given texts.

    Words are runs of letters and digits, lower-cased, split by scikit-learn's
    ``CountVectorizer``. TF-IDF is ``count * (ln((1 + n) / (1 + df)) + 1)`` with rows scaled to
    length 1, scikit-learn's definition. ``lsa`` projects on the first right singular vectors
    (truncated SVD, seeded) of the fitted texts.

    Args:
        mode: ``'count'`` or ``'tfidf'``.
        max_features: keep only this many most frequent words.
        min_df: keep words that occur in at least this many texts.
        stop_words: ``'english'`` drops scikit-learn's list; None drops nothing.
        min_length: shortest word kept, in characters.
        lsa: number of SVD components; None leaves the words themselves.
        seed: seed of the SVD.

    Raises:
        ImportError: scikit-learn is missing (``demo`` extra).
    """

    kind = "bag_of_words"

    def __init__(
        self,
        mode: Literal["count", "tfidf"] = "tfidf",
        *,
        max_features: int | None = None,
        min_df: int = 1,
        stop_words: Literal["english"] | None = None,
        min_length: int = 1,
        lsa: int | None = None,
        seed: int = 0,
    ) -> None:
        check_choice(mode, ("count", "tfidf"), "mode")
        check_choice(stop_words, ("english", None), "stop_words")
        for name, value in (("min_df", min_df), ("min_length", min_length)):
            check_positive_int(value, name)
        for name, limit in (("max_features", max_features), ("lsa", lsa)):
            if limit is not None:
                check_positive_int(limit, name)
        self.config: dict[str, Any] = {
            "mode": mode,
            "max_features": max_features,
            "min_df": min_df,
            "stop_words": stop_words,
            "min_length": min_length,
            "lsa": lsa,
            "seed": seed,
        }
        self._vectorizer: Any = None
        self._vocabulary: list[str] = []
        self._tensors: dict[str, Tensor] = {}

    def __repr__(self) -> str:
        return f"BagOfWords({', '.join(f'{k}={v!r}' for k, v in self.config.items())})"

    def _new_vectorizer(self, vocabulary: list[str] | None) -> Any:
        text = require("sklearn.feature_extraction.text", "scikit-learn")
        pattern = rf"(?u)[^\W_]{{{self.config['min_length']},}}"
        choices = {k: self.config[k] for k in ("max_features", "min_df") if vocabulary is None}
        return text.CountVectorizer(
            vocabulary=vocabulary,
            token_pattern=pattern,
            stop_words=self.config["stop_words"],
            **choices,
        )

    @property
    def vocabulary(self) -> list[str]:
        """The known words, in column order (alphabetical)."""
        self._fitted()
        return list(self._vocabulary)

    @property
    def num_features(self) -> int:
        """Width of a feature row."""
        components = self._tensors.get("components")
        return len(self.vocabulary) if components is None else int(components.size(0))

    def _fitted(self) -> Any:
        if self._vectorizer is None:
            raise ValueError("BagOfWords: no vocabulary yet; call fit(texts) or load(folder) first")
        return self._vectorizer

    def fit(self, texts: Sequence[str]) -> BagOfWords:
        """Learn vocabulary, IDF weights and components from ``texts``; returns itself.

        Raises:
            ValueError: the texts hold no word at all, or fewer words or texts than ``lsa``.
        """
        vectorizer = self._new_vectorizer(None)
        try:
            counts = vectorizer.fit_transform(list(texts))
        except ValueError as error:
            raise ValueError(
                f"texts: no vocabulary can be learnt from {len(texts)} texts ({error})"
            ) from error
        tensors: dict[str, Tensor] = {}
        if self.config["mode"] == "tfidf":
            frequency = np.bincount(counts.indices, minlength=counts.shape[1])
            tensors["idf"] = torch.from_numpy(np.log((1 + len(texts)) / (1 + frequency)) + 1)
        lsa = self.config["lsa"]
        if lsa is not None:
            if lsa > min(counts.shape):
                raise ValueError(
                    f"lsa: {lsa} components need as many texts and words, "
                    f"got {counts.shape[0]} texts and {counts.shape[1]} words; lower it"
                )
            svd = require("sklearn.decomposition", "scikit-learn").TruncatedSVD(
                lsa, n_iter=7, random_state=self.config["seed"]
            )
            svd.fit(_weighted(counts, tensors))
            tensors["components"] = torch.from_numpy(np.ascontiguousarray(svd.components_))
        # a fixed vocabulary from here on: fitted and loaded encoders run the same code
        self._vocabulary = [str(word) for word in vectorizer.get_feature_names_out()]
        self._vectorizer = self._new_vectorizer(self._vocabulary)
        self._tensors = tensors
        return self

    def transform(self, texts: Sequence[str], *, allow_unknown: bool = False) -> Tensor:
        """Features of ``texts``.

        Args:
            texts: ``n`` texts.
            allow_unknown: give a zero row to a text without a known word instead of raising.

        Returns:
            float32 ``[n, num_features]``.

        Raises:
            TypeError: ``texts`` is one string.
            ValueError: nothing was fitted, or a text has no known word.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts: expected a list of texts, got one string; pass [{texts!r}]")
        counts = self._fitted().transform(list(texts))
        if not allow_unknown:
            self._check_known(texts, np.diff(counts.indptr))
        weighted = _weighted(counts, self._tensors)
        components = self._tensors.get("components")
        if components is None:
            return torch.from_numpy(weighted.astype(np.float32).toarray())
        return torch.from_numpy((weighted @ components.numpy().T).astype(np.float32))

    __call__ = transform

    def _check_known(self, texts: Sequence[str], known: np.ndarray[Any, Any]) -> None:
        empty = np.flatnonzero(known == 0)
        if not len(empty):
            return
        text = texts[empty[0]]
        words = ", ".join(self.unknown_words(text)[:10]) or "(none)"
        raise ValueError(
            f"texts: text {empty[0]} ({text[:60]!r}) has no known word; unknown: {words}. "
            f"Use other words; the vocabulary has {len(self._vocabulary)}"
        )

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` that are not in the vocabulary, in order, each once."""
        words = self._fitted().build_analyzer()(text)
        known = set(self._vocabulary)
        return [word for word in dict.fromkeys(words) if word not in known]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write settings and vocabulary as JSON, weights as safetensors, to ``folder``."""
        path = Path(folder) / ENCODER_FILE
        vocabulary = self.vocabulary
        save_tensors(Path(folder) / TENSOR_FILE, self._tensors)
        save_json(path, {"kind": self.kind, **self.config, "vocabulary": vocabulary})
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> BagOfWords:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: the folder holds no encoder.
            CorruptFileError: a file is damaged, or settings and weights do not belong together.
        """
        path = Path(folder) / ENCODER_FILE
        config = load_json(path)
        if not isinstance(config, dict) or config.pop("kind", None) != cls.kind:
            raise CorruptFileError(f"{path}: no {cls.kind!r} encoder; save it again")
        tensors, _ = load_tensors(Path(folder) / TENSOR_FILE)
        try:
            vocabulary = config.pop("vocabulary")
            encoder = cls(config.pop("mode"), **config)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: damaged settings ({error}); save it again") from error
        expected = {"idf"} if encoder.config["mode"] == "tfidf" else set()
        expected |= {"components"} if encoder.config["lsa"] is not None else set()
        widths = {tensor.size(-1) for tensor in tensors.values()}
        if set(tensors) != expected or not widths <= {len(vocabulary)}:
            raise CorruptFileError(f"{folder}: weights and vocabulary differ; save it again")
        encoder._tensors = tensors
        encoder._vocabulary = [str(word) for word in vocabulary]
        encoder._vectorizer = encoder._new_vectorizer(encoder._vocabulary)
        return encoder


def _weighted(counts: Any, tensors: dict[str, Tensor]) -> Any:
    """Counts as they are, or TF-IDF with rows of length 1 (zero rows stay zero)."""
    if "idf" not in tensors:
        return counts.astype(np.float64)
    weighted = counts.multiply(tensors["idf"].numpy()).tocsr()
    norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sp.diags(1 / np.maximum(norm, np.finfo(np.float64).tiny)) @ weighted
