"""SGCH against its equations, written densely in float64."""

import oracles
import pytest
import torch
import torch.nn.functional as F
from sgch_cases import sgch, sgch_graph

from pyg_hash.typing import MODALITIES

WEIGHTS = {"balance": 0.7, "quantization": 0.3, "pairing": 0.5, "adversarial": 0.2, "view": 0.0}


def parameters(model):
    return {name: p.detach().double() for name, p in model.state_dict().items()}


def weights_of_eq_1(data, m, anchors):
    store = data[m]
    x = F.normalize(store.x.double(), dim=1)
    is_anchor = store.train_mask | (anchors == "all")
    near = oracles.neighbours(store.x, 5, is_anchor)
    between = is_anchor[:, None] & is_anchor[None, :]
    near = torch.where(between, torch.maximum(near, near.T), near)
    y = (F.one_hot(store.y, 4) if store.y.dim() == 1 else store.y).double()
    labelled = store.labeled_mask
    both = labelled[:, None] & labelled[None, :]
    return torch.where(both, y @ y.T, 0.1 * near * (x @ x.T).clamp(min=0))


def reference_codes(model, data, anchors):
    p = parameters(model)
    codes = {}
    for m in MODALITIES:
        weight = weights_of_eq_1(data, m, anchors)
        operator = oracles.normalise(oracles.add_loops(weight, "clean"))
        x = data[m].x.double()
        for layer in ("conv1", "conv2"):
            x = torch.tanh(operator @ x @ p[f"channels.{m}.{layer}.lin.weight"].T)
        codes[m] = torch.tanh(x @ p["hash.lin.weight"].T + p["hash.lin.bias"])
    return codes


def reference_terms(model, data, codes):
    p = parameters(model)
    summed = model.reduction == "sum"
    store = data["image"]
    y = store.y[store.labeled_mask]
    similar = oracles.same_label(y, model.config["match"])
    image, text = (codes[m][store.labeled_mask] for m in MODALITIES)
    pairs = len(y) ** 2
    if model.config["similarity"] == "nll":
        omega = 0.5 * image @ text.T
        total = (torch.log1p(omega.exp()) - similar * omega).sum()
        terms = {"similarity": total / (1 if summed else pairs)}
    else:
        total = -((2 * similar - 1) * (image @ text.T)).sum()
        terms = {"similarity": total / (1 if summed else pairs * model.num_bits)}
    train = {m: codes[m][store.train_mask] for m in MODALITIES}
    seen = {m: codes[m][store.anchor_mask] for m in MODALITIES}
    size = train["image"].numel()
    terms["balance"] = sum((h.sum(0) ** 2).sum() for h in train.values())
    terms["quantization"] = sum(((h.sign() - h) ** 2).sum() for h in seen.values())
    terms["pairing"] = ((train["image"] - train["text"]) ** 2).sum()
    if not summed:
        terms["balance"] = terms["balance"] / (size * len(train["image"]))
        terms["quantization"] = terms["quantization"] / seen["image"].numel()
        terms["pairing"] = terms["pairing"] / size
    if model.variant == "full":
        swapped = {"image": 0, "text": 1} if model.alternates else {"image": 1, "text": 0}
        terms["adversarial"] = 0
        for m in MODALITIES:
            h = seen[m]
            for layer in range(3):
                name = f"discriminator.lins.{layer}"
                h = h @ p[f"{name}.weight"].T + p[f"{name}.bias"]
            terms["adversarial"] = terms["adversarial"] - h.log_softmax(1)[:, swapped[m]].mean()
    return terms


@pytest.mark.parametrize("anchors", ["train", "all"])
@pytest.mark.parametrize("labels", ["single", "shared", "equal"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"similarity": "linear"},
        {"similarity": "linear", "reduction": "sum"},
        {"adversary": "reversal"},
        {"variant": "v1", "reduction": "sum"},
    ],
)
def test_forward_and_loss_equal_the_equations(anchors, labels, options):
    match = "equal" if labels == "equal" else "shared"
    data = sgch_graph("paper", anchors, multi_label=labels != "single")
    model = sgch(data, match=match, weights=WEIGHTS, **options).double()
    for m in MODALITIES:
        data[m].x = data[m].x.double()
        edges = data[m, "intra", m]
        edges.edge_weight = edges.edge_weight.double()
        near = data[m, "nearest", m]
        near.edge_weight = near.edge_weight.double()
        data[m].self_loop = data[m].self_loop.double()
    out = model(data)
    codes = reference_codes(model, data, anchors)
    for m in MODALITIES:  # edge weights were float32 once
        torch.testing.assert_close(out[m], codes[m], rtol=0, atol=1e-6)
    terms = model.loss(out, data)
    dense = {m: codes[m].requires_grad_() for m in MODALITIES}
    expected = reference_terms(model, data, dense)
    assert terms.keys() == expected.keys() | {"loss"}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6, msg=name)
    total = sum(WEIGHTS.get(n, 1.0) * v for n, v in expected.items())
    torch.testing.assert_close(terms["loss"], total, rtol=1e-5, atol=1e-6)
    got = torch.autograd.grad(terms["loss"], (out.image, out.text))
    if options.get("adversary") == "reversal":  # the codes ascend this term
        total = total - 2 * WEIGHTS["adversarial"] * expected["adversarial"]
    wanted = torch.autograd.grad(total, (dense["image"], dense["text"]))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reading", ["paper", "code"])
def test_the_view_is_the_loss_of_labelled_nodes_as_new_items(reading):
    """Each labelled node out of the graph, joined to its nearest anchors but itself."""
    data = sgch_graph(reading, scale=False)
    model = sgch(data)
    out = model.train()(data)
    p = parameters(model)
    messages = {}
    with torch.no_grad():
        model.eval()(data, messages)
    model.train()
    store = data["image"]
    known = store.labeled_mask
    allowed = store.train_mask & (known | (reading == "paper"))
    view = {}
    for m in MODALITIES:
        unit = F.normalize(data[m].x.double(), dim=1)
        near = oracles.neighbours(data[m].x, 5, allowed)
        if reading == "paper":
            near = near * (unit @ unit.T).clamp(min=0)
        near = 0.1 * near[known]
        scale = (1 + near.sum(1, keepdim=True)).rsqrt()
        z = data[m].x[known].double()
        for layer, name in enumerate(("conv1", "conv2")):
            own = z @ p[f"channels.{m}.{name}.lin.weight"].T
            z = torch.tanh(scale * (near @ messages[m][layer].double() + scale * own))
        view[m] = torch.tanh(z @ p["hash.lin.weight"].T + p["hash.lin.bias"])
        torch.testing.assert_close(out.aux[f"{m}_view"].double(), view[m], rtol=0, atol=2e-6)
    similar = oracles.same_label(store.y[known], "shared")
    codes = {m: out[m][known].double() for m in MODALITIES}

    def nll(a, b):
        omega = 0.5 * a @ b.T
        return (torch.log1p(omega.exp()) - similar * omega).mean()

    expected = 0.5 * nll(view["image"], codes["text"]) + 0.5 * nll(codes["image"], view["text"])
    for m in MODALITIES:
        expected = (
            expected + model.weights["quantization"] * ((view[m].sign() - view[m]) ** 2).mean()
        )
    got = model.loss(out, data)["view"]
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
