"""The pairwise likelihood: one fused pass against autograd on the whole matrix.

    python -m benchmarks.losses [--short]

Value and gradients of MCGCN Eq. 7 for n images and n texts of 64 bits, classes drawn from 10;
relaxed codes are tanh of normal numbers. "autograd" is the formula as one writes it in PyTorch:
the matrices of inner products and of similar pairs, softplus, backward. "autograd, class sums"
forms no matrix of similar pairs, because its part of the sum is one of class sums. "fused" is
pairwise_nll, which gives the same numbers. "GEMM floor" is its three matrix products in the same
tiles and nothing else.
"""

from itertools import product

import torch
import torch.nn.functional as F

from benchmarks.measure import alone, difference, faster, side_by_side
from benchmarks.record import benchmark
from pyg_hash.losses import pairwise_nll

BITS, CLASSES, LABELS, TILE = 64, 10, 24, 512


def autograd(image, text, y):
    w = 0.5 * image @ text.T
    j = y[:, None] == y[None] if y.dim() == 1 else y @ y.T > 0
    return (F.softplus(w) - j.to(w.dtype) * w).sum()


def autograd_class_sums(image, text, y):
    """The same; the sum of w over similar pairs is one over classes, for one label a row."""
    w = 0.5 * image @ text.T
    hot = F.one_hot(y, CLASSES).to(w.dtype)
    return F.softplus(w).sum() - 0.5 * ((hot.T @ image) * (hot.T @ text)).sum()


LOSSES = {
    "autograd": autograd,
    "autograd, class sums": autograd_class_sums,
    "fused": lambda image, text, y: pairwise_nll(image, text, y, y, reduction="sum"),
}


def inputs(n, multi_label=False, device="cpu"):
    g = torch.Generator().manual_seed(0)
    image, text = (torch.randn(n, BITS, generator=g).tanh_().to(device) for _ in range(2))
    y = torch.randint(CLASSES, (n,), generator=g)
    if multi_label:
        y = (torch.rand(n, LABELS, generator=g) < 0.1).float()
    return image.requires_grad_(), text.requires_grad_(), y.to(device)


def step(name, n, multi_label=False, device="cpu"):
    loss = LOSSES[name]

    def run(image, text, y):
        value = loss(image, text, y)
        return (value.detach(), *torch.autograd.grad(value, (image, text)))

    run(*inputs(8, multi_label, device))
    given = inputs(n, multi_label, device)
    return lambda: run(*given)


def gemm_floor(n):
    """The products of a fused pass, tile by tile."""
    image, text, _ = (x.detach() for x in inputs(n))

    def run():
        buffer = image.new_empty(TILE, TILE)
        of_image, of_text = torch.zeros_like(image), torch.zeros_like(text)
        for p, q in product(range(0, n, TILE), repeat=2):
            a, b = image[p : p + TILE], text[q : q + TILE]
            tile = torch.mm(a, b.T, out=buffer[: len(a), : len(b)])
            of_image[p : p + TILE].addmm_(tile, b)
            of_text[q : q + TILE].addmm_(tile.T, a)

    return run


def times(record, n, multi_label=False):
    names = ("autograd", "fused") if multi_label else LOSSES
    cases = {name: step(name, n, multi_label) for name in names}
    exact = cases["autograd"]()
    found = {name: case() for name, case in cases.items()}
    if not multi_label:
        cases["GEMM floor"] = gemm_floor(n)
    seconds = side_by_side(cases)
    columns = {
        "seconds": seconds,
        "times as fast as autograd": faster(seconds, "autograd"),
        "loss, relative difference": {n: difference(of[:1], exact[:1]) for n, of in found.items()},
        "gradients": {n: difference(of[1:], exact[1:]) for n, of in found.items()},
    }
    kind = f"{LABELS} labels, several a row" if multi_label else f"{CLASSES} classes"
    record.columns(f"Time, n = {n:,}, {kind}", "method", columns)
    return seconds


@benchmark("Pairwise likelihood")
def main(record, args):
    small, middle, large, huge = (200, 400, 600, 900) if args.short else (2000, 8000, 10000, 50000)
    of_small, of_middle = (times(record, n) for n in (small, middle))
    times(record, middle, multi_label=True)
    rows, extra = [], {}
    for n, name in (*product([large], LOSSES), (huge, "fused")):
        spent = alone(step, name, n)
        extra[f"{name}, n = {n:,}"] = mb = spent.extra_bytes / 1e6
        rows.append({"n": n, "method": name, "extra MB": mb, "CPU seconds": spent.cpu_seconds})
    note = f"autograd at n = {huge:,} would hold {5 * 4 * huge**2 / 1e9:,.0f} GB: not run."
    record.table("Extra memory of one step, in a process of its own", rows, note)

    ratio = of_middle["autograd"] / of_middle["fused"]
    record.goal(f"fused against autograd, n = {middle:,}", ratio, at_least=3)
    ratio = extra[f"fused, n = {large:,}"] / extra[f"autograd, n = {large:,}"]
    record.goal(f"memory of fused against autograd, n = {large:,}", ratio, at_most=0.05)
    record.goal(f"MB at n = {huge:,}", mb, at_most=100)
    series = {name: [(small, s), (middle, of_middle[name])] for name, s in of_small.items()}
    series["fused"].append((huge, spent.cpu_seconds))
    record.plot("Value and gradients, 10 classes", series, x="images and texts", y="CPU seconds")
    record.bars("Extra memory", extra, x="MB")
