"""Constructor arguments that models share."""

from __future__ import annotations

from collections.abc import Mapping

from pyg_hash.typing import IMAGE, MODALITIES, TEXT
from pyg_hash.validation import check_positive_int


def image_text_pair(
    value: Mapping[str, int] | tuple[int, int] | list[int] | int, name: str
) -> dict[str, int]:
    """Image and text values from one number, a pair or a mapping."""
    if isinstance(value, int):
        value = (value, value)
    if isinstance(value, Mapping):
        missing = [m for m in MODALITIES if m not in value]
        if missing:
            raise ValueError(f"{name}: has no entry {missing[0]!r}; give 'image' and 'text'")
        pair = {str(m): value[m] for m in MODALITIES}
    elif len(value) == 2:
        pair = {IMAGE: value[0], TEXT: value[1]}
    else:
        raise ValueError(f"{name}: expected two numbers (image, text), got {value!r}")
    for modality, number in pair.items():
        check_positive_int(number, f"{name}[{modality!r}]")
    return pair
