"""What all encoders with weights of their own share, on a network of three lines."""

import pytest
import torch
from hub_models import pictures, save_weights

from pyg_hash.features import ImageEncoder, TextEncoder, UnreadableImageError, encode_each
from pyg_hash.features.pretrained import PictureNetwork, TextNetwork, fill, weight_files
from pyg_hash.utils.files import CorruptFileError, load_json, save_json


class Means(PictureNetwork):
    """Mean colours through a linear layer."""

    kind, stored = "means", ("scale",)
    image_size, mean, std = 8, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0)

    def __init__(self, weights, *, scale=1.0, **run):
        self.scale = scale
        super().__init__(weights, **{"batch_size": 2, "progress": False, **run})

    def _open(self):
        self.layer = torch.nn.Linear(3, 4)
        fill(self.layer, self._files[0], spare="head")
        return lambda x: self.scale * self.layer(x.mean(dim=(2, 3)))


class Lengths(TextNetwork):
    """Lengths of texts."""

    kind = "lengths"

    def _open(self):
        return lambda texts: torch.tensor([[len(text), 1.0] for text in texts])


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    return save_weights(torch.nn.Linear(3, 4), tmp_path / "w.safetensors")


def test_pictures_by_hand(weights, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (5, 9), (255, 0, 51)).save(tmp_path / "p.png")
    encoder = Means(weights, scale=2.0)
    x = torch.tensor([(1 - 0.5) / 0.25, (0 - 0.5) / 0.5, 0.2 - 0.5])
    assert isinstance(encoder, ImageEncoder) and encoder.num_features == 4
    torch.testing.assert_close(encoder([tmp_path / "p.png"])[0], 2 * encoder.layer(x).detach())


def test_batches_change_nothing_and_give_no_gradient(weights, tmp_path):
    paths = pictures(tmp_path, 5)
    x = Means(weights)(paths)
    assert x.shape == (5, 4) and x.dtype == torch.float32 and not x.requires_grad
    torch.testing.assert_close(x, Means(weights, batch_size=100)(paths))
    assert Means(weights)([]).shape == (0, 4)


def test_bad_items(weights, tmp_path):
    paths = pictures(tmp_path)
    (tmp_path / "1.png").write_bytes(b"x")
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        Means(weights)(paths)
    assert encode_each(Means(weights), paths).kept == [0, 2]
    texts = Lengths(weights)
    assert isinstance(texts, TextEncoder)
    assert texts(["one", "three"]).tolist() == [[3, 1], [5, 1]]
    with pytest.raises(ValueError, match="1 of 2 are empty"):
        texts(["one", " "])
    assert encode_each(texts, ["one", "", "two"]).kept == [0, 2]
    with pytest.raises(TypeError, match="one string"):
        texts("one")


def test_save_load_by_settings_and_digest(weights, tmp_path):
    paths = pictures(tmp_path)
    encoder = Means(weights, scale=3.0)
    encoder.save(tmp_path / "stored")
    assert [p.name for p in (tmp_path / "stored").iterdir()] == ["encoder.json"]
    loaded = Means.load(tmp_path / "stored", batch_size=1)
    torch.testing.assert_close(loaded(paths), encoder(paths))
    assert repr(loaded) == repr(encoder) == "Means(scale=3.0, weights='w.safetensors')"

    moved = weights.rename(tmp_path / "stored" / "w.safetensors")
    assert Means.load(tmp_path / "stored").weights == moved
    moved.unlink()
    with pytest.raises(FileNotFoundError, match=r"put w\.safetensors into"):
        Means.load(tmp_path / "stored")
    torch.manual_seed(1)
    save_weights(torch.nn.Linear(3, 4), moved)
    with pytest.raises(CorruptFileError, match="other weights than those"):
        Means.load(tmp_path / "stored")


def test_damaged_settings(weights, tmp_path):
    path = Means(weights).save(tmp_path / "stored")
    good = load_json(path)
    for broken in ([], {}, {**good, "kind": "other"}, {**good, "colour": 1}):
        save_json(path, broken)
        with pytest.raises(CorruptFileError, match="save it again"):
            Means.load(tmp_path / "stored")


def test_pickled_weights_are_refused(weights, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match="no safetensors file"):
        Means(tmp_path / "w.pth")
    model = tmp_path / "model"
    (model / "dense").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors"):
        weight_files(model)
    (model / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="pickled weights are not read"):
        weight_files(model)
    safe = weights.rename(model / "model.safetensors")
    assert weight_files(model) == [safe]  # one beside it is left alone
    (model / "dense" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="dense"):
        weight_files(model)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Means(tmp_path / "nowhere")


def test_wrong_weights(weights, tmp_path):
    wide = save_weights(torch.nn.Linear(5, 4), tmp_path / "wide.safetensors")
    with pytest.raises(CorruptFileError, match="not the weights of Linear"):
        Means(wide)
    wide.write_bytes(b"short")
    with pytest.raises(CorruptFileError, match="damaged"):
        Means(wide)
    layers = torch.nn.ModuleDict({"head": torch.nn.Linear(1, 1)})
    layers.register_parameter("weight", torch.nn.Parameter(torch.ones(4, 3)))
    layers.register_parameter("bias", torch.nn.Parameter(torch.ones(4)))
    Means(save_weights(layers, wide))  # a classifier may be there
    with pytest.raises(ValueError, match="batch_size"):
        Means(weights, batch_size=0)
