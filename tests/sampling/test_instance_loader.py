"""Mini-batches: equal to the whole graph where they must be, and unbiased where they sample."""

import pytest
import torch
import torch_geometric.transforms as T
from sgch_cases import READINGS, sgch, sgch_graph
from small import PROTOCOLS, adam, graph_for, model_for, small_graph, small_model
from torch_geometric.loader import NodeLoader
from torch_geometric.testing import withCUDA
from toy import toy_data

from pyg_hash.graph import build_graphs
from pyg_hash.models import MCGCN, SGCH
from pyg_hash.sampling import InstanceLoader
from pyg_hash.transforms import IntraKNN
from pyg_hash.typing import IMAGE, MODALITIES, TEXT

ALL = {"num_neighbors": [-1, -1], "num_members": -1}
FEW = {"num_neighbors": [3, 2], "num_members": 6}
LABELS = [(False, "shared"), (True, "shared"), (True, "equal"), (True, "count")]


def assert_same_losses(model, view, batch):
    """Values and gradients of every objective on the whole view and on the batch."""
    found = []
    for data in (view, batch):
        values, gradients = [], []
        for objective in model.objectives(data, 0):
            values.append({name: float(v.detach()) for name, v in objective.terms.items()})
            inputs = [p for p in model.parts()[objective.part] if p.requires_grad]
            got = torch.autograd.grad(objective.terms["loss"], inputs, allow_unused=True)
            gradients += [g for g in got if g is not None]
        found.append((values, gradients))
    (values, gradients), (got_values, got_gradients) = found
    for one, other in zip(values, got_values, strict=True):
        assert one == pytest.approx(other, rel=2e-6)
    for one, other in zip(gradients, got_gradients, strict=True):
        atol = 2e-6 * max(1.0, float(one.abs().max()))  # sums over pairs cancel
        torch.testing.assert_close(other, one, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("multi_label", "match"), LABELS)
def test_all_nodes_in_one_batch_give_the_whole_loss(protocol, multi_label, match):
    data = small_graph(protocol, multi_label=multi_label, match=match)
    model = small_model(data).train()
    view = model.training_view(data)
    (batch,) = InstanceLoader(view, **ALL, batch_size=1000, shuffle=True)
    assert batch[IMAGE].batch_size == view[IMAGE].x.size(0)
    assert_same_losses(model, view, batch)


@pytest.mark.parametrize("variant", ["S", "IT", "A", "C"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_nodes_in_one_batch_for_every_variant(variant, reduction):
    data = small_graph(weight="similarity")
    model = small_model(data, variant=variant, reduction=reduction).train()
    view = model.training_view(data)
    (batch,) = InstanceLoader(view, **ALL, batch_size=1000, shuffle=True)
    assert_same_losses(model, view, batch)


@pytest.mark.parametrize("kind", [MCGCN, SGCH], ids=lambda kind: kind.__name__)
def test_self_loops_of_ones_own_are_in_batches_too(kind):
    data = T.AddSelfLoops(attr="edge_weight", fill_value=2.0)(graph_for(kind))
    model = model_for(kind, data).train()
    view = model.training_view(data)
    (batch,) = InstanceLoader(view, **ALL, batch_size=1000, shuffle=True)
    assert_same_losses(model, view, batch)


def test_an_interrupted_draw_leaves_nothing_behind(monkeypatch):
    data = small_graph()
    view = small_model(data).training_view(data)
    loader = InstanceLoader(view, **FEW, batch_size=8)
    torch.manual_seed(0)
    first = next(iter(loader))
    with monkeypatch.context() as patch:
        patch.setattr(loader.node_sampler.graph, "sample", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(iter(loader))
    torch.manual_seed(0)
    again = next(iter(loader))
    assert all(torch.equal(again[k].edge_index, first[k].edge_index) for k in first.edge_types)


@pytest.mark.parametrize("reading", READINGS)
def test_all_nodes_in_one_batch_give_the_whole_loss_of_sgch(reading):
    data = sgch_graph(*reading, multi_label=True)
    model = sgch(data).train()
    view = model.training_view(data)
    (batch,) = InstanceLoader(view, **ALL, batch_size=1000, shuffle=True)
    assert_same_losses(model, view, batch)


@withCUDA
def test_devices(device):
    """Data on a device are sampled there; the batches stay there."""
    data = small_graph(multi_label=True).to(device)
    model = small_model(data).to(device).train()
    view = model.training_view(data)
    (batch,) = InstanceLoader(view, **ALL, batch_size=1000, shuffle=True)
    assert_same_losses(model, view, batch)
    for batch in InstanceLoader(view, **FEW, batch_size=20, shuffle=True, cell_size=5):
        assert batch[IMAGE].x.device == batch["text", "inter", "image"].edge_index.device == device
        assert bool(torch.isfinite(model.loss(model(batch), batch)["loss"]))


def test_sgch_without_hubs_or_joint_edges():
    data = IntraKNN(4)(toy_data())
    model = SGCH(data.num_features, 4, 8).train()
    view = model.training_view(data)
    (batch,) = InstanceLoader(view, **ALL, batch_size=1000)
    assert_same_losses(model, view, batch)


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_codes_of_seeds_with_all_neighbours_are_those_of_the_whole_graph(kind, protocol):
    """Two layers reach everything that a seed's code depends on."""
    data = graph_for(kind, protocol)
    torch.manual_seed(0)
    model = kind(data.num_features, 4, 8).train()
    view = model.training_view(data)
    whole = model(view)
    seen = 0
    for batch in InstanceLoader(view, **ALL, batch_size=7, shuffle=True):
        out = model(batch)
        n = batch[IMAGE].batch_size
        seen += n
        rows = batch[IMAGE].n_id[:n]
        labelled = view[IMAGE].labeled_mask.nonzero().flatten()
        order = torch.full((view[IMAGE].x.size(0),), -1)
        order[labelled] = torch.arange(labelled.numel())
        views = order[rows[view[IMAGE].labeled_mask[rows]]]
        for m in MODALITIES:
            torch.testing.assert_close(out[m][:n], whole[m][rows], rtol=1e-5, atol=1e-6)
            got, want = out.aux[f"{m}_view"], whole.aux[f"{m}_view"][views]
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    assert seen == view[IMAGE].x.size(0)


def spread(small, nodes, num_nodes):
    """Rows and columns of a batch's operator at their places in the whole graph's."""
    whole = torch.zeros(num_nodes, num_nodes, dtype=small.dtype)
    whole[nodes.unsqueeze(1), nodes] = small
    return whole


@pytest.mark.parametrize(
    ("protocol", "multi_label", "match"),
    [("inductive", False, "shared"), ("strict", True, "shared"), ("transductive", True, "count")],
)
def test_the_expected_operator_is_that_of_the_whole_graph(protocol, multi_label, match):
    """Rows of the seeds, in every graph that a model propagates on, and as new items."""
    data = small_graph(protocol, num_nodes=40, multi_label=multi_label, match=match)
    view = small_model(data).training_view(data)
    n = view[IMAGE].x.size(0)
    exact = build_graphs(view)
    seeds = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:9]
    loader = InstanceLoader(view, **FEW, seeds=seeds, batch_size=9)
    torch.manual_seed(1)
    draws = 100
    wanted = {name: operator.to_dense() for name, operator in exact.operators.items()}
    labelled = view[IMAGE].labeled_mask.nonzero().flatten().tolist()
    known = [labelled.index(int(s)) for s in seeds if int(s) in labelled]
    for name, part in exact.views.items():
        chosen = known + [len(labelled) + row for row in known] if name == "joint" else known
        wanted[f"new, {name}"] = part.first.apply(torch.eye(len(wanted[name])))[chosen]
    sums = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in wanted.items()}
    squares = {name: torch.zeros_like(s) for name, s in sums.items()}
    rows = dict.fromkeys(MODALITIES, seeds) | {"joint": torch.cat((seeds, seeds + n))}
    for _ in range(draws):
        (batch,) = loader
        graphs, nodes = build_graphs(batch), batch[IMAGE].n_id
        both = torch.cat((nodes, nodes + n))
        for name, operator in graphs.operators.items():
            where = both if name == "joint" else nodes
            got = spread(operator.to_dense(), where, len(wanted[name]))
            sums[name] += got
            squares[name] += got.double() ** 2
        for name, part in graphs.views.items():
            where = both if name == "joint" else nodes
            got = torch.zeros_like(wanted[f"new, {name}"])
            got[:, where] = part.first.apply(torch.eye(where.numel()))
            sums[f"new, {name}"] += got
            squares[f"new, {name}"] += got.double() ** 2
    for name, want in wanted.items():
        mean = sums[name] / draws
        error = ((squares[name] / draws - mean**2).clamp(min=0) / draws).sqrt()
        off = (mean - want).abs() - 5.0 * error - 1e-6
        off = off[rows[name]] if name in rows else off
        assert float(off.max()) <= 0, name


def test_the_gradient_of_terms_over_nodes_is_unbiased():
    """With all neighbours a batch's codes are exact; seeds in random order do the rest."""
    data = small_graph(num_nodes=36, rate=1.0)
    weights = {"prediction": 0.0, "balance": 0.0, "view": 0.0}
    model = small_model(data, variant="C", weights=weights).train()
    view = model.training_view(data)
    parameters = [*model.channels.parameters(), *model.autoencoders.parameters()]

    def gradient(batch):
        terms = model.loss(model(batch), batch)
        total = terms["quantization"] + terms["reconstruction"] + terms["prediction"]
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)])

    whole = gradient(view)
    torch.manual_seed(0)
    loader = InstanceLoader(view, [-1, -1], -1, batch_size=6, shuffle=True)
    assert len(loader) * 6 == view[IMAGE].x.size(0)  # equal batches: an epoch's mean is exact
    for _ in range(3):
        mean = torch.stack([gradient(batch) for batch in loader]).mean(dim=0)
        torch.testing.assert_close(mean, whole, rtol=1e-4, atol=1e-6)


def test_two_sampled_layers_are_unbiased_without_tanh():
    """Each node's neighbours are drawn apart, so that expectations multiply."""
    view = IntraKNN(5, anchors="all")(toy_data(40))
    exact = build_graphs(view, joint=False).operators[IMAGE].to_dense().double()
    x, seeds = view[IMAGE].x.double(), torch.arange(8)
    want = (exact @ (exact @ x))[seeds].sum(dim=0)  # the gradient of sum(A A X w) by w
    loader = InstanceLoader(view, [3, 2], seeds=seeds, batch_size=8)
    torch.manual_seed(3)
    got = []
    for _ in range(250):
        (batch,) = loader
        operator = build_graphs(batch, joint=False).operators[IMAGE].to_dense().double()
        got.append((operator @ (operator @ batch[IMAGE].x.double()))[:8].sum(dim=0))
    got = torch.stack(got)
    error = got.std(dim=0) / len(got) ** 0.5
    assert bool(((got.mean(dim=0) - want).abs() < 4.5 * error).all())
    assert bool((error > 0).all())  # it did sample


def test_a_batch_is_a_small_graph_whose_losses_see_seeds_alone():
    data = small_graph(num_nodes=200)
    model = small_model(data).train()
    view = model.training_view(data)
    loader = InstanceLoader(view, [2, 2], 4, batch_size=5, shuffle=True)
    assert isinstance(loader, NodeLoader)
    seen = []
    for batch in loader:
        store = batch[IMAGE]
        n = store.batch_size
        seen += store.input_id.tolist()
        assert store.x.size(0) <= 5 * (1 + 2 + 4) + 4 * (1 + 2)
        assert torch.equal(store.n_id, batch[TEXT].n_id)
        assert store.n_id.unique().numel() == store.n_id.numel()
        assert torch.equal(store.n_id[:n], store.input_id)
        for m in MODALITIES:
            torch.testing.assert_close(batch[m].x, view[m].x[store.n_id])
            for name in ("labeled_mask", "anchor_mask", "train_mask"):
                assert torch.equal(batch[m][name][:n], view[m][name][store.n_id[:n]])
                assert not bool(batch[m][name][n:].any())
        for kind in view.edge_types:
            if kind[2] != "class":
                edges = batch[kind].edge_index
                assert edges.numel() == 0 or int(edges.max()) < store.x.size(0)
                assert batch[kind].edge_weight.numel() == edges.size(1)
    assert sorted(seen) == list(range(view[IMAGE].x.size(0)))
    assert not view[IMAGE].labeled_mask.logical_not().all()  # the masks of the data are its own


def test_names_and_texts_stay_out_of_batches():
    data = small_graph()
    data["text"].text = [f"text {i}" for i in range(60)]
    data["image"].name = "emoji"
    batch = next(iter(InstanceLoader(data, batch_size=8)))
    assert "text" not in batch["text"] and "name" not in batch["image"]
    assert len(data["text"].text) == 60


def test_rare_classes_are_complete_among_the_members():
    raw = toy_data(num_nodes=120, num_queries=0)
    rare = raw[IMAGE].y == 0
    for m in MODALITIES:
        raw[m].labeled_mask = torch.where(rare, torch.arange(120) < 9, True)  # 3 of class 0
    data = small_graph(rate=None, data=raw)
    sampler = InstanceLoader(data, [2, 2], 30).node_sampler
    y = data[IMAGE].y
    for _ in range(5):
        members = sampler.hubs.members()
        counts = torch.bincount(y[members], minlength=4).tolist()
        assert counts[0] == 3 and all(count == 9 for count in counts[1:])


def test_repeated_seeds_of_torch_repeat_the_batches():
    data = small_graph(num_nodes=200)
    view = small_model(data).training_view(data)
    loader = InstanceLoader(view, [2, 2], 4, batch_size=16, shuffle=True)
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        runs.append([batch[IMAGE].n_id for batch in loader])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not all(torch.equal(a, b[IMAGE].n_id) for a, b in zip(runs[0], loader, strict=True))


def test_workers_give_batches_too():
    data = small_graph(num_nodes=100)
    view = small_model(data).training_view(data)
    loader = InstanceLoader(view, [2, 2], 4, batch_size=40, num_workers=1)
    seeds = [batch[IMAGE].input_id for batch in loader]
    assert torch.equal(torch.cat(seeds), torch.arange(view[IMAGE].x.size(0)))


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
def test_training_descends_the_whole_loss(kind):
    data = graph_for(kind, num_nodes=160)
    torch.manual_seed(0)
    model = kind(data.num_features, 4, 8)
    view = model.training_view(data)
    optimizer = adam(model)
    before = float(model.loss(model(view), view)["loss"].detach())
    loader = InstanceLoader(view, [4, 3], 16, batch_size=32, shuffle=True)
    for epoch in range(8):
        for batch in loader:
            for terms, part in model.objectives(batch, epoch):
                optimizer.zero_grad()
                terms["loss"].backward(inputs=model.parts()[part])
                optimizer.step()
    assert float(model.loss(model(view), view)["loss"].detach()) < 0.7 * before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_neighbors": [3]}, ValueError, "num_neighbors: .* 2 layers"),
        ({"num_neighbors": [3, 0]}, ValueError, r"num_neighbors\[1\]"),
        ({"num_neighbors": [3, 1.5]}, TypeError, r"num_neighbors\[1\]"),
        ({"num_members": 0}, ValueError, "num_members"),
        ({"seeds": torch.zeros(48, dtype=torch.bool)}, ValueError, "seeds: none"),
        ({"seeds": torch.ones(60) > 0}, ValueError, "seeds: a mask of 60, .* 48 nodes"),
        ({"seeds": torch.ones(3) > 0}, ValueError, "seeds: a mask of 3, .* 48 nodes"),
        ({"seeds": torch.tensor([1, 48])}, ValueError, "seeds: rows 1 to 48, .* 48 nodes"),
        ({"seeds": torch.tensor([-1, 2])}, ValueError, "seeds: rows -1 to 2, .* 48 nodes"),
    ],
)
def test_arguments(change, error, message):
    view = small_model(small_graph()).training_view(small_graph())
    with pytest.raises(error, match=message):
        InstanceLoader(view, **change)


def test_data_without_a_graph():
    with pytest.raises(ValueError, match="no graph to sample"):
        InstanceLoader(toy_data())


def test_hubs_that_differ_between_the_modalities():
    data = small_graph()
    edges = data["text", "in", "class"]
    edges.edge_index = edges.edge_index.flip(1)
    with pytest.raises(ValueError, match="different class hubs"):
        InstanceLoader(data)


def test_only_nodes_are_sampled_from():
    sampler = InstanceLoader(small_graph()).node_sampler
    with pytest.raises(NotImplementedError, match="sample_from_nodes"):
        sampler.sample_from_edges(None)
