"""One readable training loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from pyg_hash.metrics import evaluate
from pyg_hash.models.base import HashModel
from pyg_hash.training.epoch import ALL, PRECISIONS, Precision, Row, Steps, train_epoch
from pyg_hash.training.ranks import Ranks
from pyg_hash.training.state import History, TrainingState
from pyg_hash.typing import IMAGE
from pyg_hash.utils.checks import check_choice, check_positive_ints
from pyg_hash.utils.files import check_writable
from pyg_hash.utils.oddities import OddDataWarning

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Callback = Callable[[HashModel, Row], None]
Optimizers = torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer]


def fit(
    model: HashModel,
    data: HeteroData,
    optimizer: Optimizers,
    *,
    epochs: int,
    loader: Iterable[HeteroData] | None = None,
    schedulers: Sequence[LRScheduler] = (),
    precision: Precision = "fp32",
    accumulate: int = 1,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 10,
    resume: bool = False,
    patience: int | None = None,
    eval_every: int = 1,
    progress: bool = True,
) -> History:
    """Train a model on a data set, then attach it, so that it encodes new items.

    An epoch takes one optimiser's step on each loss that ``model.objectives(...)`` gives: one for
    a full-batch method, many for mini-batches and alternating schedules. A step changes the
    parameters of its part (``model.parts()``) and no others. Training sees
    ``model.training_view(data)``, under ``anchors='train'`` without any query, or a ``loader``'s
    mini-batches.

    With ``patience``, mAP (mean of i2t and t2i, mAP@all with expected ties) of the nodes of
    ``val_mask`` against the rest of the database is measured every ``eval_every`` epochs; after
    ``patience`` measurements without a new best the best parameters are restored.

    Under ``torchrun`` the ranks share out the batches: a step goes down the mean gradient of
    ``accumulate`` batches on each. Rank 0 evaluates, calls the callbacks, and writes checkpoints.

    Args:
        model: the model; it is trained in place.
        data: the graph.
        optimizer: an optimiser of the model's parameters; or one for each of ``model.parts()``.
        epochs: number of passes in all; with ``resume`` the finished ones count.
        loader: mini-batches of ``model.training_view(data)`` for a method that otherwise takes all
            data at once (MCGCN, SGCH); anything that gives ``HeteroData`` each time it is gone
            through, such as PyG's ``NodeLoader``. They are moved to the model's device.
        schedulers: of learning rates, stepped after every epoch; part of the checkpoint.
        precision: ``'bf16'`` computes the losses under ``torch.autocast``: matrix products in
            bfloat16; parameters and optimiser stay as they are.
        accumulate: batches whose mean gradient makes a step. Needs batches: a ``loader`` that is a
            ``DataLoader`` or a list, or a method that makes its own (GCH, SGEH). The last group is
            filled up with the first batches. Batch normalisation updates its statistics once a
            step, to the mean.
        callbacks: called as ``callback(model, row)`` after each epoch with its history row; may
            add numbers to the row, or raise ``StopIteration`` to end the training. Those with
            ``state_dict()``, of JSON values, and ``load_state_dict(state)`` have their state in the
            checkpoint; what steps a learning rate belongs into ``schedulers``.
        checkpoint: a file that is replaced every ``checkpoint_every`` epochs and at the end.
        checkpoint_every: epochs between checkpoints.
        resume: go on from ``checkpoint`` if that file exists; on a CPU the result equals
            uninterrupted training bit for bit.
        patience: measurements without a new best before training stops; None trains all epochs.
        eval_every: epochs between measurements on the validation nodes.
        progress: show a progress bar.

    Returns:
        One row an epoch: ``epoch``, the mean of every loss term over the epoch's steps (with the
        part's name in front if there are several), ``loss`` (the sum over the parts), and
        ``val_map`` where measured.

    Raises:
        TypeError: a callback added something other than numbers, strings or None to the row; a
            ``loader`` that can be gone through only once, or not be shared out.
        ValueError: no training or validation nodes, ``resume`` without ``checkpoint``, a
            checkpoint or optimiser of another model, a ``loader`` that is empty or for a method
            that makes its own batches, ``accumulate`` or several ranks without batches.
        FloatingPointError: the loss or a parameter is NaN or inf.
        OSError: the checkpoint cannot be written.
    """
    check_positive_ints(
        epochs=epochs,
        checkpoint_every=checkpoint_every,
        eval_every=eval_every,
        accumulate=accumulate,
        patience=1 if patience is None else patience,
    )
    check_choice(precision, PRECISIONS, "precision")
    ranks = Ranks.of(model)
    _check_loader(model, loader, accumulate * ranks.size)
    if patience is not None and "val_mask" not in data[IMAGE]:
        raise ValueError("patience: the data has no val_mask; add ValidationSplit(0.1) first")
    if not bool(data[IMAGE].train_mask.any()):
        raise ValueError("train_mask: no training node")
    if resume and checkpoint is None:
        raise ValueError("resume: needs checkpoint=FILE to go on from")

    optimizers = _optimizers(model, optimizer)
    steps = Steps(loader, accumulate, precision, ranks)
    saves = checkpoint if ranks.is_main else None
    if saves is not None:
        check_writable(saves)

    model.intake = None  # what an earlier fit cached is of other parameters
    state = TrainingState(model, optimizers, schedulers, callbacks)
    if resume and checkpoint is not None:
        with ranks.file_of_main(checkpoint) as file:
            if file is not None:
                state.load(file)
    ranks.copy_state(model)
    view = model.training_view(data) if loader is None else None
    quiet = not (progress and ranks.is_main)
    whole = True  # no epoch is under way
    bar = tqdm(total=epochs, initial=state.epoch, desc="fit", unit="epoch", disable=quiet)
    try:
        while state.epoch < epochs and not state.stopped:
            whole = False
            row = train_epoch(
                model, view, optimizers, state.epoch, steps, lambda step: bar.set_postfix(step=step)
            )
            for scheduler in schedulers:
                scheduler.step()
            if patience is not None and row["epoch"] % eval_every == 0:
                row["val_map"] = ranks.agree(_validation_map(model, data) if ranks.is_main else 0.0)
                state.note_validation(row["val_map"], patience)
            state.epoch += 1
            state.history.append(row)
            whole = True
            for callback in callbacks if ranks.is_main else ():
                try:
                    callback(model, row)
                except StopIteration:
                    state.stopped = True
                _check_row(row)
            state.stopped = bool(ranks.agree(state.stopped))
            bar.update()
            bar.set_postfix(loss=f"{row['loss']:.4f}")
            if saves is not None and state.epoch % checkpoint_every == 0:
                state.save(saves)
    finally:
        bar.close()
        # half an epoch is never saved: going on from it would repeat the other half
        if saves is not None and whole and state.saved_epoch != state.epoch:
            state.save(saves)
    if patience is not None and state.best:
        model.load_state_dict(state.best)
    model.attach(data)
    return state.history


def _optimizers(model: HashModel, given: Optimizers) -> dict[str, torch.optim.Optimizer]:
    """The optimisers by name, each checked to hold parameters of what it is for."""
    parts = model.parts()
    if isinstance(given, torch.optim.Optimizer):
        given, parts = {ALL: given}, {ALL: list(model.parameters())}
    elif set(given) != set(parts):
        raise ValueError(
            f"optimizer: one optimiser a part is needed, for {', '.join(parts)}; "
            f"got {', '.join(map(str, given)) or 'none'}"
        )
    for name, parameters in parts.items():
        ours = set(parameters)
        if not any(p in ours for group in given[name].param_groups for p in group["params"]):
            what = "this model" if name == ALL else f"the part {name!r} of this model"
            raise ValueError(f"optimizer: holds no parameter of {what}; make it of this one's")
    return {name: given[name] for name in parts}


def _check_loader(model: HashModel, loader: Iterable[HeteroData] | None, batches: int) -> None:
    name = type(model).__name__
    if loader is not None and model.makes_batches:
        raise ValueError(
            f"loader: {name} makes mini-batches by itself; leave it out (see batch_size of {name})"
        )
    if isinstance(loader, Iterator):
        raise TypeError(
            "loader: a generator is used up after one epoch; give a list or a NodeLoader"
        )
    if batches > 1 and loader is None and not model.makes_batches:
        raise ValueError(
            f"loader: {name} takes all data at once, but a step is to have {batches} batches "
            "(accumulate times ranks); give a loader, such as InstanceLoader"
        )


def _check_row(row: Row) -> None:
    """Make plain numbers of what callbacks added, so that every row can be written to a file."""
    for name, value in list(row.items()):
        if hasattr(value, "item"):  # a tensor's or NumPy's scalar
            row[name] = value.item()
        elif not isinstance(value, int | float | str | None):
            del row[name]
            raise TypeError(f"callbacks: row[{name!r}] is {value!r}; add plain numbers")


def _validation_map(model: HashModel, data: HeteroData) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OddDataWarning)  # in early epochs
        return evaluate(model, data, split="val").cross_modal
