"""Trainings that one process and two ranks do alike, and the two ranks."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from small import adam, assert_same_codes, graph_for, model_for, relaxed_of_new
from toy import toy_data

from pyg_hash.cli import main as pyg_hash
from pyg_hash.models import GCH, MCGCN, SGCH, SGEH, TaughtHash
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import fit
from pyg_hash.training.ranks import Ranks, encode_sharded, process_group


def sampled(model, data, **kwargs):
    """Five batches: neighbours and class members drawn, the last batch smaller."""
    view = model.training_view(data)
    return InstanceLoader(view, (3, 2), 8, batch_size=10, shuffle=True, **kwargs)


def of_parts(model):
    return {n: torch.optim.Adam(p, lr=0.01) for n, p in model.parts().items()}


# name -> class, its settings, loader, optimiser
CASES = {
    "mcgcn": (MCGCN, {}, sampled, adam),
    "mcgcn-list": (MCGCN, {}, lambda m, d: [graph_for(MCGCN, seed=s) for s in range(3)], adam),
    "sgch": (SGCH, {}, sampled, of_parts),
    "gch": (GCH, {"batch_size": 8, "dropout": 0.3}, None, adam),
    "gch-parts": (GCH, {"batch_size": 20, "variant": "Try2"}, None, of_parts),
    "sgeh": (SGEH, {"batch_size": 8}, None, of_parts),
    "taught": (TaughtHash, {"batch_size": 8, "hidden_channels": 12}, None, of_parts),
}


def train(name: str, epochs: int = 3, **kwargs):
    """Train one case; the same on every rank."""
    kind, settings, make_loader, make_optimizer = CASES[name]
    data = graph_for(kind, validation=kwargs.pop("validation", False))
    # seeds differ: what the ranks start with and draw must come from rank 0
    model = model_for(kind, data, seed=Ranks.of(torch.nn.Linear(1, 1)).rank, **settings)
    loader = make_loader(model, data) if make_loader else None
    history = fit(
        model,
        data,
        make_optimizer(model),
        epochs=epochs,
        loader=loader,
        progress=False,
        **kwargs,
    )
    return model, data, history


def cases(out: Path, rank: int) -> None:
    for name in CASES:
        model, data, history = train(name)
        model.save(out / f"{name}-{rank}")
        history.to_json(out / f"{name}-{rank}.json")


def four_batches(out: Path, rank: int) -> None:
    model, _, _ = train("mcgcn", accumulate=2)
    save_file(model.state_dict(), out / f"four-{rank}.safetensors")


def interrupted(out: Path, rank: int) -> None:
    """Only rank 0 has the checkpoint, as on machines that share no disk."""
    folder = out / f"disk-{rank}"
    for name in ("gch", "sgch"):
        file = folder / f"{name}.safetensors"
        train(name, 2, checkpoint=file)
        assert file.exists() == (rank == 0)
        torch.manual_seed(100 + rank)
        model, _, history = train(name, 3, checkpoint=file, resume=True)
        model.save(out / f"resumed-{name}-{rank}")
        history.to_json(out / f"resumed-{name}-{rank}.json")


def stopping(out: Path, rank: int) -> None:
    """Rank 0 evaluates and calls back; all ranks stop with it."""
    called = []

    def stop(model, row):
        called.append(row["epoch"])
        if row["epoch"] == 2:
            raise StopIteration

    _, _, history = train("gch", 9, patience=5, callbacks=[stop], validation=True)
    assert called == ([1, 2] if rank == 0 else [])
    history.to_json(out / f"stopped-{rank}.json")


def failing(out: Path, rank: int) -> None:
    """A NaN in the batch of one rank is noticed by both; and what needs a loader says so."""
    data = graph_for(MCGCN)
    bad = copy.deepcopy(data)
    bad["image"].x[:] = float("nan")
    errors = []
    for loader in ([data, bad], None, (batch for batch in ()), {"a": 1}.values()):
        model = model_for(MCGCN, data)
        try:
            fit(model, data, adam(model), epochs=2, loader=loader, progress=False)
        except (FloatingPointError, ValueError, TypeError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    (out / f"errors-{rank}.json").write_text(json.dumps(errors))


def encoding(out: Path, rank: int) -> None:
    x = {n: toy_data(num_nodes=n, num_queries=0) for n in (1, 2, 7)}
    for name in ("mcgcn", "gch"):
        kind, settings, *_ = CASES[name]
        data = graph_for(kind)
        model = model_for(kind, data, **settings).attach(data)
        for m, encode in (("image", model.encode_image), ("text", model.encode_text)):
            for new in x.values():
                codes = encode_sharded(model, new[m].x, m)
                assert_same_codes(codes, encode(new[m].x), relaxed_of_new(model, new[m].x, m))
            if kind is GCH:
                with torch.no_grad():
                    relaxed = model.eval()(data)[m]
                codes = encode_sharded(model, data, m)
                assert_same_codes(codes, model.encode(data, m), relaxed)


def all_cases(out: Path) -> None:
    """What each rank does."""
    with process_group():
        rank = torch.distributed.get_rank()
        for step in (cases, four_batches, interrupted, stopping, failing, encoding):
            step(out, rank)


def run_command(words: list[str]) -> None:
    """What a rank of ``pyg-hash`` does."""
    sys.exit(pyg_hash(words))


def run_machine(commands: list[list[str]]) -> None:
    """What the only rank of each machine does."""
    os.environ["LOCAL_RANK"] = "0"
    sys.exit(pyg_hash(commands[int(os.environ["RANK"])]))
