import importlib.util
import sys

import pytest
import torch

from pyg_hash.features import (
    BagOfWords,
    Concatenated,
    StaticWords,
    TextEncoder,
    load_encoder,
    named_encoder,
)
from pyg_hash.features import words as module
from pyg_hash.utils.files import CorruptFileError, load_json, save_json

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("sklearn")
if importlib.util.find_spec("wordllama") is None:
    pytest.skip("wordllama is not installed", allow_module_level=True)
cosine = torch.nn.functional.cosine_similarity


@pytest.fixture(scope="module")
def static():
    return StaticWords()


def test_mean_of_the_vectors_of_pieces(static):
    """Piece by piece, from the files themselves."""
    from safetensors.torch import load_file

    folder = module.package_folder("wordllama", "wordllama")
    vectors = load_file(folder / module.VECTORS[0])["embedding.weight"].double()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / module.TOKENIZER[0]))
    texts = ["Dog", "birthday cake, with a zebra!", "perro", "狗"]
    for text, row in zip(texts, static(texts), strict=True):
        words = text.lower().replace(",", "").replace("!", "")
        ids = [i for i in tokenizer.encode(words).ids if i != 1]  # 1 starts a text
        mean = sum(vectors[i] for i in ids) / len(ids)
        torch.testing.assert_close(row, (mean / mean.norm()).float(), atol=1e-5, rtol=1e-4)
    assert "wordllama" not in sys.modules


def test_what_is_alike_is_close(static):
    names = ["puppy", "festival", "lorry", "piano"]
    x = static([*names, "dog", "birthday", "car", "guitar"])
    similarity = x[4:] @ x[:4].T
    assert similarity.argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_case_punctuation_and_composition_do_not_matter(static):
    x = static(["a café", "A  CAFE\u0301!", "a, café"])
    assert torch.equal(x[0], x[1]) and torch.equal(x[0], x[2])
    assert x.dtype == torch.float32 and x.shape == (3, static.num_features)
    assert static([]).shape == (0, 256)


def test_words_that_are_in_no_vocabulary_have_a_row(static):
    x = static(["qwrtzp", "Hundegesicht", "कुत्ता"])
    assert torch.allclose(x.norm(dim=1), torch.ones(3))


def test_text_without_a_word_is_an_error_that_names_it(static):
    with pytest.raises(ValueError, match=r"text 1 \('\?!'\) has no word"):
        static(["dog", "?!"])
    with pytest.raises(ValueError, match="'' has no word"):
        static([""])
    with pytest.raises(TypeError, match="got one string"):
        static("dog")


def test_save_and_load_keep_the_digest_and_copy_nothing(static, tmp_path):
    path = static.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, StaticWords) and isinstance(loaded, TextEncoder)
    assert torch.equal(loaded(["dog"]), static(["dog"]))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1000
    save_json(path, {**load_json(path), "weights_sha256": "0" * 64})
    with pytest.raises(CorruptFileError, match="encode the data again"):
        load_encoder(tmp_path)
    save_json(path, {"kind": "static_words"})
    with pytest.raises(CorruptFileError, match="sha256"):
        load_encoder(tmp_path)


def test_other_files_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "package_folder", lambda *names: tmp_path)
    with pytest.raises(FileNotFoundError, match="reinstall wordllama=="):
        StaticWords()
    path = tmp_path / module.VECTORS[0]
    path.parent.mkdir()
    path.write_bytes(b"vectors of somebody else")
    with pytest.raises(CorruptFileError, match="SHA-256"):
        StaticWords()


@pytest.mark.parametrize("name", ["wordllama", "tokenizers"])
def test_missing_package_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{name}.*pip install 'pyg_hash\[demo\]'"):
        StaticWords()


TEXTS = ["red car", "blue dog", "red dog"]


@pytest.fixture(scope="module")
def both(static):
    return Concatenated([BagOfWords().fit(TEXTS), static], weights=[1, 2])


def test_concatenated_parts_have_their_weights(both, static):
    x = both(TEXTS)
    words, vectors = x.split([4, 256], dim=1)
    assert both.num_features == x.size(1) == 260
    torch.testing.assert_close(words, BagOfWords().fit(TEXTS)(TEXTS) / 5**0.5)
    torch.testing.assert_close(vectors, static(TEXTS) * 2 / 5**0.5)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(3))


def test_concatenated_wants_one_part_to_know_a_text(both):
    x = both(["dog", "puppy", "dog"])
    assert x[0, :4].any() and not x[1, :4].any() and x[1, 4:].any()
    assert cosine(x[0], x[1], dim=0) > cosine(both(["car"])[0], x[1], dim=0)
    assert torch.equal(x[0], x[2])
    with pytest.raises(ValueError, match="'!!' has no word; give it one"):
        both(["dog", "!!"])
    with pytest.raises(TypeError, match="got one string"):
        both("dog")


def test_words_that_are_single_bytes_to_all_parts_are_unknown(both, static):
    assert static.unknown_words("\u9f98 puppy \u9f98") == ["\u9f98"]
    assert both.unknown_words("\u9f98 puppy dog") == ["\u9f98"]
    assert Concatenated([both.parts[0], str.upper]).unknown_words("\u9f98 puppy") == []


def test_unknown_runs_of_a_script_without_spaces_are_told_alike(both):
    """By characters and pairs, as the other part tells them."""
    assert both.unknown_words("\u9f98\u9f98 dog") == ["\u9f98", "\u9f98\u9f98"]


def test_concatenated_save_and_load(both, tmp_path):
    path = both.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, Concatenated) and repr(loaded) == repr(both)
    assert repr(named_encoder(str(tmp_path), "text", progress=False)) == repr(both)
    assert torch.equal(loaded(["dog", "puppy"]), both(["dog", "puppy"]))
    save_json(path, {"kind": "concatenated", "weights": [1.0, -2.0]})
    with pytest.raises(CorruptFileError, match="positive"):
        load_encoder(tmp_path)
    (tmp_path / "1" / "encoder.json").unlink()
    with pytest.raises(FileNotFoundError):
        load_encoder(tmp_path)


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, float("inf")], [1, 2, 3]])
def test_bad_weights(static, weights):
    with pytest.raises(ValueError, match="weights: expected"):
        Concatenated([static, static], weights)
    with pytest.raises(ValueError, match="one an encoder"):
        Concatenated([])
