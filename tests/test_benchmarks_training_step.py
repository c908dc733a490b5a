"""benchmarks/training_step.py counts the products of a step as they are."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class DenseProducts(TorchDispatchMode):
    """Counts the FLOP of dense products; torch's own counter takes CSR matrices for dense ones."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            a, b = args[0:2] if name == "mm" else args[1:3]
            if a.layout == torch.strided:
                self.flops += 2 * a.size(0) * a.size(1) * b.size(1)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["MCGCN", "SGCH"])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_products_are_those_of_the_step(name, rate):
    """Small heads apart; few rows of a view are projected twice, which spares a propagation."""
    from benchmarks.training_step import SHORT, pairs, product_shapes, products, step

    sizes = SHORT._replace(image=400, text=300, latent=200, hidden=160, shared=120)
    data = pairs(sizes, rate)
    labeled = int(data["image"].labeled_mask.sum())
    _, floor = products(product_shapes(name, sizes, labeled), torch.float32, torch.device("cpu"))
    run = step(name, sizes, data)
    with DenseProducts() as counter:
        run()
    assert 1.0 <= counter.flops / floor < (1.05 if rate == 1.0 else 1.2)


@pytest.mark.parametrize("name", ["MCGCN", "SGCH"])
def test_forms_of_the_cliques_train_alike(name):
    from torch_geometric import seed_everything

    from benchmarks.cliques import LabelCliques
    from benchmarks.training_step import MODELS, SHORT, pairs
    from pyg_hash.transforms import LabelHub

    losses = []
    for form in (LabelHub, LabelCliques):
        seed_everything(0)
        model = MODELS[name](SHORT).train()
        (objective,) = model.objectives(pairs(SHORT, 0.5, form), 0)
        losses.append(objective.terms["loss"])
    torch.testing.assert_close(*losses)


def test_short_form(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from benchmarks.training_step import main

    main(["--short", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "training_step.json").read_text())
    assert [goal["met"] for goal in content["goals"]] == ["short form"] * 2
    cases = {(row["model"], row["case"]) for row in content["tables"][0]["rows"]}
    assert ("MCGCN", "step, cliques as edges") in cases and ("SGCH", "step, bf16") in cases
