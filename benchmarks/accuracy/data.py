"""The data of the tables: where they come from, and what they are known by."""

import hashlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch_geometric.data import HeteroData

import pyg_hash.datasets as datasets
from benchmarks.coco import ALL_TRAIN, load_coco
from pyg_hash.typing import MODALITIES

SPLITS = ("train", "query", "database")


class DataSource(NamedTuple):
    """Features and a split."""

    title: str  # in the tables
    option: str | None  # of the command line, says where it lies; None needs no place
    load: Callable[[str], HeteroData]  # place -> data before scaling
    needs: str = ""  # what has to lie there, in words


class Content(NamedTuple):
    """What a result says of its data: sizes, digests of features and labels, and of masks."""

    about: str
    data: str
    split: str


def content(data):
    """The digests and sizes of a data set."""
    store, sizes = data["image"], _sizes(data)
    counts = ", ".join(f"{sizes[part]:,} {part}" for part in SPLITS)
    widths = ", ".join(f"{data[m].x.size(1):,}-d {m}s" for m in MODALITIES)
    return Content(
        about=f"{counts}; {widths}; {data.num_classes} classes",
        data=digest(*(part for m in MODALITIES for part in (data[m].x, data[m].y))),
        split=digest(*(store[f"{part}_mask"] for part in SPLITS)),
    )


def digest(*of):
    """Hex digest of tensors, dense or sparse."""
    found = hashlib.sha256()
    for values in of:
        found.update(f"{values.dtype} {list(values.shape)}".encode())
        parts = [values]
        if values.layout != torch.strided:
            sparse = values.to_sparse_coo().coalesce()
            parts = [sparse.indices(), sparse.values()]
        for part in parts:
            found.update(memoryview(part.contiguous().numpy()).cast("B"))
    return found.hexdigest()[:16]


def _sizes(data):
    """What is known of a data set's sizes."""
    store = data["image"]
    parts = {part: int(store[f"{part}_mask"].sum()) for part in SPLITS}
    widths = {f"{m}_features": data[m].x.size(1) for m in MODALITIES}
    return {"pairs": store.x.size(0), **parts, "classes": data.num_classes, **widths}


def _papers(title, option, about, sizes):
    """Features like a paper's. Others are refused, so that its numbers may stand beside ours.

    ``about`` is what the file has to say of its features: sizes do not tell one network of another.
    ``sizes`` are those that the paper states, named as those of ``_sizes``; images have 4,096.
    """
    wanted = {"image_features": 4096, **sizes}

    def load(path):
        file = datasets.FeatureFile(path)
        data = file[0]
        found = _sizes(data)
        wrong = [f"{of}: {found[of]}, not {n}" for of, n in wanted.items() if found[of] != n]
        if file.about != about:
            wrong.append(
                f"about: {file.about!r}, not {about!r}; if that is what made them, say so by "
                f"write_feature_file(..., about={about!r}) or in the file's attribute 'about'"
            )
        if wrong:
            raise ValueError(f"{path}: these are not the paper's features ({'; '.join(wrong)})")
        return data

    shown = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in wanted.items())
    needs = f"a FeatureFile of the paper's features, about {about!r}: {shown}"
    return DataSource(title, option, load, needs)


def _published(name, title="", **options):
    """A data set of the library that is read from the files its authors publish."""
    title = title or ", ".join([name, *(f"{option} {value}" for option, value in options.items())])
    needs = f"the root of pyg_hash.datasets.{name}; its message lists the files"
    load = lambda root: getattr(datasets, name)(root, **options)[0]  # noqa: E731
    return DataSource(title, name.lower(), load, needs)


def _wikipedia(image, text):
    source = _published("Wikipedia", f"Wikipedia, {image} + {text}", image=image, text=text)
    return source._replace(needs="the root of pyg_hash.datasets.Wikipedia")


# the two larger sets of CNN-F: the paper's 188,321 and 117,218 are read as databases, see the
# recipes; it does not say how many words NUS-WIDE has, nor the classes of MS-COCO
_BAGS = {
    "wikipedia-vgg": ("Wikipedia, VGG", "vgg-fc7 + bow3000", "2866 2173 693 2173 10", 3000),
    "nuswide10k-vgg": ("NUS-WIDE-10K, VGG", "vgg-fc7 + bow1000", "10000 8000 2000 8000 10", 1000),
    "mirflickr25k-cnnf": ("MIRFlickr, CNN-F", "cnn-f + bow1386", "20015 10000 2000 18015 24", 1386),
    "nuswide21-cnnf": ("NUS-WIDE, CNN-F", "cnn-f + bow", "190421 10500 2100 188321 21", None),
    "mscoco-cnnf": ("MS-COCO, CNN-F", "cnn-f + bow2000", "122218 10000 5000 117218", 2000),
}
"""Images of 4,096 features and bags of words: title, what they are, sizes, number of words."""
# SGEH's splits are in a supplement that is not to be had
_USE = {
    "wikipedia-use": ("Wikipedia", {"pairs": 2866, "classes": 10}),
    "mirflickr25k-use": ("MIRFlickr", {}),
    "mscoco-use": ("MS-COCO", {"pairs": 20_000}),
    "nuswide-use": ("NUS-WIDE", {"pairs": 20_000}),
}
"""SGEH's features: their data set, and the sizes that the paper states."""


SOURCES = {
    "wikipedia": _wikipedia("image128", "lsa200"),
    "wikipedia-bow": _wikipedia("image128", "bow3000"),
    "wikipedia-sift": _wikipedia("sift", "lda"),
    "emoji": DataSource(
        "Emoji",
        "emoji",
        lambda root: datasets.Emoji(root)[0],
        "the root of pyg_hash.datasets.Emoji (nothing to get: the extra demo brings it)",
    ),
    "coco": DataSource(
        "COCO without person",
        "coco",
        lambda folder: load_coco(folder, ALL_TRAIN),
        "coco15k.h5 and coco15k_captions.jsonl.gz, see benchmarks/coco.py",
    ),
    "nuswide10k": _published("NUSWIDE10K"),
    "mirflickr25k": _published("MIRFlickr25K"),
    "nuswide21": _published("NUSWIDE"),
    "mscoco": _published("MSCOCO"),
    "mirflickr25k-sgeh": _published("MIRFlickr25K", protocol="sgeh"),
    "nuswide10-sgeh": _published("NUSWIDE", concepts=10, protocol="sgeh"),
    "mscoco-sgeh": _published("MSCOCO", protocol="sgeh"),
}
for _name, (_title, _about, _stated, _words) in _BAGS.items():
    _parts = ("pairs", "train", "query", "database", "classes")
    _wanted = dict(zip(_parts, map(int, _stated.split()), strict=False))
    _wanted |= {"text_features": _words} if _words else {}
    SOURCES[_name] = _papers(_title, _name, _about, _wanted)
for _name, (_title, _wanted) in _USE.items():
    _about, _wanted = f"{_title}, vgg16-fc7 + use512", _wanted | {"text_features": 512}
    SOURCES[_name] = _papers(f"{_title}, VGG and USE", _name, _about, _wanted)
SOURCES["synthetic"] = DataSource(
    "Synthetic", None, lambda _: datasets.SyntheticCrossModal(400, 5, num_queries=80)[0]
)
"""All data by their names on the command line."""


def add_options(parser, names):
    """Let a command line say where data lie."""
    for option in dict.fromkeys(SOURCES[name].option for name in names):
        if option is not None:
            there = ", ".join(name for name in names if SOURCES[name].option == option)
            about = f"where {there} lies"
            parser.add_argument(f"--{option}", dest=option, metavar="PLACE", help=about)


def given(parser, names, args):
    """The place of each data set that has one; says what the others need; one is asked for."""
    options = {name: SOURCES[name].option for name in names}
    found = {n: "" if option is None else getattr(args, option) for n, option in options.items()}
    absent = [name for name in names if found[name] is None]
    if absent:
        print("There are more data, which need:", file=sys.stderr)
    for name in absent:
        print(f"  --{options[name]} PLACE   for {name}: {SOURCES[name].needs}", file=sys.stderr)
    if len(absent) == len(names):
        parser.error("there are no data; give the place of some (see above)")
    return {name: place for name, place in found.items() if place is not None}
