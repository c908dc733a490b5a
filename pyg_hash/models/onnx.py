"""The encoders of a model as files that onnxruntime runs, without torch."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_hash.models.base import HashModel
from pyg_hash.models.encoder import EncoderHashModel
from pyg_hash.models.graph import GraphHashModel
from pyg_hash.models.signs import has_own
from pyg_hash.typing import MODALITIES, Modality
from pyg_hash.utils.checks import check_choice
from pyg_hash.utils.files import atomic_path
from pyg_hash.utils.modes import eval_mode
from pyg_hash.utils.optional import require
from pyg_hash.utils.scaling import apply_scaling

__all__ = ["export_onnx"]


class _Encoder(nn.Module):
    """Features of one modality to packed and relaxed codes, the scaling included."""

    def __init__(self, model: EncoderHashModel, modality: Modality) -> None:
        super().__init__()
        self.model, self.modality = copy.deepcopy(model).cpu(), modality
        assert self.model.intake is not None
        self.scaling = self.model.intake.scaling(modality)
        for name, flag in list(self.model.named_buffers(recurse=False)):
            if flag.dtype == torch.bool:  # what branches by it is settled, and no data
                delattr(self.model, name)
                setattr(self.model, name, bool(flag))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(next(self.model.parameters()))
        odd = (x * 0).sum(dim=1, keepdim=True)  # NaN of a row that is not finite, else 0
        relaxed = self.model.relaxed(apply_scaling(x, self.scaling), self.modality) + odd
        bits = (relaxed >= 0).float()
        eights = F.pad(bits, (0, -bits.size(1) % 8)).reshape(-1, -(-bits.size(1) // 8), 8)
        places = 2.0 ** torch.arange(7, -1, -1, dtype=torch.float32)
        return torch.matmul(eights, places).to(torch.uint8), relaxed.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """A block without what the exporter says of itself, which is much and costs time."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def export_onnx(model: HashModel, path: str | os.PathLike[str], modality: Modality) -> None:
    """Write the encoder of one modality as an ONNX file, atomically.

    Its input ``features`` is float32 ``[n, d]``, before scaling, as ``encode_image`` takes them;
    its outputs are ``codes``, uint8 ``[n, ceil(num_bits / 8)]`` in the order of
    ``numpy.packbits``, and ``relaxed``, float32 ``[n, num_bits]``, those of the model within
    rounding. The relaxed code of a row with NaN or infinity is NaN. The metadata name ``model``
    (the digest), ``class``, ``modality``, ``num_bits`` and ``num_features``.

    Args:
        model: one that encodes items from their features alone, fitted or attached.
        path: the file, ``NAME.onnx``.
        modality: whose encoder.

    Raises:
        TypeError: a model that joins new items to the anchors of a graph, that takes items which
            are no features, or whose codes of new items are its own and no signs.
        RuntimeError: the model was neither fitted nor attached to data.
        ImportError: onnx or onnxscript is not installed.
    """
    check_choice(modality, MODALITIES, "modality")
    name = type(model).__name__
    if not isinstance(model, EncoderHashModel):
        joins = "joins a new item to its nearest anchors by a search among all of them, which is"
        why = joins if isinstance(model, GraphHashModel) else "is no EncoderHashModel, and so"
        raise TypeError(
            f"model: {name} {why} no file for onnxruntime; export a model that encodes an item "
            "from its features alone, such as TaughtHash"
        )
    if has_own(model, f"encode_{modality}"):
        raise TypeError(f"model: {name} has an encode_{modality} of its own; the file gives signs")
    if model.intake is None:
        raise RuntimeError(f"model: {name} was neither fitted nor attached to data; do so first")
    if not model.intake.about["is_features"][modality]:
        raise TypeError(f"model: {name} takes raw items as {modality}, not rows of features")
    for module in ("onnx", "onnxscript"):
        require(module, module, extra="onnx")
    width = model.intake.about["shapes"][modality][0]
    encoder = _Encoder(model, modality)
    with eval_mode(encoder), _quiet():
        program = torch.onnx.export(
            encoder,
            (torch.ones(2, width),),
            input_names=["features"],
            output_names=["codes", "relaxed"],
            dynamic_shapes={"x": {0: torch.export.Dim("n")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    about = {"num_bits": str(model.num_bits), "num_features": str(width), "class": name}
    program.model.metadata_props.update(model=model.digest(), modality=modality, **about)
    with atomic_path(Path(path)) as temporary:
        program.save(temporary)
