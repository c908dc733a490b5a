"""15,000 image-caption pairs of MS-COCO as benchmark data, split by a committed manifest.

    python -m benchmarks.coco DIR                    # check the files and print the label counts
    python -m benchmarks.coco DIR --write-manifest   # make the manifests again (the same bytes)

``DIR`` holds ``coco15k.h5`` (``image`` [15000, 1280] float16 from EfficientNet-Lite0, ``labels``
[15000, 18], ``id``, attribute ``label_names``) and ``coco15k_captions.jsonl.gz`` (``id``,
``caption``, same order). The label ``person``, which is on three rows of four, is left out, and
with it the 7,120 rows that have no other. Of the other 7,880 rows, 2,000 are queries, 5,000 train,
and all but the queries are the database, 880 rows of which are seen in no training. A second
manifest, which ``python -m benchmarks.accuracy`` takes, has 1,000 queries and trains on all 6,880
others. Texts are TF-IDF bags of words, fitted on train. The seed of a split is the first under
which every caption has a word of train: one without has no direction, and no cosine with anything.
"""

import argparse
import gzip
import inspect
import json
import random
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.measure import ROOT
from pyg_hash.datasets import FeatureFile, write_feature_file
from pyg_hash.features import BagOfWords
from pyg_hash.utils.files import check_file, load_json, save_json, sha256


def iterative_split(labels, sizes, *, seed):
    """Split rows so that every part has its share of every label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011, Algorithm 1): the rows
    of the rarest label that is left are dealt first, each to the part that lacks that label most
    (ties: the part that lacks most rows, then by name). A full part gets no more rows: ``sizes``,
    which sum to N, are exact. ``labels`` are zeros and ones ``[N, C]``, at least one a row. Returns
    part -> sorted row numbers.
    """
    num_rows = len(labels)
    if sum(sizes.values()) != num_rows:
        raise ValueError(f"sizes: sum to {sum(sizes.values())}, expected {num_rows} (rows)")
    bare = np.flatnonzero(labels.sum(axis=1) == 0)
    if len(bare):
        raise ValueError(f"labels: {len(bare)} rows have none (first: row {bare[0]}); drop them")
    order = list(range(num_rows))
    random.Random(seed).shuffle(order)
    left, names = labels.sum(axis=0, dtype=np.int64), sorted(sizes)
    room = np.array([sizes[name] for name in names])
    wanted = left * (room / num_rows)[:, None]
    part_of = np.full(num_rows, -1)
    while left.any():
        label = int(np.where(left > 0, left, num_rows + 1).argmin())
        for row in order:
            if part_of[row] < 0 and labels[row, label]:
                with_room = np.flatnonzero(room)
                part = max(with_room, key=lambda part: (wanted[part, label], room[part]))
                part_of[row] = part
                room[part] -= 1
                wanted[part] -= labels[row]
                left -= labels[row]
    return {name: np.flatnonzero(part_of == i).tolist() for i, name in enumerate(names)}


MANIFEST = Path(__file__).parent / "manifests" / "coco15k_split.json"
FEATURES, CAPTIONS = "coco15k.h5", "coco15k_captions.jsonl.gz"
DROPPED = "person"
ALL_TRAIN = MANIFEST.with_name("coco15k_1000_queries.json")
SIZES = {MANIFEST: (2000, 5000, 0), ALL_TRAIN: (1000, 6880, 1)}  # queries, train and seed
LETTERS = {"query": "q", "train": "t", "database": "d"}
NOWHERE, LINE = ".", 100
CACHE = ROOT / "build" / "coco"
CODE = (Path(__file__), Path(inspect.getfile(BagOfWords)))  # what makes the features of texts,
PACKAGES = ("numpy", "scipy", "scikit-learn")  # and with what
WORDS = {"max_features": 2000, "min_df": 2, "stop_words": "english"}


class Coco(NamedTuple):
    """The files' content without the dropped label; rows without label are still there."""

    image: torch.Tensor
    labels: np.ndarray
    names: list[str]
    captions: list[str]
    ids: list[str]
    digest: str  # of the labels, which a split belongs to


def raw_files(folder):
    files = Path(folder) / FEATURES, Path(folder) / CAPTIONS
    for path in files:
        check_file(path, remedy="; give the folder that holds it")
    return files


def read(folder):
    """Read the two files; ``ValueError`` if they do not belong together."""
    features, captions = raw_files(folder)
    with h5py.File(features, "r") as file:
        ids = file["id"][:]
        names = [str(name) for name in file.attrs["label_names"]]
        image = torch.from_numpy(file["image"][:].astype(np.float32))
        labels = file["labels"][:].astype(np.uint8)
    with gzip.open(captions, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    if [row["id"] for row in rows] != ids.tolist():
        raise ValueError(f"{captions}: its ids are not those of {FEATURES}; get both again")
    kept = [c for c, name in enumerate(names) if name != DROPPED]
    labels, names = np.ascontiguousarray(labels[:, kept]), [names[c] for c in kept]
    captions, ids = [row["caption"] for row in rows], [str(row["id"]) for row in rows]
    return Coco(image, labels, names, captions, ids, sha256(np.packbits(labels).tobytes()))


def make_manifest(coco, num_queries, num_train, seed):
    """A split stratified over all labels: one letter a row, 100 rows a line."""
    rows = np.flatnonzero(coco.labels.any(axis=1))
    sizes = {"query": num_queries, "train": num_train}
    sizes["database"] = len(rows) - sum(sizes.values())
    letters = np.full(len(coco.labels), NOWHERE)
    for part, members in iterative_split(coco.labels[rows], sizes, seed=seed).items():
        letters[rows[members]] = LETTERS[part]
    text = "".join(letters)
    return {
        "about": f"Row i of {FEATURES}: q query, t train, d in the database only, . no label but "
        f"{DROPPED!r} and left out. Iterative stratification over the other labels, seed {seed}; "
        "made by benchmarks/coco.py --write-manifest.",
        "labels_sha256": coco.digest,
        "rows": [text[start : start + LINE] for start in range(0, len(text), LINE)],
    }


def load_coco(folder, manifest=MANIFEST, cache=CACHE):
    """What :func:`feature_file` makes: features before scaling, multi-hot labels, splits."""
    return FeatureFile(feature_file(folder, manifest, cache))[0]


def feature_file(folder, manifest=MANIFEST, cache=CACHE):
    """The benchmark data as a :class:`FeatureFile`; made unless there is one of the same making.

    Its name has a digest of all that it is made of, this code included; those of the past may be
    deleted. Processes that miss it at once each make it: the files are equal, the last one stays.
    A missing file is a ``FileNotFoundError``, others than those of the manifest a ``ValueError``.
    """
    versions = " ".join(map(version, PACKAGES))
    digest = sha256(*raw_files(folder), manifest, *CODE, versions)[:12]
    path = Path(cache) / f"{manifest.stem}-{digest}.h5"
    if path.is_file():
        return path
    split, coco = load_json(manifest), read(folder)
    if split["labels_sha256"] != coco.digest:
        raise ValueError(f"{FEATURES}: not the labels that {manifest.name} splits; get it again")
    letters = np.array(list("".join(split["rows"])))
    kept = np.flatnonzero(letters != NOWHERE)
    # the database, all but the queries, needs no mask
    masks = {part: letters[kept] == LETTERS[part] for part in ("query", "train")}
    captions = [coco.captions[row] for row in kept]
    encoder = BagOfWords("tfidf", **WORDS)
    encoder.fit([text for text, train in zip(captions, masks["train"], strict=True) if train])
    words = sp.csr_matrix(encoder.transform(captions, allow_unknown=True).numpy())
    about = {"class_names": coco.names, "ids": [coco.ids[row] for row in kept], "texts": captions}
    x, y = coco.image[kept], coco.labels[kept]
    write_feature_file(path, image=x, text=words, labels=y, **about, **masks)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where the two files lie")
    parser.add_argument("--write-manifest", action="store_true", help="write both manifests")
    args = parser.parse_args()
    if args.write_manifest:
        for path, sizes in SIZES.items():
            save_json(path, make_manifest(read(args.folder), *sizes))
    dataset = FeatureFile(feature_file(args.folder))
    data = dataset[0]
    print("rows of each label among queries, train, database:")
    masks = (data["image"][f"{part}_mask"] for part in ("query", "train", "database"))
    counts = torch.stack([data["image"].y[mask].sum(dim=0) for mask in masks], dim=1).int()
    for name, row in zip(dataset.class_names, counts.tolist(), strict=True):
        print("{:16s}{:8d}{:8d}{:10d}".format(name, *row))
    empty = int((data["text"].x == 0).all(dim=1).sum())
    print(f"features {data.num_features}, {empty} captions without a known word")


if __name__ == "__main__":
    main()
