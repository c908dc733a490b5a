"""What codes are the signs of, where a class of one's own may make them otherwise."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pyg_hash.codes import check_codes
from pyg_hash.models.base import HashModel
from pyg_hash.typing import IMAGE, Modality


def has_own(model: Any, name: str) -> bool:
    """Whether ``encode``, ``encode_image`` or ``encode_text`` is a subclass's: no mere sign."""
    kind = type(getattr(model, "_orig_mod", model))  # of a compiled one too
    return getattr(kind, name) is not getattr(HashModel, name)


def signed_new(model: HashModel, x: Tensor, modality: Modality) -> Tensor:
    """Relaxed codes of new items, or codes where a subclass makes its own: float ``[n, bits]``."""
    if not has_own(model, name := f"encode_{modality}"):
        return model.relax_image(x) if modality == IMAGE else model.relax_text(x)
    codes: Tensor = getattr(model, name)(x)
    check_codes(codes, name)
    return codes.float()
