import warnings

import numpy as np
import pytest
import torch

from pyg_hash.features import ImageEncoder, OwnEncoder, TextEncoder, load_encoder
from pyg_hash.utils.files import CorruptFileError, load_json, save_json


def lengths(texts):
    return np.array([[len(text), 1] for text in texts])


def test_a_function_is_an_encoder():
    encoder = OwnEncoder(lengths, 2)
    assert isinstance(encoder, TextEncoder) and isinstance(encoder, ImageEncoder)
    x = encoder(("a", "bcd"))
    assert x.dtype == torch.float32 and x.tolist() == [[1, 1], [3, 1]]
    assert repr(encoder) == "OwnEncoder('lengths', num_features=2)"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of torch, that a list of arrays is slow
        assert OwnEncoder(lambda texts: [*lengths(texts)], 2)(["a"]).tolist() == [[1, 1]]
        rows = [np.arange(2, dtype=">f4")[::-1], np.frombuffer(np.ones(2), ">f8")]
        assert OwnEncoder(lambda texts: rows, 2)(["a", "b"]).tolist()[0] == [1, 0]
    weight = torch.ones(2, 2, requires_grad=True)
    assert not OwnEncoder(lambda texts: weight, 2)(["a", "b"]).requires_grad


def test_loaded_it_waits_for_its_function(tmp_path):
    OwnEncoder(lengths, 2, "word lengths").save(tmp_path)
    loaded = load_encoder(tmp_path)
    assert (loaded.name, loaded.num_features) == ("word lengths", 2)
    with pytest.raises(RuntimeError, match="'word lengths' is a function of yours"):
        loaded(["a"])
    assert loaded.use(lengths)(["ab"]).tolist() == [[2, 1]]
    good = load_json(tmp_path / "encoder.json")
    for broken in ({**good, "num_features": "x"}, {**good, "num_features": 0}, {"kind": "own"}):
        save_json(tmp_path / "encoder.json", broken)
        with pytest.raises(CorruptFileError):
            load_encoder(tmp_path)


def test_errors():
    with pytest.raises(TypeError, match="cannot be called"):
        OwnEncoder(3, 2)
    with pytest.raises(ValueError, match="num_features"):
        OwnEncoder(lengths, 0)
    with pytest.raises(TypeError, match=r"expected \[1, 3\] numbers, got \[1, 2\]"):
        OwnEncoder(lengths, 3)(["a"])
