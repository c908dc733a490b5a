"""What holds for any text, any argument and any shape: a value, or an error that names what it is.

Damaged files are those of ``mutations.py``.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyg_hash import datasets, features, index, models, nn, transforms
from pyg_hash.cli.options import TrainConfig
from pyg_hash.codes import pack_bits, unpack_bits
from pyg_hash.datasets.sources import open_source
from pyg_hash.features import BagOfWords, StaticWords
from pyg_hash.index import Flat, HammingIndex, MultiIndex
from pyg_hash.index.where import parse
from pyg_hash.runs import Run
from pyg_hash.utils.files import CorruptFileError

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

ODD = (None, "", "x", b"x", -1, 0, 1, 2.5, math.nan, math.inf, 1e300, True, [], {}, object(),
       np.int64(3), np.float32(0.5))  # fmt: skip
GOOD = {"num_features": {"image": 4, "text": 3}, "num_classes": 3, "num_bits": 8, "rate": 0.5,
        "hidden_channels": 4, "in_channels": 4, "out_channels": 4, "num_channels": 4,
        "hidden": 4, "n": 40, "encoders": [BagOfWords(), BagOfWords()]}  # fmt: skip
PUBLIC = [
    kind
    for module, names in (
        (models, models.__all__),
        (transforms, transforms.__all__),
        (nn, nn.__all__),
        (index, ("HammingIndex", "IVF", "HNSW")),
        (features, ("BagOfWords", "Concatenated", "EfficientNetLite0", "StaticWords")),
        (datasets, ("SyntheticCrossModal",)),
    )
    for kind in (getattr(module, name) for name in names)
    if inspect.isclass(kind)
    and not inspect.isabstract(kind)
    and kind not in (models.HashOutput, models.Objective)  # records, which check nothing
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_a_constructor_takes_an_argument_or_names_it(kind):
    known = inspect.signature(kind).parameters
    known = {name: p for name, p in known.items() if p.kind is not p.VAR_KEYWORD}
    good = {name: GOOD[name] for name, p in known.items() if p.default is p.empty}
    if kind is nn.CodeEncoder:
        good["hidden_channels"] = [4]
    try:
        kind(**good)
    except ImportError as error:
        pytest.skip(str(error))
    for name in known:
        for value in ODD:
            try:
                kind(**{**good, name: value})
            except (TypeError, ValueError) as error:
                assert name in str(error), (name, value)


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
