"""One readable training loop, of epochs of steps, each down the mean of one or several batches."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch_geometric.data import HeteroData
from tqdm.auto import tqdm

from pyg_hash.metrics import evaluate
from pyg_hash.metrics.evaluation import check_one_graph
from pyg_hash.models.base import HashModel, Objective
from pyg_hash.models.batches import Share, unshared
from pyg_hash.models.closed_form import ClosedFormModel
from pyg_hash.models.common import check_labelled
from pyg_hash.models.files import stored_config, stored_tensors
from pyg_hash.models.graph import GraphHashModel
from pyg_hash.training.ranks import Ranks, shared_out
from pyg_hash.training.state import History, TrainingState, own_draws
from pyg_hash.transforms.graphs import check_graph, check_hubs
from pyg_hash.transforms.masks import as_pairs, is_mask
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checks import check_choice, check_collection, check_each, check_positive_ints
from pyg_hash.utils.digests import row_prints
from pyg_hash.utils.files import check_writable
from pyg_hash.utils.oddities import OddDataWarning, say_odd_data
from pyg_hash.utils.provenance import data_rows, graph_settings, trained_queries

Row = dict[str, Any]
Callback = Callable[[HashModel, Row], None]
Optimizers = torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer]
Precision = Literal["fp32", "bf16"]
PRECISIONS = get_args(Precision)
ALL = "all"  # the one optimiser of all parts
_CHECK_EVERY = 100
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


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

    It is then in evaluation mode, in which threads may share it; a loop of your own that goes on
    with it calls ``model.train()`` first. Threads that train at once draw from the same generators,
    so that seeds decide nothing (``RuntimeWarning``): train in processes.

    An epoch takes one optimiser's step on each loss that ``model.objectives(...)`` gives: one for
    a full-batch method, many for mini-batches and alternating schedules. A step changes the
    parameters of its part (``model.parts()``) that are not frozen (``requires_grad_(False)``;
    statistics of batch normalisation go on) and no others. Training sees
    ``model.training_view(data)``, under ``anchors='train'`` without any query, or a ``loader``'s
    mini-batches. Under ``torchrun`` the ranks share out the batches; rank 0 evaluates, calls the
    callbacks, and writes checkpoints.

    Args:
        model: the model; it is trained in place.
        data: the graph.
        optimizer: an optimiser of the model's parameters; or one for each of ``model.parts()``.
        epochs: number of passes in all; with ``resume`` the finished ones count.
        loader: mini-batches of ``model.training_view(data)`` for a method that otherwise takes all
            data at once (MCGCN, SGCH): :class:`InstanceLoader`, or anything that gives
            ``HeteroData`` each time it is gone through, in which row i of both sides is a pair,
            as PyG's own samplers do not see to. They are moved to the model's device.
        schedulers: of ``optimizer``'s rates, stepped after every epoch; part of the checkpoint.
        precision: ``'bf16'`` computes the losses under ``torch.autocast``: matrix products in
            bfloat16; parameters and optimiser stay as they are.
        accumulate: batches, on each rank, whose mean gradient makes a step. Needs batches: a
            ``loader`` that is a ``DataLoader`` or a list, or a method that makes its own (GCH,
            SGEH). The last group is filled up with the first batches; see :doc:`/distributed`.
        callbacks: called as ``callback(model, row)`` after each epoch with its history row; may
            add numbers to the row, or raise ``StopIteration`` to end the training. Those with
            ``state_dict()``, of JSON values, and ``load_state_dict(state)`` have their state in the
            checkpoint; what steps a learning rate belongs into ``schedulers``.
        checkpoint: a file that is replaced every ``checkpoint_every`` epochs and at the end. It
            keeps parameters, buffers, dense ones with ``persistent=False`` too, and a
            ``get_extra_state``, which must return a tensor; no other attribute of the model.
        checkpoint_every: epochs between checkpoints.
        resume: go on from ``checkpoint`` if that file exists; on a CPU the result equals
            uninterrupted training bit for bit if all draws are of the global generators (of torch,
            NumPy and ``random``) or of ``loader.generator``. What schedulers and optimisers are set
            to must be as then, also what says how long (``T_max``, ``total_steps``).
        patience: measurements without a new best before training stops, with the best parameters
            restored: of mAP (mean of i2t and t2i, mAP@all with expected ties) of the nodes of
            ``val_mask`` against the rest of the database. None trains all epochs.
        eval_every: epochs between measurements.
        progress: show a progress bar.

    Returns:
        A row an epoch, with ``epoch``, the mean of every loss term over the epoch's steps (with the
        part's name in front if there are several), ``loss`` (the sum over the parts), and
        ``val_map`` where measured.

    Raises:
        TypeError, ValueError: what does not fit the model, the data or the rest, such as labelled
            rows outside ``train_mask``, labels changed after the graph was made, a checkpoint of
            another model or of other data, or a ``loader`` that trains on other rows of data (seen
            after an epoch if it is neither a list nor has ``data``), gives rows that are no pairs,
            or can be gone through only once; a model that is frozen as a whole; a loss term or an
            entry of a callback named as a column of the history; with a ``checkpoint`` a buffer
            whose shape training changes, or state that no file can hold.
        RuntimeError: gradients are off, by ``torch.no_grad`` or ``torch.inference_mode``, or the
            model was made or loaded under the latter.
        FloatingPointError: the loss or a parameter is NaN or inf.
        OSError: the checkpoint cannot be written.

    ``OddDataWarning``: features (as they were before ``ScaleFeatures``) or labels are odd, see
    :doc:`/own_data`; a ``loader`` of rows that are none of ``data``; an attribute with tensors that
    training changes and a checkpoint does not hold.
    """
    check_positive_ints(
        epochs=epochs,
        checkpoint_every=checkpoint_every,
        eval_every=eval_every,
        accumulate=accumulate,
        patience=1 if patience is None else patience,
    )
    check_choice(precision, PRECISIONS, "precision")
    check_each(check_collection, schedulers=schedulers, callbacks=callbacks)
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        raise RuntimeError("fit: gradients are off; call it outside no_grad() and inference_mode()")
    if (plain := getattr(model, "_orig_mod", model)) is not model:
        warnings.warn(
            "model: training runs nothing that torch.compile(model) compiled; give the model, and "
            "call compile() of each of its encoders, where it has some",
            stacklevel=2,
        )
        model = plain
    _check_trainable(model)
    ranks = Ranks.of(model)
    _check_loss(type(model))
    data = as_pairs(data, "train_mask")
    for m in MODALITIES:  # what trains is the model
        if data[m].x.requires_grad:
            data[m].x = data[m].x.detach()
    check_one_graph(data)
    check_labelled(model, data)
    val_mask = None if patience is None else data[IMAGE].get("val_mask")
    if patience is not None and val_mask is None:
        raise ValueError("patience: the data has no val_mask; add ValidationSplit(0.1) first")
    if val_mask is not None and (both := int((val_mask & data[IMAGE].train_mask).sum())):
        raise ValueError(
            f"patience: {both:,} rows of val_mask are also in train_mask, so that training would "
            "stop by what it learnt; take them out of one of the two"
        )
    if isinstance(model, GraphHashModel):
        check_graph(data)
        check_hubs(data)
    rows = data_rows(data)
    _check_loader(model, loader, accumulate * ranks.size)
    known: Any = loader if isinstance(loader, list | tuple) else [getattr(loader, "data", None)]
    _check_trained(rows, seen := _trained(known))
    if not bool(data[IMAGE].train_mask.any()):
        raise ValueError("train_mask: no training node")
    if resume and checkpoint is None:
        raise ValueError("resume: needs checkpoint=FILE to go on from")

    if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
        raise TypeError(
            "schedulers: ReduceLROnPlateau waits for a value; step it in a callback, which gets "
            "the row of the epoch, or use patience"
        )
    optimizers = check_optimizers(model, optimizer)
    if any(getattr(s, "optimizer", None) not in (None, *optimizers.values()) for s in schedulers):
        raise ValueError("schedulers: one is of another optimizer; make it of one given here")
    steps = Steps(loader, accumulate, ranks, precision)
    steps.seen = None if seen else []
    if checkpoint is not None:
        stored_config(model.config), stored_tensors(model)  # else the first checkpoint would fail
    saves = checkpoint if ranks.is_main else None
    if saves is not None:
        check_writable(saves)

    if ranks.is_main:
        say_odd_data(data)
    with own_draws(getattr(model, "_recipe_draws", None), ranks.device):
        model.intake = None  # what an earlier fit cached is of other parameters
        draws = getattr(loader, "generator", None)
        draws = draws if isinstance(draws, torch.Generator) else None
        how = graph_settings(data)
        state = TrainingState(model, optimizers, rows, how, schedulers, callbacks, draws)
        if saves is not None:
            state.about()  # raises what the first checkpoint would
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
                    model, view, optimizers, state.epoch, steps, lambda n: bar.set_postfix(step=n)
                )
                _check_trained(rows, steps.seen or [])
                steps.seen = None
                if checkpoint is not None:
                    state.check_shapes()
                for scheduler in schedulers:
                    scheduler.step()
                if patience is not None and row["epoch"] % eval_every == 0:
                    found = _validation_map(model, data) if ranks.is_main else 0.0
                    row["val_map"] = ranks.agree(found)
                    state.note_validation(row["val_map"], patience)
                state.epoch += 1
                state.history.append(row)
                whole, own = True, dict(row)
                for callback in callbacks if ranks.is_main else ():
                    try:
                        callback(model, row)
                    except StopIteration:
                        state.stopped = True
                    _check_row(row, own)
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
        model.finish(data if view is None else view)
        ranks.copy_state(model)  # machines may round otherwise
        model.attach(data)
        model.eval()  # else each encoding would switch it, while other threads encode
        if model.intake is not None:
            model.intake.trained = rows
        return state.history


def check_optimizers(model: HashModel, given: Optimizers) -> dict[str, torch.optim.Optimizer]:
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
        if isinstance(given[name], torch.optim.LBFGS):
            raise TypeError("optimizer: LBFGS evaluates the loss by itself; use another, as Adam")
        free = {p for p in parameters if p.requires_grad}
        ours = free if free and name == ALL else {*parameters}  # a part of its own may be frozen
        if not any(p in ours for group in given[name].param_groups for p in group["params"]):
            what = "this model" if name == ALL else f"the part {name!r} of this model"
            raise ValueError(f"optimizer: holds no parameter of {what}; make it of this one's")
    return {name: given[name] for name in parts}


def _check_trainable(model: HashModel) -> None:
    """Raise if no parameter can be trained; what has a closed form says by itself what to do."""
    is_solved = isinstance(model, ClosedFormModel)
    if not is_solved and any(map(_is_fixed, model.parameters())):
        raise RuntimeError(
            f"model: this {type(model).__name__} was made or loaded under inference_mode(), where "
            "parameters are for ever without gradients; make or load it outside"
        )
    if not is_solved and not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            f"model: no parameter of this {type(model).__name__} has requires_grad, so that there "
            "is nothing to train; call requires_grad_() on what is to change"
        )


def _is_fixed(p: nn.Parameter) -> bool:
    """Whether a parameter that is to be trained is none that counts its changes."""
    return p.requires_grad and not is_lazy(p) and p.is_inference()


def _check_loss(kind: type[HashModel]) -> None:
    """Warn if a class has a ``loss`` of its own that no objective asks for, as far as is seen."""
    order = kind.__mro__
    own, steps = (next(k for k in order if name in vars(k)) for name in ("loss", "objectives"))
    if order.index(own) < order.index(steps) and not _asks_for_loss(kind, "objectives", set()):
        warnings.warn(
            f"{own.__name__}.loss seems not to be trained on: the steps of {steps.__name__} come "
            "from its objectives; write those anew too",
            stacklevel=3,
        )


def _asks_for_loss(kind: type, method: str, seen: set[str]) -> bool:
    """Whether a method, or one that it may call, names ``loss``; one without code may."""
    seen.add(method)
    codes = [getattr(inspect.unwrap(getattr(kind, method)), "__code__", None)]
    for code in codes:
        inherited = {"super"} if method == "objectives" else set()
        if code is None or {"loss", "getattr", *inherited} & {*code.co_names}:
            return True
        codes += [inner for inner in code.co_consts if inspect.iscode(inner)]
        for name in {*code.co_names} - seen:
            is_method = inspect.isfunction(inspect.getattr_static(kind, name, None))
            if is_method and _asks_for_loss(kind, name, seen):
                return True
    return False


def _check_loader(model: HashModel, loader: Iterable[HeteroData] | None, batches: int) -> None:
    """Raise unless a loader gives what is needed, as far as is seen before it is gone through."""
    name = type(model).__name__
    if loader is not None and model.makes_batches:
        raise ValueError(
            f"loader: {name} makes mini-batches by itself; leave it out (see batch_size of {name})"
        )
    if isinstance(loader, Iterator):
        raise TypeError(
            "loader: a generator is used up after one epoch; give a list or an InstanceLoader"
        )
    if loader is not None or batches == 1:
        return
    if why := unshared(type(model)):
        raise ValueError(why)
    if not model.makes_batches:
        raise ValueError(
            f"loader: {name} takes all data at once, but a step is to have {batches} batches "
            "(accumulate times ranks); give a loader, such as InstanceLoader"
        )


def _trained(graphs: Iterable[Any]) -> list[dict[str, Tensor]]:
    """Of each graph that says which rows train: the prints of its rows, and which."""
    return [
        {m: row_prints(x[m].x) for m in MODALITIES} | {"train": x[IMAGE].train_mask.bool().cpu()}
        for x in graphs
        if isinstance(x, HeteroData) and is_mask(x[IMAGE].get("train_mask"))
    ]


def _check_trained(rows: Mapping[str, Tensor], seen: Sequence[Mapping[str, Tensor]]) -> None:
    """Raise if what a loader's graphs train on (:func:`_trained`) are no training rows of data."""
    if not seen:
        return
    own = {name: torch.cat([graph[name] for graph in seen]) for name in seen[0]}
    own[f"{IMAGE}.query"] = own["train"]  # as if these asked
    train = f"{IMAGE}.train"
    ours, others = (trained_queries({**rows, train: x}, own) for x in (rows[train], ~rows[train]))
    if leaks := int((others & ~ours).sum()):
        raise ValueError(
            f"loader: trains on {leaks:,} pairs of data that are no training pairs; make it of "
            "model.training_view(data)"
        )
    if unknown := int((~ours & ~others).sum()):
        warnings.warn(
            f"loader: {unknown:,} of {len(ours):,} pairs that it trains on are none of data, which "
            "is kept for new items; make it of model.training_view(data), unless they were changed "
            "on purpose",
            OddDataWarning,
            stacklevel=3,
        )


def _check_row(row: Row, own: Row) -> None:
    """Make plain numbers of what callbacks added to what is the row's ``own``, for a file."""
    for name, value in list(row.items()):
        if hasattr(value, "item"):  # a tensor's or NumPy's scalar
            row[name] = value.item()
        elif not isinstance(value, int | float | str | None):
            del row[name]
            raise TypeError(f"callbacks: row[{name!r}] is {value!r}; add plain numbers")
    if changed := [name for name in own if row.get(name) is not own[name]]:
        row |= own
        raise ValueError(
            f"callbacks: row[{changed[0]!r}] is a column of the history's own; add another name"
        )


def _validation_map(model: HashModel, data: HeteroData) -> float:
    return evaluate(model, data, split="val", warn=False).cross_modal  # early codes are odd


class Steps:
    """What an optimiser's step is made of: the batches of all ranks, ``accumulate`` on each."""

    def __init__(
        self,
        loader: Iterable[HeteroData] | None,
        accumulate: int,
        ranks: Ranks,
        precision: Precision = "fp32",
    ) -> None:
        self.ranks, self.precision = ranks, precision
        self.seen: list[dict[str, Tensor]] | None = None  # what batches train on, if to be noted
        self.count = ranks.size * accumulate
        first = ranks.rank * accumulate
        self.shares = [Share(place, self.count) for place in range(first, first + accumulate)]
        # None: the model makes its own batches, or takes all data at once
        self.loaders = None if loader is None else [shared_out(loader, s) for s in self.shares]


def train_epoch(
    model: HashModel,
    data: HeteroData | None,
    optimizers: Mapping[str, torch.optim.Optimizer],
    epoch: int,
    steps: Steps,
    note: Callable[[int], object],
) -> Row:
    """Train after ``epoch`` finished ones; ``note`` gets the number of steps now and then."""
    model.train()
    model.zero_grad(set_to_none=True)
    parts, device = model.parts(), steps.ranks.device
    means = _Means(epoch, steps.ranks)
    running = _RunningStatistics(model, steps)
    # where a step has several batches, each draws its own numbers (dropout, neighbours) whoever
    # computes it, so that the result does not depend on how batches are shared out
    order, number, several = None, 0, steps.count > 1
    if several:
        order = int(steps.ranks.agree(int(torch.randint(2**48, ()))))

    def descended(share: Share, stream: Iterator[Objective]) -> Iterator[Objective]:
        """The objectives of one share of the steps, with their gradients."""
        while True:
            _seed(order, steps, number + 1, share.place)
            running.rewind()
            # autocast around fit is to change nothing: it would keep copies of weights for good
            torch.clear_autocast_cache()
            with torch.autocast(device.type, torch.bfloat16, enabled=steps.precision == "bf16"):
                objective = next(stream, None)
            if objective is None:
                return
            running.keep()
            if objective.part not in parts:
                raise ValueError(
                    f"{type(model).__name__}.objectives: gave one of the part {objective.part!r}, "
                    f"but parts() are {', '.join(parts)}; yield Objective(terms, part) of these"
                )
            # gradients of this part alone: an optimiser leaves those without gradient alone
            inputs = [p for p in parts[objective.part] if p.requires_grad]
            is_whole = len(inputs) == len(parts[objective.part])
            _check_terms(objective.terms, type(model).__name__, bool(inputs) and is_whole)
            if inputs and objective.terms["loss"].requires_grad:  # else what it is of is frozen
                loss = objective.terms["loss"] / len(steps.shares)
                with torch.autocast(device.type, enabled=False):
                    loss.backward(inputs=inputs)  # type: ignore[no-untyped-call]
            means.add(objective)
            yield objective

    with torch.random.fork_rng(devices=[], enabled=several):
        streams = _streams(model, data, epoch, steps, order)
        # a step takes one objective of each share: one at a time has its activations in memory
        for objectives in zip(*map(descended, steps.shares, streams), strict=True):
            part = objectives[0].part
            steps.ranks.average_gradients([p for p in parts[part] if p.requires_grad])
            running.average()
            (optimizers[part] if part in optimizers else optimizers[ALL]).step()
            model.zero_grad(set_to_none=True)
            number += 1
            if number % _CHECK_EVERY == 0:
                note(number)
                means.row()
    if number == 0:
        raise ValueError("loader: gave no batch; give at least one an epoch")
    row = means.row()
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise FloatingPointError(
            f"parameters: not finite after epoch {epoch + 1}; "
            "lower the learning rate or check the features"
        )
    return row


def _check_terms(terms: Any, name: str, trained: bool) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless what class ``name`` made can be ``trained``."""
    if not isinstance(terms, Mapping) or "loss" not in terms:
        got = [*terms] if isinstance(terms, Mapping) else type(terms).__name__
        raise TypeError(
            f"{name}.loss: expected a mapping of scalar terms with their total, 'loss', got {got}"
        )
    for key, term in terms.items():
        if not isinstance(term, Tensor) or term.dim():
            got = f"shape {list(term.shape)}" if isinstance(term, Tensor) else repr(term)
            raise TypeError(f"{name}.loss: {key!r} is to be a tensor of one number, [], got {got}")
    if trained and not terms["loss"].requires_grad:
        raise ValueError(f"{name}.loss: 'loss' has no gradient; no part of it may be detached")


def _streams(
    model: HashModel, data: HeteroData | None, epoch: int, steps: Steps, order: int | None
) -> list[Iterator[Objective]]:
    """The objectives of an epoch, side by side for the shares of this rank."""
    if steps.loaders is None:
        assert data is not None
        if steps.count == 1:
            return [model.objectives(data, epoch)]
        make: Any = model.objectives  # of a model that makes batches
        return [make(data, epoch, replace(share, seed=order)) for share in steps.shares]
    streams, device = list[Iterator[Objective]](), steps.ranks.device
    for loader in steps.loaders:
        _seed(order, steps, 0, 0)  # loaders draw the order of their batches, all the same
        generator = getattr(loader, "generator", None)
        if order is not None and generator is not None:
            generator.manual_seed(order)
        batches = (_paired(b, steps.seen).to(device, non_blocking=True) for b in iter(loader))
        streams.append(o for batch in batches for o in model.objectives(batch, epoch))
    return streams


def _paired(batch: HeteroData, seen: list[dict[str, Tensor]] | None) -> HeteroData:
    """The same batch, noted among those ``seen``; raise if its rows are seen to be no pairs."""
    try:
        as_pairs(batch)
    except (TypeError, ValueError) as error:
        raise type(error)(f"loader: in a batch, {error}") from error
    drawn = [batch[m].get("n_id") for m in MODALITIES]  # by a sampler of PyG's
    if all(isinstance(each, Tensor) for each in drawn) and not torch.equal(*drawn):
        raise ValueError("loader: in a batch, n_id: differ, but row i of both must be a pair")
    if seen is not None:
        seen += _trained([batch])
    return batch


def _seed(order: int | None, steps: Steps, step: int, place: int) -> None:
    """Start the random numbers of one batch of a step, if there is an order to go by."""
    if order is not None:
        torch.manual_seed(order + step * steps.count + place)


class _RunningStatistics:
    """Running statistics of batch normalisation: one update a step, the mean of its batches."""

    def __init__(self, model: nn.Module, steps: Steps) -> None:
        self._ranks = steps.ranks
        self._now = [
            buffer.data  # their change is none that a backward pass has to know of
            for layer in model.modules()
            if isinstance(layer, _BATCH_NORMS) and steps.count > 1
            for buffer in layer.buffers()
        ]
        self._start = [now.clone() for now in self._now]
        self._reached: list[list[Tensor]] = []

    def rewind(self) -> None:
        """Before the forward pass of a batch."""
        for now, start in zip(self._now, self._start, strict=True):
            now.copy_(start)

    def keep(self) -> None:
        """After the forward pass of a batch."""
        self._reached.append([now.clone() for now in self._now])

    def average(self) -> None:
        """At the end of a step."""
        means = [torch.stack(r).double().mean(dim=0) for r in zip(*self._reached, strict=True)]
        self._ranks.average(means)
        for now, start, mean in zip(self._now, self._start, means, strict=True):
            start.copy_(now.copy_(mean))
        self._reached.clear()


class _Means:
    """The mean of each loss term over the batches that have it, those of all ranks."""

    def __init__(self, epoch: int, ranks: Ranks) -> None:
        self._epoch, self._ranks = epoch, ranks
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, objective: Objective) -> None:
        """Count the terms of one batch; nothing waits for the device."""
        for name, term in objective.terms.items():
            key = (objective.part, name)
            value = term.detach().float() if term.dtype == torch.bfloat16 else term.detach()
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] += 1

    def row(self) -> Row:
        """The history row so far; ``FloatingPointError`` on all ranks if a loss was not finite."""
        sums = self._ranks.sum([*self._sums.values()])
        counts = self._ranks.sum([*self._counts.values()])
        means = {key: s / n for key, s, n in zip(self._sums, sums, counts, strict=True)}
        several = len({part for part, _ in means}) > 1
        names = [f"{part}_{name}" if several else name for part, name in means]
        count = Counter(["epoch", "val_map", *names])
        if taken := sorted(name for name in count if count[name] > 1):
            raise ValueError(f"loss: {taken[0]!r} is a column of the history; rename that term")
        named = dict(zip(names, means.values(), strict=True))
        losses = [mean for (_, name), mean in means.items() if name == "loss"]
        if not all(map(math.isfinite, losses)):
            raise FloatingPointError(
                f"loss: not finite in epoch {self._epoch + 1} ({named}); "
                "lower the learning rate or check the features"
            )
        return {"epoch": self._epoch + 1, "loss": sum(losses, 0.0)} | named
