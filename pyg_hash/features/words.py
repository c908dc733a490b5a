"""Texts by their words: bags of them, static vectors, and a dictionary for other languages."""

from __future__ import annotations

import copy
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from pyg_hash.features.base import Concatenated, StoredEncoder, as_texts, checked
from pyg_hash.typing import PathLike
from pyg_hash.utils.checks import check_choice, check_mapping, check_positive_int, check_seed
from pyg_hash.utils.files import CorruptFileError, load_tensors, save_tensors, sha256
from pyg_hash.utils.optional import package_folder, require
from pyg_hash.utils.settings import check_two

TENSOR_FILE = "encoder.safetensors"
_LONGEST = 8  # characters of a word that stands between others without a space
_NAME = 16  # words, or such characters, of a text that is read as a whole


class BagOfWords(StoredEncoder):
    """Word counts or TF-IDF over a vocabulary that is learnt from given texts.

    Words are runs of letters, with their combining marks, and digits, lower-cased and composed
    (NFC). Scripts that write no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) have
    characters and pairs of neighbours for words.

    TF-IDF is ``count * (ln((1 + n) / (1 + df)) + 1)`` with rows scaled to length 1, scikit-learn's
    definition. ``lsa`` projects on the first right singular vectors (truncated SVD, seeded) of the
    fitted texts.

    ``subwords`` adds TF-IDF columns for the letter n-grams of each word (word boundary included)
    that occur in at least two texts; words and n-grams weigh the same in a row.
    It helps short texts, and matches "cats" with "cat".

    Args:
        mode: ``'count'`` or ``'tfidf'``.
        max_features: keep only this many most frequent words, and as many n-grams.
        min_df: keep words that occur in at least this many texts.
        stop_words: ``'english'`` drops scikit-learn's list; None drops nothing.
        min_length: shortest word kept, in characters.
        subwords: ``(shortest, longest)`` letter n-grams to add to the words, e.g. ``(3, 4)``;
            with ``'tfidf'`` only.
        lsa: number of SVD components; None leaves the words themselves.
        seed: seed of the SVD.
        any_script: False: words are runs of letters and digits and nothing more, as in encoders
            that were stored before other scripts were known (texts in ASCII: no difference).

    ``ImportError``: scikit-learn, with which it is fitted, is missing (``demo`` extra).
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
        subwords: tuple[int, int] | None = None,
        lsa: int | None = None,
        seed: int = 0,
        any_script: bool = True,
    ) -> None:
        self.config: dict[str, Any] = dict(locals())
        del self.config["self"]
        check_choice(mode, ("count", "tfidf"), "mode")
        check_choice(stop_words, ("english", None), "stop_words")
        check_seed(seed)
        for name in ("min_df", "min_length", "max_features", "lsa"):
            if self.config[name] is not None or name.startswith("min"):
                check_positive_int(self.config[name], name)
        if subwords is not None:
            check_two(subwords, "subwords")
            shortest, longest = subwords
            if mode != "tfidf" or not 1 <= shortest <= longest:
                raise ValueError(
                    f"subwords: expected (shortest, longest) with 1 <= shortest <= longest and "
                    f"mode='tfidf', got {subwords!r} and mode={mode!r}"
                )
            self.config["subwords"] = [shortest, longest]
        self._numbers: list[dict[str, int]] = []  # of words, and of subwords if there are any
        self._tensors: dict[str, Tensor] = {}

    @property
    def _columns(self) -> list[dict[str, int]]:
        if not self._numbers:
            raise ValueError("BagOfWords: no vocabulary yet; call fit(texts) or load(folder) first")
        return self._numbers

    def __repr__(self) -> str:
        return f"BagOfWords({', '.join(f'{k}={v!r}' for k, v in self.config.items())})"

    def _parts(self, text: str, *, stop: bool = False) -> list[list[str]]:
        """The words of a text (``stop``: without stop words), and letter n-grams if asked for."""
        config, dropped = self.config, frozenset[str]()
        if stop and config["stop_words"] is not None:
            dropped = require("sklearn.feature_extraction.text", "scikit-learn").ENGLISH_STOP_WORDS
        found = (split_words if config["any_script"] else _letters_and_digits)(text.lower())
        parts = [[w for w in found if len(w) >= config["min_length"] and w not in dropped]]
        if config["subwords"] is not None:
            parts.append([part for word in found for part in _ngrams(word, *config["subwords"])])
        return parts

    def _weighted(self, texts: list[str]) -> tuple[tuple[Any, tuple[Any, Any]], tuple[int, int]]:
        """Counts, or TF-IDF: values that are not 0 with their rows and columns, and the shape."""
        found, counts, parts = list[int](), list[int](), list[int]()
        for text in texts:
            for words, known in zip(self._parts(text), self._columns, strict=True):
                times = Counter(known[word] for word in words if word in known)
                found += sorted(times)
                counts += map(times.__getitem__, sorted(times))
                parts.append(len(times))
        columns, values, sizes = np.array(found, int), np.array(counts, float), np.array(parts, int)
        widths = sizes.reshape(-1, len(self._columns)).sum(axis=1)
        if "idf" in self._tensors:  # each part of length 1, then all of a row
            values = _unit(values * self._tensors["idf"].numpy()[columns], sizes)
            values = _unit(values, widths)
        shape = len(texts), sum(map(len, self._columns))
        return (values, (np.arange(len(texts)).repeat(widths), columns)), shape

    @property
    def vocabulary(self) -> list[str]:
        """The known words, in column order (alphabetical)."""
        return list(self._columns[0])

    @property
    def num_features(self) -> int:
        """Width of a feature row."""
        if "components" in self._tensors:
            return len(self._tensors["components"])
        return sum(map(len, self._columns))

    def fit(self, texts: Sequence[str]) -> BagOfWords:
        """Learn from ``texts``, and return itself; ``ValueError``: too few words or texts."""
        library = require("sklearn.feature_extraction.text", "scikit-learn")
        config, texts, most = self.config, as_texts(texts), self.config["max_features"]
        vocabularies, frequencies = [], []
        try:
            for part, least in enumerate((config["min_df"], 2)[: len(self._parts(""))]):
                words = (self._parts(text, stop=True)[part] for text in texts)
                vectorizer = library.CountVectorizer(analyzer=list, min_df=least, max_features=most)
                counts = vectorizer.fit_transform(words)
                vocabularies.append(vectorizer.get_feature_names_out())
                frequencies.append(np.bincount(counts.indices, minlength=counts.shape[1]))
        except ValueError as error:
            what = f"texts: no vocabulary can be learnt from {len(texts)} texts ({error})"
            raise ValueError(what) from error
        frequency = np.concatenate(frequencies)
        if (lsa := config["lsa"]) is not None and lsa > min(len(texts), len(frequency)):
            got = f"got {len(texts)} texts and {len(frequency)} columns; lower it"
            raise ValueError(f"lsa: {lsa} components need as many texts and columns, {got}")
        fitted = copy.copy(self)  # one that is interrupted stays what it was
        fitted._numbers, fitted._tensors = _numbered(vocabularies), {}
        if config["mode"] == "tfidf":
            idf = np.log((1 + len(texts)) / (1 + frequency)) + 1
            fitted._tensors["idf"] = torch.from_numpy(idf)
        if lsa is not None:
            from scipy.sparse import csr_array

            decomposition = require("sklearn.decomposition", "scikit-learn")
            svd = decomposition.TruncatedSVD(lsa, n_iter=7, random_state=config["seed"])
            svd.fit(csr_array(*fitted._weighted(texts)))
            fitted._tensors["components"] = torch.from_numpy(svd.components_.copy(order="C"))
        self._numbers, self._tensors = fitted._numbers, fitted._tensors
        return self

    def transform(self, texts: Sequence[str], *, allow_unknown: bool = False) -> Tensor:
        """Features of ``n`` texts, float32 ``[n, num_features]``.

        ``ValueError``: nothing was fitted, or a text has no known word (and no known subword),
        unless ``allow_unknown`` gives it a zero row.
        """
        texts = as_texts(texts)
        (values, places), shape = self._weighted(texts)
        empty = np.flatnonzero(np.bincount(places[0], minlength=len(texts)) == 0)
        if len(empty) and not allow_unknown:
            words = ", ".join(self.unknown_words(texts[empty[0]])[:10])
            raise ValueError(
                f"texts: {named(texts, empty[0])} has no known word"
                f"{'; unknown: ' if words else ''}{words}. "
                f"Use other words; the vocabulary has {len(self._columns[0])}"
            )
        if "components" in self._tensors:
            from scipy.sparse import csr_array

            x = csr_array((values, places), shape) @ self._tensors["components"].numpy().T
            return torch.from_numpy(x.astype(np.float32))
        x = np.zeros(shape, np.float32)
        x[places] = values
        return torch.from_numpy(x)

    __call__ = transform

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` that are not in the vocabulary, in order, each once."""
        words = dict.fromkeys(self._parts(text, stop=True)[0])
        return [word for word in words if word not in self._columns[0]]

    def settings(self) -> dict[str, Any]:
        """Keywords of the constructor, and the vocabularies."""
        return {**self.config, "vocabularies": [list(columns) for columns in self._columns]}

    def save(self, folder: PathLike) -> Path:
        """Write settings and vocabulary as JSON, weights as safetensors, to ``folder``."""
        self.settings()  # an error before a file, and weights first: they are no encoder alone
        save_tensors(Path(folder) / TENSOR_FILE, self._tensors)
        return super().save(folder)

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        tensors, _ = load_tensors(folder / TENSOR_FILE)
        vocabularies = settings.pop("vocabularies")
        encoder = cls(**{"any_script": False, **settings})
        encoder._tensors, encoder._numbers = tensors, _numbered(vocabularies)
        wanted = {"idf": encoder.config["mode"] == "tfidf", "components": encoder.config["lsa"]}
        expected = {name for name, used in wanted.items() if used}
        widths = {tensor.size(-1) for tensor in tensors.values()} | {sum(map(len, vocabularies))}
        found = expected, {sum(map(len, encoder._columns))}, len(encoder._parts(""))
        if (set(tensors), widths, len(vocabularies)) != found:
            raise CorruptFileError(f"{folder}: weights and vocabulary differ; save it again")
        return encoder


class Translated(StoredEncoder):
    """An encoder of texts that reads words of other languages by a small dictionary.

    A text without any word of the dictionary goes to the encoder as it is; one that stands there as
    a whole is replaced, and else each known word of it. So "Hund" is read as "dog", and grammar not
    at all. Of a script without spaces the longest known word from each place on counts.

    Args:
        encoder: of texts, with ``save``.
        words: word or whole text, lower-cased, with single spaces -> what to read for it; see
            :func:`learn_words`.
    """

    kind = "translated"
    stored = ("words",)

    def __init__(self, encoder: Any, words: Mapping[str, str]) -> None:
        check_mapping(words, "words")
        if not hasattr(encoder, "num_features"):
            raise TypeError(f"encoder: expected an encoder of texts, got {encoder!r}")
        self.encoder, self.parts, self.words = encoder, [encoder], dict(words)
        self.num_features: int = encoder.num_features

    def read(self, text: str) -> str:
        """What the encoder gets in place of ``text``."""
        if (whole := _plain(text)) in self.words:
            return self.words[whole]
        found, is_known = list[str](), False
        for units in _runs(text.lower()):
            start = unknown = 0  # what is not known stays together
            while start < len(units):
                sizes = range(min(_LONGEST, len(units) - start), 0, -1)
                size = next(
                    (n for n in sizes if "".join(units[start : start + n]) in self.words), 0
                )
                if size:
                    word = "".join(units[start : start + size])
                    found += ["".join(units[unknown:start]), self.words[word]]
                    unknown = start + size
                start += size or 1
            found.append("".join(units[unknown:]))
            is_known |= unknown > 0
        return " ".join(filter(None, found)) if is_known else text

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features float32 ``[n, num_features]``; errors are those of the encoder."""
        x: Tensor = self.encoder([self.read(text) for text in as_texts(texts)])
        return x

    def unknown_words(self, text: str) -> list[str]:
        """The words that mean nothing to the encoder, translated where they can be."""
        find = getattr(self.encoder, "unknown_words", None)
        return find(self.read(text)) if find else []

    def __repr__(self) -> str:
        return f"Translated({self.encoder!r}, {len(self.words)} words)"

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        words = {str(word): str(read) for word, read in dict(settings["words"]).items()}
        return cls(StoredEncoder.load(folder / "0", **run), words)


def learn_words(pairs: Iterable[tuple[str, str]], known: Iterable[str] = ()) -> dict[str, str]:
    """A dictionary for :class:`Translated` from texts of two languages that mean the same.

    A text of 2 to 16 words, or characters of a script without spaces, is read as what it is paired
    with, and a word as the one to three words whose Dice coefficient with it, twice the pairs with
    both over the sum of the pairs with each, is at least .8 of the best one's. The second of a pair
    is in the encoder's language, as are the ``known`` texts, which are never translated, nor are
    their words.
    """
    pairs = [(text.lower(), meaning.lower()) for text, meaning in pairs]
    often = Counter(piece for text, _ in pairs for piece in set(_pieces(text)))
    other, own = Counter[str](), Counter[str]()
    both: dict[str, Counter[str]] = defaultdict(Counter)
    whole = dict[str, str]()
    for text, meaning in pairs:
        there, here = {*_pieces(text, 2)}, {*split_words(meaning)}
        there |= {piece for piece in _pieces(text) if often[piece] > 1}
        if 1 < len(_pieces(text, 1)) <= _NAME:
            whole.setdefault(_plain(text), _plain(meaning))
        other.update(there)
        own.update(here)
        for word in there:
            both[word].update(here)
    for text in known:
        for word in (_plain(text), *_pieces(text.lower())):
            whole.pop(word, None)
            both.pop(word, None)
    found = {}
    for word, counts in both.items():
        dice = {mate: 2 * n / (other[word] + own[mate]) for mate, n in counts.items()}
        best = sorted(dice, key=lambda mate: (-dice[mate], mate))[:3]
        found[word] = " ".join(mate for mate in best if dice[mate] >= 0.8 * dice[best[0]])
    return {text: read for text, read in {**found, **whole}.items() if text and read}


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

    ``ImportError``: no ``demo`` extra; ``CorruptFileError``: a file is not the known one.
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
        texts = as_texts(texts)
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

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` of which only single bytes are pieces, in order, each once."""
        words = list(dict.fromkeys(split_words(text.lower())))
        found = self._tokenizer.encode_batch(words, add_special_tokens=False)
        is_byte = re.compile(r"\u2581|<0x..>").fullmatch  # or the space before a word
        return [word for word, x in zip(words, found, strict=True) if all(map(is_byte, x.tokens))]


def words_and_meaning(texts: Sequence[str], max_features: int = 2048) -> Concatenated:
    """What texts are encoded with where nothing else is said: their words, and what these mean.

    Of the words of ``texts``, and of their letter 3- and 4-grams, ``max_features`` are kept each.
    """
    words = BagOfWords("tfidf", max_features=max_features, subwords=(3, 4))
    return Concatenated([words.fit(texts), StaticWords()])


UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """A word; a letter with its marks; a run of an unspaced script, or else of other letters."""
    kinds = ((chr(i), unicodedata.category(chr(i))) for i in range(0x300, 0x20000))
    marks = "".join(
        c for c, kind in kinds if kind in ("Mn", "Mc") and not "\ufe00" <= c <= "\ufe0f"
    )
    letter = rf"[^\W_][{marks}\u200c\u200d]*"  # joiners stand inside words
    runs = rf"((?:(?=[{UNSPACED}]){letter})+)|((?:(?![{UNSPACED}]){letter})+)"
    return re.compile(f"(?:{letter})+"), re.compile(letter), re.compile(runs)


def named(texts: Sequence[str], row: int) -> str:
    """A text as an error calls it: with its place, unless it is alone."""
    text = f"{texts[row][:60]!r}"
    return f"text {row} ({text})" if len(texts) > 1 else text


_letters_and_digits = re.compile(r"[^\W_]+").findall


def find_words(text: str) -> list[str]:
    """Runs of letters, with their marks, and digits, composed (NFC), in order."""
    if text.isascii():
        return _letters_and_digits(text)
    word, _, _ = _patterns()
    return word.findall(unicodedata.normalize("NFC", text))


def _plain(text: str) -> str:
    """A text's words, lower-cased, with single spaces."""
    return " ".join(find_words(text.lower()))


def _runs(text: str) -> Iterator[list[str]]:
    """Each word alone, and the characters of each run of a script without spaces."""
    words = find_words(text)
    if text.isascii():
        yield from ([word] for word in words)
        return
    _, letter, runs = _patterns()
    for unspaced, other in (run for word in words for run in runs.findall(word)):
        yield [other] if other else letter.findall(unspaced)


def _pieces(text: str, longest: int = _LONGEST) -> list[str]:
    """Words, and of runs without spaces all pieces of at most so many characters."""
    return [
        "".join(units[i : i + n])
        for units in _runs(text)
        for n in range(1, min(longest, len(units)) + 1)
        for i in range(len(units) - n + 1)
    ]


def split_words(text: str) -> list[str]:
    """The words of :class:`BagOfWords`, of a text that is lower-cased already."""
    return find_words(text) if text.isascii() else _pieces(text, 2)


def _ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """The letter n-grams of a word between two spaces; once all of it if that is shorter."""
    word = f" {word} "
    sizes = range(shortest, min(longest, max(shortest, len(word))) + 1)
    return [word[i : i + n] for n in sizes for i in range(max(1, len(word) - n + 1))]


def _numbered(vocabularies: list[list[str]]) -> list[dict[str, int]]:
    numbers = count()
    return [{str(word): next(numbers) for word in words} for words in vocabularies]


def _unit(values: Any, sizes: Any) -> Any:
    """Runs of values, each scaled to length 1."""
    sizes = sizes[sizes > 0]
    norm = np.sqrt(np.add.reduceat(values * values, sizes.cumsum() - sizes))
    return values * (1 / norm).repeat(sizes)
