"""Groups of neighbours as seeds: every seed once an epoch, and fewer nodes a batch."""

import pytest
import torch
from small import small_graph, small_model
from torch_geometric.index import index2ptr
from toy import toy_data

from pyg_hash.models.batches import Share
from pyg_hash.sampling import CellShuffle, InstanceLoader, close_order
from pyg_hash.training.ranks import shared_out
from pyg_hash.transforms import IntraKNN
from pyg_hash.typing import IMAGE, MODALITIES


def test_an_epoch_is_every_seed_once_in_runs():
    order = torch.randperm(103, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    shuffle = CellShuffle(order, 10)
    assert len(shuffle) == 103
    place = order.argsort()
    epochs = [list(shuffle) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(103))
        steps = place[epoch].diff()
        # 11 cells, one of which may hold both ends of the order
        assert int(((steps != 1) & (steps != -102)).sum()) <= 10
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_generator_of_ones_own_decides_the_order():
    loader = InstanceLoader(
        small_graph(),
        batch_size=8,
        shuffle=True,
        cell_size=4,
        generator=torch.Generator().manual_seed(3),
    )
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        loader.generator.manual_seed(3)
        runs.append(torch.cat([batch[IMAGE].input_id for batch in loader]))
    assert torch.equal(*runs)
    assert not torch.equal(runs[0], torch.cat([batch[IMAGE].input_id for batch in loader]))


def test_neighbours_are_close_in_the_order():
    """Rings, shuffled: in a good order no neighbour is far."""
    n, ring = 600, 60
    name = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    node = torch.arange(n)
    ahead = node // ring * ring + (node + 1) % ring
    row = torch.cat((name[node], name[ahead]))
    column = torch.cat((name[ahead], name[node]))
    by_row = row.argsort()
    order = close_order(index2ptr(row[by_row], n), column[by_row].int())
    assert sorted(order.tolist()) == list(range(n))
    rank = order.argsort()
    assert int((rank[row] - rank[column]).abs().max()) <= 2


def blocks(n=600, block=60):
    """Data whose neighbours stay within blocks."""
    raw = toy_data(n, num_queries=0)
    centers = 20 * torch.randn(n // block, 12, generator=torch.Generator().manual_seed(1))
    for m in MODALITIES:
        width = raw[m].x.size(1)
        raw[m].x = raw[m].x + centers[torch.arange(n) % (n // block), :width]
    return small_graph(data=raw, scale=False)


def test_cells_need_fewer_nodes():
    view = small_model(blocks()).training_view(blocks())
    torch.manual_seed(0)
    sizes = []
    for cell_size in (1, 20):
        loader = InstanceLoader(view, [4, 4], 4, batch_size=40, shuffle=True, cell_size=cell_size)
        batches = list(loader)
        seeds = torch.cat([batch[IMAGE].input_id for batch in batches])
        assert sorted(seeds.tolist()) == list(range(600))
        sizes.append(sum(batch[IMAGE].x.size(0) for batch in batches))
    assert sizes[1] < 0.5 * sizes[0]


def test_seeds_of_ones_own_in_cells():
    view = IntraKNN(4, anchors="all")(toy_data())
    chosen = torch.arange(60) % 3 == 0
    loader = InstanceLoader(view, seeds=chosen, batch_size=8, shuffle=True, cell_size=4)
    seen = torch.cat([batch[IMAGE].n_id[: batch[IMAGE].batch_size] for batch in loader])
    assert sorted(seen.tolist()) == chosen.nonzero().flatten().tolist()


def test_ranks_agree_on_the_cells():
    view = IntraKNN(4, anchors="all")(toy_data())
    loader = InstanceLoader(view, batch_size=8, shuffle=True, cell_size=4)
    seeds = []
    for place in range(2):
        torch.manual_seed(0)
        for batch in shared_out(loader, Share(place, 2)):
            seeds += batch[IMAGE].n_id[: batch[IMAGE].batch_size].tolist()
            torch.manual_seed(place)  # each rank samples its own neighbours
    assert sorted(seeds) == list(range(60))


@pytest.mark.parametrize(
    ("change", "error"), [({"cell_size": 0}, ValueError), ({"cell_size": 2.5}, TypeError)]
)
def test_arguments(change, error):
    with pytest.raises(error, match="cell_size"):
        InstanceLoader(small_graph(), shuffle=True, **change)
    with pytest.raises(ValueError, match="cell_size: .* shuffle=True"):
        InstanceLoader(small_graph(), cell_size=8)
