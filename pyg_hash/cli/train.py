"""``pyg-hash train``: from settings to a run folder, each finished stage kept."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_hash.cli import build
from pyg_hash.cli.options import Train, TrainConfig, UsageError
from pyg_hash.index import HammingIndex
from pyg_hash.models import HashModel
from pyg_hash.models.batches import unshared
from pyg_hash.models.files import stored_config, stored_tensors
from pyg_hash.models.signs import has_own
from pyg_hash.recipes import Recipe
from pyg_hash.runs import CHECKPOINT, Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES, binarize
from pyg_hash.utils.files import CorruptFileError, digest_of_folder, sha256
from pyg_hash.utils.modes import eval_mode
from pyg_hash.utils.signals import stop_after

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from pyg_hash.datasets import CrossModalDataset


def train(asked: Train) -> None:
    """Train, and report."""
    if command := Run(Path(asked.out)).build_command():
        raise UsageError(
            f"out: {asked.out} is a run of pyg-hash build, which train does not finish; go on "
            f"with: {command}"
        )
    try:
        train_run(asked)
    except KeyboardInterrupt:
        print(f"stopped; go on with: pyg-hash train --out {asked.out} --resume", file=sys.stderr)
        raise


def train_run(asked: Train) -> None:
    """The stages: data set, training, items and encoders, index, metrics; what is done stays.

    Under ``torchrun`` all processes train, and the first one does the rest.
    """
    from pyg_hash.datasets.base import keeps_rows
    from pyg_hash.metrics import evaluate
    from pyg_hash.training.ranks import Ranks, process_group

    with process_group(asked.device) as device, ExitStack() as held:
        ranks = Ranks.on(device)
        config = TrainConfig(**{f.name: getattr(asked, f.name) for f in fields(TrainConfig)})
        config = build.with_defaults(config)
        recipe = build.recipe_of(config)
        check_settings(config, recipe, ranks.size)  # before any work
        run = Run(Path(asked.out))
        if ranks.is_main:
            if asked.resume and not run.has("config"):
                raise UsageError(
                    f"resume: {run.path} holds no run; check --out, or leave out --resume to "
                    "start one"
                )
            if not asked.resume:
                run.check_place()
            held.enter_context(run.lock())
            Run.create(run.path, asdict(config), resume=asked.resume)
        dataset = ranks.in_turn(lambda: build.build_dataset(config))
        data = dataset[0]
        if ranks.is_main:
            if hasattr(recipe.kind, "recipe_graph") and not keeps_rows(dataset, data):
                raise UsageError(
                    "recipe_graph: drops or permutes rows, or a transform of the data set does "
                    "after build(); do that in build()"
                )
            if rows := run.rows() if asked.resume else None:
                build.check_data(run, dataset, force=False)
            run.keep_rows(rows or build.rows_of(dataset))
            if not run.has("items"):  # sooner than the training: encoders may not be there
                _save_items(run, dataset, data)
        data = data.to(device)
        if ranks.agree(run.has("model") and "model" in run.record()):  # else it stopped in between
            model = build.load_model(run, config).to(device)
        else:
            model = recipe.model(data)
            stored_config(model.config), stored_tensors(model)  # what no file holds is said now
            of = ""
            if ranks.is_main:  # a feature file may have moved
                settings = {**run.config(), "dataset": Path(config.dataset).name}
                of = sha256(run.record()["data"], json.dumps(settings))
            callbacks: list[Any] = [OfRun(of)]
            with ExitStack() as stops:
                if recipe.epochs is not None and ranks.size == 1:  # else all stop at once
                    check = stops.enter_context(stop_after("epoch"))
                    callbacks.append(lambda *row: check())
                history = recipe.fit(
                    model,
                    data,
                    precision=config.precision,
                    accumulate=config.accumulate,
                    checkpoint=run.path / CHECKPOINT,
                    checkpoint_every=asked.checkpoint_every,
                    resume=asked.resume,
                    callbacks=callbacks,
                )
            if ranks.is_main:
                if history:
                    run.keep_history(history)
                run.note(model=model.digest())  # of the same one, if this stops before it is saved
                run.save_folder("model", model.save)
        if not ranks.is_main:
            return
        save_indexes(run, model, data)
        evaluation = evaluate(model, data)
        record, values = run.record(), evaluation.to_dict()
        run.add_metrics("query", values, model=record["model"], data=record["data"])
        print(evaluation)
        if not dataset.num_classes:
            print("the data have no labels, so there is no mAP")
        print(f"run folder: {run.path}")


class OfRun:
    """A callback by which a checkpoint says which run it is of; that of another is refused.

    ``digest`` is of the run's data and settings; empty for a process that does not know it.
    """

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def __call__(self, *row: Any) -> None:
        """Nothing is to be done after an epoch."""

    def state_dict(self) -> dict[str, str]:
        """What the checkpoint keeps."""
        return {"run": self.digest}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Raise ``ValueError`` for the checkpoint of another run."""
        if self.digest and state.get("run") != self.digest:
            raise ValueError(
                "resume: the checkpoint is of a run with other data or settings; put back that of "
                f"this run, or remove {CHECKPOINT} and train anew"
            )


def check_settings(config: TrainConfig, recipe: Recipe, processes: int) -> None:
    """Find what is wrong with settings before the data set is built, which may take minutes."""
    from pyg_hash.datasets import open_feature_file

    build.dataset_class(config)
    _ = recipe.transforms  # options of the graph
    if config.patience is not None:
        declared = False
        if build.is_file(config):
            with open_feature_file(config.dataset) as file:
                declared = "splits/val" in file
        if not config.val_rate and not declared:
            raise UsageError(
                "patience: needs a validation split; give --val_rate too, e.g. 0.1, or a file "
                "with splits/val"
            )
    if config.epochs is None and config.precision != "fp32":
        raise UsageError(f"precision: {config.model} has a closed form, always in float64")
    batches = processes * config.accumulate
    if batches > 1 and not config.batch_size:
        if why := unshared(recipe.kind):
            raise UsageError(why)
        if not recipe.kind.makes_batches:
            raise UsageError(
                f"batch_size: {config.model} takes all data at once, but a step is to have "
                f"{batches} batches (accumulate times processes); give --batch_size too"
            )


def save_indexes(run: Run, model: HashModel, data: HeteroData) -> None:
    """Codes of the database items; with relaxed codes, where one pass gives both."""
    with eval_mode(model):
        out = model(data)
    digest = model.digest()
    own = has_own(model, "encode")  # its codes may be other than these signs
    for modality in MODALITIES:
        rows = data[modality].database_mask.nonzero().flatten()
        relaxed = out[modality][rows].cpu()
        codes = model.encode(data, modality)[rows].cpu() if own else binarize(relaxed)
        kept = not own and bool((relaxed.abs() <= 1).all())
        index = HammingIndex(model.num_bits)
        index.model, index.modality = digest, modality
        index.add(codes, ids=rows.cpu(), relaxed=relaxed if kept else None)
        index.save(run.index_file(modality))


def _save_items(folder: Run, dataset: CrossModalDataset, data: HeteroData) -> None:
    from pyg_hash.datasets.base import label_names

    for modality in MODALITIES:
        try:
            encoder = getattr(dataset, f"{modality}_encoder")()
        except CorruptFileError:
            raise
        except ValueError:  # the set came as features: there is nothing to encode raw items with
            continue
        folder.save_folder(f"encoders/{modality}", encoder.save)
        found = digest_of_folder(folder.path / "encoders" / modality)
        folder.note(**{f"{modality}_encoder": found})
    paths = [None if path is None else str(path) for path in dataset.image_paths]
    y = data[IMAGE].y if "y" in data[IMAGE] else None
    labels = label_names(y, dataset.class_names, len(dataset.ids))
    folder.save_items(RunItems(list(dataset.ids), list(dataset.texts), paths, labels))
