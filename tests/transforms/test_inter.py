"""InterKNN: the weights of Eq. 2 on an example by hand, pair edges, protocols, order."""

import pytest
import torch
from torch_geometric.data import HeteroData
from toy import toy_data

from pyg_hash.graph import protocol
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate

ANGLES = {"image": [0, 10, 90, 100, 12], "text": [0, 90, 10, 100, 98]}  # node 4 is the query


def by_hand() -> HeteroData:
    """Four training nodes on a circle, k=1: images pair up 0-1, 2-3, texts 0-2, 1-3."""
    data = HeteroData()
    data.num_classes = 2
    for m, angles in ANGLES.items():
        radians = torch.deg2rad(torch.tensor(angles, dtype=torch.float))
        data[m].x = torch.stack((radians.cos(), radians.sin()), dim=1)
        data[m].y = torch.tensor([0, 0, 1, 1, 0])
        data[m].train_mask = data[m].labeled_mask = torch.arange(5) < 4
        data[m].database_mask, data[m].query_mask = data[m].train_mask, ~data[m].train_mask
    return data


def binary(anchors: str = "train") -> IntraKNN:
    return IntraKNN(k=1, anchors=anchors, weight="binary")


def received(data: HeteroData, modality: str) -> dict[tuple[int, int], float]:
    """(target, source) -> weight of the edges that ``modality`` receives across."""
    other = "text" if modality == "image" else "image"
    edges = data[other, "inter", modality]
    pairs = [(t, s) for s, t in edges.edge_index.T.tolist()]
    assert len(set(pairs)) == len(pairs), "no parallel edges"
    return dict(zip(pairs, edges.edge_weight.tolist(), strict=True))


def halves(*pairs: tuple[int, int]) -> dict[tuple[int, int], float]:
    return {p: 0.5 for a, b in pairs for p in ((a, b), (b, a))}


PAIRS = {(i, i): 1.0 for i in range(5)}
BETWEEN = halves((0, 1), (2, 3), (0, 2), (1, 3))


def test_inductive_by_hand():
    data = InterKNN()(binary()(by_hand()))
    # the query receives from its own modality's neighbour alone, with the full weight 1:
    # image 4 (12 degrees) is near image 1, text 4 (98 degrees) near text 3
    pairs = {p: w for p, w in PAIRS.items() if p != (4, 4)}
    assert received(data, "image") == BETWEEN | pairs | {(4, 1): 1.0}
    assert received(data, "text") == BETWEEN | pairs | {(4, 3): 1.0}
    assert protocol(data) == "inductive"
    assert ("image", "joint", "image") not in data.edge_types


def test_strict_by_hand():
    data = InterKNN(anchors="train")(binary("all")(by_hand()))
    # inside texts, 4 takes the place of 3 as the nearest of 1, and both send to it; across the
    # modalities the edges are those of a graph that does not know it
    pairs = {p: w for p, w in PAIRS.items() if p != (4, 4)}
    assert received(data, "image") == BETWEEN | pairs | {(4, 1): 1.0}
    assert received(data, "text") == BETWEEN | pairs | {(4, 3): 1.0}
    assert protocol(data) == "strict"
    for m in ("image", "text"):
        assert bool((data[m, "intra", m].edge_index[0] == 4).any())
        assert not bool((data[m, "joint", m].edge_index[0] == 4).any())
        assert data[m].joint_anchor_mask.tolist() == [True] * 4 + [False]


def test_transductive_by_hand():
    data = InterKNN()(binary("all")(by_hand()))
    near = {
        "image": {(0, 1), (1, 0), (1, 4), (4, 1), (2, 3), (3, 2)},
        "text": {(0, 2), (2, 0), (3, 4), (4, 3), (1, 4), (4, 1)},
    }
    for m in ANGLES:
        assert set(map(tuple, data[m, "intra", m].edge_index.T.tolist())) == near[m]
    for m in ANGLES:
        expected = dict(PAIRS)
        for kind in ANGLES:
            for pair in near[kind]:
                expected[pair] = expected.get(pair, 0.0) + 0.5
        assert received(data, m) == expected
        assert received(data, m)[(1, 4)] == 1.0  # neighbours in both modalities
    assert protocol(data) == "transductive"


@pytest.mark.parametrize("pair_edges", ["labeled", "none"])
def test_no_pair_edges(pair_edges):
    data = InterKNN(pair_edges=pair_edges)(binary()(by_hand()))
    assert received(data, "image") == BETWEEN | {(4, 1): 1.0}


def test_both_directions_agree_between_anchors():
    data = InterKNN()(IntraKNN(k=4, anchors="all", weight="similarity")(toy_data()))
    image, text = received(data, "image"), received(data, "text")
    assert image == {(s, t): w for (t, s), w in text.items()}
    assert all(0 < w <= 1 for w in image.values())


def test_similarity_weights_by_hand():
    data = InterKNN()(IntraKNN(k=1, weight="similarity")(by_hand()))
    image = received(data, "image")
    cos10, cos2 = (torch.deg2rad(torch.tensor(a)).cos().item() for a in (10.0, 2.0))
    assert image[0, 1] == pytest.approx(cos10 / 2)
    assert image[4, 1] == pytest.approx(cos2)
    assert image[3, 3] == 1.0


@pytest.mark.parametrize("intra", ["train", "all"])
def test_a_query_never_meets_its_pair(intra):
    data = InterKNN(anchors="train")(IntraKNN(k=5, anchors=intra)(toy_data()))
    for m in ("image", "text"):
        assert all(s < 48 for _, s in received(data, m))


def test_applied_again_it_replaces_its_edges():
    intra = IntraKNN(k=3, anchors="all")(toy_data())
    once = InterKNN(anchors="train", pair_edges="none")(intra)
    twice = InterKNN(anchors="train", pair_edges="none")(InterKNN()(intra))
    assert received(once, "text") == received(twice, "text")
    assert once.graph == twice.graph
    for m in ("image", "text"):
        assert torch.equal(once[m, "joint", m].edge_index, twice[m, "joint", m].edge_index)


def test_order():
    with pytest.raises(ValueError, match="InterKNN: the data has no intra edges; apply IntraKNN"):
        InterKNN()(toy_data())
    for step in (LabelHub(), LabelHub(self_loops="literal")):
        with pytest.raises(ValueError, match="label edges exist already; apply it before LabelHub"):
            InterKNN()(step(IntraKNN(k=3)(LabelRate(0.5)(toy_data()))))


def test_no_such_protocol():
    with pytest.raises(ValueError, match="anchors: 'all' with IntraKNN.*is no protocol"):
        InterKNN(anchors="all")(IntraKNN(k=3, anchors="train")(toy_data()))


def test_arguments():
    with pytest.raises(ValueError, match="anchors: 'query' is not known"):
        InterKNN(anchors="query")
    with pytest.raises(ValueError, match="pair_edges: True is not known"):
        InterKNN(pair_edges=True)
