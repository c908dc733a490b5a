"""MCGCN against the paper's equations, written densely in float64."""

import pytest
import torch
import torch.nn.functional as F
from oracles import dense_intra, dense_joint, same_label
from small import PROTOCOLS, small_graph, small_model

from pyg_hash.typing import MODALITIES

WEIGHTS = {
    "quantization": 1.0,
    "balance": 0.1,
    "prediction": 1000.0,
    "reconstruction": 0.01,
    "adversarial": 1.0,
    "pairing": 0.7,
    "view": 0.0,
}


def parameters(model):
    return {name: p.detach().double() for name, p in model.state_dict().items()}


def channel(p, name, operator, x):
    """Eq. 3: two layers of tanh(A X W)."""
    for layer in ("conv1", "conv2"):
        x = torch.tanh(operator @ x @ p[f"{name}.{layer}.lin.weight"].T)
    return x


def reference_codes(model, data, protocol, match):
    """Eq. 1-5 for every variant; also the latent features."""
    p = parameters(model)
    k = data.graph["k"]
    x = {m: data[m].x.double() for m in MODALITIES}
    specific, shared, latent = {}, {}, {}
    for m in MODALITIES:
        if model.variant != "IT":
            operator = dense_intra(data, m, k, PROTOCOLS[protocol][0], "clean", match)
            specific[m] = channel(p, f"channels.{m}", operator, x[m])
        if model.variant != "S":
            name = f"autoencoders.{m}.encoder"
            latent[m] = F.relu(x[m] @ p[f"{name}.weight"].T + p[f"{name}.bias"])
    if model.variant != "S":
        joint = dense_joint(data, k, PROTOCOLS[protocol], "clean", match, "all")
        both = channel(p, "cross.channel", joint, torch.cat((latent["image"], latent["text"])))
        shared["image"], shared["text"] = both.chunk(2)
    codes = {}
    for m in MODALITIES:
        if model.variant == "S":
            codes[m] = specific[m]
        elif model.variant == "IT":
            codes[m] = shared[m]
        else:
            w, b = p[f"fusions.{m}.lin.weight"], p[f"fusions.{m}.lin.bias"]
            if model.variant == "A":
                stacked = torch.cat((specific[m], shared[m]), dim=1)
                codes[m] = torch.tanh(stacked @ w.T + b)
            else:  # Eq. 4, 5
                e = [torch.sigmoid(z[m] @ w.T + b).exp() for z in (specific, shared)]
                codes[m] = (e[0] * specific[m] + e[1] * shared[m]) / (e[0] + e[1])
    return codes, latent


def reference_loss(model, data, codes, latent, match):
    """Eq. 6-9 term by term, by sums over nodes and pairs."""
    p = parameters(model)
    store = data["image"]
    known, seen = store.labeled_mask, store.anchor_mask
    y = store.y[known]
    n, bits = int(seen.sum()), model.num_bits
    summed = model.reduction == "sum"
    omega = 0.5 * codes["image"][known] @ codes["text"][known].T
    similar = same_label(y, match)
    terms = {"pairwise": -(similar * omega - torch.log1p(omega.exp())).sum()}
    if not summed:
        terms["pairwise"] /= len(y) ** 2
    for name in ("quantization", "balance", "prediction", "reconstruction"):
        terms[name] = torch.zeros((), dtype=torch.float64)
    for m in MODALITIES:
        r = codes[m][seen]
        sign = torch.where(r >= 0, 1.0, -1.0).double()
        terms["quantization"] += ((sign - r) ** 2).sum() / (1 if summed else n * bits)
        terms["balance"] += (r.sum(0) ** 2).sum() / (1 if summed else n * n * bits)
        logits = codes[m][known] @ p[f"classifiers.{m}.lin.weight"].T
        logits = logits + p[f"classifiers.{m}.lin.bias"]
        if y.dim() == 1:
            chosen = logits.softmax(1)[torch.arange(len(y)), y]
            terms["prediction"] -= chosen.log().mean()
        else:
            hit = torch.where(y > 0, logits.sigmoid(), 1 - logits.sigmoid())
            terms["prediction"] -= hit.log().mean()
        if latent:
            name = f"autoencoders.{m}.decoder"
            rebuilt = latent[m][seen] @ p[f"{name}.weight"].T + p[f"{name}.bias"]
            if model.config["out_activation"] == "relu":
                rebuilt = rebuilt.clamp(min=0)
            error = ((data[m].x[seen].double() - rebuilt) ** 2).sum()
            width = 1 if summed else data[m].x.size(1)
            terms["reconstruction"] += error / (n * width)
    if not latent:
        del terms["reconstruction"]
    if model.variant != "C":
        terms["adversarial"] = torch.zeros((), dtype=torch.float64)
        for m, column in (("image", 1), ("text", 0)):
            h = codes[m][seen]
            for layer in range(3):
                h = h @ p[f"discriminator.lins.{layer}.weight"].T
                h = h + p[f"discriminator.lins.{layer}.bias"]
                h = h.clamp(min=0) if layer < 2 else h
            terms["adversarial"] -= h.softmax(1)[:, column].log().mean()
    train = data["image"].train_mask
    terms["pairing"] = ((codes["image"][train] - codes["text"][train]) ** 2).sum()
    if model.reduction == "mean":
        terms["pairing"] /= codes["image"][train].numel()
    return terms


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("labels", ["single", "shared", "equal"])
@pytest.mark.parametrize("variant", ["full", "S", "IT", "A", "C"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_forward_and_loss_equal_the_equations(protocol, labels, variant, reduction):
    match = "equal" if labels == "equal" else "shared"
    data = small_graph(protocol, multi_label=labels != "single", match=match)
    model = small_model(
        data,
        variant=variant,
        reduction=reduction,
        match=match,
        out_activation="relu" if reduction == "sum" else "none",
        weights=WEIGHTS,
    )
    out = model(data)
    codes, latent = reference_codes(model, data, protocol, match)
    for m in MODALITIES:
        torch.testing.assert_close(out[m].double(), codes[m], rtol=0, atol=2e-6)
    terms = model.loss(out, data)
    expected = reference_loss(model, data, codes, latent, match)
    assert terms.keys() == expected.keys() | {"loss"}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].double(), value, rtol=2e-5, atol=1e-6, msg=name)
    total = sum(WEIGHTS.get(name, 1.0) * value for name, value in expected.items())
    torch.testing.assert_close(terms["loss"].double(), total, rtol=2e-5, atol=1e-5)


def test_the_view_is_the_loss_of_labelled_nodes_as_new_items():
    """Each labelled node, taken out of the graph and encoded by its nearest anchors."""
    data = small_graph(scale=False)
    model = small_model(data)
    out = model.train()(data)
    model.attach(data)
    known = data["image"].labeled_mask
    y = data["image"].y[known]
    view = {}
    for m in MODALITIES:
        # k + 1 neighbours of a stored anchor are itself and its k nearest
        anchors = model.intake
        x = data[m].x[known]
        position = data[m].anchor_mask.nonzero().flatten().tolist()
        cosine = F.normalize(x.double()) @ F.normalize(anchors.tensors[f"x.{m}"].double()).T
        for row, node in enumerate(known.nonzero().flatten().tolist()):
            cosine[row, position.index(node)] = -2
        near = torch.zeros_like(cosine).scatter_(1, cosine.topk(5).indices, 1.0)
        view[m] = attach_densely(model, m, x.double(), near)
        torch.testing.assert_close(out.aux[f"{m}_view"].double(), view[m], rtol=0, atol=2e-6)
    terms = model.loss(out, data)
    codes = {m: out[m][known].double() for m in MODALITIES}
    similar = same_label(y, "shared")

    def nll(a, b):
        omega = 0.5 * a @ b.T
        return (torch.log1p(omega.exp()) - similar * omega).mean()

    expected = 0.5 * nll(view["image"], codes["text"]) + 0.5 * nll(codes["image"], view["text"])
    for m in MODALITIES:
        sign = torch.where(view[m] >= 0, 1.0, -1.0)
        expected += model.weights["quantization"] * ((sign - view[m]) ** 2).mean()
        logits = model.classifiers[m](view[m].float())
        expected += model.weights["prediction"] * F.cross_entropy(logits, y).double()
    torch.testing.assert_close(terms["view"].double(), expected, rtol=1e-5, atol=1e-6)


def attach_densely(model, m, x, near):
    """Rows of the enlarged operator, from what the anchors send; Eq. 3-5."""
    p = parameters(model)
    sent = {name: [t.double() for t in model.intake.messages(name)] for name in (m, "joint")}
    scale = (1 + near.sum(1, keepdim=True)).rsqrt()
    z, h = x, None
    for layer in (0, 1):
        own = z @ p[f"channels.{m}.conv{layer + 1}.lin.weight"].T
        z = torch.tanh(scale * (near @ sent[m][layer] + scale * own))
    name = f"autoencoders.{m}.encoder"
    h = F.relu(x @ p[f"{name}.weight"].T + p[f"{name}.bias"])
    both = torch.cat((near, near), dim=1) * model.intake.joint.double().repeat(2)
    scale = (1 + both.sum(1, keepdim=True)).rsqrt()
    for layer in (0, 1):
        own = h @ p[f"cross.channel.conv{layer + 1}.lin.weight"].T
        h = torch.tanh(scale * (both @ sent["joint"][layer] + scale * own))
    w, b = p[f"fusions.{m}.lin.weight"], p[f"fusions.{m}.lin.bias"]
    e = [torch.sigmoid(each @ w.T + b).exp() for each in (z, h)]
    return (e[0] * z + e[1] * h) / (e[0] + e[1])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_step_equals_the_explicit_min_max(reduction):
    """Eq. 9, 10: the discriminator descends its loss, the generator ascends it."""
    data = small_graph()
    model = small_model(data, reduction=reduction, weights={"adversarial": 0.7})
    terms = model.loss(model(data), data)
    terms["loss"].backward()
    joint = {name: p.grad.clone() for name, p in model.named_parameters()}

    model.discriminator.reversal = None
    model.discriminator.requires_grad_(True)
    model.zero_grad()
    terms = model.loss(model(data), data)
    rest = terms["loss"] - 0.7 * terms["adversarial"]
    names, parameters_ = zip(*model.named_parameters(), strict=True)
    plain = torch.autograd.grad(rest, parameters_, retain_graph=True, allow_unused=True)
    adversary = torch.autograd.grad(terms["adversarial"], parameters_, allow_unused=True)
    for name, a, b in zip(names, plain, adversary, strict=True):
        a = 0.0 if a is None else a
        b = torch.zeros_like(joint[name]) if b is None else b
        sign = 1 if name.startswith("discriminator") else -1
        expected = a + sign * 0.7 * b
        torch.testing.assert_close(joint[name], expected, rtol=1e-4, atol=1e-5)
