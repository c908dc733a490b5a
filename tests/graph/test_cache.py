"""GraphCache: built once per graph, and again whenever the graph differs."""

import copy
import gc
import pickle
from weakref import ref

import pytest
import torch
import torch_geometric.transforms as T
from small import small_graph, small_model
from torch_geometric.data import HeteroData
from toy import toy_data

from pyg_hash.graph import build_graphs, graph_operator
from pyg_hash.models.common import GraphCache
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate


class Counter:
    """A builder that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: HeteroData) -> object:
        self.calls += 1
        return object()


def graph(**options) -> HeteroData:
    steps = [LabelRate(0.4), IntraKNN(k=3, **options), InterKNN(), LabelHub()]
    return T.Compose(steps)(toy_data())


@pytest.fixture
def cached():
    """Counter, cache and the graph it has seen."""
    counter, data = Counter(), graph()
    cache = GraphCache(counter)
    cache(data)
    return counter, cache, data


def test_same_graph_is_built_once(cached):
    counter, cache, data = cached
    first = cache(data)
    for _ in range(3):
        assert cache(data) is first
    assert counter.calls == 1


def test_copies_share_what_was_built(cached):
    counter, cache, data = cached
    assert cache(copy.copy(data)) is cache(data)
    assert counter.calls == 1


CHANGES = {
    "other weights": lambda d: setattr(
        d["image", "intra", "image"],
        "edge_weight",
        d["image", "intra", "image"].edge_weight.clone(),
    ),
    "weights in place": lambda d: d["image", "inter", "text"].edge_weight.mul_(0.5),
    "edges in place": lambda d: d["text", "intra", "text"].edge_index[0].fill_(1),
    "nearest in place": lambda d: d["text", "nearest", "text"].edge_weight.zero_(),
    "labels in place": lambda d: d["image"].labeled_mask.zero_(),
    "other labels": lambda d: setattr(d["image"], "labeled_mask", d["image"].labeled_mask.clone()),
    "loops in place": lambda d: d["text"].self_loop.add_(1),
    "hubs in place": lambda d: d["text", "in", "class"].edge_index[1].zero_(),
    "anchors in place": lambda d: d["text"].joint_anchor_mask.zero_(),
    "features in place": lambda d: d["text"].x.mul_(2),
    "edges removed": lambda d: d.__delitem__(("text", "inter", "image")),
    "loops removed": lambda d: d["image"].__delitem__("self_loop"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_build_again(cached, change):
    counter, cache, data = cached
    change(data)
    cache(data)
    assert counter.calls == 2
    cache(data)
    assert counter.calls == 2


def test_other_graphs_build_again(cached):
    counter, cache, data = cached
    cache(graph())
    assert counter.calls == 2
    cache(data)
    assert counter.calls == 2, "two graphs may take turns"
    cache(graph())
    cache(data)
    assert counter.calls == 4, "a third one replaces the older of the two"


def test_graphs_of_inference_mode_are_never_remembered(cached):
    """Their tensors count no changes, so that the cache could miss one."""
    counter, cache, _ = cached
    with torch.inference_mode():
        data = graph()
        cache(data)
        data["image", "intra", "image"].edge_weight.mul_(0.5)
        cache(data)
    assert counter.calls == 3


def test_a_copy_starts_empty(cached):
    counter, cache, data = cached
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        twin(data)
        assert twin._build.calls == 2
    cache(data)
    assert counter.calls == 1


def test_the_features_are_not_kept():
    data = small_graph()
    model = small_model(data).train()
    model(data)
    features = [ref(data[m].x) for m in ("image", "text")]
    del data
    gc.collect()
    assert [kept() for kept in features] == [None, None]


def test_errors_are_not_remembered():
    cache = GraphCache(build_graphs)
    with pytest.raises(ValueError, match="no intra edges"):
        cache(toy_data())
    data = graph()
    built = cache(data)
    with pytest.raises(ValueError, match="no intra edges"):
        cache(toy_data())
    assert cache(data) is built


def test_real_operators_follow_an_edit():
    cache = GraphCache(graph_operator)
    data = graph()
    before = cache(data).to_dense()
    data["image", "intra", "image"].edge_weight.mul_(0.5)
    after = cache(data).to_dense()
    assert not torch.equal(before, after)
    assert torch.equal(after, graph_operator(data).to_dense())


def test_mini_batches_come_once(cached):
    """They bring the degrees of the whole graph along; the graphs that stay are not pushed out."""
    counter, cache, data = cached
    first = cache(data)
    for _ in range(3):
        batch = graph()
        batch.graph = batch.graph | {"sampled": True}
        assert cache(batch) is not cache(batch)
    assert counter.calls == 7
    assert cache(data) is first
    with torch.inference_mode():  # what is built in there learns nothing outside
        assert cache(data) is not first
    assert cache(data) is first
