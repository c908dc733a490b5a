"""One table of bad inputs: each is an error that names its argument, before any work is done."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from toy import toy_data

from pyg_hash import models, transforms
from pyg_hash.cli import main
from pyg_hash.datasets import (
    FeatureFile,
    SyntheticCrossModal,
    check_feature_file,
    encode_feature_file,
    write_feature_file,
)
from pyg_hash.features import BagOfWords, OwnEncoder
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import evaluate
from pyg_hash.models import TaughtHash
from pyg_hash.recipes import recipe
from pyg_hash.utils.files import CorruptFileError

N, NAN, INF = 12, float("nan"), float("inf")
Y = np.arange(N) % 3
X = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
GOOD = {"image": X, "text": X[:, :3], "train": range(8), "query": range(8, N), "labels": Y}


def with_value(value, row=1):
    x = X.copy()
    x[row, 2] = value
    return x


# (argument and what it gets, what the message says)
WRITE = [
    ({"ids": [*"abcdefghijk", "b"]}, "ids: 'b' occurs more than once"),
    ({"image": None}, "image: is missing"),
    ({"image": "features.npy"}, "image: expected real numbers"),
    ({"image": X[0]}, r"image: expected a matrix \[N, d\]"),
    ({"image": X[None]}, r"image: expected a matrix \[N, d\]"),
    ({"image": X[:, :0]}, r"image: expected a matrix"),
    ({"image": X[:0]}, r"image: expected a matrix"),
    ({"image": 3.0}, r"image: expected a matrix"),
    ({"image": [[1.0], [1.0, 2.0]]}, "image: rows of different lengths"),
    ({"image": X.astype(complex)}, "image: expected real numbers, got complex"),
    ({"image": np.ma.masked_equal(X, X[0, 0])}, "image: 1 values are masked; fill them"),
    ({"image": X.astype(str)}, "image: expected real numbers"),
    ({"image": X.astype("datetime64[s]")}, "image: expected real numbers"),
    ({"image": X.astype(object)}, "image: expected real numbers, got object"),
    ({"image": [{"a": 1}] * N}, "image: expected real numbers"),
    ({"image": with_value(NAN)}, "image: 1 of 12 rows contain NaN.*row 1"),
    ({"image": with_value(INF)}, "image: 1 of 12 rows contain NaN"),
    ({"image": with_value(-INF, 3)}, "image: 1 of 12 rows contain NaN.*row 3"),
    ({"image": with_value(1, 0).astype(np.float64) * 1e300}, "image: 12 of 12 rows"),
    ({"image": sp.csr_matrix(with_value(NAN, 5))}, "image: 1 of 12 rows contain NaN.*row 5"),
    ({"image": torch.from_numpy(with_value(NAN)).bfloat16()}, "image: 1 of 12 rows"),
    ({"image": torch.from_numpy(with_value(NAN)).to_sparse()}, "image: 1 of 12 rows"),
    ({"image": torch.zeros(N, 2, 2).to_sparse()}, "image: expected a matrix"),
    ({"text": X[:-1]}, "image and text: 12 and 11 rows"),
    ({"text": None}, "text: is missing"),
    ({"text": ["a caption"] * N}, "text: expected real numbers"),
    ({"train": None}, "train: is missing"),
    ({"train": []}, "train: is empty"),
    ({"train": "all"}, "train: expected a bool mask"),
    ({"train": {1, 2}}, "train: expected a bool mask"),
    ({"train": ["a", "b"]}, "train: expected a bool mask"),
    ({"train": [0.5, 1.0]}, "train: expected a bool mask or integer"),
    ({"train": [0, 0]}, "train: the same row number"),
    ({"train": [0, 1] * 4 + [0] * 4}, "train: the same row number.*use bool"),
    ({"train": [-1, 2]}, "train: row numbers run from -1"),
    ({"train": [0, 99]}, "train: row numbers run from 0 to 99"),
    ({"train": [True] * 5}, "train: mask has 5 entries"),
    ({"train": np.ones((N, 1), bool)}, "train: expected one dimension"),
    ({"train": 3}, "train: expected one dimension"),
    ({"train": range(9)}, "query: 1 query rows are also in train"),
    ({"query": []}, "query: is empty"),
    ({"query": None}, "query: is missing"),
    ({"query": range(7, 12)}, "query: 1 query rows are also in train"),
    ({"database": range(N)}, "query: 4 query rows are also in database"),
    ({"database": []}, "database: is empty"),
    ({"database": "rest"}, "database: expected a bool mask"),
    ({"labeled": [9]}, "labeled: 1 labeled rows are not in train"),
    ({"labeled": [0], "labels": None}, "labeled: names labeled rows but there are no labels"),
    ({"labeled": [NAN]}, "labeled: expected a bool mask"),
    ({"val": [3]}, "val: 1 val rows are also in train"),
    ({"val": [9]}, "val: 1 val rows are also in query"),
    ({"val": []}, "val: is empty"),
    ({"val": 0.1}, "val: expected"),
    ({"labels": Y[:-1]}, "labels: has 11 rows, expected 12"),
    ({"labels": Y - 1}, "labels: class indices run from -1.*out of labeled"),
    ({"labels": Y + 0.5}, "labels: class indices must be whole"),
    ({"labels": np.where(Y == 1, NAN, Y)}, "labels: contain NaN"),
    ({"labels": Y > 1}, "labels: class indices must be integers, got torch.bool"),
    ({"labels": (Y > 1)[:, None]}, "labels: a column of zeros and ones"),
    ({"labels": np.eye(3)[Y] * 2}, "labels: multi-hot labels must be 0 or 1"),
    ({"labels": np.eye(3)[Y] - 1}, "labels: multi-hot labels must be 0 or 1"),
    ({"labels": np.zeros((N, 2, 2))}, r"labels: expected shape \[N\] or \[N, C\]"),
    ({"labels": "cat"}, "labels: expected one label a row"),
    ({"labels": ["cat", None] * 6}, "labels: row 1 is None"),
    ({"labels": ["cat", 3] * 6}, "labels: row 1 is 3"),
    ({"labels": [{"a": 1}] * N}, "labels: expected numbers or words"),
    ({"labels": ["cat"] * 11}, "labels: has 11 rows"),
    ({"ids": np.ma.masked_equal(np.arange(N), 3)}, "ids: 1 values are masked; fill them"),
    ({"labels": ["cat"] * N, "class_names": ["dog"]}, "labels: 'cat' is none of class_names"),
    ({"labels": Y + 1, "class_names": list("abc")}, "labels: class indices run to 3.*subtract 1"),
    ({"labels": Y + 7, "class_names": list("abc")}, "outside 0..2"),
    ({"labels": np.eye(3)[Y], "class_names": ["a"]}, "labels: has 3 columns, expected 1"),
    ({"labels": [[]] * N}, "labels: has no class at all"),
    ({"labels": np.zeros((N, 0), np.uint8)}, "labels: has no class at all"),
    ({"labels": [[1, 2], [3]] * 6}, "labels: rows of different lengths"),
    ({"class_names": "abc"}, "class_names: expected a list of texts"),
    ({"class_names": ["a", "a", "b"]}, "class_names: 'a' occurs more than once"),
    ({"class_names": ["a", None, "b"]}, "class_names: entry 1 is None"),
    ({"class_names": 3}, "class_names: expected a list of texts"),
    ({"class_names": ["a", "b\0", "c"]}, "class_names: entry 1 contains a NUL"),
    ({"ids": ["a"]}, "ids: has 1 entries, expected 12"),
    ({"ids": "abcdefghijkl"}, "ids: expected a list of texts"),
    ({"ids": [None] * N}, "ids: entry 0 is None"),
    ({"ids": [1.5] * N}, "ids: entry 0 is 1.5"),
    ({"ids": [True] * N}, "ids: entry 0 is True"),
    ({"ids": [b"a"] * N}, "ids: entry 0 is b'a'"),
    ({"ids": ["a\0"] * N}, "ids: entry 0 contains a NUL"),
    ({"image_paths": [3.5] * N}, "image_paths: entry 0 is 3.5"),
    ({"image_paths": Path("a.png")}, "image_paths: expected a list"),
    ({"image_paths": ["a.png"]}, "image_paths: has 1 entries"),
    ({"texts": "one text"}, "texts: expected a list of texts"),
    ({"texts": ["a"] * 13}, "texts: has 13 entries"),
    ({"texts": [7] * N}, "texts: entry 0 is 7"),
    ({"texts": [["a", "b"]] * N}, "texts: entry 0 is"),
    ({"texts": ["a", "b\0c"] * 6}, "texts: entry 1 contains a NUL"),
    ({"texts": ["\ud800"] * N}, "texts: entry 0 contains half a character"),
    ({"about": 3}, "about: expected a text, got int"),
    ({"about": ""}, "about: must be a text that is not empty"),
    ({"about": "a\0"}, "about: must be a text"),
    ({"compression": "zip"}, "compression: 'zip' is not known"),
    ({"compression": 10}, "compression: 10 is not known"),
]

ENCODE = [
    ({"texts": ["a"] * 11 + [None]}, "text 11: is empty"),
    ({"texts": ["a"] * 11 + [NAN]}, "text 11: is empty"),
    ({"texts": ["a"] * 11 + ["  "]}, "text 11: is empty"),
    ({"texts": ["a"] * 11}, "texts: 11 texts and 12 pictures"),
    ({"texts": "a text"}, "texts: expected a list"),
    ({"texts": ["a"] * 11 + [3]}, "texts: entry 11 is 3"),
    ({"texts": ["a\0"] * 12}, "texts: entry 0 contains a NUL"),
    ({"images": ["gone.png"] * N}, r"image 0 \('gone.png'\): no such file"),
    ({"images": "a.png"}, "image_paths: expected a list"),
    ({"images": [None] * N}, "no such file"),
    ({"images": 3}, "image_paths: expected a list"),
    ({"image_encoder": None}, "image_encoder: expected an encoder"),
    ({"image_encoder": "resnet"}, "image_encoder: expected an encoder or a function"),
    ({"image_encoder": OwnEncoder}, "image_encoder: expected an encoder"),
    ({"text_encoder": "clip"}, "text_encoder: expected an encoder"),
    ({"batch_size": 0}, "batch_size: expected a positive integer"),
    ({"batch_size": 2.5}, "batch_size: expected a positive integer"),
    ({"batch_size": "8"}, "batch_size: expected a positive integer"),
    ({"label": Y}, "label: is no argument; did you mean label"),
    ({"colour": 1}, "colour: is no argument; use some of train"),
    ({"image": X}, "image: is no argument"),
    ({"labels": [*Y[:-1], -1]}, "labels: class indices run from -1"),
    ({"labels": Y[:-1]}, "labels: has 11 rows"),
    ({"ids": ["a"]}, "ids: has 1 entries"),
    ({"query": []}, "query: is empty"),
    ({"query": range(7, 12)}, "query: 1 query rows are also in train"),
    ({"train": [0, 99]}, "train: row numbers"),
    ({"labeled": [9]}, "labeled: 1 labeled rows"),
    ({"val": [9]}, "val: 1 val rows"),
    ({"class_names": "abc"}, "class_names: expected a list"),
    ({"about": 3}, "about: expected a text"),
    ({"compression": "zip"}, "compression: 'zip'"),
]

FILES = [  # entry, content (None: removed), message
    ("image", None, "image: missing"),
    ("text", None, "text: missing"),
    ("image", X[0], r"image: expected a matrix \[N, d\]"),
    ("image", X[:, :0], "image: expected a matrix"),
    ("image", with_value(NAN), "image: .*NaN"),
    ("image", with_value(INF), "image: .*inf"),
    ("image", X.astype(np.float64) * 1e300, "image: .*inf"),
    ("image", X.astype("S3"), "image: expected real numbers"),
    ("image", X.astype(complex), "image: expected real numbers"),
    ("image", 3.0, "image: expected a matrix"),
    ("text/data", X[0], "text: a CSR group needs"),
    ("text", X[:-1], "image and text: 12 and 11 rows"),
    ("labels", Y[:-1], "has 11 rows"),
    ("labels", Y - 5, "run from -5 to -3, below 0"),
    ("labels", Y + 0.5, "labels: class indices must be integers"),
    ("labels", Y * 10**9, "class indices run to 2000000000 in 12 rows"),
    ("labels", np.eye(3)[Y] * 2, "must be 0 or 1"),
    ("labels", np.full(N, "cat", "S3"), "labels: .*integers"),
    ("labels", np.full((N, 2), NAN), "must be 0 or 1"),
    ("labels", np.zeros((N, 2, 2)), "labels: "),
    ("labels", 3, "shape|labels"),
    ("labels", np.zeros((N, 0)), "has no class at all"),
    ("class_names", ["a"], r"outside 0\.\.0"),
    ("class_names", [1, 2, 3], "class_names: expected a list of strings"),
    ("class_names", "abc", "class_names: expected a list of strings"),
    ("splits/train", None, "splits/train: missing"),
    ("splits/query", None, "splits/query: missing"),
    ("splits/train", [0, 1, 2], "splits/train: expected a mask of 12"),
    ("splits/train", np.full(N, 2), "splits/train: expected a mask of 12"),
    ("splits/train", np.full(N, NAN), "splits/train: expected a mask of 12"),
    ("splits/train", np.zeros(N, bool), "train: is empty"),
    ("splits/train", np.ones(N, bool), "query: 4 query rows are also in train"),
    ("splits/train", np.full(N, "x", "S1"), "splits/train: expected a mask"),
    ("splits/query", np.zeros(N, bool), "query: is empty"),
    ("splits/database", np.ones(N, bool), "query: 4 query rows are also in database"),
    ("splits/database", np.zeros(N, bool), "database: is empty"),
    ("splits/labeled", np.arange(N) >= 8, "labeled: 4 labeled rows are not in train"),
    ("splits/val", np.arange(N) < 2, "val: 2 val rows are also in train"),
    ("splits/val", np.zeros(N, bool), "val: is empty"),
    ("splits/val", [1], "splits/val: expected a mask"),
    ("@format", "other", "format 'other'"),
    ("@format", 3, "format (np.int64.)?3"),
    ("@format", [1, 2], "format"),
    ("@format", None, "format None"),
    ("@version", 99, "version 99"),
    ("@version", "one", "version one is not"),
    ("@version", [1, 1], "version"),
    ("@about", 3, "about must be a text"),
    ("@about", " ", "about must be a text"),
]

WIDTHS = {"image": 9, "text": 12}


def new(name, *args, **options):
    return lambda: getattr(models, name)(*args or (WIDTHS,), **options)


def step(name, **options):
    return lambda: getattr(transforms, name)(**options)


def encoded(x):
    data = toy_data(20, num_queries=4, features=(4, 4))
    model = TaughtHash(data.num_features)
    model.attach(data)
    return model.encode_text(x)


def made(name, **settings):
    return lambda: recipe(name, **settings)


def on_data(change, act=lambda data: transforms.ScaleFeatures()(data)):
    def run():
        data = toy_data()
        for m in ("image", "text"):
            change(data[m])
        act(data)

    return run


def features(make):
    def change(store):
        store.x = make(store.x)

    return change


def masks(name, value):
    def change(store):
        store[name] = torch.full_like(store.train_mask, value)

    return change


CALLS = [
    (lambda: BagOfWords().fit(["a b", NAN]), "texts: entry 1 is nan; expected a text"),
    (lambda: BagOfWords().fit(["a b"])([3]), "texts: entry 0 is 3; expected a text"),
    (lambda: encoded(torch.ones(2, 4).to_sparse()), r"x: expected a dense tensor.*to_dense"),
    (lambda: encoded(torch.ones(2, 4).to_sparse_csr()), r"x: expected a dense tensor.*to_dense"),
    (lambda: FeatureFile(None), "path: expected the path"),
    (lambda: FeatureFile(3), "path: expected the path"),
    (lambda: FeatureFile("gone.h5"), "path: .* is no file"),
    (lambda: FeatureFile("."), "path: .* is no file"),
    (lambda: FeatureFile("gone.h5", transform=3), "transform: expected a transform"),
    (lambda: FeatureFile("gone.h5", pre_transform="x"), "pre_transform: expected a transform"),
    (lambda: write_feature_file(None, **GOOD), "path: expected the path"),
    (lambda: TaughtHash.load(None), "path: expected the path"),
    (lambda: HammingIndex.open(None), "path: expected the path"),
    (lambda: HammingIndex.create(None, 8), "path: expected the path"),
    (lambda: write_feature_file(".", **GOOD), "folder"),
    (lambda: check_feature_file("gone.h5"), "no such feature file"),
    (lambda: SyntheticCrossModal(n=0), "n: expected a positive integer"),
    (lambda: SyntheticCrossModal(n=2.5), "n: expected a positive integer"),
    (lambda: SyntheticCrossModal(n=10, num_queries=10), "num_queries"),
    (lambda: OwnEncoder(None, 3), "function: NoneType cannot be called"),
    (lambda: OwnEncoder(len, 0), "num_features: expected a positive integer"),
    (lambda: HammingIndex(0), "num_bits: expected a positive integer"),
    (lambda: HammingIndex("32"), "num_bits: expected a positive integer"),
    *[
        (step("LabelRate", rate=r), "rate: expected")
        for r in (-0.1, 1.5, NAN, INF, "0.3", None, True, [0.3])
    ],
    *[(step("LabelRate", rate=0.3, seed=s), "seed: expected") for s in ("x", 1.5, -1, 2**70, None)],
    *[(step("ValidationSplit", rate=r), "rate: ") for r in (0, 1, NAN, "0.1", -1)],
    (step("ValidationSplit", seed="x"), "seed: expected"),
    *[(step("ScaleFeatures", norm=n), "norm: ") for n in (0, -1, NAN, INF, "1")],
    *[(step("ScaleFeatures", center=c), "center: ") for c in (["sound"], "image", [3])],
    *[(step("ScaleFeatures", text_components=c), "text_components: ") for c in (0, 1.5, "8")],
    *[(step("IntraKNN", k=k), "k: expected a positive integer") for k in (0, -1, 2.5, "20", None)],
    (step("IntraKNN", metric="cos"), "metric: 'cos' is not known"),
    (step("IntraKNN", anchors="none"), "anchors: 'none' is not known"),
    (step("IntraKNN", weight="cosine"), "weight: 'cosine' is not known"),
    (step("IntraKNN", metric="l2", weight="similarity"), "weight: 'similarity' needs"),
    (step("IntraKNN", neighbor_weight=0), "neighbor_weight: 0"),
    (step("IntraKNN", neighbor_weight="1"), "neighbor_weight: expected a number"),
    (step("InterKNN", anchors="x"), "anchors: 'x'"),
    (step("LabelHub", match="any"), "match: 'any'"),
    (step("LabelHub", self_loops="no"), "self_loops: 'no'"),
    (step("UnifiedAffinity", k=0), "k: expected"),
    *[(new(m, num_bits=0), "num_bits: expected") for m in ("LSH", "DJSRH", "SGEH", "CCA")],
    *[(new(m, num_bits="32"), "num_bits: expected") for m in ("LSH", "DGCPN", "JDSH")],
    *[(new(m, num_bits=NAN), "num_bits: expected") for m in ("LSH", "DJSRH")],
    (new("DJSRH", {"image": 9}), "num_features: has no entry 'text'"),
    (new("DJSRH", "ab"), "num_features: expected two numbers"),
    (new("DJSRH", (9, 12, 3)), "num_features: expected two numbers"),
    (new("DJSRH", (9, 0)), r"num_features\['text'\]: expected a positive"),
    (new("DJSRH", None), "num_features: expected two numbers"),
    (new("DJSRH", beta=2), "beta: expected a fraction"),
    (new("DJSRH", mu=-1), "mu: expected a finite weight"),
    (new("DJSRH", mu=NAN), "mu: expected a finite weight"),
    (new("DJSRH", mu="9"), "mu: expected a number"),
    (new("DJSRH", batch_size=1), "batch_size: a batch of one"),
    (new("DJSRH", dropout=2), "dropout"),
    (new("DGCPN", k=0), "k: expected"),
    (new("MCGCN", num_classes=0), "num_classes: expected"),
    (new("MCGCN", num_classes=3, variant="X"), "variant: 'X'"),
    (new("DCMH", num_classes=2.0), "num_classes: expected"),
    (made(None), "name: expected a text"),
    (made(3), "name: expected a text"),
    (made(""), "model: '' is not known"),
    (made("resnet"), "model: 'resnet' is not known"),
    (made("mcgcn", preset="wiki"), "recipe: 'mcgcn/wiki' is not known"),
    (made("mcgcn", preset=3), "preset: expected a text"),
    (made("no_such_module:Hash"), "model: no_such_module:Hash cannot be imported"),
    (made("pathlib:Path"), "model: pathlib:Path is no class of models"),
    (made("mcgcn", colour=1), "colour: MCGCN has no such setting"),
    (made("lsh", label_rate=0.3), "label_rate: LSH has no such setting"),
    *[(made("mcgcn", num_bits=v), "num_bits: expected") for v in (0, -8, 2.5, "32", NAN, [32])],
    *[(made("mcgcn", seed=v), "seed: expected") for v in ("x", -1, 1.5, [0], 2**64)],
    *[(made("mcgcn", label_rate=v), "label_rate: expected") for v in (-0.1, 2, NAN, "0.3", [0.3])],
    *[(made("mcgcn", val_rate=v), "val_rate: ") for v in (-1, 1.0, 2, "x", NAN)],
    *[(made("mcgcn", lr=v), "lr: expected") for v in (0, -1, NAN, INF, "fast", {"model": 0})],
    *[(made("mcgcn", epochs=v), "epochs: expected") for v in (0, 1.5, "9", INF)],
    *[(made("mcgcn", k=v), "k: expected") for v in (0, "x", 2.5)],
    *[(made("mcgcn", decay=v), "decay: expected") for v in (0, -1, "x", NAN)],
    *[(made("mcgcn", batch_size=v), "batch_size: expected") for v in (0, 1.5, "x")],
    *[(made("mcgcn", metric=v), "metric: ") for v in ("cos", 3)],
    *[(made("mcgcn", protocol=v), "protocol: ") for v in ("fair", 3)],
    (made("mcgcn", weight="x"), "weight: 'x'"),
    (made("mcgcn", match="x"), "match: 'x'"),
    (made("mcgcn", optimizer="SGD"), "optimizer: expected a mapping"),
    (made("mcgcn", optimizer={"name": "Best"}), "optimizer: torch.optim has no optimiser"),
    (made("mcgcn", optimizer={"name": "Adam", "x": 1}), "optimizer: Adam has no option 'x'"),
    (made("mcgcn", optimizer={"name": 3}), "optimizer: torch.optim has no optimiser"),
    (made("mcgcn", model_options=3), "model_options: expected a mapping"),
    (made("mcgcn", model_options={"x": 1}), "model_options: MCGCN has no option 'x'"),
    (made("mcgcn", model_options={"num_bits": 8}), "model_options: MCGCN has no option"),
    (made("mcgcn", scaling=[1]), "scaling: expected a mapping"),
    (made("mcgcn", scaling={"x": 1}), "scaling: ScaleFeatures has no option 'x'"),
    (made("mcgcn", scaling={"norm": -1}), "norm: "),
    (made("mcgcn", graph_options="k"), "graph_options: expected a mapping"),
    (
        lambda: recipe("mcgcn", graph_options={"x": 1}).transforms,
        "graph_options: IntraKNN has no option 'x'",
    ),
    (made("mcgcn", loader_options=8), "loader_options: expected a mapping"),
    (on_data(features(lambda x: x * NAN)), r"x: \d+ of 60 rows contain NaN"),
    (on_data(features(lambda x: x.long())), "x: expected a floating-point tensor"),
    (on_data(features(lambda x: x.numpy())), "x: expected a floating-point tensor"),
    (on_data(features(lambda x: x[0])), r"x: expected shape \[n, d\]"),
    (on_data(features(lambda x: x * 0)), "all rows are zero vectors"),
    (on_data(features(lambda x: x * 0 + 2)), "all rows are equal"),
    (on_data(features(lambda x: x * 1e25)), "beyond float32"),
    (on_data(features(lambda x: x * 1e-25)), "beyond float32"),
    (on_data(masks("train_mask", False)), "train_mask: no training node"),
    (
        on_data(masks("labeled_mask", False), lambda data: transforms.LabelRate(0.3)(data)),
        "labeled_mask: the data set lets no label be used",
    ),
    (
        on_data(masks("val_mask", True), lambda data: transforms.ValidationSplit(0.3)(data)),
        "ValidationSplit: there is a val_mask already",
    ),
    (
        on_data(lambda store: store.pop("y"), lambda data: transforms.LabelRate(0.3)(data)),
        "LabelRate: the data set has no labels",
    ),
]


def trained_model(data):
    model = models.LSH({m: data[m].num_features for m in ("image", "text")}, 8)
    return model.solve(data) or model


EVALUATE = [
    ({"split": "test"}, "split: 'test' is not known"),
    ({"split": None}, "split: None is not known"),
    ({"split": "val"}, "has no val_mask"),
    ({"topk": 0}, "topk: expected a positive integer"),
    ({"topk": 2.5}, "topk: expected a positive integer"),
    ({"topk": "all"}, "topk: expected a positive integer"),
    ({"ties": "random"}, "ties: 'random' is not known"),
    ({"denominator": "k"}, "denominator: 'k' is not known"),
    ({"relevance": "colour"}, "has no colour"),
]

OUT, DATA = "--out={tmp}/run", "--dataset={tmp}/good.h5"
NOWHERE = "--images_root={tmp}/nowhere"
ROWS = ["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/x4.npy", "--source=image"]
COMMANDS = [  # words, status, message
    ([], 2, "a command is missing"),
    (["trian"], 2, "'trian'"),
    (["train"], 2, "required: out"),
    (["train", OUT, "--bits=8"], 2, "--bits=8"),
    (["train", OUT, DATA, "--num_bits=many"], 2, "--num_bits"),
    (["train", OUT, DATA, "--num_bits=0"], 2, "num_bits: expected"),
    (["train", OUT, DATA, "--seed=-1"], 2, "seed: expected"),
    (["train", OUT, DATA, "--seed=x"], 2, "--seed"),
    (["train", OUT, DATA, "--model=gcn"], 2, "model: 'gcn'"),
    (["train", OUT, DATA, "--model="], 2, "model"),
    (["train", OUT, DATA, "--model=a:B"], 2, "model: a:B cannot be imported"),
    (["train", OUT, DATA, "--recipe=mcgcn/x"], 2, "recipe: 'mcgcn/x'"),
    (["train", OUT, DATA, "--label_rate=2"], 2, "label_rate: expected"),
    (["train", OUT, DATA, "--label_rate=nan"], 2, "--label_rate: expected float, got nan"),
    (["train", OUT, DATA, "--val_rate=1"], 2, "val_rate: 1 holds out"),
    (["train", OUT, DATA, "--val_rate=-1"], 2, "val_rate: expected"),
    (["train", OUT, DATA, "--patience=3"], 2, "patience: needs a validation split"),
    (["train", OUT, DATA, "--val_rate=0.5", "--patience=0"], 2, "patience: expected"),
    (["train", OUT, DATA, "--accumulate=0"], 2, "accumulate: expected"),
    (["train", OUT, DATA, "--accumulate=2"], 2, "batch_size: mcgcn takes all data"),
    (["train", OUT, DATA, "--lr=0"], 2, "lr: expected"),
    (["train", OUT, DATA, "--lr=nan"], 2, "--lr: expected float, .* got nan"),
    (["train", OUT, DATA, "--decay=0"], 2, "decay: expected"),
    (["train", OUT, DATA, "--precision=fp8"], 2, "--precision"),
    (["train", OUT, DATA, "--device=tpu"], 2, "--device"),
    (["train", OUT, DATA, "--protocol=fair"], 2, "--protocol"),
    (["train", OUT, DATA, "--metric=cos"], 2, "--metric"),
    (["train", OUT, DATA, "--optimizer={{name: Best}}"], 2, "optimizer: torch.optim"),
    (["train", OUT, DATA, "--optimizer=SGD"], 2, "optimizer"),
    (
        ["train", OUT, DATA, "--optimizer={{name: SGD, momentum: x}}"],
        2,
        "optimizer: SGD .*momentum",
    ),
    (["train", OUT, DATA, "--optimizer={{betas: 3}}"], 2, "optimizer: Adam cannot have .*betas"),
    (["train", OUT, DATA, "--optimizer={{eps: 1, eps: 2}}"], 2, "optimizer: .*'eps' twice"),
    (["train", OUT, DATA, "--lr.a.b", "{{c: {{a: 1, 'a': 2}}}}"], 2, "lr.a.b: .*'a' twice"),
    (["train", OUT, DATA, "--model_options.weights={{a: 1, a: 2}}"], 2, "weights: .*'a' twice"),
    (["train", OUT, DATA, "--optimizer.betas.x=3"], 2, "optimizer: betas is a mapping"),
    (["train", OUT, DATA, "--model=lsh", f"--num_bits={10**14}"], 1, "not enough memory"),
    (["train", "--out=", DATA], 2, "out: is empty"),
    (["train", "--out={tmp}/n\0", DATA], 2, "out: contains a NUL"),
    (["train", OUT, "--config={tmp}/twice.yaml"], 2, "line 3: the key 'a' twice"),
    (["build", "", "--out={tmp}/b"], 2, "source: is empty"),
    (["data", "verify", ""], 2, "path: is empty"),
    (["search", "", "--text=a"], 2, "run: is empty"),
    (["serve", ""], 2, "run: is empty"),
    (["serve", "{tmp}/done", "--proxy=nope!"], 2, "proxy: 'nope!'"),
    (["serve", "{tmp}/done", "--proxy=", "--images_root=", "--port=70000"], 2, "port: expected"),
    (
        ["serve", "{tmp}/done", "--proxy=10.0.0.0/8,10.0.0.1/8"],
        2,
        "proxy: 10.0.0.1/8 has host bits",
    ),
    (["serve", "{tmp}/done", "--token_file={tmp}/gone"], 1, "token_file: .*gone: No such"),
    ([*ROWS, "--ids={tmp}/binary.npy"], 1, "ids: .*binary.npy is not UTF-8"),
    ([*ROWS, "--ids={tmp}"], 1, "ids: .*: no regular file"),
    ([*ROWS, "--ids=/dev/null"], 1, "ids: /dev/null: no regular file"),
    (["store", "delete", "{tmp}/a.store", "--ids={tmp}/binary.npy"], 1, "binary.npy is not UTF-8"),
    (["train", OUT, DATA, "--scaling.norm=-1"], 2, "norm: "),
    (["train", OUT, DATA, "--scaling.x=1"], 2, "scaling: ScaleFeatures has no option"),
    (["train", OUT, DATA, "--graph_options.x=1"], 2, "graph_options"),
    (["train", OUT, DATA, "--model_options.x=1"], 2, "model_options: MCGCN has no option"),
    (["train", OUT, DATA, "--dataset_options.x=1"], 2, "dataset_options: FeatureFile"),
    (["train", OUT, DATA, "--model=lsh", "--label_rate=1"], 2, "label_rate: LSH has no such"),
    (
        ["train", OUT, DATA, "--model=lsh", "--patience=1", "--val_rate=.5"],
        2,
        "patience: LSH has no such setting",
    ),
    (["train", OUT, DATA, "--resume"], 2, "resume: .* holds no run"),
    (["store", "delete", "a.store", "7"], 2, "arguments: 7; 'store delete' knows .*--ids, --where"),
    (["store", "delete", "{tmp}/a.store", "--ids={tmp}/gone.txt"], 1, "no such"),
    (["train", OUT, "--config={tmp}/gone.yaml"], 2, "gone.yaml"),
    (["train", OUT, "--config={tmp}/bad.yaml"], 2, "bad.yaml|config"),
    (["train", OUT, "--config={tmp}/list.yaml"], 2, "config|list.yaml"),
    (["train", OUT, "--config={tmp}/text.txt"], 2, "config|text.txt"),
    (["train", OUT, "--config={tmp}/binary.npy"], 2, "config|binary.npy"),
    (["train", OUT, "--dataset=emojis"], 2, "dataset: 'emojis' is not known"),
    (["train", OUT, "--dataset={tmp}"], 2, "dataset: "),
    (["train", OUT, "--dataset={tmp}/gone.h5"], 1, "path: .*gone.h5 is no file"),
    (["train", OUT, "--dataset={tmp}/cut.h5"], 1, "cut.h5: truncated or damaged"),
    (["train", OUT, "--dataset={tmp}/zip.h5"], 1, "zip.h5: not an HDF5 file"),
    (["train", OUT, "--dataset={tmp}/plain.h5"], 1, "format None"),
    (["train", OUT, "--dataset={tmp}/none.h5"], 1, "lets no label be used"),
    (
        [
            *["train", OUT, "--dataset={tmp}/none.h5", "--model=taughthash", "--label_rate=0"],
            "--val_rate=0.5",
        ],
        1,
        "val_rate: no node is labelled",
    ),
    (["train", "--out={tmp}/done", "--model=gch", "--resume"], 2, "model: the run in .* is of "),
    (["train", OUT, "--dataset={tmp}/val.h5", "--val_rate=0.5"], 1, "there is a val_mask already"),
    (["train", OUT, DATA, "--k=5000"], 1, "k: "),
    (["train", "--out={tmp}/text.txt/run", DATA], 1, "out: cannot write"),
    (["evaluate"], 2, "run"),
    (["evaluate", "{tmp}/gone"], 1, "run: .*gone is no folder"),
    (["evaluate", "{tmp}/text.txt"], 1, "is no folder"),
    (["evaluate", "{tmp}"], 1, "lacks config.yaml"),
    (["evaluate", "{tmp}/done", "--topk=0"], 1, "topk: expected"),
    (["evaluate", "{tmp}/done", "--ties=x"], 1, "ties: 'x' is not known"),
    (["evaluate", "{tmp}/done", "--denominator=x"], 1, "denominator: 'x'"),
    (["evaluate", "{tmp}/done", "--split=test"], 2, "--split"),
    (["evaluate", "{tmp}/done", "--split=val"], 1, "split: .*--val_rate, e.g. 0.1"),
    (["evaluate", "{tmp}/done", "--relevance=x"], 1, r"\.x: multi-hot labels"),
    (["evaluate", "{tmp}/done", "--relevance=colour"], 1, "has no colour"),
    (["evaluate", "{tmp}/done", "--model=a:B"], 2, "model: "),
    (["evaluate", "{tmp}/done", "--data={tmp}/gone.h5"], 1, "gone.h5 is no file"),
    (["encode", "{tmp}/done"], 2, "required: out"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5"], 2, "input: give --images"),
    (["encode", "{tmp}/done", "--out={tmp}/o.parquet", "--texts=x"], 2, "out: .*o.parquet ends"),
    (["encode", "{tmp}/done", "--out={tmp}/o.faiss", "--texts=x"], 2, "out: .*o.faiss ends"),
    (["encode", "{tmp}/done", "--out={tmp}/o", "--texts=x"], 2, "out: .*/o ends"),
    (
        ["encode", "{tmp}/done", "--out={tmp}/o.h5", "--texts={tmp}/gone"],
        1,
        "texts: .*gone: no",
    ),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--texts={tmp}"], 1, "texts: .*no regular file"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--texts=/dev/null"], 1, "texts: .*no regular"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features=/dev/zero"], 1, "no regular file"),
    (["search", "{tmp}/done", "--image=/dev/zero"], 1, "image: /dev/zero: no regular file"),
    (["report", "{tmp}/done", "--seed=-1"], 2, "seed: expected an integer from 0"),
    (["export", "{tmp}/done"], 2, "required: to"),
    (["export", "{tmp}/gone", "--to=csv"], 1, "run: .*gone is no folder"),
    (["export", "{tmp}/gone.store", "--to=csv", "--out={tmp}/o.csv"], 1, "gone.store"),
    (["export", "{tmp}/gone.store", "--to=csv"], 2, "out: name the file"),
    (["export", "{tmp}/x.store", "--to=onnx"], 2, "to: .*x.store is a store"),
    (["export", "{tmp}/done", "--to=zip"], 2, "--to"),
    (["export", "{tmp}/done", "--to=csv", "--out={tmp}/o.csv"], 2, "out: .*o.csv is the name"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--texts={tmp}/empty"], 1, "holds no text"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--texts={tmp}/utf16.txt"], 1, "UTF-16"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--texts={tmp}/text.txt"], 1, "no text encoder"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--images={tmp}/gone"], 1, "images: no picture"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--images={tmp}/empties"], 1, "no picture"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/gone.h5"], 1, "no such file"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/cut.h5"], 1, "damaged"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/zip.h5"], 1, "not an HDF5"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/x.npz"], 2, ".npz is not read"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/x.csv"], 2, ".csv is not read"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--features={tmp}/x.npy"], 2, "give --source"),
    (["encode", "{tmp}/done", "--out={tmp}/o.h5", "--source=image"], 2, "source: says what"),
    (["encode", "{tmp}/done", "--out={tmp}", "--features={tmp}/good.h5"], 1, "out: cannot write"),
    (
        ["encode", "{tmp}/done", "--out={tmp}/o.h5", "--index=flat", "--texts=x"],
        2,
        "index: is for --out NAME.store",
    ),
    (["search", "{tmp}/done"], 2, "query: give either"),
    (["search", "{tmp}/done", "--text=a", "--image=b"], 2, "query: give either"),
    (["search", "{tmp}/done", "--text= "], 2, "text: is empty"),
    (["search", "{tmp}/done", "--text=a"], 1, "has no text encoder"),
    (["search", "{tmp}/done", "--image=gone.png"], 1, "image: gone.png: no such file"),
    (["search", "{tmp}/done", "--text=a", "-k0"], 2, "k: expected"),
    (["search", "{tmp}/done", "--text=a", "-kx"], 2, "k"),
    (["search", "{tmp}/done", "--text=a", "--modality=sound"], 2, "modality: .*got sound"),
    (["search", "{tmp}/done", "--text=a", "--oversample=0"], 2, "oversample: expected"),
    (["search", "{tmp}/done", "--text=a", "--source=text"], 2, "source: says what"),
    (["search", "{tmp}/done", "--text=a", "--text_encoder=x"], 2, "encoder: expected MODULE:NAME"),
    (["search", "{tmp}/done", "--text=a", "--text_encoder=no_m:f"], 2, "cannot be imported"),
    (["search", "{tmp}/done", "--text=a", "--text_encoder=math:pi"], 2, "cannot be called"),
    (
        ["search", "{tmp}/done", "--text=a", "--text_encoder=builtins:repr"],
        1,
        "encoder .* gave str",
    ),
    (["search", "{tmp}/done", "--text=a", "--text_encoder=builtins:len"], 1, "encode|tensor|shape"),
    (["search", "{tmp}/done", "--features={tmp}/good.h5"], 2, "source: .* give --source"),
    (
        ["search", "{tmp}/done", "--features={tmp}/x.npy", "--source=sound"],
        2,
        "source: .*got sound",
    ),
    (
        ["search", "{tmp}/done", "--features={tmp}/x.npy", "--source=text"],
        1,
        "text: got 2 features",
    ),
    (["search", "{tmp}/done", "--features={tmp}/binary.npy", "--source=text"], 1, "NPY file"),
    (["search", "{tmp}/done", "--features={tmp}/empty.npy", "--source=text"], 1, "no numbers"),
    (
        ["search", "{tmp}/done", "--features={tmp}/words.npy", "--source=text"],
        1,
        "expected numbers",
    ),
    (["search", "{tmp}/done", "--features={tmp}/nan.npy", "--source=text"], 1, "NaN|be encoded"),
    (
        [
            "search",
            "{tmp}/done",
            "--features={tmp}/x4.npy",
            "--source=image",
            "--store={tmp}/x.csv",
        ],
        2,
        "store: .* is none",
    ),
    (["report", "{tmp}/gone"], 1, "is no folder"),
    (["report", "{tmp}/done", "--queries=0"], 2, "queries: expected"),
    (["report", "{tmp}/done", "--points=0"], 2, "points: expected"),
    (["report", "{tmp}/done", "--out={tmp}/r.pdf"], 2, "out: .*r.pdf does not end with .html"),
    (["serve", "{tmp}/gone"], 1, "is no folder"),
    (["serve", "{tmp}/done", "--port=70000"], 2, "port: expected 0 to 65535"),
    (["serve", "{tmp}/done", "--port=x"], 2, "--port"),
    (["serve", "{tmp}/done", "--threads=0"], 2, "threads: expected"),
    (["data"], 2, "check"),
    (["data", "check"], 2, "file"),
    (["data", "check", "{tmp}/gone.h5"], 1, "no such feature file"),
    (["data", "check", "{tmp}"], 1, "no regular file"),
    (["data", "check", "{tmp}/empty"], 1, "not an HDF5 file"),
    (["data", "check", "{tmp}/cut.h5"], 1, "truncated or damaged"),
    (["data", "check", "{tmp}/x.npz"], 1, "not an HDF5 file"),
    (["data", "check", "/proc/self/mem"], 1, "/proc/self/mem"),
    (["data", "check", "{tmp}/lost.h5"], 1, "lost.h5: a link to nothing: image; write"),
    (["search", "{tmp}/done", "--text=a", NOWHERE], 1, "images_root: .*nowhere is no folder"),
    (["serve", "{tmp}/done", NOWHERE], 1, "images_root: .*nowhere is no folder"),
    (["report", "{tmp}/done", NOWHERE], 1, "images_root: .*nowhere is no folder"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files, good and bad, and a small finished run."""
    tmp = tmp_path_factory.mktemp("bad")
    write_feature_file(tmp / "good.h5", **GOOD)
    write_feature_file(tmp / "none.h5", **GOOD, labeled=np.zeros(N, bool))
    write_feature_file(tmp / "val.h5", **{**GOOD, "train": range(6)}, val=[6, 7])
    content = (tmp / "good.h5").read_bytes()
    (tmp / "cut.h5").write_bytes(content[: len(content) // 2])
    np.savez(tmp / "x.npz", X)
    (tmp / "zip.h5").write_bytes((tmp / "x.npz").read_bytes())
    h5py.File(tmp / "plain.h5", "w").close()
    with h5py.File(tmp / "lost.h5", "w") as file:
        file["image"] = h5py.SoftLink("/gone")
    np.savetxt(tmp / "x.csv", X)
    np.save(tmp / "x.npy", X[:, :2])
    np.save(tmp / "x4.npy", X)
    np.save(tmp / "empty.npy", X[:0])
    np.save(tmp / "words.npy", np.array(["a"]))
    np.save(tmp / "nan.npy", np.full((2, 3), NAN))
    (tmp / "binary.npy").write_bytes(bytes(range(256)))
    (tmp / "bad.yaml").write_text("a: [1, 2")
    (tmp / "twice.yaml").write_text("a: {a: {b: 1}, b: [a, a]}\nb: 2\na: 3\n")
    (tmp / "list.yaml").write_text("- 1\n- 2\n")
    (tmp / "text.txt").write_text("just words\n")
    (tmp / "utf16.txt").write_bytes("words\n".encode("utf-16"))
    (tmp / "empty").touch()
    (tmp / "empties").mkdir()
    HammingIndex.create(tmp / "a.store", 8).save()
    words = [f"--dataset={tmp}/good.h5", f"--out={tmp}/done", "--model=lsh", "--num_bits=4"]
    assert quiet(words, "train")[0] == 0
    return tmp


def quiet(words, *before):
    """Status and standard error of ``pyg-hash`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return main([*before, *words]), err.getvalue()


def named(error, message):
    """The error says that, and a command that ends in it has status 1 or 2 and one line."""
    assert not isinstance(error, CorruptFileError) or "damaged" in str(error)
    assert re.search(message, str(error), re.DOTALL), str(error)

    def execute(asked):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyg_hash.cli.evaluate.verify", execute)
        status, said = quiet(["data", "verify", "x"])
    assert status in (1, 2) and said == f"pyg-hash: error: {error}\n"
    assert said.count("\n") == 1 or "items cannot be encoded" in said  # each on a line of its own


BAD = (TypeError, ValueError, OSError)


@pytest.mark.parametrize(("change", "message"), WRITE)
def test_write(change, message, tmp_path):
    with pytest.raises(BAD) as error:
        write_feature_file(tmp_path / "x.h5", **{**GOOD, **change})
    named(error.value, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "message"), ENCODE)
def test_encode_before_the_first_item(change, message, tmp_path):
    picture = tmp_path / "a.png"
    picture.touch()
    seen = []
    encoder = OwnEncoder(seen.append, 3)
    content = {k: v for k, v in GOOD.items() if k not in ("image", "text")}
    content |= {"images": [picture] * N, "texts": ["a"] * N}
    content |= {"image_encoder": encoder, "text_encoder": encoder}
    with pytest.raises(BAD) as error:
        encode_feature_file(tmp_path / "x.h5", **{**content, **change})
    named(error.value, message)
    assert not seen and ".tmp" not in str(error.value) and list(tmp_path.iterdir()) == [picture]


@pytest.mark.parametrize(("entry", "value", "message"), FILES)
def test_files(entry, value, message, tmp_path):
    path = write_feature_file(tmp_path / "x.h5", **GOOD)
    with h5py.File(path, "r+") as file:
        if entry.startswith("@"):
            place, entry = file.attrs, entry[1:]
        else:
            place = file
            if entry == "text/data":
                del file["text"]
        if entry in place:
            del place[entry]
        if value is not None:
            place[entry] = value
    with pytest.raises((TypeError, ValueError)) as error:
        FeatureFile(path)
    named(error.value, message)
    assert str(path) in str(error.value) and not check_feature_file(path).ok


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_calls(call, message):
    with pytest.raises(BAD) as error:
        call()
    named(error.value, message)


@pytest.mark.parametrize(("options", "message"), EVALUATE)
def test_evaluate(options, message):
    data = toy_data()
    with pytest.raises(BAD) as error:
        evaluate(trained_model(data), data, **options)
    named(error.value, message)


@pytest.mark.parametrize(("words", "status", "message"), COMMANDS)
def test_commands(words, status, message, folder):
    found, error = quiet([word.format(tmp=folder) for word in words])
    assert found == status, error
    assert "Traceback" not in error and "(unexpected;" not in error
    assert status != 2 or not (folder / "run").exists()
    line = error.splitlines()[-1]
    assert line.startswith("pyg-hash: error: ") and re.search(message, line), error
    assert not (folder / "o.h5").exists()
    shutil.rmtree(folder / "run", ignore_errors=True)


def test_there_are_enough_and_none_twice():
    tables = (WRITE, ENCODE, FILES, CALLS, EVALUATE, COMMANDS)
    assert sum(map(len, tables)) >= 300
    commands = {tuple(words) for words, _, _ in COMMANDS}
    assert len(commands) == len(COMMANDS)
