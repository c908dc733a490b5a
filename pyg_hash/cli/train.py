"""``pyg-hash train``: from settings to a run folder, each finished stage kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli import build
from pyg_hash.cli.options import TrainConfig, UsageError
from pyg_hash.runs import CHECKPOINT, Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import CorruptFileError

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData

    from pyg_hash.datasets import CrossModalDataset
    from pyg_hash.metrics import Evaluation
    from pyg_hash.models import HashModel
    from pyg_hash.recipes import Recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash train``."""
    parser.add_argument("--config", action="config", help="settings in YAML; options override them")
    parser.add_argument("--out", type=str, required=True, help="the run folder to write")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--device", type=Literal["cpu", "cuda"], default="cpu", help="where to train: cpu or cuda"
    )
    TrainConfig.add_arguments(parser)


def run(args: Namespace) -> int:
    """Train and report; returns the exit status."""
    from pyg_hash.training.ranks import Ranks, process_group

    config = TrainConfig.from_namespace(args)
    try:
        with process_group(args.device) as device:
            folder, evaluation = train(
                config, args.out, resume=args.resume, progress=True, device=device
            )
            if not Ranks.on(device).is_main:
                return 0
    except KeyboardInterrupt:
        print(f"stopped; go on with: pyg-hash train --out {args.out} --resume", file=sys.stderr)
        raise
    print(evaluation or "the data have no labels: nothing to evaluate by")
    print(f"run folder: {folder.path}")
    return 0


def train(
    config: TrainConfig,
    out: str,
    *,
    resume: bool = False,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[Run, Evaluation | None]:
    """Train a model and fill a run folder.

    The stages are: data set, training, items and encoders, index, metrics. What is finished
    stays; with ``resume`` the first unfinished stage goes on. Under ``torchrun`` all processes
    train, and the first one does the rest.

    Args:
        config: the settings.
        out: the run folder.
        resume: go on with a run that is there.
        progress: show progress bars.
        device: where to train and encode.

    Returns:
        The run and its evaluation on the queries; None if the data have no labels, and on all
        processes but the first.

    Raises:
        UsageError: an unknown data set, model, protocol or option.
        OSError: the folder cannot be written, or holds a run and ``resume`` is False.
    """
    from pyg_hash.metrics import evaluate
    from pyg_hash.training.ranks import Ranks

    ranks = Ranks.on(device)
    config = build.with_defaults(config)
    _check_numbers(config)
    build.dataset_class(config)  # names and options are checked before any work
    recipe = build.recipe_of(config)
    _ = recipe.transforms  # options of the graph
    if config.patience is not None and not config.val_rate:
        raise UsageError("patience: needs a validation split; give --val_rate too, e.g. 0.1")
    if config.epochs is None and config.patience is not None:
        raise UsageError(f"patience: {config.model} has a closed form, there is nothing to stop")
    if config.epochs is None and config.precision != "fp32":
        raise UsageError(f"precision: {config.model} has a closed form, always in float64")
    batches = ranks.size * config.accumulate
    if batches > 1 and not (config.batch_size or recipe.kind.makes_batches):
        raise UsageError(
            f"batch_size: {config.model} takes all data at once, but a step is to have {batches} "
            "batches (accumulate times processes); give --batch_size too"
        )
    folder = Run(Path(out))
    if ranks.is_main:
        if resume and not folder.has("config"):
            raise UsageError(
                f"resume: {out} holds no run; check --out, or leave out --resume to start one"
            )
        Run.create(out, config.to_dict(), resume=resume)
    dataset = ranks.in_turn(lambda: build.build_dataset(config))
    data = dataset[0].to(device)
    if ranks.agree(folder.has("model")):
        model = recipe.kind.load(folder.path / "model").to(device)
    else:
        model = _fit(config, recipe, folder, data, resume=resume, progress=progress)
    if not ranks.is_main:
        return folder, None
    if not folder.has("items"):
        _save_items(folder, dataset, data)
    _save_index(folder, model, data)
    if "y" not in data[IMAGE]:
        return folder, None
    evaluation = evaluate(model, data)
    folder.add_metrics("query", evaluation.to_dict())
    return folder, evaluation


def _check_numbers(config: TrainConfig) -> None:
    """Find a wrong number before the data set is built, which may take minutes."""
    try:
        check_positive_int(config.accumulate, "accumulate")
        if config.patience is not None:
            check_positive_int(config.patience, "patience")
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def _fit(
    config: TrainConfig,
    recipe: Recipe,
    folder: Run,
    data: HeteroData,
    *,
    resume: bool,
    progress: bool,
) -> HashModel:
    from pyg_hash.training.ranks import Ranks

    model = recipe.model(data)
    history = recipe.fit(
        model,
        data,
        precision=config.precision,
        accumulate=config.accumulate,
        checkpoint=folder.path / CHECKPOINT,
        resume=resume,
        patience=config.patience,
        progress=progress,
    )
    if not Ranks.of(model).is_main:
        return model
    if history:
        history.to_csv(folder.path / "history.csv")
        history.to_json(folder.path / "history.json")
    folder.save_folder("model", model.save)
    return model


def label_names(y: Any, class_names: list[str]) -> list[list[str]]:
    """The class names of every instance; ``y`` is a class index [N] or multi-hot [N, C]."""
    if y.dim() == 1:
        return [[class_names[c]] for c in y.tolist()]
    return [[class_names[c] for c in row.nonzero().flatten().tolist()] for row in y]


def _save_items(folder: Run, dataset: CrossModalDataset, data: HeteroData) -> None:
    for modality in MODALITIES:
        make = dataset.image_encoder if modality == "image" else dataset.text_encoder
        try:
            encoder = make()
        except CorruptFileError:
            raise
        except ValueError:  # the set came as features: there is nothing to encode raw items with
            continue
        folder.save_folder(f"encoders/{modality}", encoder.save)
    folder.save_items(
        RunItems(
            ids=list(dataset.ids),
            texts=list(dataset.texts),
            image_paths=[None if path is None else str(path) for path in dataset.image_paths],
            labels=(
                label_names(data[IMAGE].y, dataset.class_names)
                if "y" in data[IMAGE]
                else [[] for _ in dataset.ids]
            ),
        )
    )


def _save_index(folder: Run, model: HashModel, data: HeteroData) -> None:
    from pyg_hash.index import HammingIndex

    for modality in MODALITIES:
        rows = data[modality].database_mask.nonzero().flatten()
        index = HammingIndex(model.num_bits)
        index.add(model.encode(data, modality)[rows].cpu(), ids=rows.cpu())
        index.save(folder.index_file(modality))
