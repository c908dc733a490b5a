"""SGEH's objectives against dense float64 references, its schedule, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from small import adam, assert_same_state, graph_for, model_for
from toy import toy_data

from pyg_hash.models import SGEH
from pyg_hash.models.batches import WHOLE, Share
from pyg_hash.models.sgeh import BATCHES, VARIANTS, WEIGHTS
from pyg_hash.training import fit
from pyg_hash.transforms import ScaleFeatures, UnifiedAffinity
from pyg_hash.typing import MODALITIES, HashOutput

AFFINITY = ("pair", "affinity", "pair")
SETTINGS = {"batches": "edges", "batch_size": 8, "hidden_channels": 6, "num_bits": 5}


@pytest.fixture
def data():
    return graph_for(SGEH, rate=None)


def model(data, **kwargs):
    return model_for(SGEH, data, **(SETTINGS | kwargs))


def dense_cosine(x, y):
    x, y = x.double(), y.double()
    return (x @ y.T) / x.norm(dim=1)[:, None] / y.norm(dim=1)


def dense_adjacency(data, name):
    """A between all training rows, from the dense Z."""
    z = torch.zeros(60, 60, dtype=torch.float64)
    z[tuple(data[AFFINITY].edge_index)] = data[AFFINITY].edge_weight.double()
    z = z[:48, :48]
    if name == "paper":
        return 2 * z - 1
    a = z / z.amax(dim=1, keepdim=True)
    return (0.5 * (a + a.T)).fill_diagonal_(1)


def dense_target(data, nodes, variant, adjacency, lambda3=0.4, lambda4=0.7):
    """U of a batch, Eq. 8-10 and Table 2."""
    image, text = (dense_cosine(*[data[m].x[nodes]] * 2) for m in MODALITIES)
    a = dense_adjacency(data, adjacency)[nodes][:, nodes]
    mean = lambda4 * image + (1 - lambda4) * text
    return {
        "SGEH-1": a,
        "SGEH-2": mean,
        "SGEH-3": (1 - lambda3) * mean + lambda3 * a,
        "SGEH-4": lambda3 * a + (1 - lambda3) * mean @ mean.T / len(nodes),
        "SGEH": lambda3 * a + (1 - lambda3) * mean @ mean.T / len(nodes),
    }[variant]


def edges_of(data):
    i, j = data[AFFINITY].edge_index.tolist()
    return sorted({(min(p), max(p)) for p in zip(i, j, strict=True)})


def node_batches(data, kind):
    """The nodes of each mini-batch of eight, in the stored order."""
    if kind == "nodes":
        return [list(range(start, start + 8)) for start in range(0, 48, 8)]
    edges = edges_of(data)
    batches = [edges[start : start + 8] for start in range(0, len(edges), 8)]
    return [sorted({node for edge in batch for node in edge}) for batch in batches]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("adjacency", ["induced", "paper"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_is_the_mean_over_batches(data, variant, adjacency, kind, reduction):
    """Eq. 8-13 and 15 in float64, batch after batch."""
    net = model(
        data,
        **{"variant": variant, "adjacency": adjacency, "batches": kind, "reduction": reduction},
        **{"lambda3": 0.4, "lambda4": 0.7, "alpha": 1.5},
        weights={"affinity_ii": 0.4, "affinity_it": 0.9, "affinity_tt": 0.2, "prior": 0.3},
    ).eval()
    out = net(data)
    terms = net.loss(out, data)
    sums, count = dict.fromkeys(terms, 0.0), 0
    for nodes in node_batches(data, kind):
        u = 1.5 * dense_target(data, nodes, variant, adjacency)
        image, text = (out[m][nodes].double() for m in MODALITIES)
        known = {
            "affinity_ii": (u - dense_cosine(image, image)).square(),
            "affinity_it": (u - dense_cosine(image, text)).square(),
            "affinity_tt": (u - dense_cosine(text, text)).square(),
        }
        known = {name: getattr(entries, reduction)() for name, entries in known.items()}
        total = 0.4 * known["affinity_ii"] + 0.9 * known["affinity_it"]
        total += 0.2 * known["affinity_tt"]
        if variant == "SGEH":
            d = [torch.sigmoid(net.discriminator(b.float())).double() for b in (image, text)]
            means = torch.stack([-probability.log().mean() for probability in d])
            known["prior"] = getattr(means, reduction)()  # of both modalities, Eq. 15
            total += 0.3 * known["prior"]
        for name, value in (known | {"loss": total}).items():
            sums[name] += value.item()
        count += 1
    assert count > 3
    assert terms.keys() == sums.keys()
    for name, value in sums.items():
        assert terms[name].item() == pytest.approx(value / count, rel=1e-4, abs=1e-6), name


def test_the_scale_of_the_prior_by_hand(data):
    """Two pairs, d = 1/2, U = 0: Eq. 13 sums 4 entries, Eq. 15 adds two means of ln 2."""
    data[AFFINITY].edge_index = torch.tensor([[3], [7]])
    data[AFFINITY].edge_weight = torch.tensor([1.0])
    weights = {"affinity_ii": 1.0, "affinity_it": 0.1, "affinity_tt": 0.3, "prior": 0.001}
    out = HashOutput(torch.zeros(60, 5), torch.zeros(60, 5))
    out.image[[3, 7]] = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 1, -1]])  # cosine .6
    out.text[[3, 7]] = torch.tensor([[1.0, 1, 1, 1, 1], [-1, -1, -1, -1, -1]])  # cosine -1
    # II: 2 + 2 * .36, IT: 1, 1, .6, .6 squared, TT: 4
    sums = {"affinity_ii": 2.72, "affinity_it": 2.72, "affinity_tt": 4.0}
    for reduction, divisor, modalities in (("sum", 1, 2), ("mean", 4, 1)):
        net = model(data, alpha=0.0, weights=weights, reduction=reduction)
        torch.nn.init.zeros_(net.discriminator.lin2.weight)
        torch.nn.init.zeros_(net.discriminator.lin2.bias)
        expected = {name: value / divisor for name, value in sums.items()}
        expected["prior"] = modalities * math.log(2)
        expected["loss"] = sum(weights[name] * value for name, value in expected.items())
        terms = net.loss(out, data)
        assert {n: v.item() for n, v in terms.items()} == pytest.approx(expected, rel=1e-6)
        codes = {m: out[m][[3, 7]] for m in MODALITIES}
        adversary = net.discriminator_loss(codes).item()
        assert adversary == pytest.approx(2 * modalities * math.log(2))


@pytest.mark.parametrize("adjacency", ["diffused", "code"])
def test_other_readings_of_the_adjacency_train(data, adjacency):
    net = model(data, adjacency=adjacency)
    first, *_, last = fit(net, data, adam(net), epochs=4, progress=False)
    assert last["codes_loss"] < first["codes_loss"]


def test_relaxed_codes_are_the_annealed_tanh(data):
    """Eq. 24: beta = sqrt(epoch + 1), so 1, 2, 3 after 0, 3, 8 finished epochs."""
    net = model(data).eval()
    y = net.encoders["image"](data["image"].x)
    for epoch, beta in ((0, 1.0), (3, 2.0), (8, 3.0)):
        next(net.objectives(data, epoch))
        assert net.beta.item() == beta
        assert torch.equal(net(data)["image"], torch.tanh(beta * y))
    net.reset_parameters()
    assert net.beta.item() == 1.0


def test_annealing_survives_saving(data, tmp_path):
    net = model(data)
    fit(net, data, adam(net), epochs=4, progress=False)
    net.eval().save(tmp_path)
    again = SGEH.load(tmp_path)
    assert again.beta.item() == 2.0
    assert torch.equal(again(data)["text"], net(data)["text"])


def test_a_step_of_each_part_for_every_batch(data):
    net = model(data)
    parts = [objective.part for objective in net.objectives(data, 0)]
    batches = math.ceil(len(edges_of(data)) / 8)
    assert parts == ["discriminator", "codes"] * batches
    for variant in list(VARIANTS)[1:]:
        plain = model(data, variant=variant)
        assert [o.part for o in plain.objectives(data, 0)] == ["model"] * batches
        assert not hasattr(plain, "discriminator")
        assert plain.parts().keys() == {"model"}


def test_an_epoch_of_node_batches_visits_every_training_row_once(data):
    net = model(data, batches="nodes", batch_size=9)
    assert [o.part for o in net.objectives(data, 0)] == ["discriminator", "codes"] * 6

    def drawn(batch_size, share):
        net.batch_size = batch_size
        return [rows.tolist() for rows, _ in net._batches(data, share)]

    for size, sizes in ((9, [9] * 5 + [3]), (47, [48])):  # no batch of one
        batches = drawn(size, WHOLE)
        assert [len(rows) for rows in batches] == sizes
        assert sorted(row for rows in batches for row in rows) == list(range(48))
        assert all(rows == sorted(rows) for rows in batches)
    shares = [drawn(8, Share(place, 2, seed=5)) for place in (0, 1)]
    assert sorted(row for share in shares for rows in share for row in rows) == list(range(48))


@pytest.mark.parametrize("kind", BATCHES)
def test_an_epoch_descends_what_loss_says(data, kind):
    """With all edges, or nodes, in one batch the random order does not matter."""
    net = model(data, batches=kind, batch_size=10_000).eval()
    _, codes = net.objectives(data, 0)
    expected = net.loss(net(data), data)
    for name, value in codes.terms.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5), name


def test_loss_has_the_gradient_of_its_batches(data):
    """Blocks are made again in the backward pass; the gradient must not know."""
    net = model(data, batch_size=10_000).eval()
    net.loss(net(data), data)["loss"].backward()
    whole = {name: p.grad.clone() for name, p in net.encoders.named_parameters()}
    net.zero_grad()
    _, codes = net.objectives(data, 0)
    codes.terms["loss"].backward()
    for name, p in net.encoders.named_parameters():
        assert torch.allclose(p.grad, whole[name], atol=1e-6), name


def test_discriminator_and_codes_pull_apart(data):
    """Eq. 15: D's step leaves the codes alone and lowers d(B); the codes' step raises d(B)."""
    weights = dict.fromkeys(WEIGHTS, 0.0) | {"prior": 1.0}
    net = model(data, weights=weights).eval()
    steps = net.objectives(data, 0)
    adversary = next(steps)
    adversary.terms["loss"].backward()
    assert all(p.grad is None for p in net.encoders.parameters())
    assert all(p.grad is not None for p in net.discriminator.parameters())
    net.zero_grad()

    def mean_logit():
        out = net(data)
        codes = torch.cat([out[m][:48] for m in MODALITIES])
        return net.discriminator(codes).mean().item()

    codes = next(steps)
    before = mean_logit()
    codes.terms["loss"].backward(inputs=list(net.encoders.parameters()))
    with torch.no_grad():
        for p in net.encoders.parameters():
            p -= 0.1 * p.grad
    assert mean_logit() > before


def test_the_discriminator_sees_fair_coins(data, monkeypatch):
    net = model(data, batch_size=10_000)
    seen = []
    inner = net.discriminator.forward
    monkeypatch.setattr(net.discriminator, "forward", lambda x: seen.append(x) or inner(x))
    next(net.objectives(data, 0))
    codes, random = seen
    assert not codes.requires_grad
    assert codes.shape == random.shape == (96, 5)
    assert set(random.unique().tolist()) == {-1.0, 1.0}
    assert abs(random.mean().item()) < 0.15


def test_prior_is_the_generators_side(data):
    net = model(data, batch_size=10_000).eval()
    out = net(data)
    codes = torch.cat([out[m][:48] for m in MODALITIES])
    expected = F.softplus(-net.discriminator(codes)).mean().item()
    assert net.loss(out, data)["prior"].item() == pytest.approx(expected, rel=1e-5)


def test_training_is_repeatable(data):
    nets = [model(data), model(data)]
    for net in nets:
        torch.manual_seed(4)
        fit(net, data, adam(net), epochs=2, progress=False)
    assert_same_state(*nets)


def test_learning_rates_of_their_own(data):
    """One optimiser with a group a modality: the text encoder is frozen by a rate of 0."""
    net = model(data)
    before = {name: p.clone() for name, p in net.named_parameters()}
    groups = [
        {"params": net.encoders["image"].parameters(), "lr": 1e-2},
        {"params": net.encoders["text"].parameters(), "lr": 0.0},
    ]
    optimizers = {
        "codes": torch.optim.SGD(groups, momentum=0.9),
        "discriminator": torch.optim.SGD(net.discriminator.parameters(), lr=1e-2),
    }
    fit(net, data, optimizers, epochs=1, progress=False)
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[1] for name in changed if "encoders" in name} == {"image"}
    assert any("discriminator" in name for name in changed)


def test_labels_and_other_rows_are_never_read(data):
    clean, poisoned = model(data), model(data)
    other = data.clone()
    for m in MODALITIES:
        other[m].y = torch.full((60,), -7)
        other[m].x[48:] = float("nan")
        del other[m].labeled_mask
    for net, graph in ((clean, data), (poisoned, other)):
        torch.manual_seed(0)
        fit(net, graph, adam(net), epochs=2, progress=False)
    assert_same_state(clean, poisoned)


def test_one_edge_is_a_batch(data):
    """Two nodes are the fewest a batch can have."""
    data[AFFINITY].edge_index = torch.tensor([[3], [7]])
    data[AFFINITY].edge_weight = torch.tensor([1.0])
    for batch_size in (1, 8):
        net = model(data, batch_size=batch_size)
        history = fit(net, data, adam(net), epochs=2, progress=False)
        assert math.isfinite(history[-1]["loss"])


def test_another_graph_is_another_training_set(data):
    net = model(data).eval()
    first = net.loss(net(data), data)["loss"].item()
    other = graph_for(SGEH, rate=None, seed=3)
    second = net.loss(net(other), other)["loss"].item()
    assert first != second
    assert net.loss(net(data), data)["loss"].item() == first
    other["text"].x = data["text"].x  # the same edges, other features
    assert net.loss(net(other), other)["loss"].item() != second


@pytest.mark.parametrize("kind", BATCHES)
def test_it_learns_the_planted_classes(kind):
    from pyg_hash.metrics import evaluate

    data = graph_for(SGEH, rate=None, num_nodes=120, num_queries=30, noise=0.5)
    net = model(data, hidden_channels=32, num_bits=16, batches=kind, batch_size=64)
    before = evaluate(net, data)
    fit(net, data, adam(net, 3e-2), epochs=6 if kind == "edges" else 25, progress=False)
    after = evaluate(net, data)
    assert min(after.i2t, after.t2i) > max(0.7, before.i2t, before.t2i)
    assert after.protocol == "inductive"


def test_the_stored_graph_is_that_of_stage_one():
    data = UnifiedAffinity(4, progress=False)(ScaleFeatures()(toy_data()))
    assert len(edges_of(data)) == len(model(data)._affinity(data).graph.pairs)
