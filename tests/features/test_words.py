import random
import re
import sys
import tracemalloc

import numpy as np
import pytest
import torch

from pyg_hash.features import BagOfWords, TextEncoder, Translated, learn_words, load_encoder
from pyg_hash.utils.files import CorruptFileError, load_json, save_json

pytest.importorskip("sklearn")
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.preprocessing import normalize

TEXTS = [
    "Happy cat, happy dog",
    "a sad dog and the red car",
    "red red car",
    "the cat with 2 hats",
    "snow_man on a hill",
]
PATTERN = r"(?u)[^\W_]+"


def test_counts_equal_sklearn():
    x = BagOfWords("count").fit(TEXTS)(TEXTS)
    expected = CountVectorizer(token_pattern=PATTERN).fit_transform(TEXTS).toarray()
    assert x.dtype == torch.float32
    assert np.array_equal(x.numpy(), expected)


@pytest.mark.parametrize(
    "options", [{}, {"max_features": 4}, {"min_df": 2}, {"stop_words": "english"}]
)
def test_tfidf_equals_sklearn(options):
    vectorizer = TfidfVectorizer(token_pattern=PATTERN, **options).fit(TEXTS)
    encoder = BagOfWords("tfidf", **options).fit(TEXTS)
    assert encoder.vocabulary == list(vectorizer.get_feature_names_out())
    assert encoder.num_features == len(encoder.vocabulary)
    x = encoder.transform(TEXTS, allow_unknown=True).numpy()
    np.testing.assert_allclose(x, vectorizer.transform(TEXTS).toarray(), atol=1e-6)


def test_idf_by_hand():
    # 'a' is in both texts, 'b' in one of two: idf 1 and ln(3 / 2) + 1
    x = BagOfWords().fit(["a", "a b"])(["b a"])
    idf = np.log(1.5) + 1
    expected = np.array([1, idf]) / np.hypot(1, idf)
    np.testing.assert_allclose(x[0].numpy(), expected, rtol=1e-6)


def test_lsa_equals_sklearn_and_is_seeded():
    tfidf = TfidfVectorizer(token_pattern=PATTERN).fit_transform(TEXTS)
    svd = TruncatedSVD(2, n_iter=7, random_state=3).fit(tfidf)
    encoder = BagOfWords(lsa=2, seed=3).fit(TEXTS)
    assert encoder.num_features == 2
    np.testing.assert_allclose(encoder(TEXTS).numpy(), svd.transform(tfidf), atol=1e-5)
    assert torch.equal(encoder(TEXTS), BagOfWords(lsa=2, seed=3).fit(TEXTS)(TEXTS))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("कुत्ता और बिल्ली", ["कुत्ता", "और", "बिल्ली"]),  # vowel signs are marks
        ("Café", ["café"]),
        ("Cafe\u0301", ["caf\u00e9"]),  # decomposed
        ("dog狗", ["dog", "狗"]),
        ("狗和猫, ok", ["狗", "和", "猫", "狗和", "和猫", "ok"]),
        ("สุนัข", ["สุ", "นั", "ข", "สุนั", "นัข"]),
        ("강아지 하나", ["강아지", "하나"]),  # Korean has spaces
        ("1\ufe0f\u20e3 #\ufe0f\u20e3 _é_", ["1", "é"]),  # a keycap is no letter
        ("می‌خواهم", ["می‌خواهم"]),  # a joiner inside
    ],
)
def test_words_of_scripts(text, words):
    vocabulary = BagOfWords().fit([text]).vocabulary
    assert vocabulary == sorted(set(words))


def test_scripts_find_what_they_share():
    encoder = BagOfWords(subwords=(2, 3)).fit(["我喜欢狗", "我的猫", "मेरा कुत्ता", "café au lait"])
    x = encoder(["狗", "कुत्ता", "cafe\u0301"])
    known = encoder(["我喜欢狗", "मेरा कुत्ता", "café au lait", "我的猫"])
    assert (x @ known.T).argmax(dim=1).tolist() == [0, 1, 2]
    assert BagOfWords(min_length=2).fit(["我喜欢狗"]).vocabulary == ["喜欢", "我喜", "欢狗"]


def test_encoders_stored_before_scripts_were_known_split_as_then(tmp_path):
    texts = ["क़िताब İzmir cafe\u0301", "狗和猫 ok x", "cats 2"]
    plain = BagOfWords(min_length=2, any_script=False).fit(texts)
    sklearn = TfidfVectorizer(token_pattern=r"(?u)[^\W_]{2,}").fit(texts)
    assert plain.vocabulary == sklearn.get_feature_names_out().tolist()
    file = plain.save(tmp_path)
    settings = load_json(file)
    del settings["any_script"]
    save_json(file, settings)
    assert torch.equal(BagOfWords.load(tmp_path)(texts), plain(texts))


def test_min_length_and_underscores():
    assert "a" not in BagOfWords(min_length=2).fit(TEXTS).vocabulary
    assert {"snow", "man", "2"} <= set(BagOfWords().fit(TEXTS).vocabulary)


def test_unknown_words_in_order_once():
    encoder = BagOfWords().fit(TEXTS)
    assert encoder.unknown_words("big CAT, tiny big") == ["big", "tiny"]
    assert encoder.unknown_words("cat dog") == []
    assert BagOfWords(stop_words="english").fit(TEXTS).unknown_words("the cat") == []


def test_text_without_known_word_is_an_error_that_names_the_words():
    encoder = BagOfWords().fit(TEXTS)
    with pytest.raises(ValueError, match="text 1 .*no known word; unknown: huge, tree"):
        encoder(["cat", "huge tree"])
    with pytest.raises(ValueError, match="has no known word. Use other"):
        encoder([""])
    x = encoder.transform(["cat", "huge tree"], allow_unknown=True)
    assert x[0].any() and not x[1].any()


def test_a_fit_that_is_interrupted_leaves_what_was(monkeypatch):
    encoder = BagOfWords(lsa=2).fit(TEXTS)
    before, vocabulary = encoder(TEXTS), encoder.vocabulary

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TruncatedSVD, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(["x y", "y z", "x z"])
    assert encoder.vocabulary == vocabulary and torch.equal(encoder(TEXTS), before)


def test_nothing_of_a_query_is_kept():
    """A server meets words without end."""
    encoder = BagOfWords(subwords=(3, 4)).fit(TEXTS)
    encoder.transform(["cat"])
    tracemalloc.start()
    for letter in "abcd":
        encoder.transform([letter * 20_000], allow_unknown=True)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1 << 20


def test_texts_of_arrow_are_texts():
    texts = ["red cat", "blue dog"]
    array = pytest.importorskip("pyarrow").array(texts)
    assert torch.equal(BagOfWords().fit(array).transform(array), BagOfWords().fit(texts)(texts))


def test_one_string_is_no_list_of_texts():
    with pytest.raises(TypeError, match="got one string"):
        BagOfWords().fit(TEXTS)("cat")


def test_not_fitted():
    for use in (lambda b: b(["x"]), lambda b: b.vocabulary, lambda b: b.unknown_words("x")):
        with pytest.raises(ValueError, match="call fit"):
            use(BagOfWords())


def test_bad_arguments():
    with pytest.raises(ValueError, match="mode"):
        BagOfWords("binary")
    with pytest.raises(ValueError, match="stop_words"):
        BagOfWords(stop_words="german")
    with pytest.raises(ValueError, match="lsa"):
        BagOfWords(lsa=0)
    with pytest.raises(TypeError, match="max_features"):
        BagOfWords(max_features=2.0)
    with pytest.raises(ValueError, match=r"lsa: 6 components .* 5 texts"):
        BagOfWords(lsa=6).fit(TEXTS)
    with pytest.raises(ValueError, match="no vocabulary can be learnt"):
        BagOfWords().fit(["", " "])


@pytest.mark.parametrize(
    "options",
    [{"mode": "count"}, {}, {"lsa": 3}, {"stop_words": "english"}, {"subwords": (2, 3), "lsa": 2}],
)
def test_save_and_load_give_the_same_features(tmp_path, options):
    encoder = BagOfWords(**options).fit(TEXTS)
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, BagOfWords) and isinstance(loaded, TextEncoder)
    assert repr(loaded) == repr(encoder) and loaded.vocabulary == encoder.vocabulary
    assert torch.equal(loaded(TEXTS), encoder(TEXTS))
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".json", ".safetensors")]


def test_damaged_files(tmp_path):
    path = BagOfWords().fit(TEXTS).save(tmp_path)
    good = load_json(path)
    for broken in (
        {**good, "kind": "word2vec"},
        {**good, "mode": "count"},
        {**good, "vocabularies": [good["vocabularies"][0][1:]]},
        {**good, "vocabularies": good["vocabularies"] * 2},
        {**good, "vocabularies": [good["vocabularies"][0][1:] + ["red"]]},
        {**good, "subwords": [2, 3]},
        {**good, "colour": 1},
        {k: v for k, v in good.items() if k != "vocabularies"},
        [],
    ):
        save_json(path, broken)
        with pytest.raises(CorruptFileError):
            load_encoder(tmp_path)
        with pytest.raises(CorruptFileError):
            BagOfWords.load(tmp_path)
    path.write_text("{")
    with pytest.raises(CorruptFileError, match="not valid JSON"):
        load_encoder(tmp_path)
    save_json(path, good)
    (tmp_path / "encoder.safetensors").write_bytes(b"x")
    with pytest.raises(CorruptFileError):
        load_encoder(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_encoder(tmp_path / "nowhere")


def test_subwords_equal_sklearn():
    encoder = BagOfWords(subwords=(2, 3)).fit(TEXTS)
    clean = [text.lower().replace(",", "").replace("_", " ") for text in TEXTS]
    words = TfidfVectorizer(token_pattern=PATTERN).fit_transform(clean)
    ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), min_df=2).fit_transform(clean)
    expected = np.concatenate([words.toarray(), ngrams.toarray()], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(encoder(TEXTS).numpy(), expected, atol=1e-6)
    assert encoder.num_features == expected.shape[1] > len(encoder.vocabulary)


@pytest.mark.parametrize("seed", range(12))
def test_random_texts_equal_sklearn(seed):
    draw = random.Random(seed)
    pieces = [*"abcÉßİΣ狗ก2_,’", "cat", "The", "is", "\u0301", " ", " ", "\n"]
    texts = ["", *("".join(draw.choices(pieces, k=draw.randrange(1, 30))) for _ in range(30))]
    stop_words, least, sizes = draw.choice([None, "english"]), draw.randint(1, 2), (2, 5)
    words = CountVectorizer(token_pattern=rf"(?u)[^\W_]{{{least},}}", stop_words=stop_words)
    clean = [" ".join(re.findall(PATTERN, text.lower())) for text in texts]
    ngrams = CountVectorizer(analyzer="char_wb", ngram_range=sizes, min_df=2)
    options = {"stop_words": stop_words, "min_length": least, "any_script": False}
    counts = words.fit_transform(texts)
    plain = BagOfWords("count", **options).fit(texts)
    assert np.array_equal(plain.transform(texts, allow_unknown=True).numpy(), counts.toarray())
    both = BagOfWords(subwords=sizes, **options).fit(texts)
    parts = [TfidfTransformer().fit_transform(x) for x in (counts, ngrams.fit_transform(clean))]
    known = [list(part.get_feature_names_out()) for part in (words, ngrams)]
    assert both.settings()["vocabularies"] == known
    expected = normalize(hstack(parts)).toarray()
    x = both.transform(texts, allow_unknown=True).numpy()
    np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_subwords_relate_words_that_are_never_equal():
    texts = ["cat", "cats", "dog", "dogs"]
    plain, letters = (BagOfWords(subwords=s).fit(texts)(texts) for s in (None, (3, 4)))
    assert plain[0] @ plain[1] == 0
    assert letters[0] @ letters[1] > 0.3 and letters[0] @ letters[2] == 0
    encoder = BagOfWords(subwords=(3, 4)).fit(texts)
    assert encoder(["catfish"]).any() and encoder.unknown_words("catfish") == ["catfish"]
    with pytest.raises(ValueError, match="no known word; unknown: zebra"):
        encoder(["zebra"])


@pytest.mark.parametrize(
    ("subwords", "mode"), [((3, 4), "count"), ((4, 3), "tfidf"), ((0, 2), "tfidf")]
)
def test_bad_subwords(subwords, mode):
    with pytest.raises(ValueError, match="subwords: expected"):
        BagOfWords(mode, subwords=subwords)


def test_missing_sklearn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ImportError, match=r"scikit-learn.*pip install 'pyg_hash\[demo\]'"):
        BagOfWords().fit(TEXTS)


PAIRS = [
    ("Hund", "dog"),
    ("Hund mit Hut", "dog with hat"),
    ("Katze mit Hut", "cat with hat"),
    ("Katze", "cat"),
    ("rotes Herz", "red heart"),
    ("心", "heart"),
    ("红心", "red heart"),
    ("chat", "cat"),
    ("Arm", "arm"),
]


def test_words_of_other_languages_by_hand():
    words = learn_words(PAIRS, known=["chat bubble", "dog cat hat arm"])
    # 'mit' is in 2 pairs, 'with' in the same 2, 'hat' too: all Dice 1
    assert words["mit"] == "hat with" == words["hut"]
    # 'hund' and 'dog' 1; with 'with' or 'hat' 2 * 1 / (2 + 2) = .5, under .8
    assert words["hund"] == "dog"
    # 'rotes' is in one pair: with 'red' 2 / 3, with 'heart' 2 / 4, under .8 of that
    assert words["rotes"] == "red" and words["心"] == "heart"
    assert "chat" not in words and "arm" not in words  # known English
    assert words["hund mit hut"] == "dog with hat" and words["红心"] == "red heart"


def test_scripts_without_spaces_are_read_by_their_longest_words():
    pairs = [("吉他", "guitar"), ("吉祥", "lucky"), ("他们", "they"), ("红吉他手", "red guitarist")]
    reader = Translated(BagOfWords().fit(["guitar"]), learn_words(pairs))
    assert reader.read("吉他") == "guitar"  # and not what 吉 and 他 are in besides
    assert reader.read("红吉他手!") == "red guitarist"
    assert reader.read("我, 吉他们") == "我 guitar they"
    assert reader.read("电") == "电"
    inner = BagOfWords().fit(["猫 の写真", "夜の東京"])  # what is not known keeps its neighbours
    assert Translated(inner, {"cat": "猫", "の": "no"}).read("cat 写真の東京!") == "猫 写真 no 東京"
    long = "电" * 50_000
    assert reader.read(long) == long and reader.read(long + "吉他") == f"{long} guitar"
    pairs = [("我" * 20, "me " * 20)] * 2
    assert all(len(word) <= 8 for word in learn_words(pairs))
    twice = learn_words([("Rotes Herz", "red heart"), ("Rotes  Herz!", "heart suit")])
    assert twice["rotes herz"] == "red heart"  # the first
    assert learn_words([("Herz", "heart suit"), ("Rotes Herz", "red heart")])["herz"] == "heart"


def test_translated_reads_and_leaves_alone(tmp_path):
    inner = BagOfWords().fit(["dog", "cat", "red heart", "chat"])
    encoder = Translated(inner, learn_words(PAIRS, known=["chat"]))
    assert encoder.read("Red  heart!") == "Red  heart!"  # nothing to translate
    assert encoder.read("Der HUND!") == "der dog"
    x = encoder(["Hund", "心", "chat"])
    assert torch.equal(x, inner(["dog", "heart", "chat"]))
    assert encoder.num_features == inner.num_features
    assert encoder.unknown_words("Hund und Maus") == ["und", "maus"]
    with pytest.raises(ValueError, match="no known word; unknown: maus"):
        encoder(["Maus"])
    with pytest.raises(TypeError, match="got one string"):
        encoder("Hund")
    path = encoder.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, Translated) and repr(loaded) == repr(encoder)
    assert torch.equal(loaded(["Hund"]), inner(["dog"]))
    save_json(path, {"kind": "translated", "words": ["Hund"]})
    with pytest.raises(CorruptFileError):
        load_encoder(tmp_path)


def test_nothing_is_unknown_to_an_encoder_that_does_not_say_so():
    class Silent:
        num_features = 1

    assert Translated(Silent(), {}).unknown_words("Hund") == []
