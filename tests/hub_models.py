"""Tiny networks with random weights, in the files that the model hubs use.

No weights can be downloaded where the tests run, so the real loading code meets small models here.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "cat", "dog", "##s"]
CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


def need(package):
    """Import an optional package, or skip the test and say why."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (an extra)")
    declare_torchvision()
    return importlib.import_module(package)


def declare_torchvision():
    """Name the two operators without which torchvision cannot be imported.

    There is no CPU build of it for the torch of the tests; no encoder calls these operators.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    folder = Path(importlib.util.find_spec("torchvision").origin).parent
    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", arguments)


def save_weights(model, path):
    """All tensors of a network as safetensors."""
    save_file({k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}, path)
    return path


def timm_weights(folder):
    """A small timm network with its classifier."""
    torch.manual_seed(0)
    model = need("timm").create_model("test_resnet", pretrained=False)
    return save_weights(model, folder / "model.safetensors")


def clip_weights(folder):
    """A small OpenCLIP model named ``tiny-clip``."""
    open_clip = need("open_clip")
    (folder / "tiny-clip.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    return save_weights(
        open_clip.create_model("tiny-clip", load_weights=False), folder / "clip.safetensors"
    )


def vit_folder(folder):
    """A small ViT of transformers."""
    transformers = need("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=16,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(folder)
    settings = {
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.2] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def bert_folder(folder):
    """A small BERT of transformers with a vocabulary of eleven words."""
    transformers = need("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=12,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def pictures(folder, n=3):
    """Random pictures."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(n)]
    for path in paths:
        image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    return paths
