"""GCH as its paper and its released program have it, against small dense references."""

import pytest
import torch
import torch.nn.functional as F
from small import NUM_CLASSES, adam, assert_same_state, graph_for
from torch import nn
from toy import toy_data

from pyg_hash.models import GCH
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES

SMALL = {"num_bits": 6, "hidden_channels": 10, "dropout": 0.0}
PAPER = {
    "network": "paper",
    "beacon": {"channels": 9, "activation": "sigmoid", "guided": False},
    "passes": {"label": 1},
}
PROGRAM = {
    "network": "program",
    "objective": "program",
    "likelihood": "squared_nll",
    "beacon": {"channels": 9, "add_self_loops": False, "guided": False, "grad": True},
    "passes": {"label": "7 steps", "image": "2 steps", "text": "3 steps", "gcn": "4 steps"},
    "batch_size": 8,
}


def gch(data, **kwargs):
    torch.manual_seed(0)
    return GCH(data.num_features, NUM_CLASSES, **{**SMALL, **kwargs})


def labelled(data):
    """Features and multi-hot labels of the labelled rows."""
    rows = data["image"].labeled_mask
    labels = F.one_hot(data["image"].y[rows], NUM_CLASSES).float()
    return {m: data[m].x[rows] for m in MODALITIES}, labels


def squared_nll(a, a_y, b, b_y):
    theta = a @ b.T
    share = 0.999 * ((a_y @ b_y.T) > 0)
    return (share * theta - torch.log1p(theta.exp())).square().mean()


def mse(a, b):
    return (a - b).square().mean()


def fused(x, y):
    """The program's fusion: each modality is weighted by its products with the other."""
    w = y @ x.T
    return 0.5 * (w / w.max() @ x + w.T / w.max() @ y)


def test_the_papers_network_standardises_nothing():
    data = graph_for(GCH)
    model = gch(data, **PAPER).train()
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in model.modules())
    assert not model.gcn.standardised
    assert [len(model.encoders[m].layers) for m in MODALITIES] == [1, 3]
    known, labels = labelled(data)
    features = {}
    for m in MODALITIES:
        features[m] = known[m]
        for layer in model.encoders[m].layers:
            features[m] = F.leaky_relu(layer(features[m]), 0.2)
    out = model(data)
    rows = data["image"].labeled_mask
    assert torch.allclose(out.image[rows], model.encoders["image"].hash(features["image"]))
    graph = labels @ labels.T + torch.eye(len(labels))
    graph = graph / (graph.sum(0)[:, None] * graph.sum(0)[None]).sqrt()
    h = (graph @ model.gcn.lin(fused(features["image"], features["text"]))).relu()
    codes = model.gcn(features["image"], features["text"], labels)[0]
    assert torch.allclose(codes, (graph @ model.gcn.hash(h)).sigmoid(), atol=1e-5)
    # Eq. 8 as printed pairs them with themselves
    theta = 0.5 * codes @ codes.T
    want = (torch.log1p(theta.exp()) - (labels @ labels.T) * theta).mean()
    assert model.loss(out, data)["gcn_pairwise"].item() == pytest.approx(want.item(), rel=1e-5)


@pytest.mark.parametrize("network", ["ours", "paper"])
def test_standardised_fusion_is_an_option_of_its_own(network):
    assert gch(toy_data(), network=network).gcn.standardised == (network == "ours")
    other = {"standardised": network == "paper"}
    assert gch(toy_data(), network=network, beacon=other).gcn.standardised == (network == "paper")


def test_the_programs_network():
    data = graph_for(GCH)
    model = gch(data, **PROGRAM).train()
    known, labels = labelled(data)

    def standardised(x):
        return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()

    def hidden(encoder, x):
        for layer in encoder.layers:
            x = F.leaky_relu(standardised(layer(x)), 0.2)
        return x

    teacher, (image, text) = model.teacher, (model.encoders[m] for m in MODALITIES)
    assert [len(e.layers) for e in (teacher, image, text)] == [2, 1, 3]
    made = teacher(labels)
    codes = torch.tanh(teacher.hash.lin(hidden(teacher, labels)))
    assert torch.allclose(made.codes, codes, atol=1e-4)
    assert torch.allclose(made.logits, teacher.classifier(made.codes))
    for encoder, m, norm in ((image, "image", standardised), (text, "text", lambda x: x)):
        made, features = encoder(known[m]), hidden(encoder, known[m])
        assert torch.allclose(made.codes, norm(encoder.hash.lin(features)).tanh(), atol=1e-3)
        assert torch.allclose(made.logits, encoder.classifier(features), atol=1e-3)
    codes, logits = model.gcn(
        known["image"][:, :1].expand(-1, 10), torch.ones(len(labels), 10), labels
    )
    assert torch.equal(logits, model.gcn.classifier(codes))
    assert model.gcn.classifier.bias is not None and model.gcn.lin.bias is None


def test_the_program_draws_from_a_normal_distribution():
    backbone = nn.Sequential(nn.Linear(5, 12))
    start = backbone[0].weight.clone()
    torch.manual_seed(0)
    model = GCH((12, 9), NUM_CLASSES, hidden_channels=64, network="program", image_encoder=backbone)
    assert torch.equal(backbone[0].weight, start)
    for _ in range(2):
        for layer in (model.teacher.layers[1], model.encoders["text"].layers[2], model.gcn.lin):
            assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.1)
            assert layer.weight.std().item() == pytest.approx(1.0, abs=0.1)
        before = model.gcn.lin.weight.clone()
        model.reset_parameters()
        assert not torch.equal(model.gcn.lin.weight, before)


def test_order_and_number_of_the_programs_steps():
    data = graph_for(GCH)
    model = gch(data, **PROGRAM)
    first, second = {"guide", "prediction"}, {"guide", "beacon"}
    pairs = {"pairwise", "prediction"}
    turns = [("label", 7, pairs), ("text", 3, first), ("image", 2, first)]
    turns += [("gcn", 4, pairs), ("text", 3, second), ("image", 2, second)]
    got = [(part, set(terms) - {"loss"}) for terms, part in model.objectives(data, 0)]
    assert got == [(part, names) for part, steps, names in turns for _ in range(steps)]


@pytest.mark.parametrize("epoch", [0, 1])
def test_terms_of_the_program(epoch):
    """Step after step, with steps of SGD between, against the program's formulas."""
    data = graph_for(GCH)
    known, labels = labelled(data)
    n = len(labels)
    model = gch(data, **PROGRAM | {"network": "paper"})
    optimizers = {part: torch.optim.SGD(p, lr=0.1) for part, p in model.parts().items()}
    steps = model.objectives(data, epoch)
    torch.manual_seed(1)
    theirs = torch.get_rng_state()
    bank = torch.randn(n, 6) if epoch == 0 else model.teacher(labels).codes.detach()
    state = torch.get_rng_state()

    def batch():
        nonlocal state
        torch.set_rng_state(state)
        b = torch.randperm(n)[:8]
        state = torch.get_rng_state()
        return b

    def compare(part, want):
        """Value and gradients of a step; then the step. Both draw from generators of their own."""
        nonlocal theirs
        torch.set_rng_state(theirs)
        terms, got = next(steps)
        theirs = torch.get_rng_state()
        assert got == part
        assert terms.keys() == want.keys() | {"loss"}
        for name, value in want.items():
            assert terms[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name
        parameters = model.parts()[part]
        gradients = [
            torch.autograd.grad(loss, parameters, allow_unused=True)
            for loss in (terms["loss"], sum(want.values()))
        ]
        for p, one, two in zip(parameters, *gradients, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                assert torch.allclose(one, two, rtol=1e-3, atol=1e-5)
                p.grad = one
        optimizers[part].step()
        optimizers[part].zero_grad()

    for _ in range(7):
        b = batch()
        made = model.teacher(labels[b])
        pair = squared_nll(bank, labels, made.codes, labels[b])
        compare("label", {"pairwise": pair, "prediction": mse(made.logits.sigmoid(), labels[b])})
        bank[b] = model.teacher(labels[b]).codes.detach()
    signs = torch.where(bank >= 0, 1.0, -1.0)
    for m, number in (("text", 3), ("image", 2)):
        for _ in range(number):
            b = batch()
            own = model.encoders[m](known[m][b])
            prediction = mse(own.logits.sigmoid(), labels[b])
            compare(m, {"guide": mse(own.codes, signs[b]), "prediction": prediction})

    def beacon(features, b):
        graph = labels[b] @ labels[b].T
        graph = graph / (graph.sum(0)[:, None] * graph.sum(0)[None]).sqrt()
        h = (graph @ model.gcn.lin(fused(features["image"], features["text"]))).relu()
        return torch.tanh(graph @ model.gcn.hash(h)), graph @ model.gcn.classifier(h)

    for _ in range(4):
        b = batch()
        features = {m: model.encoders[m](known[m][b]).features.detach() for m in MODALITIES}
        codes, logits = beacon(features, b)
        pair = squared_nll(codes, labels[b], codes, labels[b])
        twice = logits.sigmoid().sigmoid()
        entropy = -(labels[b] * twice.log() + (1 - labels[b]) * (1 - twice).log()).mean()
        compare("gcn", {"pairwise": pair, "prediction": entropy})
    torch.set_rng_state(state)
    torch.randperm(n)  # for the beacons of all rows, which an encoder that moves them needs not
    state = torch.get_rng_state()
    for m, number in (("text", 3), ("image", 2)):
        for _ in range(number):
            b = batch()
            made = {k: model.encoders[k](known[k][b]) for k in MODALITIES}
            features = {k: e.features if k == m else e.features.detach() for k, e in made.items()}
            codes = beacon(features, b)[0]  # not detached: it moves with the encoder
            want = {"guide": mse(made[m].codes, signs[b]), "beacon": mse(made[m].codes, codes)}
            compare(m, want)
    assert next(steps, None) is None


@pytest.mark.parametrize("variant", ["full", "GCH-A", "Try1", "Try2"])
@pytest.mark.parametrize("options", [PAPER, PROGRAM])
def test_trained_saved_and_loaded(variant, options, tmp_path):
    data = graph_for(GCH, multi_label=True)
    model = gch(data, variant=variant, **options)
    history = fit(model, data, adam(model), epochs=3, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]
    names = {name.split("_", 1)[1] for name in history[0] if "_" in name}
    assert ("alignment" in names) == (variant == "Try2")
    assert ("image_pairwise" in history[0]) == (options is PAPER or variant == "Try1")
    model.save(tmp_path)
    again = GCH.load(tmp_path)
    assert_same_state(model, again)
    assert again.config == model.config
    for m in MODALITIES:
        assert torch.equal(again.encode(data, m), model.encode(data, m))


@pytest.mark.parametrize("options", [PAPER, PROGRAM])
def test_loss_is_the_sum_of_the_last_objectives(options):
    """One batch of all rows; the bank of :meth:`loss` holds the codes as they are."""
    data = graph_for(GCH)
    passes = {"label": 1, "image": 1, "text": 1, "gcn": 1}
    model = gch(data, **options | {"passes": passes, "batch_size": 1000}).eval()
    last = {part: terms["loss"].item() for terms, part in model.objectives(data, 1)}
    assert model.loss(model(data), data)["loss"].item() == pytest.approx(sum(last.values()))


def test_the_program_in_several_shares():
    """Two batches a step: each share keeps its own bank, and the steps stay as many."""
    data = graph_for(GCH)
    histories = []
    for _ in range(2):
        model = gch(data, **PROGRAM)
        torch.manual_seed(3)
        histories.append(fit(model, data, adam(model), epochs=1, accumulate=2, progress=False))
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"network": "cnn"}, "network"),
        ({"objective": "code"}, "objective"),
        ({"passes": {"label": "0 steps"}}, r"passes\['label'\]"),
    ],
)
def test_bad_settings(change, match):
    with pytest.raises(ValueError, match=match):
        gch(toy_data(), **change)


@pytest.mark.parametrize("passes", ["many", "3", 2.0])
def test_passes_of_another_form(passes):
    with pytest.raises(TypeError, match=r"passes\['gcn'\]"):
        gch(toy_data(), passes={"gcn": passes})
