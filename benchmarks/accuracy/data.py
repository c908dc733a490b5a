"""The data of the tables: where they come from, and what they are known by."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch_geometric.data import HeteroData

import pyg_hash.datasets as datasets
from benchmarks.coco import ALL_TRAIN, load_coco
from pyg_hash.typing import MODALITIES

SPLITS = ("train", "query", "database")


@dataclass(frozen=True)
class DataSource:
    """Features and a split."""

    title: str  # in the tables
    option: str | None  # of the command line, says where it lies; None needs no place
    load: Callable[[str], HeteroData]  # place -> data before scaling
    needs: str = ""  # what has to lie there, in words


@dataclass(frozen=True)
class Content:
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
        data=_digest(*(part for m in MODALITIES for part in (data[m].x, data[m].y))),
        split=_digest(*(store[f"{part}_mask"] for part in SPLITS)),
    )


def labelled_rows(data):
    """Hex digest of the nodes whose labels are used."""
    return _digest(data["image"].labeled_mask)


def _digest(*of):
    digest = hashlib.sha256()
    for values in of:
        digest.update(f"{values.dtype} {list(values.shape)}".encode())
        parts = [values]
        if values.layout != torch.strided:
            sparse = values.to_sparse_coo().coalesce()
            parts = [sparse.indices(), sparse.values()]
        for part in parts:
            digest.update(memoryview(part.contiguous().numpy()).cast("B"))
    return digest.hexdigest()[:16]


def _sizes(data):
    """What is known of a data set's sizes."""
    store = data["image"]
    parts = {part: int(store[f"{part}_mask"].sum()) for part in SPLITS}
    widths = {f"{m}_features": data[m].x.size(1) for m in MODALITIES}
    return {"pairs": store.x.size(0), **parts, "classes": data.num_classes, **widths}


def _papers(title, option, about, **wanted):
    """Features like a paper's. Others are refused, so that its numbers may stand beside ours.

    Args:
        title: in the tables.
        option: on the command line.
        about: what the file has to say of its features: sizes do not tell one network of another.
        wanted: the sizes that the paper states, named as those of ``_sizes``.
    """

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

    sizes = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in wanted.items())
    needs = f"a FeatureFile of the paper's features, about {about!r}: {sizes}"
    return DataSource(title, option, load, needs)


def _wikipedia(image, text):
    return DataSource(
        f"Wikipedia, {image} + {text}",
        "wikipedia",
        lambda root: datasets.Wikipedia(root, image=image, text=text)[0],
        "the root of pyg_hash.datasets.Wikipedia",
    )


def _published(name, **options):
    """A data set of the library that is read from the files its authors publish."""
    return DataSource(
        ", ".join([name, *(f"{option} {value}" for option, value in options.items())]),
        name.lower(),
        lambda root: getattr(datasets, name)(root, **options)[0],
        f"the root of pyg_hash.datasets.{name}; its message lists the files",
    )


# the two larger sets of CNN-F: the paper's 188,321 and 117,218 are read as databases, see the
# recipes; it does not say how many words NUS-WIDE has, nor the classes of MS-COCO
_STATED = {
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


def _stated():
    found = {}
    for name, (title, about, sizes, words) in _STATED.items():
        names = ("pairs", "train", "query", "database", "classes")
        wanted = dict(zip(names, map(int, sizes.split()), strict=False))
        wanted |= {"image_features": 4096} | ({"text_features": words} if words else {})
        found[name] = _papers(title, name, about, **wanted)
    for name, (title, sizes) in _USE.items():
        wanted = {**sizes, "image_features": 4096, "text_features": 512}
        about = f"{title}, vgg16-fc7 + use512"
        found[name] = _papers(f"{title}, VGG and USE", name, about, **wanted)
    return found


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
    **_stated(),
    "synthetic": DataSource(
        "Synthetic", None, lambda _: datasets.SyntheticCrossModal(400, 5, num_queries=80)[0]
    ),
}
"""All data by their names on the command line."""


def where(names, roots):
    """The place of each data set that has one."""
    options = {name: SOURCES[name].option for name in names}
    places = {name: "" if option is None else roots.get(option) for name, option in options.items()}
    return {name: place for name, place in places.items() if place is not None}


def missing(names):
    """What has to be given for some data, a line each."""
    listed = [(SOURCES[name].option, name, SOURCES[name].needs) for name in names]
    return "\n".join(f"  --{option} PLACE   for {name}: {needs}" for option, name, needs in listed)
