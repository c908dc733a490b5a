"""TaughtHash: terms in dense float64, what its teacher says and reads, and without labels."""

import copy
import math
from functools import partial

import pytest
import torch
from small import NUM_CLASSES, adam, assert_same_state, graph_for, model_for
from torch_geometric.testing import withCUDA
from toy import toy_data

import pyg_hash.models.taught as taught
from pyg_hash.metrics import evaluate
from pyg_hash.models import TaughtHash
from pyg_hash.models.batches import Share
from pyg_hash.recipes import recipe
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate
from pyg_hash.typing import MODALITIES, HashOutput, other

TERMS = ("pairwise", "contrast", "quantization", "balance")
labels_of_both_kinds = pytest.mark.parametrize("multi_label", [False, True])


def made(data, **options):
    return model_for(TaughtHash, data, **{"hidden_channels": 12, **options})


def double(data):
    data = copy.copy(data)
    for m in MODALITIES:
        data[m].x = data[m].x.double()
    return data


def without_labels(data):
    data = copy.copy(data)
    for m in MODALITIES:
        del data[m].y, data[m].labeled_mask
    return data


def poisoned(data, key, mask):
    """A copy whose rows under a mask nobody can read unpunished."""
    data = copy.copy(data)
    for m in MODALITIES:
        values = data[m][key].clone()
        values[mask] = math.nan if values.is_floating_point() else 10**9
        data[m][key] = values
    return data


def unlabelled(data):
    """Which training pairs show no label."""
    return ~data["image"].labeled_mask[data["image"].train_mask]


def dense(live, against, own, told, used, exclusive, temperature):
    """The terms of some codes against the other side of all pairs, whole matrices in float64.

    ``exclusive`` None: ``told`` are directions.
    """
    live, against, told = live.double(), against.double(), told.double()
    p, q = told[own], told
    j = p @ q.T if exclusive else 1 - (1 - p[:, None] * q[None]).prod(2)
    omega = 0.5 * live @ against.T
    cost = torch.logaddexp(omega, torch.zeros_like(omega)) - j * omega
    some = used[own]
    cosine = partial(torch.nn.functional.cosine_similarity, dim=2)
    within = torch.zeros(len(own), len(own)).double()
    if exclusive is None:
        cost = (taught.ALPHA * p @ q.T - cosine(live[:, None], against[None])).square()
        within = (taught.ALPHA * p @ p.T - cosine(live[:, None], live[None])).square()
    pairwise = cost[some][:, used].mean() + taught.WITHIN * within[some][:, some].mean()
    cosines = torch.nn.functional.cosine_similarity(live[:, None], against[None], dim=2)
    rows = torch.arange(len(own))
    ratio = torch.softmax(cosines / temperature, 1)[rows, own]
    return {
        "pairwise": pairwise if some.any() else torch.zeros(()).double(),
        "contrast": -ratio.log().mean(),
        "quantization": (live.sign() - live).square().mean(),
        "balance": live.mean(0).square().mean(),
    }


def total(terms, weights):
    return sum(weights[name] * terms[name] for name in TERMS)


# --- the objective --------------------------------------------------------------------------------


@labels_of_both_kinds
@pytest.mark.parametrize(("teacher", "rate"), [("joint", 0.5), ("none", 0.5), ("joint", 0.0)])
def test_loss_is_the_dense_formula(multi_label, teacher, rate):
    data = double(graph_for(TaughtHash, rate=rate, multi_label=multi_label))
    weights = {"contrast": 0.7, "quantization": 0.3, "balance": 0.2}
    model = made(data, teacher=teacher, weights=weights, temperature=0.4).double().eval()
    view = model.training_view(data)
    out, rows = model(data), data["image"].train_mask.nonzero().flatten()
    told, own = model.posterior(data), torch.arange(len(rows))
    used = ~unlabelled(data) if teacher == "none" else torch.ones(len(rows), dtype=torch.bool)
    exclusive = None if rate == 0 else not multi_label
    halves = [
        dense(out[m][rows], out[other(m)][rows], own, told, used, exclusive, 0.4)
        for m in MODALITIES
    ]
    expected = {name: 0.5 * (halves[0][name] + halves[1][name]) for name in TERMS}
    if rate == 0:  # codes of length 1, taken as long as signs
        both = [model.num_bits**0.5 * out[m][rows] for m in MODALITIES]
        expected["quantization"] = 0.5 * sum((y.sign() - y).square().mean() for y in both)
        expected["balance"] = 0.5 * sum(y.mean(0).square().mean() for y in both)
    expected["loss"] = total(expected, {"pairwise": 1.0, **weights})
    for given in (data, view):
        terms = model.loss(out, given)
        assert set(terms) == {*TERMS, "loss"}
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value, msg=name)


@labels_of_both_kinds
@pytest.mark.parametrize(("teacher", "bank"), [("joint", 10), ("none", 2048)])
def test_a_step_is_a_batch_against_the_other_side_of_a_bank(
    multi_label, teacher, bank, monkeypatch
):
    monkeypatch.setattr(taught, "BANK", bank)
    data = double(graph_for(TaughtHash, multi_label=multi_label))
    model = made(data, teacher=teacher, dropout=0.0, batch_size=7).double()
    view = model.training_view(data)
    rows, told = data["image"].train_mask.nonzero().flatten(), model.posterior(data)
    used = ~unlabelled(data) if teacher == "none" else torch.ones(len(rows), dtype=torch.bool)
    torch.manual_seed(0)
    drawn, batch = torch.randperm(len(rows))[:bank].tolist(), torch.randperm(len(rows))[:7].tolist()
    places = torch.tensor(batch + [i for i in drawn if i not in batch])
    torch.manual_seed(0)
    first = next(iter(model.objectives(view, 0)))
    assert first.part == "image"
    out = model(data)
    against = out.text[rows[places]].detach()  # constants
    expected = dense(
        out.image[rows[batch]],
        against,
        torch.arange(7),
        told[places],
        used[places],
        not multi_label,
        model.temperature,
    )
    for name, value in expected.items():
        torch.testing.assert_close(first.terms[name], value, msg=name)
    parameters = model.parts()["image"]
    ours = torch.autograd.grad(first.terms["loss"], parameters)
    wanted = torch.autograd.grad(total(expected, model.weights), parameters)
    torch.testing.assert_close(ours, wanted)


def test_an_epoch_is_the_images_then_the_texts():
    data = graph_for(TaughtHash)
    model = made(data, batch_size=10)
    count = math.ceil(int(data["image"].train_mask.sum()) / 10)
    view = model.training_view(data)
    parts = [part for _, part in model.objectives(view, 0)]
    assert parts == ["image"] * count + ["text"] * count
    halves = [list(model.objectives(view, 0, Share(place, 2, seed=1))) for place in (0, 1)]
    assert [len(half) for half in halves] == [2 * math.ceil(count / 2)] * 2


def test_shares_are_the_batches_of_an_epoch(monkeypatch):
    monkeypatch.setattr(taught, "BANK", 20)
    data = graph_for(TaughtHash)
    model = made(data, dropout=0.0, batch_size=8).eval()
    view = model.training_view(data)

    def losses(share):
        return [float(terms["loss"].detach()) for terms, _ in model.objectives(view, 0, share)]

    whole = losses(Share(seed=3))
    first, second = (losses(Share(place, 2, seed=3)) for place in (0, 1))
    assert [x for pair in zip(first, second, strict=True) for x in pair] == whole


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_weight_0_is_not_computed(name, monkeypatch):
    def never(*_, **__):
        raise AssertionError(name)

    losses = {"pairwise": "expected_pairwise_nll", "contrast": "contrastive_loss"}
    monkeypatch.setattr(taught, losses.get(name, f"{name}_loss"), never)
    data = graph_for(TaughtHash)
    model = made(data, weights={name: 0})
    view = model.training_view(data)
    for terms in (model.loss(model(data), view), next(iter(model.objectives(view, 0))).terms):
        assert set(terms) == {*TERMS, "loss"} - {name}


@labels_of_both_kinds
def test_without_a_teacher_unlabelled_pairs_have_no_part_in_the_likelihood(multi_label):
    data = graph_for(TaughtHash, multi_label=multi_label)
    model = made(data, teacher="none")
    generator = torch.Generator().manual_seed(0)
    codes = [2 * torch.rand(60, 12, generator=generator) - 1 for _ in range(2)]
    hidden = data["image"].train_mask & ~data["image"].labeled_mask
    moved = [torch.where(hidden[:, None], -c, c) for c in codes]
    before, after = (model.loss(HashOutput(*c), data) for c in (codes, moved))
    assert before["pairwise"] == after["pairwise"] and before["contrast"] != after["contrast"]


# --- the teacher ----------------------------------------------------------------------------------


@labels_of_both_kinds
def test_labels_that_are_known_stay_and_the_others_are_probabilities(multi_label):
    data = graph_for(TaughtHash, multi_label=multi_label)
    store, hidden = data["image"], unlabelled(data)
    told = made(data).posterior(data)
    assert told.shape == (48, NUM_CLASSES) and told.dtype == torch.float32
    assert not told.requires_grad
    y = store.y[store.labeled_mask]
    hot = y if multi_label else torch.nn.functional.one_hot(y, NUM_CLASSES).float()
    assert torch.equal(told[~hidden], hot)
    assert hidden.any() and ((told[hidden] >= 0) & (told[hidden] <= 1)).all()
    if not multi_label:
        torch.testing.assert_close(told.sum(1), torch.ones(48))


@labels_of_both_kinds
def test_the_teacher_is_a_sum_of_logistic_regressions(multi_label):
    """Theirs by scikit-learn, their weights by SciPy, on labels that each fold has not seen."""
    linear = pytest.importorskip("sklearn.linear_model")
    optimize = pytest.importorskip("scipy.optimize")
    data = double(graph_for(TaughtHash, rate=0.7, multi_label=multi_label))
    store, hidden = data["image"], unlabelled(data)
    sides = [data[m].x[store.train_mask] for m in MODALITIES]
    y = store.y[store.labeled_mask]
    hot = y.double() if multi_label else torch.nn.functional.one_hot(y, NUM_CLASSES).double()

    def logits(x, y, rows):
        how = {"C": 1 / taught.PENALTY, "tol": 1e-9, "max_iter": 9999}
        targets = y.T if multi_label else [y]
        found = [
            linear.LogisticRegression(**how).fit(x, t).decision_function(rows) for t in targets
        ]
        found = [torch.from_numpy(z) for z in found]
        return torch.stack(found, 1) if multi_label else found[0]

    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    fold = (torch.arange(len(y)) % taught.FOLDS)[order]
    apart = torch.zeros(2, len(y), NUM_CLASSES, dtype=torch.float64)
    for side, x in enumerate(x[~hidden] for x in sides):
        for held in (fold == k for k in range(taught.FOLDS)):
            apart[side, held] = logits(x[~held], y[~held], x[held])

    def mixed(values, given):
        weights, bias = torch.from_numpy(values).split([2, NUM_CLASSES])
        return torch.tensordot(weights, given, 1) + bias

    def cost(values):
        z = mixed(values, apart)
        if multi_label:
            nll = (torch.nn.functional.softplus(z) - hot * z).sum()
        else:
            nll = -(hot * z.log_softmax(1)).sum()
        return float(nll + 0.5 * ((values - start) ** 2).sum())

    start = torch.tensor([1.0, 1.0, *[0.0] * NUM_CLASSES]).double().numpy()  # both sides alike
    best = optimize.minimize(cost, start, tol=1e-10).x
    z = mixed(best, torch.stack([logits(x[~hidden], y, x[hidden]) for x in sides]))
    expected = z.sigmoid() if multi_label else z.softmax(1)
    told = made(data).double().posterior(data)
    assert told.dtype == torch.float64
    torch.testing.assert_close(told[hidden], expected, atol=2e-3, rtol=0)


def test_the_teacher_knows_more_than_either_side():
    data = graph_for(TaughtHash, rate=0.3, noise=1.5, num_nodes=300, num_queries=20)
    hidden, y = unlabelled(data), data["image"].y[data["image"].train_mask]

    def right(data):
        told = model_for(TaughtHash, data).posterior(data)
        return float((told.argmax(1) == y)[hidden].double().mean())

    alone = []
    for m in MODALITIES:
        one = copy.copy(data)
        one[m].x = torch.zeros_like(one[m].x)
        alone.append(right(one))
    assert right(data) > max(alone) > 1.5 / NUM_CLASSES


@labels_of_both_kinds
def test_it_reads_training_features_and_labels_under_the_mask_alone(multi_label):
    data = graph_for(TaughtHash, multi_label=multi_label)
    expected = made(data).posterior(data)
    store = data["image"]
    assert torch.equal(made(data).posterior(poisoned(data, "x", store.query_mask)), expected)
    assert torch.equal(made(data).posterior(poisoned(data, "y", ~store.labeled_mask)), expected)
    with pytest.raises(ValueError, match=r"data\['image'\].x under train_mask: .*NaN"):
        made(data).posterior(poisoned(data, "x", store.train_mask))


def test_labels_of_other_rows_than_training_ones_teach_nothing():
    data = graph_for(TaughtHash)
    expected = made(data).posterior(data)
    more = copy.copy(data)
    more["image"].labeled_mask = more["image"].labeled_mask | more["image"].query_mask
    assert torch.equal(made(data).posterior(more), expected)
    more["image"].labeled_mask = more["image"].query_mask  # no other: as without labels
    expected = made(data).posterior(graph_for(TaughtHash, rate=0.0))
    assert torch.equal(made(data).posterior(more), expected)


def test_a_labelled_row_of_zeros_counts_as_unlabelled():
    data = graph_for(TaughtHash, multi_label=True)
    store, bare = data["image"], torch.arange(60) < 10
    expected = copy.copy(data)
    for m in MODALITIES:
        data[m].y = store.y * ~bare[:, None]
        expected[m].labeled_mask = store.labeled_mask & ~bare
    for teacher in ("joint", "none"):
        mine, theirs = (made(d, teacher=teacher)._taught(d) for d in (data, expected))
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
    assert evaluate(made(data), data).num_labels == int(expected["image"].labeled_mask.sum())


def test_it_draws_nothing_and_leaves_the_data_alone():
    data = graph_for(TaughtHash)
    model, keys = made(data), set(data["image"].keys())
    torch.manual_seed(5)
    with torch.no_grad():
        view = model.training_view(data)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert set(data["image"].keys()) == keys
    assert torch.equal(view["image"][taught.POSTERIOR], model.posterior(data))
    assert all(p.grad is None for p in model.parameters())


# --- without labels -------------------------------------------------------------------------------


@withCUDA
def test_directions_of_wide_features_take_no_random_number(device):
    x = torch.randn(20, 600)
    drawn = []
    for side in (x[:0], x):
        torch.manual_seed(3)
        if len(side):
            taught.diffused_directions(side, side)
        drawn.append(torch.rand(2, device=device))
    assert torch.equal(*drawn)


def test_without_labels_pairs_are_alike_by_a_walk_on_the_graph_of_both_sides():
    raw = toy_data(noise=0.1)
    told = {}
    for name, data in (
        ("rate 0", graph_for(TaughtHash, rate=0.0, data=copy.copy(raw))),
        ("no labels", without_labels(graph_for(TaughtHash, rate=None, data=copy.copy(raw)))),
    ):
        model = TaughtHash(data.num_features, num_bits=12, hidden_channels=12)
        told[name] = model.posterior(data)
    assert torch.equal(*told.values())
    told = told["rate 0"]
    torch.testing.assert_close(told.norm(dim=1), torch.ones(48))
    together, y = told @ told.T, raw["image"].y[:48]
    same = y[:, None] == y
    assert together[same].mean() > together[~same].mean() + 0.3


def test_pairs_that_are_few_or_equal_ask_for_nothing_strange():
    data = toy_data(num_nodes=8, num_queries=5)
    model = TaughtHash(data.num_features, num_bits=12)
    for m in MODALITIES:
        data[m].labeled_mask = torch.zeros(8, dtype=torch.bool)
    assert len(model.posterior(data)) == 3 and bool(model.posterior(data).isfinite().all())
    for m in MODALITIES:
        data[m].x = torch.ones_like(data[m].x)
    assert not model.posterior(data).any()  # no two are more alike than others


def real_valued(model, data):
    """Y of the training rows, float ``[2 n, num_bits]``."""
    rows = data["image"].train_mask
    with torch.no_grad():
        return torch.cat([model.eval().encoders[m](data[m].x[rows]) for m in MODALITIES])


def test_without_labels_cosines_alone_count_and_codes_are_turned_to_their_signs():
    data = double(graph_for(TaughtHash, rate=0.0))
    model = made(data).double()
    next(iter(model.objectives(model.training_view(data), 0)))
    before = real_valued(model, data)
    model.finish(data)
    after, centred = real_valued(model, data), before - before.mean(dim=0)
    torch.testing.assert_close(after @ after.T, centred @ centred.T)

    def off(y):  # from their signs, as directions
        y = torch.nn.functional.normalize(y, dim=1) * model.num_bits**0.5
        return (y.sign() - y).square().mean()

    assert off(after) < off(centred)
    out = model(data)
    codes = out.image[data["image"].train_mask]
    both = [out[m][data["image"].train_mask] for m in MODALITIES]
    torch.testing.assert_close(model.loss(out, data)["quantization"], 0.5 * sum(map(off, both)))
    torch.testing.assert_close(codes, torch.nn.functional.normalize(after[: len(codes)]))


def test_a_loop_around_the_loss_trains_what_is_finished():
    data = graph_for(TaughtHash, rate=0.0)
    model = made(data)
    view = model.training_view(data)
    assert bool((model(view).image.norm(dim=1) - 1).abs().max() < 1e-5)
    model.loss(model(view), view)["loss"].backward()
    before = copy.deepcopy(model.state_dict())
    model.finish(view)
    assert not torch.equal(model.encoders["text"].lin2.weight, before["encoders.text.lin2.weight"])
    model.training_view(graph_for(TaughtHash))
    assert model.beta == 1


def test_encoders_of_ones_own_and_coarse_numbers_can_be_finished():
    data = graph_for(TaughtHash, rate=0.0)
    for m in MODALITIES:
        data[m].x = data[m].x.bfloat16()
    model = made(data).bfloat16()
    fit(model, data, adam(model), epochs=1, progress=False)
    assert bool(model(data).image.isfinite().all())
    model.encoders = torch.nn.ModuleDict({m: torch.nn.Identity() for m in MODALITIES})
    model.finish(data)


def test_with_labels_nothing_is_turned():
    data = graph_for(TaughtHash)
    model = made(data)
    next(iter(model.objectives(model.training_view(data), 0)))
    before = copy.deepcopy(model)
    model.finish(data)
    assert_same_state(model, before)


def test_resumed_without_labels_it_is_turned_once(tmp_path, monkeypatch):
    data, models, finished = graph_for(TaughtHash, rate=0.0), [], []
    finish = TaughtHash.finish
    monkeypatch.setattr(TaughtHash, "finish", lambda *of: (finish(*of), finished.append(of)))
    for stops in ((4,), (2, 4), (4, 4)):
        model = made(data)
        for epochs in stops:
            fit(
                model,
                data,
                adam(model),
                epochs=epochs,
                checkpoint=tmp_path / f"{stops}.safetensors",
                resume=True,
                progress=False,
            )
        models.append(model)
    assert len(finished) == 5  # once a fit
    for other_one in models[1:]:
        assert_same_state(models[0], other_one)


def test_without_labels_and_teacher_the_contrast_is_left():
    data = graph_for(TaughtHash, rate=0.0)
    model = made(data, teacher="none")
    before = copy.deepcopy(model)
    view = model.training_view(data)
    assert all(terms["pairwise"] == 0 for terms, _ in model.objectives(view, 0))
    fit(model, data, adam(model), epochs=1, progress=False)
    moved = zip(model.parameters(), before.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in moved)


# --- the model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "reached"), [(1.0, 0.7), (0.3, 0.6), (0.0, 0.4)])
def test_it_learns_the_category_and_the_thing(rate, reached):
    data = graph_for(TaughtHash, rate=rate, noise=0.5)
    # both sides of a pair have something of their own in common
    mixed = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    for m in MODALITIES:
        data[m].x = torch.cat([data[m].x, mixed], 1)
    model = made(data, num_bits=16, hidden_channels=64)
    fit(model, data, adam(model, 5e-3), epochs=30, progress=False)
    result = evaluate(model, data)
    assert min(result.i2t, result.t2i) > reached  # chance is .25
    assert result.pair_recall["t2i"][1] > 1.5 / 12


def test_data_in_double_precision():
    data = double(graph_for(TaughtHash))
    model = made(data).double()
    history = fit(model, data, adam(model), epochs=3, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_a_saved_model_holds_nothing_of_the_training_items(tmp_path):
    sizes = {}
    for count in (60, 600):
        data = graph_for(TaughtHash, num_nodes=count)
        model = made(data)
        fit(model, data, adam(model), epochs=1, progress=False)
        model.save(tmp_path / str(count))
        sizes[count] = sum(file.stat().st_size for file in (tmp_path / str(count)).iterdir())
        again = TaughtHash.load(tmp_path / str(count))
        assert_same_state(model, again)
        assert again.config == model.config
    assert abs(sizes[600] - sizes[60]) < 100  # numbers in JSON have more or fewer digits


def test_what_is_saved_says_its_weights():
    data = graph_for(TaughtHash)
    model = made(data, weights={"contrast": 0.3})
    assert model.config["weights"] == {**taught.WEIGHTS, "contrast": 0.3}
    assert TaughtHash(**model.config).weights == model.weights


def made_without_labels(way):
    """A recipe's model and data that have no labels."""
    raw = without_labels(toy_data())
    for m in MODALITIES:
        raw[m].labeled_mask = torch.zeros(60, dtype=torch.bool)
    raw.num_classes = 0
    data = way.transforms(raw)
    return way.model(data), data


def test_without_labels_a_frozen_side_is_not_turned():
    way = recipe("taughthash", label_rate=0, num_bits=8, epochs=1)
    model, data = made_without_labels(way)
    before = copy.deepcopy(model.encoders["image"].requires_grad_(False))
    way.fit(model, data, progress=False)
    assert_same_state(model.encoders["image"], before)


def test_the_recipe_trains_on_data_without_labels():
    way = recipe("taughthash", label_rate=0, num_bits=8, epochs=2)
    assert repr(way.transforms.transforms[0]) == repr(LabelRate(0))
    model, data = made_without_labels(way)
    assert len(way.fit(model, data, progress=False)) == 2
    assert evaluate(model, data).i2t is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, "num_classes: expected a whole number from 0 up, got -1"),
        ({"num_classes": True}, "num_classes"),
        ({"num_classes": 1.5}, "num_classes"),
        ({"temperature": 0.0}, "temperature"),
        ({"teacher": "both"}, "teacher: 'both' is not known; use one of 'joint', 'none'"),
        ({"weights": {"view": 1}}, "weights: there is no term 'view'"),
        ({"weights": {"balance": -1}}, r"weights\['balance'\]"),
        ({"weights": dict.fromkeys(TERMS, 0)}, "weights: all are 0"),
        ({"dropout": 2.0}, "dropout"),
        ({"batch_size": 1}, "batch_size: a batch of one"),
        ({"hidden_channels": 0}, "hidden_channels"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        TaughtHash((12, 9), **options)


def test_bad_data():
    data = graph_for(TaughtHash)
    with pytest.raises(ValueError, match="num_features is 9"):
        TaughtHash((9, 9), NUM_CLASSES).training_view(data)
    for classes in (0, NUM_CLASSES - 1):
        with pytest.raises(ValueError, match="y: class indices run from .* raise num_classes"):
            TaughtHash((12, 9), classes).training_view(data)
    bare = made(graph_for(TaughtHash, rate=0.0), teacher="none", weights={"contrast": 0})
    with pytest.raises(ValueError, match="weights: nothing ties the two sides"):
        bare.training_view(graph_for(TaughtHash, rate=0.0))
    for m in MODALITIES:
        data[m].train_mask = data[m].labeled_mask = torch.arange(60) == 3
    model = made(data)
    with pytest.raises(ValueError, match="train_mask: selects 1 nodes, which make no two pairs"):
        model.training_view(data)


def test_a_view_that_is_refused_changes_nothing():
    data = graph_for(TaughtHash)
    model = model_for(TaughtHash, data, weights={"contrast": 0.0}, teacher="none")
    model.training_view(data)
    before = model.digest()
    with pytest.raises(ValueError, match="nothing ties"):
        model.training_view(LabelRate(0.0)(data))
    assert model.digest() == before
    with torch.inference_mode():
        TaughtHash((12, 9), 0, 8).training_view(LabelRate(0.0)(graph_for(TaughtHash)))
