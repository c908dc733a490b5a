import copy

import pytest
import torch
from safetensors import safe_open
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import load_hetero, save_hetero, snapshot
from pyg_hash.utils.files import CorruptFileError, save_tensors


@pytest.fixture
def data():
    """The whole schema: every kind of store and value."""
    data = HeteroData()
    mask = torch.tensor([True, False, True])
    for modality in ("image", "text"):
        data[modality].x = torch.randn(3, 4)
        data[modality].y = torch.tensor([0, 1, 1])
        data[modality].train_mask = mask
        edge = (modality, "intra", modality)
        data[edge].edge_index = torch.tensor([[0, 1], [1, 2]])
        data[edge].edge_weight = torch.rand(2)
        data[edge].some_mask = torch.tensor([True, False])
        data[modality, "in", "class"].edge_index = torch.tensor([[0, 2], [0, 1]])
    data["class"].num_nodes = 2
    data.num_classes = 2
    data.scaling = {
        "image": {"mean": torch.randn(4), "components": torch.randn(4, 2), "norm": 3.5},
        "text": {"mean": torch.randn(4), "norm": 1.0},
    }
    data.graph = {"k": 20, "metric": "cosine", "none": None, "list": [1, "a"], "pair_edges": True}
    return data


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_round_trip(data, tmp_path):
    save_hetero(tmp_path / "d.safetensors", data)
    loaded = load_hetero(tmp_path / "d.safetensors")
    assert same(data.to_dict(), loaded.to_dict())
    assert loaded.edge_types == data.edge_types and loaded.node_types == data.node_types
    assert loaded["class"].num_nodes == 2


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(3.5),
        torch.empty(0, 4),
        torch.arange(12).view(3, 4).t(),
        torch.arange(10)[2:5],
        torch.tensor([1.0], dtype=torch.float16),
        torch.tensor([1], dtype=torch.int8),
        (1, (torch.ones(2), "x")),
        {"deep": {"er": [torch.zeros(1), None]}},
        "ä",
        1e300,
        float("inf"),
    ],
)
def test_values(value, tmp_path):
    data = HeteroData()
    data.value = value
    save_hetero(tmp_path / "d", data)
    assert same(value, load_hetero(tmp_path / "d").value)


def test_shared_tensors_are_stored_once_and_come_back_equal(data, tmp_path):
    save_hetero(tmp_path / "d", data)
    with safe_open(tmp_path / "d", framework="pt") as file:
        names = set(file.keys())
    assert "image/train_mask" in names and "text/train_mask" not in names


def test_part_of_a_large_tensor_is_stored_alone(tmp_path):
    data = HeteroData()
    large = torch.zeros(100_000)
    data["image"].x, data["text"].x = large[:10], large[5:15]
    save_hetero(tmp_path / "d", data)
    assert (tmp_path / "d").stat().st_size < 2000


def test_inference_tensors(tmp_path):
    data = HeteroData()
    with torch.inference_mode():
        data["image"].x = torch.ones(3)
    save_hetero(tmp_path / "d", data, base=snapshot(data))


def test_unchanged_tensors_are_references_to_the_base(data, tmp_path):
    seen = snapshot(data)
    changed = copy.copy(data)
    changed["text"].x = data["text"].x + 1
    changed["image"].new = torch.ones(3)
    save_hetero(tmp_path / "d", changed, base=seen)
    with safe_open(tmp_path / "d", framework="pt") as file:
        stored = set(file.keys())
    assert {"text/x", "image/new"} <= stored and "image/x" not in stored
    loaded = load_hetero(tmp_path / "d", base=lambda: data)
    assert same(changed.to_dict(), loaded.to_dict())
    with pytest.raises(CorruptFileError, match="entry .* is missing"):
        load_hetero(tmp_path / "d")


def test_in_place_changes_are_noticed(data, tmp_path):
    seen = snapshot(data)
    expected = data["image"].x.clone()
    changed = copy.copy(data)
    changed["image"].x.mul_(2)
    save_hetero(tmp_path / "d", changed, base=seen)
    data["image"].x = expected
    loaded = load_hetero(tmp_path / "d", base=lambda: data)
    assert torch.equal(loaded["image"].x, expected * 2)


def test_base_is_not_read_when_not_needed(data, tmp_path):
    save_hetero(tmp_path / "d", data)

    def fail():
        raise AssertionError

    load_hetero(tmp_path / "d", base=fail)


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, torch.eye(2).to_sparse()])
def test_other_values_are_refused_by_name(value, tmp_path):
    data = HeteroData()
    data["image"].odd = value
    with pytest.raises(TypeError, match=r"image/odd: .* cannot be stored"):
        save_hetero(tmp_path / "d", data)
    assert not list(tmp_path.iterdir())


def test_damaged_files(data, tmp_path):
    path = tmp_path / "d"
    save_hetero(path, data)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFileError, match="truncated"):
        load_hetero(path)
    save_tensors(path, {"x": torch.ones(1)}, {"format": "something else"})
    with pytest.raises(CorruptFileError, match="not a stored graph"):
        load_hetero(path)
    stores = [{"type": ["image"], "values": {"x": {"tensor": "gone"}}}]
    save_tensors(path, {}, {"format": "pyg_hash.hetero", "version": 1, "stores": stores})
    with pytest.raises(CorruptFileError, match="'gone' is missing"):
        load_hetero(path)
    with pytest.raises(FileNotFoundError):
        load_hetero(tmp_path / "none")
