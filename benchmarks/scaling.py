"""Cost against the number of nodes: MCGCN in mini-batches from 10,000 to 1,000,000 pairs.

    python -m benchmarks.scaling [--short]

MCGCN (its default widths, 32 bits) on pairs with 128-d images and texts, k = 10, 30 % of the pairs
labelled in 10 classes. The graph is synthetic: neighbours are exact within random blocks of 500
nodes alone, because exact kNN of a million nodes takes hours on two cores and says nothing about
training; node numbers are shuffled. "Cells" and "random" are mini-batches of 512 seeds
(InstanceLoader, 30 and 10 neighbours, 128 hub members), drawn in cells of 128 neighbours or each by
itself; "whole graph" is the step of all nodes at once. An epoch is one pass over all seeds with
Adam, sampling included; small graphs get several epochs. Each row runs in a process of its own.
Encoding makes the exact codes of all nodes, layer by layer.
"""

import resource
import time
from functools import partial
from itertools import product

import torch
from torch_geometric.data import HeteroData

from benchmarks.measure import alone, resident
from benchmarks.record import benchmark
from pyg_hash.models import MCGCN
from pyg_hash.sampling import InstanceLoader
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub
from pyg_hash.typing import MODALITIES

BLOCK, CLASSES, BLOCKS_AT_ONCE = 500, 10, 64


class BlockKNN(IntraKNN):
    """kNN edges whose neighbours are exact within blocks, int64 ``[blocks, BLOCK]``, alone."""

    def __init__(self, k, blocks):
        super().__init__(k)
        self.blocks = blocks

    def _nearest(self, x, mask):
        source = torch.empty(x.size(0), self.k, dtype=torch.long)
        weight = torch.empty(x.size(0), self.k)
        for some in self.blocks.split(BLOCKS_AT_ONCE):
            unit = torch.nn.functional.normalize(x[some], dim=2)
            cosine = unit @ unit.transpose(1, 2)
            cosine.diagonal(dim1=1, dim2=2).fill_(-1.0)
            weight[some], place = cosine.topk(self.k, dim=2)
            source[some] = some.gather(1, place.flatten(1)).view_as(place)
        target = torch.arange(x.size(0)).repeat_interleave(self.k)
        return torch.stack((source.flatten(), target)), weight.flatten().clamp_(min=0), 1.0


def block_graph(num_nodes, *, width=128, k=10, labeled=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (num_nodes,), generator=generator)
    blocks = torch.randperm(num_nodes, generator=generator).view(-1, BLOCK)
    everything = torch.ones(num_nodes, dtype=torch.bool)
    known = torch.rand(num_nodes, generator=generator) < labeled
    data = HeteroData()
    data.num_classes = CLASSES
    for m in MODALITIES:
        x = torch.randn(num_nodes, width, generator=generator)
        x += torch.randn(CLASSES, width, generator=generator)[y]
        for some in blocks.split(BLOCKS_AT_ONCE):  # what the nodes of a block have in common
            x[some] += torch.randn(some.size(0), 1, width, generator=generator)
        data[m].x, data[m].y = x, y
        data[m].train_mask = data[m].database_mask = everything
        data[m].query_mask, data[m].labeled_mask = ~everything, known
    return LabelHub()(InterKNN()(BlockKNN(k, blocks)(data)))


SIZES = (10_000, 100_000, 1_000_000)
SHORT = (1000, 2000)
LARGEST = {"cells": 1_000_000, "random": 10_000, "whole graph": 100_000}
CELL, BATCH, NEIGHBORS, MEMBERS = 128, 512, (30, 10), 128
LIMIT_GB = 16.0
TURNOVER = 50_000  # seeds that a measurement passes at least


def prepare(kind, num_nodes, turnover):
    _train(kind, block_graph(500), 1)  # load what the first step loads
    start = time.process_time()
    data = block_graph(num_nodes)
    return partial(_train, kind, data, max(1, turnover // num_nodes), time.process_time() - start)


def _train(kind, data, epochs, built=0.0):
    torch.manual_seed(0)
    num_nodes = data["image"].x.size(0)
    model = MCGCN(data.num_features, CLASSES, 32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.process_time()
    how = {"batch_size": BATCH, "shuffle": True, "cell_size": CELL if kind == "cells" else 1}
    whole = kind == "whole graph"
    loader = [data] if whole else InstanceLoader(data, NEIGHBORS, MEMBERS, **how)
    indexed = time.process_time()
    sampled = 0
    for epoch in range(epochs):
        for batch in loader:
            sampled += batch["image"].x.size(0)
            for terms, _ in model.objectives(batch, epoch):
                optimizer.zero_grad()
                terms["loss"].backward()
                optimizer.step()
    trained, peak = time.process_time(), resident("VmHWM")
    model.encode(data, "image")
    encoded = time.process_time()
    return {
        "epoch CPU s": (trained - indexed) / epochs,
        "us a node": (trained - indexed) / epochs / num_nodes * 1e6,
        "nodes a seed": sampled / epochs / num_nodes,
        "training GB": peak / 1e9,
        "encode us a node": (encoded - trained) / num_nodes * 1e6,
        "sampler CPU s": indexed - start,
        "graph CPU s": built,
        "peak GB": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9,
    }


@benchmark("Cost against the number of nodes")
def main(record, args):
    sizes, turnover = (SHORT, 2000) if args.short else (SIZES, TURNOVER)
    rows = []
    for size, kind in product(sizes, LARGEST):  # the longest last
        if size <= LARGEST[kind]:
            spent = alone(prepare, kind, size, turnover, limit_gb=LIMIT_GB)
            rows.append({"method": kind, "nodes": size, **spent.value})
            print(f"done: {kind}, {size:,} nodes", flush=True)
    note = (
        "us a node: CPU time of an epoch by the number of nodes; of encoding all nodes exactly, "
        "both modalities. Training: the process at most while it trains, data and graph included. "
        "Peak: the process at most, making the synthetic graph and encoding included."
    )
    record.table("One epoch", rows, note)
    first, *_, last = (row for row in rows if row["method"] == "cells")
    most, ratio = f"N = {sizes[-1]:,}", last["us a node"] / first["us a node"]
    record.goal(f"cost of a node, {most} against {sizes[0]:,} (cells)", ratio, at_most=1.3)
    record.goal(f"an epoch at {most}: peak in GB", last["peak GB"], at_most=LIMIT_GB)
    for name, label in (("us a node", "CPU us a node and epoch"), ("training GB", "GB")):
        lines = {k: [(r["nodes"], r[name]) for r in rows if r["method"] == k] for k in LARGEST}
        record.plot(f"MCGCN, {label}", lines, x="nodes", y=label)
