"""Edge batches and dense blocks of a sparse graph, and the readings of A (SGEH, Sec. 2.3)."""

import pytest
import torch

from pyg_hash.nn import LocalAffinity, SparseAffinity


def random_z(num_nodes=12, k=3, seed=0):
    """A float64 Z as stage 1 makes it: rows sum to 1, no diagonal; and its edges."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(num_nodes, num_nodes, generator=generator, dtype=torch.float64)
    score.fill_diagonal_(0)
    z = torch.where(score >= score.topk(k, dim=1).values[:, -1:], score, 0.0)
    z = z / z.sum(dim=1, keepdim=True)
    edge_index = z.nonzero().t()
    return z, edge_index, z[tuple(edge_index)]


def features(num_nodes=12, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(num_nodes, d, generator=generator, dtype=torch.float64) for d in (4, 3)]


def local(z_edges, **options):
    _, edge_index, weight = z_edges
    return LocalAffinity(edge_index, weight, *features(), **options)


ALL = torch.arange(12)
SOME = torch.tensor([1, 4, 5, 9, 11])
NONE = torch.zeros(0, 2, dtype=torch.long)


def test_pairs_are_the_edges_without_direction():
    z, edge_index, value = random_z()
    graph = SparseAffinity(edge_index, value, 12)
    expected = ((z + z.T) > 0).triu(1).nonzero()
    assert torch.equal(graph.pairs, expected)


def test_loops_are_no_pairs():
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 0]])
    assert SparseAffinity(edge_index, torch.ones(3), 2).pairs.tolist() == [[0, 1]]


@pytest.mark.parametrize("batch_size", [1, 4, 8, 1000])
def test_an_epoch_visits_every_edge_once(batch_size):
    graph = SparseAffinity(*random_z()[1:], 12)
    seen = []
    for nodes, position in map(graph.local, graph.pair_batches(batch_size)):
        assert len(position) <= batch_size
        assert 2 <= len(nodes) <= 2 * len(position)  # Sec. 2.3; t + 1 < n is an error there
        assert torch.equal(nodes, nodes[position].unique())  # end points, ascending, no others
        seen += nodes[position].tolist()
    assert len(seen) == len(graph.pairs)
    assert sorted(seen) == graph.pairs.tolist()


def test_the_order_is_random_and_repeatable():
    graph = SparseAffinity(*random_z()[1:], 12)

    def epoch(**options):
        return [pairs.tolist() for pairs in graph.pair_batches(4, **options)]

    torch.manual_seed(3)
    first, second = epoch(), epoch()
    torch.manual_seed(3)
    assert epoch() == first != second
    assert sum(epoch(shuffle=False), []) == graph.pairs.tolist()


def test_a_block_is_cut_from_the_dense_matrix():
    z, edge_index, value = random_z()
    shuffled = torch.randperm(value.numel(), generator=torch.Generator().manual_seed(1))
    graph = SparseAffinity(edge_index[:, shuffled], value[shuffled], 12)
    for nodes in (ALL, SOME, torch.tensor([7]), ALL[:0]):
        assert torch.equal(graph.block(nodes), z[nodes][:, nodes])


def test_nodes_without_edges():
    graph = SparseAffinity(torch.tensor([[2], [4]]), torch.tensor([0.5]), 6)
    dense = torch.zeros(6, 6)
    dense[2, 4] = 0.5
    assert torch.equal(graph.block(torch.arange(6)), dense)
    x = torch.arange(12.0).view(6, 2)
    expected = x.clone()
    expected[2] = 0.5 * x[2] + 0.5 * x[4]
    assert torch.equal(graph.smooth(x, 1), expected)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_smoothing_is_a_lazy_walk(steps):
    z, edge_index, value = random_z()
    x = features()[0]
    walk = 0.5 * torch.eye(12) + 0.5 * (z / z.sum(dim=1, keepdim=True))
    expected = torch.linalg.matrix_power(walk, steps) @ x
    assert torch.allclose(SparseAffinity(edge_index, value, 12).smooth(x, steps), expected)


def test_induced():
    """Each row by its maximum, averaged with the transpose, then cut; the diagonal is 1."""
    z, *_ = edges = random_z()
    dense = torch.zeros_like(z)
    for i in range(12):
        for j in range(12):
            dense[i, j] = 0.5 * z[i, j] / z[i].max() + 0.5 * z[j, i] / z[j].max()
        dense[i, i] = 1.0
    affinity = local(edges, adjacency="induced")
    assert torch.allclose(affinity(SOME, NONE), dense[SOME][:, SOME])
    assert affinity(ALL, NONE).max() == 1.0


def test_paper():
    """2 Z - 1 as printed: an edge of .2 becomes -.6, a node is its own opposite."""
    z, *_ = edges = random_z()
    block = local(edges, adjacency="paper")(SOME, NONE)
    assert torch.allclose(block, 2 * z[SOME][:, SOME] - 1)
    assert (block.diagonal() == -1).all()
    fifth = LocalAffinity(
        torch.tensor([[0], [1]]), torch.tensor([0.2]), torch.ones(2, 1), torch.ones(2, 1),
        adjacency="paper",
    )  # fmt: skip
    assert fifth(ALL[:2], NONE).tolist() == [[-1, pytest.approx(-0.6)], [-1, -1]]


def test_code():
    """Ones, the sampled entries at [i, j] alone, and zeros on the diagonal."""
    z, *_ = edges = random_z()
    affinity = local(edges, adjacency="code")
    nodes, position = affinity.graph.local(affinity.graph.pair_batches(3, shuffle=False)[0])
    block = affinity(nodes, position)
    expected = torch.ones_like(block)
    for i, j in position.tolist():
        expected[i, j] = z[nodes[i], nodes[j]]
    expected.fill_diagonal_(0)
    assert torch.equal(block, expected)
    assert not torch.equal(block, block.T)


@pytest.mark.parametrize(("steps", "share"), [(1, 0.5), (3, 0.2), (2, 0.0)])
def test_diffused(steps, share):
    """The cosines of smoothed features, from the dense formulas."""
    z, *_ = edges = random_z()
    w = 0.5 * (z + z.T)
    walk = 0.5 * torch.eye(12) + 0.5 * w / w.sum(dim=1, keepdim=True)
    joint = []
    for x, weight in zip(features(), (share, 1 - share), strict=True):
        x = x / x.norm(dim=1, keepdim=True)
        x = x - x.mean(dim=0)
        joint.append(weight**0.5 * x / x.norm(dim=1, keepdim=True))
    smooth = torch.linalg.matrix_power(walk, steps) @ torch.cat(joint, dim=1)
    smooth = smooth - smooth.mean(dim=0)
    smooth = smooth / smooth.norm(dim=1, keepdim=True)
    expected = smooth @ smooth.T
    affinity = local(edges, adjacency="diffused", steps=steps, share=share)
    assert torch.allclose(affinity(ALL, NONE), expected)
    assert torch.allclose(affinity(SOME, NONE), expected[SOME][:, SOME])
    assert torch.allclose(affinity(SOME, NONE).diagonal(), torch.ones(5).double())


def test_diffused_ignores_rows_outside_the_graph():
    edge_index, weight = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.ones(3).double()
    image, text = features(5)
    known = LocalAffinity(edge_index, weight, image, text, adjacency="diffused")(ALL[:3], NONE)
    image, text = image.clone(), text.clone()
    image[3:], text[3:] = 7.0, float("nan")
    again = LocalAffinity(edge_index, weight, image, text, adjacency="diffused")(ALL[:3], NONE)
    assert torch.equal(known, again)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, v: SparseAffinity(e[:, :0], v[:0], 12), "no edge"),
        (lambda e, v: SparseAffinity(ALL.repeat(2, 1), v[:12], 12), "no edge"),
        (lambda e, v: LocalAffinity(e, v, *features(), adjacency="code")(ALL), "pairs"),
        (lambda e, v: LocalAffinity(e, v, *features(), adjacency="dense"), "adjacency"),
    ],
)
def test_errors_name_the_argument(call, message):
    _, edge_index, value = random_z()
    with pytest.raises(ValueError, match=message):
        call(edge_index, value)
