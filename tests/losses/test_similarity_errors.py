"""What pairwise_nll refuses, and how it says so."""

from __future__ import annotations

import pytest
import torch

from pyg_hash.losses import pairwise_nll


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"image": torch.zeros(3, 4, dtype=torch.float16)}, TypeError, "float32"),
        ({"image": torch.zeros(3, 4, dtype=torch.float64)}, TypeError, "image and text"),
        ({"image": torch.zeros(3, 4, dtype=torch.long)}, TypeError, "image"),
        ({"image": torch.zeros(3, 5)}, ValueError, "5 and 4 bits"),
        ({"image": torch.zeros(3)}, ValueError, "image"),
        ({"text": torch.zeros(1, 3, 4)}, ValueError, "text"),
        ({"image_y": torch.zeros(2, dtype=torch.long)}, ValueError, "image_y.*2 rows.*3"),
        ({"text_y": torch.zeros(3)}, TypeError, "text_y"),
        ({"text_y": torch.zeros(3, 2)}, ValueError, "image_y and text_y"),
        ({"text_y": torch.full((3, 2), float("nan"))}, ValueError, "text_y.*0 or 1"),
        ({"match": "same"}, ValueError, "match.*'same'"),
        ({"reduction": "none"}, ValueError, "reduction.*'none'"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
        ({"chunk_size": 2.0}, TypeError, "chunk_size"),
    ],
)
def test_errors(change: dict, error: type[Exception], words: str) -> None:
    arguments = {"image": torch.zeros(3, 4), "text": torch.zeros(3, 4)}
    arguments |= {name: torch.zeros(3, dtype=torch.long) for name in ("image_y", "text_y")}
    with pytest.raises(error, match=words):
        pairwise_nll(**(arguments | change))


def test_multi_hot_with_different_classes_is_an_error() -> None:
    z = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="same classes"):
        pairwise_nll(z, z, torch.zeros(2, 3), torch.zeros(2, 4))
