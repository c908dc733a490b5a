"""The layouts of the published data sets in small, and manifests with their small counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from pyg_hash.datasets import published
from pyg_hash.datasets.published import load_manifest
from pyg_hash.features import OwnEncoder

Array = np.ndarray[Any, Any]
LOW_LEVEL, BOW = load_manifest("nuswide")["official"]["image"].values()
WORDS = ("sky", "sea", "dog", "tree", "car", "boat", "bird", "road")


def shrink(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Give the published data sets small counts instead of the published ones.

    Keywords are ``counts`` and ``kept`` of the manifest, and ``protocols``: counts by name.
    """

    def small(name: str) -> dict[str, Any]:
        manifest = load_manifest(name)
        for key, value in changes.items():
            if key == "protocols":
                known = manifest["protocols"]
                manifest[key] = {p: known[p] | value[p] for p in known if p in value}
            elif isinstance(value, dict):
                manifest[key] = manifest[key] | value
            else:
                manifest[key] = value
        return manifest

    monkeypatch.setattr(published, "load_manifest", small)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def digit_text(rows: Array, end: str = "\t\r\n") -> str:
    """Zeros and ones as NUS-WIDE writes them, a white space too many at the end."""
    return "".join("\t".join(map(str, row)) + end for row in rows.tolist())


# NUS-WIDE ------------------------------------------------------------------------------------

NUS_ROWS, NUS_TAGS = 120, 8
NUS_CONCEPTS = ["animal", "clouds", "grass", "person", "sky"]
NUS_CLASSES = 3


def nus_arrays(seed: int = 0) -> dict[str, Array]:
    """Labels (clouds and grass rare), tags and features; some rows have no label or no tag."""
    rng = np.random.default_rng(seed)
    chance = np.array([0.4, 0.05, 0.1, 0.5, 0.3])
    labels = (rng.random((NUS_ROWS, 5)) < chance).astype(np.uint8)
    tags = (rng.random((NUS_ROWS, NUS_TAGS)) < 0.2).astype(np.uint8)
    tags[3] = 0
    labels[3, 0] = 1
    arrays = {"labels": labels, "tags": tags, "bow": rng.integers(0, 9, (NUS_ROWS, 500))}
    for name, width in LOW_LEVEL.items():
        arrays[name] = rng.random((NUS_ROWS, width)).round(4)
    return arrays


def write_nus(raw: Path, seed: int = 0) -> dict[str, Array]:
    """The official files; returns what stands in them."""
    arrays = nus_arrays(seed)
    for concept, column in zip(NUS_CONCEPTS, arrays["labels"].T, strict=True):
        write_text(raw / published.NUS_LABELS.format(concept), digit_text(column[:, None], "\n"))
    write_text(raw / published.NUS_TAGS, digit_text(arrays["tags"]))
    write_text(raw / published.NUS_TAG_NAMES, "\r\n".join(WORDS) + "\r\n")
    pictures = "".join(f"folder{i % 3}\\{i:04d}_{i}.jpg\r\n" for i in range(NUS_ROWS))
    write_text(raw / published.NUS_PICTURES, pictures)
    for name in (*LOW_LEVEL, "bow"):
        path = raw / (name if name != "bow" else next(iter(BOW)))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, arrays[name], fmt="%d " if name == "bow" else "%.4f")
    return arrays


def nus_kept(labels: Array, num: int = NUS_CLASSES) -> tuple[Array, Array]:
    """Columns of the most frequent concepts, and the rows that have one of them."""
    columns = np.sort(np.argsort(-labels.sum(axis=0).astype(int), kind="stable")[:num])
    return columns, np.flatnonzero(labels[:, columns].any(axis=1))


def shrink_nus(monkeypatch: pytest.MonkeyPatch, arrays: dict[str, Array]) -> None:
    """NUSWIDE with three of five concepts as its classes."""
    _, rows = nus_kept(arrays["labels"])
    with_tags = int(arrays["tags"][rows].any(axis=1).sum())
    counts = {"pictures": NUS_ROWS, "tags": NUS_TAGS, "classes": 5}
    shrink(
        monkeypatch,
        counts=counts,
        classes=NUS_CONCEPTS,
        kept=[len(rows), with_tags],
        num_classes=NUS_CLASSES,
        protocols={
            "gch": {"query": 10, "train": 40},
            "dcmh": {"query": 10, "train": 40},
            "per_label": {"query": 12, "train": 30},
        },
    )


# NUS-WIDE-10K --------------------------------------------------------------------------------

CORR_AE = "nus_wide_deep_doc2vec-corr-ae.h5py"
TEN = ["animal", "sky"]
EACH = 10


def write_nus10k(raw: Path, seed: int = 0) -> dict[str, Array]:
    """The official files of two concepts that half of the rows have alone."""
    rng = np.random.default_rng(seed)
    arrays = write_nus(raw, seed)
    labels = np.zeros((NUS_ROWS, 2), np.uint8)
    labels[np.arange(NUS_ROWS), rng.integers(0, 2, NUS_ROWS)] = 1
    labels[rng.random(NUS_ROWS) < 0.2] = 1  # both
    labels[rng.random(NUS_ROWS) < 0.2] = 0  # none
    arrays["labels"] = labels
    for concept, column in zip(TEN, labels.T, strict=True):
        write_text(raw / published.NUS_LABELS.format(concept), digit_text(column[:, None], "\n"))
    return arrays


def write_corr_ae(raw: Path, first: int = 1) -> dict[str, Array]:
    """The feature file: parts of 14, 3 and 3 rows, labels from ``first`` on."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", 14), ("valid", 3), ("test", 3)):
        arrays[f"{part}_imgs_deep"] = rng.random((size, 16)).astype(np.float32)
        arrays[f"{part}_texts"] = rng.random((size, 6))
        arrays[f"{part}_imgs_labels"] = first + np.arange(size) % 2
    raw.mkdir(parents=True, exist_ok=True)
    with h5py.File(raw / CORR_AE, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return arrays


def shrink_nus10k(monkeypatch: pytest.MonkeyPatch) -> None:
    """NUSWIDE10K with two classes of ten rows."""
    counts = {"pictures": NUS_ROWS, "tags": NUS_TAGS, "classes": 2, "per_class": EACH}
    shrink(
        monkeypatch,
        counts=counts | {"train": 14, "valid": 3, "test": 3},
        classes=TEN,
        protocols={
            "mcgcn": {"query": 4},
            "acmr": {"query": 4},
            "dscmr": {"query": 3, "held_out": 3},
        },
    )


# MIRFLICKR -----------------------------------------------------------------------------------

MIR_ROWS = 60
MIR_CLASSES = ["animals", "baby", "sky"]
MIR_COMMON = ["sky", "dog", "sea", "bird"]


def write_mir(raw: Path) -> dict[str, Array]:
    """The official files; returns labels and common tags of all pictures."""
    rng = np.random.default_rng(0)
    labels = (rng.random((MIR_ROWS, 3)) < 0.4).astype(np.uint8)
    tags = (rng.random((MIR_ROWS, len(WORDS))) < 0.3).astype(np.uint8)
    folder = raw / "mirflickr"
    write_text(folder / "doc/common_tags.txt", "".join(f"{tag} 20\n" for tag in MIR_COMMON))
    for i in range(MIR_ROWS):
        own = [word for word, has in zip(WORDS, tags[i], strict=True) if has]
        write_text(folder / f"meta/tags/tags{i + 1}.txt", "\r\n".join([*own, f"only{i}"]) + "\r\n")
    for name, column in zip(MIR_CLASSES, labels.T, strict=True):
        numbers = "".join(f"{i + 1}\r\n" for i in np.flatnonzero(column))
        write_text(raw / f"mirflickr25k_annotations_v080/{name}.txt", numbers)
    common = tags[:, [WORDS.index(tag) for tag in MIR_COMMON]]
    return {"labels": labels, "tags": common}


def mir_kept(arrays: dict[str, Array]) -> Array:
    return np.flatnonzero(arrays["labels"].any(axis=1) & arrays["tags"].any(axis=1))


def shrink_mir(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """MIRFlickr25K with 60 pictures, three labels and four common tags."""
    small = {"query": 6, "train": 12}
    names = ("dcmh", "dcmh_code", "djsrh", "gch")
    shrink(
        monkeypatch,
        counts={"pictures": MIR_ROWS, "tags": len(MIR_COMMON), "classes": 3},
        classes=MIR_CLASSES,
        kept=[kept],
        protocols=dict.fromkeys(names, small) | dict.fromkeys(("sgeh", "ucch"), {"query": 6}),
    )


def write_matrices(
    raw: Path, names: dict[str, str], num_rows: int, widths: tuple[int, int, int]
) -> tuple[Array, Array, Array]:
    """Feature files of UCCH's kind (MATLAB 5); returns image, text and labels."""
    rng = np.random.default_rng(0)
    image = rng.random((num_rows, widths[0])).astype(np.float32)
    text = (rng.random((num_rows, widths[1])) < 0.5).astype(np.uint8)
    text[:, 0] = 1  # no row is all zeros
    labels = (rng.random((num_rows, widths[2])) < 0.5).astype(np.uint8)
    raw.mkdir(parents=True, exist_ok=True)
    for key, value in zip(("XAll", "YAll", "LAll"), (image, text, labels), strict=True):
        savemat(raw / names[key], {key: value})
    return image, text, labels


# MS-COCO -------------------------------------------------------------------------------------

COCO_FEATURES = "MSCOCO_deep_doc2vec_data_rand.h5py"
COCO_SIZES = {"train2014": 40, "val2014": 20}
COCO_CLASSES = {1: "person", 3: "car", 18: "dog"}


def write_coco(raw: Path) -> dict[str, Any]:
    """The annotation files; returns names, labels and captions, train2014 first, by number."""
    rng = np.random.default_rng(0)
    names: list[str] = []
    labels: list[list[int]] = []
    captions: list[list[str]] = []
    numbers = rng.permutation(1000)
    start = 0
    for folder, size in COCO_SIZES.items():
        own = numbers[start : start + size].tolist()
        start += size
        images = [{"id": i, "file_name": f"COCO_{folder}_{i:012d}.jpg", "width": 9} for i in own]
        marks, sentences = [], []
        found: dict[int, tuple[list[int], list[str]]] = {}
        for i in own:
            has = [int(rng.random() < 0.4) for _ in COCO_CLASSES]
            texts = [f"A {WORDS[rng.integers(8)]} near\n the {WORDS[i % 8]}" for _ in range(5)]
            found[i] = (has, [" ".join(text.split()) for text in texts])
            outline = [[1.5, 2.5, 3.0]]
            for category, mark in zip(COCO_CLASSES, has, strict=True):
                entry = {"segmentation": outline, "image_id": i, "category_id": category}
                marks += [entry] * (2 * mark)  # two of a kind
            sentences += [
                {"image_id": i, "id": 10 * i + k, "caption": t} for k, t in enumerate(texts)
            ]
        categories = [{"supercategory": "x", "id": k, "name": v} for k, v in COCO_CLASSES.items()]
        info = {"info": {"year": 2014}, "images": images, "licenses": []}
        instances = info | {"annotations": marks, "categories": categories[::-1]}
        write_text(raw / f"annotations/instances_{folder}.json", json.dumps(instances))
        texts_file = info | {"annotations": sentences[::-1]}
        write_text(raw / f"annotations/captions_{folder}.json", json.dumps(texts_file, indent=1))
        for i in sorted(found):
            names.append(f"{folder}/COCO_{folder}_{i:012d}.jpg")
            labels.append(found[i][0])
            captions.append(found[i][1])
    return {"names": names, "labels": np.array(labels, np.uint8), "captions": captions}


def shrink_coco(monkeypatch: pytest.MonkeyPatch, kept: int, **changes: Any) -> None:
    """MSCOCO with 60 pictures and three categories."""
    shrink(
        monkeypatch,
        counts=COCO_SIZES | {"classes": 3},
        kept=[kept],
        protocols={
            "gch": {"query": 6, "train": 12},
            "acmr": {"query": 10},
            "sgeh": {"items": 20, "query": 5},
            "ucch": {"query": 7},
        },
        **changes,
    )


# encoders ------------------------------------------------------------------------------------

SIZES = OwnEncoder(lambda paths: [[Path(p).stat().st_size, 1] for p in paths], 2, "sizes")
LENGTHS = OwnEncoder(lambda texts: [[len(text), 1] for text in texts], 2, "lengths")


def write_pictures(raw: Path, names: list[str]) -> None:
    """Files of different sizes in the pictures' places."""
    for i, name in enumerate(names):
        write_text(raw / name, "x" * (i + 1))
