"""GCH with encoders of one's own: networks on raw items are trained end to end."""

import gzip
import json

import pytest
import torch
from small import adam, assert_same_codes, assert_same_state
from torch import nn
from torch_geometric.data import HeteroData

from pyg_hash.metrics import evaluate
from pyg_hash.models import GCH
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES

NUM_CLASSES, WIDTH = 3, 8


class TinyCNN(nn.Module):
    """From uint8 pictures ``[n, 3, H, W]`` to features ``[n, width]``."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, width, 3, stride=2)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(x.to(self.first.weight) / 255)))
        return torch.relu(self.second(h)).mean(dim=(2, 3))


class Words(nn.Module):
    """From word vectors in a row, float ``[n, length, 5]``, to features ``[n, width]``."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(5, WIDTH)

    def forward(self, x):
        return torch.relu(self.lin(x)).amax(dim=1)


def pictures(y, generator):
    """Noise with a bright square, whose place is the class."""
    x = torch.randint(0, 120, (y.numel(), 3, 16, 16), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(y.tolist()):
        x[row, :, 5 * label : 5 * label + 5, 4:9] += 120
        x[row, label] += 15
    return x


def raw_data(n=61, raw_text=False):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % NUM_CLASSES
    data = HeteroData()
    data.num_classes = NUM_CLASSES
    data["image"].x = pictures(y, generator)
    words = torch.randint(0, 40, (n, 6), generator=generator)
    words[:, :2] = y[:, None] + torch.tensor([0, 3])
    one_hot = nn.functional.one_hot(words, 40).sum(1).float()
    vectors = torch.randn(40, 5, generator=generator)
    data["text"].x = vectors[words] if raw_text else one_hot
    train = torch.arange(n) < n - 12
    for m in MODALITIES:
        data[m].y = y
        data[m].train_mask = data[m].labeled_mask = data[m].database_mask = train
        data[m].query_mask = ~train
    return data


def raw_model(seed=0, raw_text=False, **kwargs):
    torch.manual_seed(seed)
    text = {"text_encoder": Words()} if raw_text else {}
    settings = {"num_bits": 16, "hidden_channels": 24, "batch_size": 16}
    settings["beacon"] = {"channels": 16}
    return GCH(
        (WIDTH, WIDTH if raw_text else 40),
        NUM_CLASSES,
        image_encoder=TinyCNN(),
        **{**settings, **text, **kwargs},
    )


def trained(data, epochs=6, **kwargs):
    model = raw_model(**kwargs)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model, data, adam(model, lr=2e-2), epochs=epochs, progress=False)
    return model, before


@pytest.fixture(scope="module")
def fitted():
    data = raw_data()
    return (data, *trained(data))


def test_a_network_on_pictures_is_trained_end_to_end(fitted):
    data, model, before = fitted
    after = model.state_dict()
    for name in ("first.weight", "second.weight", "norm.running_mean"):
        name = f"encoders.image.backbone.{name}"
        assert not torch.equal(before[name], after[name]), name
    result = evaluate(model, data)
    assert result.protocol == "inductive"
    assert result.i2t > 0.8 and result.t2i > 0.8  # chance is 1 / 3


def test_new_pictures_are_given_raw(fitted):
    data, model, _ = fitted
    rows = data["image"].query_mask
    codes = model.encode_image(data["image"].x[rows])
    with torch.no_grad():
        relaxed = model.eval()(data).image[rows]
    assert_same_codes(codes, model.encode(data, "image")[rows], relaxed)
    assert_same_codes(model.encode_image(data["image"].x[-1:]), codes[-1:], relaxed[-1:])


def test_pictures_of_another_shape(fitted):
    _, model, _ = fitted
    with pytest.raises(ValueError, match=r"x: expected shape \[n, 3, 16, 16\]"):
        model.encode_image(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no rows"):
        model.encode_image(torch.zeros(0, 3, 16, 16, dtype=torch.uint8))


def test_saved_without_the_network_and_loaded_with_it(fitted, tmp_path):
    data, model, _ = fitted
    model.save(tmp_path)
    assert "TinyCNN" in (tmp_path / "config.json").read_text()
    again = GCH.load(tmp_path, image_encoder=TinyCNN())
    assert_same_state(model, again)
    x = data["image"].x[:5]
    assert torch.equal(again.encode_image(x), model.encode_image(x))
    with pytest.raises(ValueError, match="image_encoder: .*TinyCNN"):
        GCH.load(tmp_path)


def test_both_modalities_raw():
    data = raw_data(raw_text=True)
    model, before = trained(data, raw_text=True)
    name = "encoders.text.backbone.lin.weight"
    assert not torch.equal(before[name], model.state_dict()[name])
    assert evaluate(model, data).t2i > 0.8
    with torch.no_grad():
        relaxed = model.eval()(data).text[:4]
    codes = model.encode_text(data["text"].x[:4])
    assert_same_codes(codes, model.encode(data, "text")[:4], relaxed)


def test_a_frozen_network_stays_as_it_is():
    data, network = raw_data(), TinyCNN()
    for p in network.parameters():
        p.requires_grad_(False)
    torch.manual_seed(0)
    model = GCH((WIDTH, 40), NUM_CLASSES, 8, hidden_channels=8, image_encoder=network)
    start = [p.clone() for p in network.parameters()]
    fit(model, data, adam(model), epochs=1, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(start, network.parameters(), strict=True))


def test_last_batch_of_one_picture():
    """49 labelled rows in batches of 16: the network's batch normalisation needs two."""
    data = raw_data()
    assert int(data["image"].labeled_mask.sum()) == 49
    model = raw_model()
    assert len(fit(model, data, adam(model), epochs=1, progress=False)) == 1


def test_a_network_of_another_width():
    torch.manual_seed(0)
    model = GCH((WIDTH + 1, 40), NUM_CLASSES, 8, image_encoder=TinyCNN())
    with pytest.raises(ValueError, match=r"TinyCNN\) made \[49, 8\].*expected \[49, 9\]"):
        fit(model, raw_data(), adam(model), epochs=1, progress=False)


def test_pictures_without_a_network():
    data = raw_data()
    model = GCH((3, 40), NUM_CLASSES, 8, hidden_channels=8)
    with pytest.raises(ValueError, match=r"data\['image'\].x: expected .* give image_encoder"):
        fit(model, data, adam(model), epochs=1, progress=False)


def test_jpegs_of_coco(shared_data):
    """200 photographs and their captions: the tiny network learns more of them than chance."""
    image = pytest.importorskip("PIL.Image")
    h5py = pytest.importorskip("h5py")
    from pyg_hash.features import BagOfWords

    folder = shared_data / "coco"
    with h5py.File(folder / "coco15k.h5") as file:
        labels = torch.from_numpy(file["labels"][:200]).float()
        ids = [int(i) for i in file["id"][:200]]
    with gzip.open(folder / "coco15k_captions.jsonl.gz", "rt") as lines:
        captions = [json.loads(next(lines))["caption"] for _ in range(200)]
    stack = []
    for number in ids:
        picture = image.open(folder / "images" / f"{number}.jpg")
        picture.draft("RGB", (64, 64))  # decodes at a fraction of the size
        picture = picture.convert("RGB").resize((32, 32))
        stack.append(torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8))
    data = HeteroData()
    data["image"].x = torch.stack(stack).view(200, 32, 32, 3).permute(0, 3, 1, 2).contiguous()
    data["text"].x = BagOfWords("tfidf", max_features=200).fit(captions).transform(captions)
    train = torch.arange(200) < 160
    y = labels[:, labels[train].sum(0) >= 5]
    data.num_classes = y.size(1)
    for m in MODALITIES:
        data[m].y = y
        data[m].train_mask = data[m].labeled_mask = data[m].database_mask = train
        data[m].query_mask = ~train
    torch.manual_seed(0)
    text_width = data["text"].x.size(1)
    model = GCH((WIDTH, text_width), y.size(1), 16, hidden_channels=32, image_encoder=TinyCNN())
    history = fit(model, data, adam(model), epochs=5, progress=False)
    assert history[-1]["image_pairwise"] < history[0]["image_pairwise"]
    with torch.no_grad():
        relaxed = model.eval()(data).image
    # photographs are told apart; how many codes that makes is chance after five epochs
    assert float(relaxed.std(0).mean()) > 0.01
