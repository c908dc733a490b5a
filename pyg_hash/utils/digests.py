"""Digests: what tells tensors and rows from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SAME = 1e-7  # of a print: what rounding changes


def digest_of(tensors: Mapping[str, Tensor], about: Any = None) -> str:
    """SHA-256, in hexadecimal, of named tensors and JSON values."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def row_prints(x: Tensor) -> Tensor:
    """One number a row that tells rows apart and hardly feels rounding: float64 ``[N]``."""
    flat = x.detach().cpu().reshape(x.size(0), -1)
    column = torch.arange(flat.size(1), dtype=torch.float64, device="cpu")
    weights = torch.cos(1.0 + 2.399963 * column)
    step = max(1, (1 << 16) // max(1, flat.size(1)))  # what a cache holds
    # blocks of memory one after the other would all be held: aligned ones are seldom used again
    buffer, prints = weights.new_empty(step, flat.size(1)), weights.new_empty(len(flat))
    for part, out in zip(torch.split(flat, step), torch.split(prints, step), strict=True):
        torch.mv(buffer[: len(part)].copy_(part), weights, out=out)
    return prints


def same_rows(prints: Tensor, known: Tensor) -> Tensor:
    """For each print the position of its equal among ``known``, or -1: int64 ``[N]``."""
    if known.numel() == 0:
        return torch.full(prints.shape, -1, device="cpu")
    order = known.argsort(stable=True)
    ranked = known[order]
    low = torch.searchsorted(ranked, prints - SAME * (1 + prints.abs()))
    low = low.clamp(max=known.numel() - 1)
    near = (ranked[low] - prints).abs() <= SAME * (1 + prints.abs())
    return torch.where(near, order[low], -1)
