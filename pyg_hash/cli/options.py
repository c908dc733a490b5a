"""What each command can be asked: a field of a dataclass is one option. No torch, for --help."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Self, dataclass_transform, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.utils.settings import SettingError

_PLACES = {"run", "out", "path", "file", "files", "source", "store"}
_POSITIVE = {"accumulate", "checkpoint_every", "k", "oversample", "points", "queries", "threads"}
_POSITIVE |= {"train_rows"}
UsageError = SettingError  # the command line asks for something that does not exist; exit status 2


def option(text: str, default: Any = None, names: Sequence[str] = ()) -> Any:
    """A field that is an option: help text, default or ``MISSING``, names if not ``--FIELD``."""
    metadata = {"help": text, "names": names, "default": default}
    if isinstance(default, dict | list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True)
class Options:
    """The options of a command; subclasses are dataclasses of them, their docstrings its help."""

    does = ""  #: module, in ``pyg_hash.cli``, and function that take them

    def __init_subclass__(cls, does: str = "") -> None:
        cls.does = does
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the options."""
        hints = get_type_hints(cls)
        for f in fields(cls):
            names, default = f.metadata["names"] or [f"--{f.name}"], f.metadata["default"]
            how: dict[str, Any] = {"type": hints[f.name]}
            if f.type == "bool":
                how = {"action": "store_true"}
            elif hints[f.name] == list[str]:
                how = {"type": str, "nargs": "+" if default is MISSING else "*"}
            if default is not MISSING:
                how["default"] = default
            elif names[0].startswith("-"):
                how["required"] = True
            parser.add_argument(*names, help=f.metadata["help"], **how)

    @classmethod
    def of(cls, args: Namespace) -> Self:
        """The options of a parsed command line; ``UsageError`` for what none can be."""
        values = {f.name: args[f.name] for f in fields(cls)}
        for name, value in values.items():
            if value in ("", [""]) and name in _PLACES:  # it would be the current folder
                raise UsageError(f"{name}: is empty; name a file or folder")
            if isinstance(value, str) and "\0" in value:
                raise UsageError(f"{name}: contains a NUL character; remove it")
            if name == "images_root" and value is not None:
                values[name] = value or None  # a variable of a script that is not set
                if value and not os.path.isdir(value):
                    raise NotADirectoryError(f"{name}: {value} is no folder")
            if name in _POSITIVE and value is not None and value < 1:
                raise UsageError(f"{name}: expected a positive integer, got {value}")
            if name == "seed" and value is not None and not 0 <= value < 1 << 63:
                raise UsageError(f"seed: expected an integer from 0 to 2**63 - 1, got {value}")
        return cls(**values)


class TrainConfig(Options):
    """Everything that decides the codes of a run; the help texts are the documentation."""

    dataset: str = option(
        "emoji, emoji-vendors, wikipedia, nuswide10k, nuswide, mirflickr25k, mscoco, ... "
        "the path of your own features, FILE.h5, or MODULE:CLASS",
        "emoji",
    )
    root: str | None = option("folder of the data set (default: data/DATASET)")
    dataset_options: dict[str, Any] = option("options of the data set class", {})
    model: str | None = option(
        "a method: a class of pyg_hash.models, in any case, or MODULE:CLASS (mcgcn)"
    )
    recipe: str | None = option(
        "a paper or program to the letter, in place of --model: mcgcn/wikipedia, ..."
    )
    num_bits: int | None = option("length of the codes (32)")
    model_options: dict[str, Any] = option("options of the model class", {})
    label_rate: float | None = option(
        "share of the labels that the data set lets a method use (0.3; taughthash can do with 0; "
        "sgeh uses none)"
    )
    val_rate: float | None = option(
        "share of the labelled training items held out (0): early stopping, --split val"
    )
    protocol: Literal["inductive", "strict", "transductive"] | None = option(
        "mcgcn and sgch: what a query's code may depend on (inductive; the others are by nature)"
    )
    k: int | None = option("neighbours of a node in the graph (20; sgeh 50)")
    metric: Literal["cosine", "ip", "l2"] | None = option(
        "similarity of features in the graph of mcgcn and sgch (cosine)"
    )
    weight: Literal["binary", "similarity"] | None = option(
        "mcgcn: weight of a neighbour: 1 (Eq. 1) or its cosine (default under cosine)"
    )
    match: Literal["shared", "equal"] | None = option(
        "mcgcn: which multi-label items are similar: with a shared label, or equal ones"
    )
    graph_options: dict[str, Any] = option(
        "further options of the graph: mcgcn IntraKNN, sgch SGCHGraph, sgeh UnifiedAffinity", {}
    )
    epochs: int | None = option("passes over the data (default: the method's)")
    scaling: dict[str, Any] = option("options of ScaleFeatures: center, norm, ...", {})
    lr: float | dict[str, Any] | None = option(
        "learning rate, one or a mapping part: rate (default: the method's)"
    )
    optimizer: dict[str, Any] = option(
        "class of torch.optim and its keywords: {name: SGD, momentum: 0.9} (default: Adam)", {}
    )
    decay: float | None = option("factor of the rates, an epoch (default: the method's)")
    patience: int | None = option(
        "stop after so many evaluations without progress (needs val_rate)"
    )
    batch_size: int | None = option(
        "mcgcn and sgch: train on mini-batches of so many instances (default: on all at once)"
    )
    loader_options: dict[str, Any] = option(
        "further options of these mini-batches: num_neighbors, num_members, num_workers, ...", {}
    )
    accumulate: int = option(
        "mini-batches of an optimiser's step, of each process where there are several", 1
    )
    precision: Literal["fp32", "bf16"] = option(
        "bf16: matrix products of the training in bfloat16", "fp32"
    )
    seed: int | None = option("seed of the labels, the weights and the noise (0)")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The settings of a stored run; ``UsageError`` if this version does not know one."""
        names = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise UsageError(
                f"config: {', '.join(unknown)} not known; use some of {', '.join(names)}"
            )
        return cls(**values)


class Train(TrainConfig, does="train:train"):
    """Train a model and write a run folder."""

    out: str = option("the run folder to write", MISSING)
    resume: bool = option("go on with the run in --out", False)
    checkpoint_every: int = option("epochs between checkpoints, which a power cut may cost", 10)
    device: Literal["cpu", "cuda"] = option("where to train: cpu or cuda", "cpu")

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the options, and ``--config``, a file of them."""
        text = "settings in YAML; options override them"
        parser.add_argument("--config", action="config", help=text)
        super().add_arguments(parser)


class Build(Options, does="catalogue:build"):
    """From a folder, a table or features to a run that finds it all."""

    source: list[str] = option(
        "a folder of pictures; a CSV, TSV, JSON lines or Parquet file; MS-COCO's captions; a "
        "feature file; or NPY, NPZ, MATLAB or HDF5 files of features",
        MISSING,
        ["source"],
    )
    out: str = option("the run folder to write; the same command again goes on with it", MISSING)
    image_column: str | None = option(
        "column (or variable) of pictures or their features; '' for none in a table"
    )
    text_column: str | None = option("column of texts or their features; '' for none in a table")
    label_column: str | None = option("column of labels")
    id_column: str | None = option("column of ids")
    label_separator: str | None = option(
        "between several labels of a row, '' where each has one (; or | or ,)"
    )
    images_root: str | None = option("folder that the names of pictures are below")
    encoding: str | None = option("of a CSV or TSV file that is not in UTF-8, e.g. cp1252")
    image_encoder: str | None = option(
        "efficientnet_lite0, a folder of weights, or MODULE:FUNCTION (efficientnet_lite0)"
    )
    text_encoder: str | None = option(
        "static_words, a folder of weights, or MODULE:FUNCTION (words and their meaning)"
    )
    num_bits: int = option("length of the codes", 64)
    train_rows: int = option("pairs to train on, at most", 20_000)
    epochs: int | None = option("passes over them (60)")
    skip_bad: bool = option("leave out pictures and texts that cannot be read", False)
    seed: int = option("seed of what is drawn, and of the training", 0)


class RunOptions(Options):
    """A command about a run."""

    run: str = option("a run folder", MISSING, ["run"])
    model: str | None = option(
        "MODULE:CLASS of a model of your own: code that a file names is never run"
    )


class DataOptions(RunOptions):
    """A command that reads the data set of a run."""

    data: str | None = option(
        "where the data lie if they have moved: FILE.h5, or the folder of a named data set"
    )
    dataset: str | None = option("MODULE:CLASS of a data set of your own, as --model")
    force: bool = option("go on although the run was trained on other data", False)


class PictureOptions(RunOptions):
    """A command that shows the items of a run."""

    images_root: str | None = option("where the pictures of the run lie, if they have moved")


class EncoderOptions(RunOptions):
    """A command that encodes raw items."""

    image_encoder: str | None = option("your own encoder of pictures, MODULE:FUNCTION")
    text_encoder: str | None = option("your own encoder of texts, MODULE:FUNCTION")
    force: bool = option("use a store or features although they are of another model", False)


class NewItemsOptions(EncoderOptions):
    """A command about new items, raw ones or features."""

    features: str | None = option(
        "feature vectors: HDF5 (image, text or both) or NPY (with --source)"
    )
    source: Literal["image", "text"] | None = option(
        "what the rows of --features are: image or text"
    )

    def __post_init__(self) -> None:
        if self.source is not None and self.features is None:
            raise UsageError("source: says what --features holds; give that too")


class Evaluate(DataOptions, does="evaluate:evaluate"):
    """Evaluate a run again: mAP in all four directions."""

    split: Literal["query", "val"] = option("query or val", "query")
    topk: int | None = option("rank cut (default: all)")
    ties: str = option("expected, index, optimistic or pessimistic", "expected")
    denominator: str = option("hits, min_k_R, R or dcmh", "hits")
    relevance: str = option("labels that relevant items share, e.g. subgroup (of Emoji)", "y")
    device: Literal["cpu", "cuda"] = option("where to encode: cpu or cuda", "cpu")
    json: bool = option("print JSON instead of a table", False)


class Encode(NewItemsOptions, does="encode:encode"):
    """Codes of new pictures, texts or features."""

    images: str | None = option("a folder of pictures, or a pattern: 'a/*.png', 'a/**/*.png'")
    texts: str | None = option("a text file in UTF-8, one text a line")
    out: str = option(
        "the HDF5 file to write; or a store, new or not, to put the codes into: NAME.store, "
        "NAME.lance, NAME.db or http://HOST:PORT",
        MISSING,
    )
    index: str | None = option(
        "how a new NAME.store looks codes up: flat, multiindex, ivf or hnsw (flat)"
    )
    ids: str | None = option(
        "a text file in UTF-8, the id of each item a line (paths, texts, ids of the file)"
    )
    relaxed: bool = option(
        "keep relaxed codes too, for rescoring: float16 in HDF5, int8 in a new NAME.store", False
    )
    strict: bool = option("write nothing if an item cannot be encoded", False)


class SearchOptions(EncoderOptions, PictureOptions):
    """A command that searches a run, or a store of its model's codes."""

    store: str | None = option(
        "search there instead of in the run: what encode --out wrote, or one of yours: NAME.store, "
        "NAME.lance, NAME.db or http://HOST:PORT (Milvus)"
    )
    rescore: Literal["auto", "none"] = option(
        "auto: order the nearest by the query's real-valued code against the items' relaxed codes, "
        "or their bits where they have none (a score); none: by distance alone",
        "auto",
    )
    oversample: int = option(
        "how many of the nearest to rescore: so many times -k, or times 25 if it is less, and all "
        "ties",
        4,
    )


class Search(SearchOptions, NewItemsOptions, does="search:search"):
    """Nearest items of a run to a text or a picture."""

    text: str | None = option("search with these words")
    image: str | None = option("search with this picture")
    modality: Literal["image", "text"] | None = option(
        "which codes to search, image or text (default: not those of the query)"
    )
    where: str | None = option("only items with such fields: \"year >= 2005 and labels has 'cat'\"")
    k: int = option("number of answers", 10, ["-k", "--k"])
    json: bool = option("print one JSON object a query, each in a line, instead of tables", False)


class Serve(SearchOptions, does="search:serve"):
    """A search page for a run in the browser, with a JSON API."""

    host: str = option(
        "address to listen at; 0.0.0.0 lets the network in, without encryption", "127.0.0.1"
    )
    port: int = option("0 takes a free one and prints it", 8765)
    threads: int = option("searches that run at a time", 2)
    token_file: str | None = option(
        "file with a token, in one line: who sends it may add and delete"
    )
    private: bool = option("let nobody search without the token either", False)
    rate: float | None = option(
        "requests a second of one client, 0 for any (50 where the network is let in, by --host or "
        "--proxy, else 0)"
    )
    proxy: str | None = option("address of your proxy, whose X-Forwarded-For is believed")
    hosts: str | None = option(
        "names without ports, by commas, that it answers to beside this machine's own for itself: "
        "those that your proxy passes on as Host"
    )
    root_path: str = option("prefix that your proxy takes away of paths, as /search", "")
    log: str | None = option(
        "file for the access log, in JSON lines; - for the standard error, which is where it goes "
        "if the network is let in"
    )


class Export(PictureOptions, does="encode:export"):
    """Encoders or codes as files for other programs."""

    run: str = option("a run folder, or a store: NAME.store, NAME.lance, ...", MISSING, ["run"])
    to: Literal["onnx", "faiss", "parquet", "npz", "csv", "h5", "pgvector", "milvus"] = option(
        "onnx: a run's encoders, from features to codes; faiss: for read_index_binary; pgvector: "
        "SQL; milvus: Parquet for its bulk insert, or with an address for --out a new collection; "
        "the others: plain files",
        MISSING,
    )
    out: str | None = option(
        "the folder of a run's two files (default: RUN/export), the file of a store's; of milvus "
        "also NAME.db or http://HOST:PORT"
    )


class Report(DataOptions, PictureOptions, does="evaluate:report"):
    """One HTML page about a run: accuracy, gallery, curves, codes."""

    others: list[str] = option("further runs, for a page that compares them", [], ["others"])
    out: str | None = option("the page to write (default: RUN/report.html, or RUN/comparison.html)")
    queries: int = option("queries in the gallery", 4)
    points: int = option("items in the t-SNE maps", 500)
    seed: int = option("seed of what is drawn at random", 0)


class StoreOptions(Options):
    """A command about a store."""

    store: str = option(
        "NAME.store, NAME.lance, NAME.db or http://HOST:PORT; or a run that build made, whose two "
        "stores are listed as one and change alike",
        MISSING,
        ["store"],
    )


class ListItems(StoreOptions, does="store:list_items"):
    """Print items.

    Ids and fields of items, all or some.
    """

    where: str | None = option("only these: \"year >= 2005 and labels has 'cat'\"")
    start: int = option("how many to leave out", 0)
    limit: int = option("how many to print at most", 20)
    json: bool = option("print one JSON object an item, each in a line", False)


class DeleteItems(StoreOptions, does="store:delete_items"):
    """Delete items.

    By id, or all that pass a filter.
    """

    ids: str | None = option("a text file in UTF-8, an id a line")
    where: str | None = option("all of these: \"labels has 'cat'\"")


class UpdateItems(StoreOptions, does="store:update_items"):
    """Change fields of items.

    The codes of the items stay, and fields that the file does not name.
    """

    metadata: str = option(
        "FILE.csv or FILE.jsonl with the column id and some of the fields; in CSV an empty cell is "
        "a missing value, and lists are JSON or separated by ;",
        MISSING,
    )


class Check(Options, does="evaluate:check"):
    """Report on a feature file.

    Shapes, types, ranges, NaN, duplicates, label balance, split overlap.
    """

    file: str = option("a feature file in HDF5", MISSING, ["file"])


class Import(Options, does="evaluate:import_data"):
    """A feature file from MATLAB, HDF5, NPY or NPZ files of other projects.

    Names and layouts of the field are known (IAll, I_tr, VDatabase, caption, ...).

    What is guessed is printed. Pickles are refused.
    """

    files: list[str] = option("what belongs together: .mat .h5 .npy .npz .json", MISSING, ["files"])
    out: str = option("the feature file to write, FILE.h5", MISSING)
    image: str | None = option("variable of the pictures' features or pixels, or FILE:NAME")
    text: str | None = option("variable of the texts' features")
    labels: str | None = option("variable of the labels")
    texts: str | None = option("variable of the raw texts")
    image_paths: str | None = option("variable of the picture files")
    ids: str | None = option("variable of the ids")
    class_names: str | None = option("variable of the names of the classes")
    train: str | None = option("training rows: variable of row numbers or mask, START:STOP")
    query: str | None = option("rows that ask, the same")
    database: str | None = option("rows that are searched, the same")
    val: str | None = option("rows that are held out, the same")
    images_root: str | None = option("folder of the pictures, where no array holds features")
    seed: int = option("seed of the queries that are drawn where no split is named", 0)


class Verify(Options, does="evaluate:verify"):
    """Read stored files whole and compare their checksums.

    Runs, models, stores, feature files, exported codes: whether every byte is what was written.

    Also whether the files of a run belong together.
    """

    path: str = option("a file, or a folder: a run, a data set, a store", MISSING, ["path"])
