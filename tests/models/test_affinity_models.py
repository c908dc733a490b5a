"""DJSRH, JDSH and DGCPN against formulas written pair by pair in float64."""

import math
import warnings

import pytest
import torch
from oracles import neighbours
from small import graph_for, model_for
from toy import toy_data

from pyg_hash.datasets import SyntheticCrossModal, build_hetero
from pyg_hash.metrics import OddDataWarning, evaluate
from pyg_hash.models import DGCPN, DJSRH, JDSH
from pyg_hash.models.affinities import neighbour_rows, weigh_by_distribution
from pyg_hash.recipes import recipe
from pyg_hash.training import fit
from pyg_hash.typing import HashOutput

MODELS = [DJSRH, JDSH, DGCPN]
every_model = pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
rescaled = pytest.mark.parametrize("rescale", [False, True])


def cosine(a, b):
    """Pair by pair."""
    result = torch.empty(len(a), len(b), dtype=torch.float64)
    for i, u in enumerate(a.double()):
        for j, v in enumerate(b.double()):
            result[i, j] = float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))
    return result


def training_cosines(data, rescale):
    rows = data["image"].train_mask
    found = [cosine(data[m].x[rows], data[m].x[rows]) for m in ("image", "text")]
    return [2 * s - 1 for s in found] if rescale else found


def random_codes(data, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = [2 * torch.rand(60, 12, generator=generator).double() - 1 for _ in range(2)]
    rows = data["image"].train_mask
    return HashOutput(*codes), *(c[rows] for c in codes)


def mean_square(a, b):
    return float((a - b).square().sum()) / a.numel()


def doubled(kind, data, **options):
    for m in ("image", "text"):
        data[m].x = data[m].x.double()
    return model_for(kind, data, batch_size=1000, **options).double().eval()


@rescaled
def test_djsrh(rescale):
    data = graph_for(DJSRH)
    weights = {"beta": 0.7, "eta": 0.4, "mu": 1.5, "lambda1": 0.1, "lambda2": 0.2}
    model = doubled(DJSRH, data, rescale=rescale, **weights)
    image, text = training_cosines(data, rescale)
    first = 0.7 * image + 0.3 * text
    target = 1.5 * (0.6 * first + 0.4 * first @ first.T / len(first))
    out, i, t = random_codes(data)
    expected = {
        "image": mean_square(target, cosine(i, i)),
        "cross": mean_square(target, cosine(i, t)),
        "text": mean_square(target, cosine(t, t)),
    }
    expected["loss"] = 0.1 * expected["image"] + expected["cross"] + 0.2 * expected["text"]
    terms = model.loss(out, data)
    assert {name: float(v) for name, v in terms.items()} == pytest.approx(expected)


@rescaled
def test_jdsh(rescale):
    data = graph_for(JDSH)
    weights = {"alpha": 0.5, "beta": 0.1, "lambda_": 0.4, "mu": 1.4, "intra": 0.1}
    model = doubled(JDSH, data, rescale=rescale, left=0.3, right=0.5, **weights)
    image, text = training_cosines(data, rescale)
    high = cosine(image, text)
    mixed = 0.5 * image + 0.1 * text + 0.4 * (high + high.T) / 2
    target = 1.4 * decided(mixed, 0.3, 0.5)
    out, i, t = random_codes(data)
    expected = {
        "image": mean_square(target, cosine(i, i)),
        "cross": mean_square(target, cosine(i, t)) + mean_square(target, cosine(t, i)),
        "text": mean_square(target, cosine(t, t)),
        "pair": -float(cosine(i, t).diagonal().mean()),
    }
    intra = 0.1 * (expected["image"] + expected["text"])
    expected["loss"] = expected["cross"] + expected["pair"] + intra
    terms = model.loss(out, data)
    assert {name: float(v) for name, v in terms.items()} == pytest.approx(expected)


def decided(s, left, right):
    """Similarity decision and weighting, entry by entry."""
    n = len(s)
    entries = sorted(float(s[i, j]) for i in range(n) for j in range(n) if i != j)
    centre = entries[(len(entries) - 1) // 2]
    low = [(e - centre) ** 2 for e in entries if e < centre]
    high = [(e - centre) ** 2 for e in entries if e > centre]
    below = centre - 2 * math.sqrt(sum(low) / len(low))
    above = centre + 4 * math.sqrt(sum(high) / len(high))
    result = s.clone()
    for i in range(n):
        for j in range(n):
            e = float(s[i, j])
            if e < below:
                result[i, j] = (1 + left * math.exp(-(e - entries[0]))) * e
            elif e > above:
                result[i, j] = (1 + right * math.exp(e - entries[-1])) * e
    return result


def test_weighting_draws_the_clear_cases_apart():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 40, generator=generator).double()
    s = 0.05 * (noise + noise.T)
    s[0, 1] = s[1, 0] = 0.9
    s[2, 3] = s[3, 2] = -0.9
    s.fill_diagonal_(1.0)
    weighed = weigh_by_distribution(s, left=0.1, right=0.2)
    torch.testing.assert_close(weighed, decided(s, 0.1, 0.2))
    assert weighed[0, 1] == pytest.approx(0.9 * 1.2)  # the extremes get all of the weight
    assert weighed[2, 3] == pytest.approx(-0.9 * 1.1)
    assert float((weighed == s).double().mean()) > 0.8
    assert torch.equal(weigh_by_distribution(s, left=0.0, right=0.0), s)
    assert torch.equal(weigh_by_distribution(s[:1, :1]), s[:1, :1])
    same = torch.full((3, 3), 0.5)
    assert torch.equal(weigh_by_distribution(same), same)


def dense_coherence(data, k, a1):
    """k P^ P^T with matrices of all training pairs."""
    rows = data["image"].train_mask.nonzero().flatten()
    image, text = training_cosines(data, False)
    mixed = a1 * text + (1 - a1) * image
    far = mixed.clone()
    far.fill_diagonal_(-torch.inf)
    kept = torch.zeros_like(mixed).scatter_(1, far.topk(k, dim=1).indices, 1.0)
    weights = kept * mixed.clamp(min=0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    assert len(rows) == len(mixed)
    return mixed, k * weights @ weights.T


@rescaled
def test_dgcpn(rescale):
    data = graph_for(DGCPN)
    weights = {"k": 7, "a1": 0.2, "a2": 0.3, "kappa": 1.5, "consistency": 0.5}
    model = doubled(DGCPN, data, rescale=rescale, **weights)
    mixed, coherence = dense_coherence(data, 7, 0.2)
    target = 0.7 * mixed + 0.3 * coherence
    target = 2 * target - 1 if rescale else target
    out, i, t = random_codes(data)
    ii, it, tt = cosine(i, i), cosine(i, t), cosine(t, t)
    different = 1 - torch.eye(len(i)).double()
    expected = {
        "coexistence": float((it.diagonal() - 1.5).square().mean()),
        "coherence": sum(mean_square(c * different, target * different) for c in (ii, it, tt)),
        "consistency": sum(mean_square(it, other) for other in (ii, tt, it.T))
        + mean_square(ii, tt),
    }
    expected["loss"] = expected["coexistence"] + expected["coherence"]
    expected["loss"] += 0.5 * expected["consistency"]
    terms = model.loss(out, data)
    # neighbours are searched in float32
    assert {name: float(v) for name, v in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_coherence_of_some_rows_is_a_block_of_the_whole():
    data = graph_for(DGCPN)
    found = neighbour_rows(data, k=7, text_share=0.4)
    whole = dense_coherence(data, 7, 0.4)[1]
    batch = torch.tensor([5, 40, 0, 17])
    torch.testing.assert_close(
        found.coherence(batch).double(), whole[batch][:, batch], atol=1e-5, rtol=1e-5
    )
    assert found.nearest.shape == (48, 7)
    assert neighbour_rows(data, k=100, text_share=0.4).nearest.shape == (48, 16)


def test_few_pairs_are_not_all_neighbours():
    """Of 50 pairs, 49 neighbours each ask for one code."""
    data = SyntheticCrossModal(100, num_queries=50)[0]
    found = recipe("dgcpn", num_bits=16)
    data = found.transforms(data)
    model = found.model(data)
    found.fit(model, data, progress=False)
    scores = evaluate(model, data)
    assert min(scores.i2t, scores.t2i) > 0.85


def test_neighbours_of_dgcpn_with_one_modality_are_those_of_its_cosine():
    data = graph_for(DGCPN)
    rows = data["image"].train_mask.nonzero().flatten()
    for share, m in ((0.0, "image"), (1.0, "text")):
        ours = neighbour_rows(data, k=5, text_share=share).nearest
        chosen = torch.zeros(len(rows), len(rows)).scatter_(1, ours, 1.0)
        everybody = torch.ones(len(rows), dtype=torch.bool)
        assert torch.equal(chosen.double(), neighbours(data[m].x[rows], 5, everybody))


def test_steps_of_dgcpn_are_half_real_and_half_binary():
    data = graph_for(DGCPN)
    model = model_for(DGCPN, data, batch_size=1000, dropout=0.0)
    steps = model.objectives(data, 0)
    encoders = {m: list(model.encoders[m].parameters()) for m in ("image", "text")}
    reached = []
    for terms, part in steps:
        assert part == "model"
        model.zero_grad()
        terms["loss"].backward()
        reached.append([m for m in encoders if all(p.grad is not None for p in encoders[m])])
    assert reached == [["image", "text"], ["image"], ["text"]]


def test_binary_steps_see_signs():
    """With nothing learned between the steps, the second is the loss of signs of texts."""
    data = graph_for(DGCPN)
    model = model_for(DGCPN, data, batch_size=1000, dropout=0.0)
    torch.manual_seed(0)
    found = [float(terms["loss"].detach()) for terms, _ in model.objectives(data, 0)]
    out = model.eval()(data)
    signs = {m: torch.where(out[m] >= 0, 1.0, -1.0) for m in ("image", "text")}
    wanted = [
        out,
        HashOutput(out.image, signs["text"]),
        HashOutput(signs["image"], out.text),
    ]
    expected = [float(model.loss(each, data)["loss"].detach()) for each in wanted]
    assert found == pytest.approx(expected, rel=1e-4)


@every_model
@torch.no_grad()
def test_loss_is_the_mean_over_batches_in_order(kind):
    data = graph_for(kind)
    model = model_for(kind, data, batch_size=47).eval()  # the last row joins the batch before
    out = model(data)
    whole = model_for(kind, data, batch_size=1000).eval().loss(out, data)
    assert float(model.loss(out, data)["loss"]) == pytest.approx(float(whole["loss"]))
    model = model_for(kind, data, batch_size=24).eval()
    halves = []
    for half in (slice(0, 24), slice(24, 48)):
        part = data.clone()
        mask = torch.zeros(60, dtype=torch.bool)
        mask[data["image"].train_mask.nonzero().flatten()[half]] = True
        if kind is not DGCPN:  # whose neighbours are those of all training rows
            for m in ("image", "text"):
                part[m].train_mask = mask
            halves.append(float(model.loss(out, part)["loss"]))
    if halves:
        assert float(model.loss(out, data)["loss"]) == pytest.approx(sum(halves) / 2)


@every_model
def test_the_annealing(kind):
    data = graph_for(kind)
    model = model_for(kind, data).eval()
    before = model.encoders["image"](data["image"].x)
    next(iter(model.objectives(data, 3)))
    steep = 1.0 if kind is DGCPN else 2.0
    torch.testing.assert_close(model.relaxed(data["image"].x, "image"), torch.tanh(steep * before))
    model.reset_parameters()
    assert float(model.beta) == 1.0


@every_model
def test_labels_are_not_needed_and_it_learns(kind):
    data = graph_for(kind, rate=None, noise=0.5)
    labels = {m: data[m].y for m in ("image", "text")}
    for m in labels:
        del data[m].y, data[m].labeled_mask
    model = model_for(kind, data)
    fit(model, data, torch.optim.Adam(model.parameters(), lr=5e-3), epochs=30, progress=False)
    for m in labels:
        data[m].y = labels[m]
    result = evaluate(model, data)
    assert min(result.i2t, result.t2i) > 0.4  # chance is .25


@every_model
def test_bad_data(kind):
    data = toy_data()
    model = model_for(kind, data)
    for count in (0, 1):
        few = data.clone()
        for m in ("image", "text"):
            few[m].train_mask = torch.arange(60) < count
        with pytest.raises(ValueError, match=f"train_mask: selects {count} nodes"):
            next(iter(model.objectives(few, 0)))
    data["text"].x[3, 0] = float("nan")
    with pytest.raises(ValueError, match="'text'.*1 of 48 rows contain NaN"):
        next(iter(model.objectives(data, 0)))
    with pytest.raises(ValueError, match="num_features is 9"):
        next(iter(kind((9, 9), 8).objectives(data, 0)))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DJSRH, {"beta": 1.5}, "beta"),
        (DJSRH, {"eta": -0.1}, "eta"),
        (DJSRH, {"mu": -1.0}, "mu"),
        (JDSH, {"alpha": -1.0}, "alpha"),
        (JDSH, {"lambda_": float("nan")}, "lambda_"),
        (DGCPN, {"k": 0}, "k"),
        (DGCPN, {"a1": 2.0}, "a1"),
        (DGCPN, {"consistency": -1.0}, "consistency"),
        (DGCPN, {"batch_size": 1}, "batch_size: a batch of one"),
    ],
)
def test_bad_arguments(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind((12, 9), 8, **options)


def test_the_warning_of_features_that_hardly_differ_names_what_helps():
    """The default centres images alone; no factor tells texts of a mean cosine of .96 apart."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 20
    x = [
        (
            torch.randn(w, generator=draw).abs() * 3
            + 0.5 * torch.randn(20, w, generator=draw)[y]
            + 0.4 * torch.randn(240, w, generator=draw)
        ).relu()
        for w in (96, 64)
    ]
    splits = {"train": torch.arange(180), "query": torch.arange(180, 240)}
    found = {}
    for center in (("image",), ("image", "text")):
        made = recipe("djsrh", num_bits=16, epochs=20, scaling={"center": center})
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            data = made.transforms(build_hetero(*x, y=y, **splits))
            torch.manual_seed(0)
            model = made.model(data)
            made.fit(model, data, progress=False)
            found[center] = evaluate(model, data)
        helps = any("--scaling.center=[image,text]" in str(w.message) for w in said)
        assert helps == (center == ("image",))
    less, both = found.values()
    assert both.cross_modal > 0.8 > 0.3 > less.cross_modal


@pytest.mark.parametrize("kind", [DJSRH, JDSH])
def test_a_default_that_would_make_all_codes_equal_is_lowered(kind):
    data = toy_data()
    model = kind({m: data[m].num_features for m in ("image", "text")}, 8)
    default = 9.0 if kind is DJSRH else 4.8
    assert model._factor(data) == default  # nothing changes where cosines are low
    for m in ("image", "text"):
        data[m].x = data[m].x + 5.0
    rows = data["image"].train_mask
    x = {m: torch.nn.functional.normalize(data[m].x[rows].double()) for m in ("image", "text")}
    different = ~torch.eye(len(x["image"]), dtype=torch.bool)
    means = {m: float((rows @ rows.T)[different].mean()) for m, rows in x.items()}
    shares = (0.2, 0.8) if kind is DJSRH else (0.02, 0.8)
    mean = shares[0] * means["image"] + shares[1] * means["text"]
    with pytest.warns(OddDataWarning, match="mu: the default .* would make all codes equal"):
        assert model._factor(data) == pytest.approx(0.5 / mean)
    given = kind({m: data[m].num_features for m in ("image", "text")}, 8, mu=default)
    assert given._factor(data) == default
