"""Text features from static word vectors, which a package on PyPI ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import Self

from pyg_hash.features.base import Concatenated, StoredEncoder, as_list, checked
from pyg_hash.features.words import BagOfWords, find_words, named
from pyg_hash.utils.files import sha256
from pyg_hash.utils.optional import package_folder, require

VECTORS = (
    "weights/l2_supercat_256.safetensors",
    "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
)
TOKENIZER = (
    "tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
)


class StaticWords(StoredEncoder):
    """The mean of static vectors of a text's pieces of words: texts with meaning, none unknown.

    A row is float32 ``[256]``, of length 1. The vectors of 32,000 pieces and the tokenizer come
    from the package ``wordllama`` (MIT, 16 MB; made of the input embeddings of language models,
    https://github.com/dleemiller/WordLlama). The two files are read where they lie, checked against
    a SHA-256 each; the package is not imported, nothing is downloaded or copied into a run.

    Words as :class:`BagOfWords` finds them, lower-cased, are split into pieces; every piece counts
    the same. On held-out emoji and captions neither weights by document frequency, nor equal
    weights of words, nor taking out the first principal component did better on both.

    Raises:
        ImportError: the ``demo`` extra is not installed.
        CorruptFileError: an installed file is not the known one.
    """

    kind = "static_words"
    digest = sha256(VECTORS[1], TOKENIZER[1])
    num_features = 256

    def __init__(self) -> None:
        library = require("tokenizers", "tokenizers")
        folder = package_folder("wordllama", "wordllama")
        remedy = "reinstall wordllama==0.4.0.post1"
        vectors, tokenizer = (
            checked(folder / name, known, remedy) for name, known in (VECTORS, TOKENIZER)
        )
        self._tokenizer = library.Tokenizer.from_file(str(tokenizer))
        self._vectors = load_file(vectors)["embedding.weight"].float()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features float32 ``[n, 256]``; ``ValueError``: a text has neither letter nor digit."""
        texts = as_list(texts)
        clean = [" ".join(find_words(text.lower())) for text in texts]
        if "" in clean:
            which = named(texts, clean.index(""))
            raise ValueError(f"texts: {which} has no word; give it one, or drop it")
        pieces = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        sizes = torch.tensor([0, *(len(piece.ids) for piece in pieces)])
        ids = torch.tensor([i for piece in pieces for i in piece.ids], dtype=torch.long)
        starts = sizes.cumsum(0)[:-1]
        means = torch.nn.functional.embedding_bag(ids, self._vectors, starts, mode="mean")
        return torch.nn.functional.normalize(means)

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        found = settings.get("sha256") or settings["weights_sha256"]  # earlier versions' name first
        return super()._restored(folder, {"weights_sha256": found})


def words_and_meaning(texts: Sequence[str], max_features: int = 2048) -> Concatenated:
    """What texts are encoded with where nothing else is said: their words, and what these mean.

    Of the words of ``texts``, and of their letter 3- and 4-grams, ``max_features`` are kept each.
    """
    words = BagOfWords("tfidf", max_features=max_features, subwords=(3, 4))
    return Concatenated([words.fit(texts), StaticWords()])
