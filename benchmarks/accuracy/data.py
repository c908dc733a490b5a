"""The data of the tables: where they come from, and what they are known by."""

import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch_geometric.data import HeteroData

import pyg_hash.datasets as datasets
from benchmarks.coco import ALL_TRAIN, load_coco
from benchmarks.record import stated
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.files import sha256

SPLITS = ("train", "query", "database")


class DataSource(NamedTuple):
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
    store, sizes = data["image"], _sizes(data)
    counts = ", ".join(f"{sizes[part]:,} {part}" for part in SPLITS)
    widths = ", ".join(f"{data[m].x.size(1):,}-d {m}s" for m in MODALITIES)
    about = f"{counts}; {widths}; {data.num_classes} classes"
    values = digest(*(part for m in MODALITIES for part in (data[m].x, data[m].y)))
    return Content(about, values, digest(*(store[f"{part}_mask"] for part in SPLITS)))


def digest(*of):
    """Hex digest of tensors, dense or sparse."""
    parts = []
    for values in of:
        parts.append(f"{values.dtype} {list(values.shape)}")
        sparse = None if values.layout == torch.strided else values.to_sparse_coo().coalesce()
        kept = [values] if sparse is None else [sparse.indices(), sparse.values()]
        parts += [memoryview(part.contiguous().numpy()).cast("B") for part in kept]
    return sha256(*parts)[:16]


def _sizes(data):
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
            say = f"write_feature_file(..., about={about!r}) or in the file's attribute 'about'"
            why = f"about: {file.about!r}, not {about!r}; if that is what made them, say so by"
            wrong.append(f"{why} {say}")
        if wrong:
            raise ValueError(f"{path}: these are not the paper's features ({'; '.join(wrong)})")
        return data

    shown = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in wanted.items())
    needs = f"a FeatureFile of the paper's features, about {about!r}: {shown}"
    return DataSource(title, option, load, needs)


def _published(title, kind, needs="its message lists the files", **options):
    """A data set of the library; ``needs`` is what to know of its root."""

    def load(root):
        return getattr(datasets, kind)(root, **options)[0]

    needs = f"the root of pyg_hash.datasets.{kind}; {needs}"
    return DataSource(title, kind.lower(), load, needs)


def _read():
    for name, of in stated(__file__).items():
        kind = of.pop("reads", None)
        yield name, _published(kind=kind, **of) if kind else _papers(option=name, **of)


SOURCES = dict(_read())  # by their names on the command line
_NEEDS = "coco15k.h5 and coco15k_captions.jsonl.gz, see benchmarks/coco.py"
_coco = partial(load_coco, manifest=ALL_TRAIN)
SOURCES["coco"] = DataSource("COCO without person", "coco", _coco, _NEEDS)
_synthetic = partial(datasets.SyntheticCrossModal, 400, 5, num_queries=80)
SOURCES["synthetic"] = DataSource("Synthetic", None, lambda _: _synthetic()[0])


def add_options(parser, names):
    """Let a command line say where data lie."""
    for option in dict.fromkeys(filter(None, (SOURCES[name].option for name in names))):
        there = ", ".join(name for name in names if SOURCES[name].option == option)
        how = {"metavar": "PLACE", "help": f"where {there} lies"}
        parser.add_argument(f"--{option}", dest=option, **how)


def given(parser, names, args):
    """The place of each data set that has one; says what the others need; one is asked for."""
    found = {name: getattr(args, SOURCES[name].option or "", "") for name in names}
    absent = [(name, SOURCES[name]) for name in names if found[name] is None]
    needs = [f"  --{of.option} PLACE   for {name}: {of.needs}" for name, of in absent]
    if needs:
        print("There are more data, which need:", *needs, sep="\n", file=sys.stderr)
    if len(needs) == len(names):
        parser.error("there are no data; give the place of some (see above)")
    return {name: place for name, place in found.items() if place is not None}
