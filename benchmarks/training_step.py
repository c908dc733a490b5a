"""One full-batch training step of MCGCN and SGCH against its matrix products alone.

    python -m benchmarks.training_step [--short]

Data of Wikipedia's size: 2,866 pairs, features of 4096 and 3000 numbers (random, 10 clusters),
kNN graphs with k = 20, label cliques, 64 bits; MCGCN with autoencoders of 2048, GCN layers of 512
and 1024, SGCH with layers of 512. A step is forward, all losses (the view of labelled nodes as new
items included), backward and Adam. "products" does the matrix products with weights and between
codes that the equations ask for, forward and backward, into memory that is there already, and
nothing else. bf16 is fit(..., precision='bf16'): these products in bfloat16.
"""

from collections import namedtuple

import torch
import torch_geometric.transforms as T

from benchmarks.measure import faster, gemm_rate, side_by_side
from benchmarks.record import benchmark
from pyg_hash.datasets import SyntheticCrossModal
from pyg_hash.models import MCGCN, SGCH
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate
from pyg_hash.typing import IMAGE

CLASSES = 10
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Sizes = namedtuple("Sizes", "pairs image text latent hidden shared bits k")
FULL = Sizes(2_866, 4096, 3000, 2048, 512, 1024, 64, 20)
TRAIN = FULL._replace(pairs=2_173)  # those of Wikipedia's pairs that are trained on
SHORT = Sizes(120, 40, 30, 20, 16, 12, 8, 5)


def features(sizes, queries=1):
    n, widths = sizes.pairs + queries, (sizes.image, sizes.text)
    return SyntheticCrossModal(n, CLASSES, widths, num_queries=queries)[0]


def pairs(sizes, rate):
    steps = LabelRate(rate), IntraKNN(sizes.k), InterKNN(), LabelHub()
    return T.Compose(steps)(features(sizes))


def mcgcn(sizes):
    widths = {f"{name}_channels": getattr(sizes, name) for name in ("latent", "shared", "hidden")}
    return MCGCN((sizes.image, sizes.text), CLASSES, sizes.bits, **widths)


def sgch(sizes):
    how = {"hidden_channels": sizes.hidden, "out_channels": sizes.hidden, "adversary": "reversal"}
    return SGCH((sizes.image, sizes.text), CLASSES, sizes.bits, **how)  # one step an epoch


MODELS = {"MCGCN": mcgcn, "SGCH": sgch}


def step(name, sizes, data, precision="fp32"):
    """One epoch of a full-batch model, as ``fit`` does it."""
    torch.manual_seed(0)
    device = data[IMAGE].x.device
    model = MODELS[name](sizes).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def run():
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            (objective,) = model.objectives(data, 0)
        optimizer.zero_grad(set_to_none=True)
        objective.terms["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    run()
    return run


def product_shapes(name, sizes, labeled):
    """Rows, width in, width out of each layer, and whether its input needs a gradient."""
    n, s, of_mcgcn = sizes.pairs, sizes, name == "MCGCN"
    shapes = [(labeled, s.bits, labeled, True)] * 3  # codes with codes; twice for the view
    for width in (s.image, s.text):
        shapes += [(n, width, s.hidden, False), (n + labeled, s.hidden, s.bits, True)]
        coders = (n, width, s.latent, False), (n, s.latent, width, True)
        shapes += coders if of_mcgcn else [(n + labeled, s.hidden, s.hidden, True)]
    shared = (2 * n, s.latent, s.shared, True), (2 * (n + labeled), s.shared, s.bits, True)
    return shapes + list(shared if of_mcgcn else ())


def products(shapes, dtype, device="cpu"):
    """The products of a step into memory that is there, and how many FLOP they are."""
    work = []
    for rows, inner, outer, needs_input in shapes:
        sides = ((rows, inner), (outer, inner), (rows, outer))
        x, w, g = (torch.randn(side, device=device).to(dtype) for side in sides)
        work += [(x, w.t(), torch.empty_like(g)), (g.t(), x, torch.empty_like(w))]
        work += [(g, w, torch.empty_like(x))] if needs_input else []

    def run():
        for a, b, out in work:
            torch.mm(a, b, out=out)

    run()
    return run, float(sum(2 * a.size(0) * a.size(1) * b.size(1) for a, b, _ in work))


@benchmark("A training step against its products")
def main(record, args):
    sizes = SHORT if args.short else FULL
    shown = ", ".join(f"{p} {gemm_rate(d) / 1e9:,.0f} GFLOP/s" for p, d in DTYPES.items())
    bars, spent = {}, {}
    for rate, names, precisions in ((1.0, MODELS, DTYPES), (0.3, ["MCGCN"], ["fp32"])):
        data = pairs(sizes, rate)
        labeled = int(data[IMAGE].labeled_mask.sum())
        rows = []
        for name in names:
            cases, shapes = {}, product_shapes(name, sizes, labeled)
            for p in precisions:
                cases[f"products, {p}"], flops = products(shapes, DTYPES[p])
                cases[f"step, {p}"] = step(name, sizes, data, p)
            spent[name, rate] = seconds = side_by_side(cases, repeats=5)
            for case, s in seconds.items():
                floor = seconds[f"products, {case[-4:]}"]
                row = {"model": name, "case": case, "seconds": s, "of its products": s / floor}
                row |= {"of the fp32 step": s / seconds["step, fp32"], "GFLOP/s": flops / s / 1e9}
                rows.append(row)
                bars[f"{name}, {rate:.0%} labelled: {case}"] = s
        title = f"{sizes.pairs:,} pairs, {rate:.0%} labelled"
        record.table(title, rows, f"A square product of 2048 reaches {shown}.")

    fast = faster(spent["MCGCN", 1.0], "step, fp32")
    record.goal("MCGCN step in fp32 / its products", fast["products, fp32"], at_most=1.15)
    # the step cannot gain more than its products do, which some processors multiply slower so
    record.goal("MCGCN step in bf16 / in fp32", 1 / fast["step, bf16"], at_most=0.45)
    record.bars("Seconds a step", bars, x="seconds")
