"""From settings and what a user names to objects: data sets, models, new items and their codes."""

from __future__ import annotations

import glob
import inspect
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pyg_hash.cli.options import (
    DataOptions,
    EncoderOptions,
    NewItemsOptions,
    RunOptions,
    TrainConfig,
    UsageError,
)
from pyg_hash.cli.output import say
from pyg_hash.features.base import ENCODER_FILE, Encoded, OwnEncoder, encode_each
from pyg_hash.features.words import split_words
from pyg_hash.index import CodeStore
from pyg_hash.models import HashModel
from pyg_hash.models.signs import signed_new
from pyg_hash.recipes import SETTINGS, Recipe, method, recipe
from pyg_hash.runs import RECORD, Run
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality
from pyg_hash.utils.checks import keywords_of
from pyg_hash.utils.files import CorruptFileError, bad_name, bad_text, check_file, load_json
from pyg_hash.utils.optional import imported
from pyg_hash.utils.pictures import PICTURE_SUFFIXES, not_taken
from pyg_hash.utils.provenance import check_model, data_rows, differences, trained_queries
from pyg_hash.utils.settings import check_options, find, is_own

if TYPE_CHECKING:
    from pyg_hash.datasets import CrossModalDataset

_BATCH = {IMAGE: 32, TEXT: 1024}  # items in a call of an encoder


def dataset_class(config: TrainConfig) -> type[CrossModalDataset]:
    """The data set class that the settings name, its options checked."""
    from pyg_hash import datasets

    def is_set(found: Any) -> bool:
        base = datasets.CrossModalDataset
        return isinstance(found, type) and issubclass(found, base) and found is not base

    public = {name.lower(): getattr(datasets, name) for name in datasets.__all__}
    known = {name: found for name, found in public.items() if is_set(found)}
    of_files = known.pop("featurefile")  # is named by the file
    taken, more = {"root", "transform", "pre_transform", "force_reload"}, "the path of an .h5 file"
    cls: type[CrossModalDataset]
    if is_file(config):
        cls, taken = of_files, {*taken, "path"}
    elif is_own(config.dataset):
        cls = imported(config.dataset, "dataset")
        if not is_set(cls):
            raise UsageError(
                f"dataset: {config.dataset} is no class of data sets, which derives from "
                "CrossModalDataset"
            )
        if "pre_transform" not in keywords_of(cls):
            raise UsageError(
                f"dataset: {config.dataset} takes no pre_transform, which makes the graph; hand "
                "one on to CrossModalDataset"
            )
    else:
        cls = find(config.dataset, known, "dataset", f"or {more}, or MODULE:CLASS")
    check_options(cls, config.dataset_options, "dataset_options", taken)
    for name, one in inspect.signature(cls).parameters.items():
        some = one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if not some and name not in {*taken, *config.dataset_options}:
            raise UsageError(
                f"dataset_options: {cls.__name__} needs {name!r}; give --dataset_options.{name}"
            )
    return cls


def recipe_of(config: TrainConfig) -> Recipe:
    """How the settings' method is trained; ``UsageError`` for settings that it cannot have."""
    for name in ("model", "recipe"):
        if getattr(config, name) == "":
            raise UsageError(f"{name}: is empty; name one, or leave it out")
    if ":" in (config.recipe or ""):
        raise UsageError(f"recipe: {config.recipe} is no preset; a class of your own is a --model")
    if config.recipe:
        method(config.recipe.partition("/")[0], "recipe", "and their presets, e.g. mcgcn/wikipedia")
    made = recipe(
        config.recipe or config.model or "mcgcn",
        **{name: getattr(config, name) for name in SETTINGS},
    )
    if config.recipe and config.model and recipe(config.model).kind is not made.kind:
        raise UsageError(
            f"model: {config.model} is not what the recipe {config.recipe} trains; leave one out"
        )
    return made


def with_defaults(config: TrainConfig) -> TrainConfig:
    """``config`` with the defaults of its method."""
    made = recipe_of(config)
    settings = {name: value for name, value in made.settings.items() if name in SETTINGS}
    return replace(config, model=config.model or made.kind.__name__.lower(), **settings)


def build_dataset(config: TrainConfig) -> CrossModalDataset:
    """The data set with its graph; computed once, then read from ``root/processed``."""
    cls: Callable[..., CrossModalDataset] = dataset_class(config)
    keywords = dict(config.dataset_options, pre_transform=recipe_of(config).transforms)
    if is_file(config):
        return cls(config.dataset, root=config.root, **keywords)
    if (root := root_of(config)) is not None:
        keywords["root"] = root
    return cls(**keywords)


def root_of(config: TrainConfig) -> str | None:
    """The folder of a named data set; None for one without, and for a feature file."""
    if is_file(config) or "root" not in keywords_of(dataset_class(config)):
        return None
    return config.root or str(Path("data") / config.dataset.rpartition(":")[2].lower())


def load_model(run: Run, config: TrainConfig | None = None) -> HashModel:
    """The trained model of a run; ``config`` are its settings, if they are read already.

    ``UsageError``: without these, a class that only the run names, whose code is not run.
    """
    if config is None:
        config = TrainConfig.from_dict(run.config())
        if is_own(config.model):
            raise UsageError(
                f"model: {run.path} is a run of {config.model}, and code that only a file names is "
                "not run"
            )
    model = method(str(config.model)).load(run.path / "model")
    if "model" not in run.record():
        what = "build" if run.build_command() else "train --resume"
        raise ValueError(
            f"model: no {RECORD} says that {run.path / 'model'} is the model of the run; put that "
            f"file back, or, if it was stopped, go on with pyg-hash {what}, or start again in "
            "another folder"
        )
    run.check("model", digest_of_model(model), f"model: {run.path / 'model'}")
    return model


digest_of_model = lru_cache(maxsize=1)(HashModel.digest)  # of a loaded one, which stays as it is


def rows_of(dataset: CrossModalDataset) -> dict[str, Tensor]:
    """What a run remembers of its data."""
    return data_rows(dataset[0], dataset.row_prints())


def check_data(run: Run, dataset: CrossModalDataset, *, force: bool) -> list[str]:
    """How data differ from those that a run was trained on, a line each; mostly none.

    ``ValueError``: they differ, and ``force`` is False.
    """
    stored, now = run.rows(), rows_of(dataset)
    if not stored or not (found := differences(stored, now)):
        return []
    listed, seen = "; ".join(found), int(trained_queries(stored, now).sum())
    leak = [f"training rows among the queries: {seen:,} of them"] if seen else []
    if not force:
        raise ValueError(
            f"data: are not those that {run.path} was trained on ({'; '.join([*leak, listed])}); "
            "go back to the right ones or train anew into another folder; evaluate and report take "
            "others under --force"
        )
    return [*leak, f"other data than those of the training: {listed}"]


def settings_of(asked: RunOptions, run: Run) -> TrainConfig:
    """The settings of a run, with the place where its data lie now.

    ``UsageError``: a class of somebody's own that is not named as an option again.
    """
    config = TrainConfig.from_dict(run.config())
    for name in ("model", "dataset") if isinstance(asked, DataOptions) else ("model",):
        there, given = getattr(config, name), getattr(asked, name)
        if (is_own(there) or given) and given != there:
            remedy = f", not of {given}" if given else f"; to run that code, add --{name} {there}"
            raise UsageError(f"{name}: {run.path} is a run of {there}{remedy}")
    if isinstance(asked, DataOptions):
        if asked.data is not None:
            moved: Any = {"dataset" if is_file(config) else "root": asked.data}
            config = replace(config, **moved)
        folder = root_of(config)
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(
                f"data: there is no folder {folder}, seen from {Path.cwd()}; say where the data of "
                f"the run lie with --data"
            )
    return config


def with_data(
    asked: DataOptions, run: Run
) -> tuple[TrainConfig, HashModel, CrossModalDataset, list[str]]:
    """Settings, model and data set of a run, and how the data differ from those of the training."""
    config = settings_of(asked, run)
    model, dataset = load_model(run, config), build_dataset(config)
    return config, model, dataset, check_data(run, dataset, force=asked.force)


def is_file(config: TrainConfig) -> bool:
    """Whether the data set is a feature file."""
    return config.dataset.lower().endswith((".h5", ".hdf5"))


@dataclass
class NewItems:
    """Items that are to be encoded."""

    modality: Modality
    values: Any  # picture files, texts, or feature rows [n, d]
    ids: list[str]
    where: list[str]  # a place for messages about each, e.g. texts.txt:7
    problems: dict[int, str] = field(default_factory=dict)  # found before any encoder saw them
    bare: bool = False  # ids are row numbers, which mean nothing beside those of another file
    encoder: str = ""  # digest of what made the features, if their file tells it


def pictures(where: str) -> NewItems:
    """The pictures in a folder, or files that match a pattern, sorted; what is left out is said."""
    if os.path.isdir(where):
        found, left = list[str](), list[str]()
        for entry in sorted(os.scandir(where), key=lambda entry: entry.name):
            if os.path.isfile(entry.path) and entry.name.lower().endswith(PICTURE_SUFFIXES):
                found.append(entry.path)
            else:
                left.append(entry.name)
        if left:
            deeper = any(os.path.isdir(os.path.join(where, name)) for name in left)
            say(
                f"note: {where}: not taken, {not_taken(left)}"
                + f"; to take pictures in folders too give --images '{where}/**/*'" * deeper
            )
    else:  # a name may look like a pattern
        names = [where] if os.path.isfile(where) else glob.glob(where, recursive=True)
        found, twice = _once(sorted(filter(os.path.isfile, names)))
        if twice:
            say(
                f"note: {where}: links lead to {len(twice)} of the pictures again (first: "
                f"{twice[0]}), which are taken once; to take them again copy them"
            )
    if not found:
        raise FileNotFoundError(f"images: no picture in {where}; give a folder or a pattern")
    places = [printable(path) for path in found]
    ids = [printable(os.path.abspath(path)) for path in found]
    problems = {row: bad_name() for row, path in enumerate(found) if places[row] != path}
    return NewItems(IMAGE, found, ids, places, problems)


def _once(paths: list[str]) -> tuple[list[str], list[str]]:
    """Files without those in folders that are there by another path too, and these."""
    real = {folder: os.path.realpath(folder) for folder in map(os.path.dirname, paths)}
    ranked = sorted(real, key=lambda name: (os.path.abspath(name) != real[name], name))
    first = {*{real[folder]: folder for folder in reversed(ranked)}.values()}
    kept = [path for path in paths if os.path.dirname(path) in first]
    return kept, [path for path in paths if os.path.dirname(path) not in first]


def printable(path: str) -> str:
    """A path, with signs in place of bytes that are no text."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def text_lines(path: str) -> NewItems:
    """The lines of a UTF-8 file; blank ones and those in another encoding are problems."""
    check_file(path, "texts", remedy="; give a text file, a text a line")
    content = Path(path).read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"texts: {path} is UTF-16; save it as UTF-8")
    # only line feeds end a line, so that numbers are those of an editor
    raw = content.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    if not any(line.strip() for line in raw):
        raise ValueError(f"texts: {path} holds no text; write one text a line")
    values, problems = [], {}
    for number, line in enumerate(raw):
        try:
            values.append(line.decode("utf-8").strip())
            problem = "empty text" if not values[-1] else bad_text(values[-1])
            if problem:
                problems[number] = problem
        except UnicodeDecodeError as error:
            values.append("")
            problems[number] = f"not UTF-8 ({error.reason} at byte {error.start})"
    where = [f"{path}:{number + 1}" for number in range(len(raw))]
    return NewItems(TEXT, values, values, where, problems)


def feature_rows(path: str, source: Modality | None) -> list[NewItems]:
    """Feature vectors of a file: HDF5 in the layout of FeatureFile, or NPY of ``source``."""
    found = []

    def add(modality: Modality, x: Tensor, ids: list[str] | None, encoder: str = "") -> None:
        where = [f"{path}: {modality} row {row}" for row in range(len(x))]
        rows = [str(row) for row in range(len(x))]
        found.append(NewItems(modality, x, ids or rows, where, bare=not ids, encoder=encoder))

    ending = Path(path).suffix.lower()
    check_file(path, "features")
    if ending in (".npz", ".csv", ".tsv", ".txt", ".json", ".pkl", ".pt", ".mat", ".parquet"):
        raise UsageError(
            f"features: {path}: {ending} is not read; give .npy (numpy.save), or the .h5 that "
            "write_feature_file writes"
        )
    if ending == ".npy":
        if source is None:
            raise UsageError(f"source: {path} does not say what it holds; give --source image|text")
        add(source, _read_npy(path), None)
    else:
        from pyg_hash.datasets.feature_file import StoredMatrix, open_feature_file, read_strings

        with open_feature_file(path) as file:
            for modality in MODALITIES:
                if modality in file and source in (None, modality):
                    x = StoredMatrix(file, modality).read()
                    made_by = str(file.attrs.get(f"{modality}_encoder", ""))
                    add(modality, x, read_strings(file, "ids", len(x)), made_by)
    if not found:
        wanted = "neither 'image' nor 'text'" if source is None else f"no {source!r}"
        raise ValueError(f"features: {path} has {wanted}")
    return found


def _read_npy(path: str) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptFileError(f"{path}: not a plain NPY file ({error}); write it again") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"features: {path} holds {array.dtype} {list(array.shape)}; "
            "expected numbers [n, d], or [d] for one item"
        )
    if array.size == 0:
        raise ValueError(f"features: {path} holds no numbers, its shape is {list(array.shape)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is named later
        return torch.from_numpy(np.atleast_2d(array).astype(np.float32))


class Coder:
    """What turns new items into codes: a model, and an encoder if they are raw."""

    def __init__(self, model: HashModel, modality: Modality, encoder: Any = None) -> None:
        self.model, self.modality, self.encoder = model, modality, encoder
        if hasattr(encoder, "progress"):
            encoder.progress = False  # one bar for all items is enough
        self.relax = partial(signed_new, model, modality=modality)

    def features(self, values: Any) -> Tensor:
        """Features of raw items; feature rows stay what they are."""
        x: Tensor = values if self.encoder is None else self.encoder(values)
        intake = self.model.intake
        if intake is not None and intake.about["is_features"][self.modality] and x.dim() == 2:
            width = intake.about["shapes"][self.modality][0]
            if x.size(1) != width:
                raise TypeError(  # not a matter of one item
                    f"{self.modality}: got {x.size(1)} features, the model takes {width}; "
                    "use the features that it was trained with"
                )
        return x

    def __call__(self, values: Any) -> Tensor:
        """Relaxed codes float ``[n, num_bits]``, whose signs are the codes."""
        return self.relax(self.features(values))

    def each(self, items: NewItems) -> Encoded:
        """Relaxed codes of all items that have some; the problems of the others are said, too."""
        good = [row for row in range(len(items.ids)) if row not in items.problems]
        values = [items.values[row] for row in good] if items.problems else items.values
        name = "pictures" if self.modality == IMAGE else "texts"
        batch = 4096 if self.encoder is None else _BATCH[self.modality]
        found = encode_each(self, values, batch_size=batch, progress=name)
        late = {good[row]: text for row, text in found.problems.items()}
        found.problems = {}
        for row, problem in sorted({**items.problems, **late}.items()):
            place = items.where[row]
            problem = problem.removeprefix(f"{place}: ").removeprefix("texts: ")
            problem = re.sub(r"^x: 1 of 1 rows (.*?) \(first: row 0\)", r"its features \1", problem)
            found.problems[row] = f"{place}: {problem}"
            say(f"skipped: {place}: {problem}")
        found.kept = [good[row] for row in found.kept]
        if self.encoder is None:
            zeros = set((~items.values.any(dim=1)).nonzero()[:, 0].tolist())
            for row in sorted(zeros.intersection(found.kept)):
                say(f"{items.where[row]}: note: all zeros, so its code is arbitrary")
        return found

    def note_unknown_words(self, text: str, place: str = "") -> None:
        """Say on the standard error which words carry no meaning for the model, if any."""
        find = getattr(self.encoder, "unknown_words", None)
        if find is None or not (unknown := find(text)):
            return
        more = ", ..." if len(unknown) > 10 else ""
        say(f"{place}note: not in the vocabulary: {', '.join(unknown[:10])}{more}")
        both = text.lower().split(), split_words(text.lower())  # of encoders of either kind
        if any({*unknown}.issuperset(words) for words in both):
            say(f"{place}note: no word of {text!r} is known; the answer rests on pieces of words")


def own_function(name: str, argument: str) -> Any:
    """What a user names as ``MODULE:FUNCTION``, a module of torch in evaluation mode."""
    found = imported(name, argument)
    if isinstance(found, type) or not callable(found):
        kind = "a class" if callable(found) else f"{type(found).__name__}, which cannot be called"
        raise UsageError(f"{argument}: {name} is {kind}; name an instance or a function")
    with suppress(AttributeError):  # some have no parts, or an eval() that refuses
        for part in found.modules() if isinstance(found, nn.Module) else ():
            part.training = False
    return found


def own_encoders(asked: EncoderOptions, run: Run) -> dict[Modality, Any]:
    """The user's own encoders; says where the run was made with a function of another name."""
    own: dict[Modality, Any] = {}
    for modality, name in ((IMAGE, asked.image_encoder), (TEXT, asked.text_encoder)):
        if name is not None:
            function, there = own_function(name, f"{modality}_encoder"), ""
            own[modality] = OwnEncoder(function, name=name)
            with suppress(OSError, CorruptFileError):  # it may be damaged, and is not needed
                stored = load_json(run.path / "encoders" / modality / ENCODER_FILE, dict)
                there = str(stored.get("name", "")) if stored.get("kind") == "own" else ""
            # a name in words is its author's
            if there not in ("", name, OwnEncoder(function).name) and " " not in there:
                told = f"the run was made with {there!r}, whose features may mean something else"
                say(f"warning: {modality}_encoder: {name}: {told}")
    return own


def coders_of(asked: NewItemsOptions, run: Run, inputs: list[NewItems]) -> list[Coder]:
    """What turns each input into codes; all are found before the first starts to work."""
    own, model = own_encoders(asked, run), load_model(run, settings_of(asked, run))
    if asked.features is None:
        kinds = [items.modality for items in inputs]
        return [Coder(model, kind, own.get(kind) or run.encoder(kind)) for kind in kinds]
    for items in inputs if not asked.force else ():
        known = run.record().get(f"{items.modality}_encoder") or items.encoder
        if items.encoder not in ("", known):
            raise ValueError(
                f"features: those of {items.modality}s in {asked.features} are of another encoder "
                f"({items.encoder[:12]}) than the run's ({known[:12]}), and mean something else; "
                "encode them with the run's (--images, --texts), or, if you know better, add "
                "--force"
            )
    return [Coder(model, items.modality) for items in inputs]


def opened(address: str) -> CodeStore:
    """The store at an address; ``UsageError`` for what cannot be one."""
    from pyg_hash.stores import store_class

    kind = store_class(address)
    if kind is None:
        raise UsageError(
            f"store: {address!r} is none; expected NAME.store (a file), NAME.lance (LanceDB), "
            "NAME.db or http://HOST:PORT (Milvus)"
        )
    found: CodeStore = kind.open(address)
    return found


def open_store(address: str, model: HashModel, force: bool) -> CodeStore:
    """A store that is there, with codes of this model."""
    store = opened(address)
    if store.num_bits != model.num_bits:
        raise ValueError(
            f"store: the codes in {address} have {store.num_bits} bits, those of the run "
            f"{model.num_bits}"
        )
    if len(store) or store.model is not None:
        check_model(store.model, digest_of_model(model), f"store: {address}", force=force)
    else:  # an empty one is for the first model that comes
        store.model = digest_of_model(model)
    return store
