"""The shared names fit together."""

import pytest
import torch

from pyg_hash.typing import (
    IN_CLASS,
    INTER,
    INTRA,
    MODALITIES,
    NEAREST,
    OVERLAP,
    HashOutput,
    other,
)


def test_other():
    assert [other(m) for m in MODALITIES] == ["text", "image"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_edge_types(modality):
    assert INTRA[modality] == (modality, "intra", modality)
    assert NEAREST[modality] == (modality, "nearest", modality)
    assert INTER[modality] == (other(modality), "inter", modality)  # it receives
    assert IN_CLASS[modality] == (modality, "in", "class")
    assert OVERLAP == ("class", "overlap", "class")


def test_hash_output():
    out = HashOutput(torch.zeros(1, 2), torch.ones(1, 2))
    assert out["image"] is out.image and out["text"] is out.text
    assert out.aux == {} and out.aux is not HashOutput(out.image, out.text).aux
    for wrong in ("audio", "aux", ""):
        with pytest.raises(KeyError, match="modality"):
            out[wrong]
