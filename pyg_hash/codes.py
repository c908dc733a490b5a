"""Binary codes: making, packing, comparing and judging them.

A code is int8 in {-1, +1}, ``[n, num_bits]``. Packed, it is uint8 ``[n, ceil(num_bits / 8)]``:
bit 1 stands for +1, the first bit is the most significant one (as ``numpy.packbits``), and the
last byte is filled up with zeros. All packed codes of this library and its index files are so.
What is no code, or of other bits, is a ``TypeError`` or ``ValueError``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyg_hash.typing import binarize, kind_of
from pyg_hash.utils.checks import check_floats, check_positive_int

LEVELS = 127  # steps of an int8 code to either side

__all__ = [
    "binarize",
    "code_diagnostics",
    "hamming_distance",
    "pack_bits",
    "quantize",
    "unpack_bits",
]


def check_codes(codes: Tensor, name: str, *, num_bits: int | None = None) -> None:
    """Check codes: int8 ``[n, K]`` with every entry -1 or +1."""
    if not isinstance(codes, Tensor) or codes.dtype != torch.int8:
        kind = codes.dtype if isinstance(codes, Tensor) else None
        remedy = "use .to(torch.int8), of an array .astype('int8')"
        if kind == torch.bool:
            remedy = "2 * bits.to(torch.int8) - 1 makes codes"
        elif kind == torch.uint8:
            remedy = "unpack_bits() takes packed ones"
        elif kind is None:
            remedy = "use torch.from_numpy(numpy.asarray(codes))"
        elif kind.is_floating_point:
            remedy = "use binarize()"
        raise TypeError(
            f"{name}: expected int8 codes in {{-1, +1}}, got {kind_of(codes)}; {remedy}"
        )
    if codes.dim() != 2 or codes.size(1) == 0:
        raise ValueError(f"{name}: expected shape [n, num_bits], got {list(codes.shape)}")
    if num_bits is not None and codes.size(1) != num_bits:
        raise ValueError(f"{name}: has {codes.size(1)} bits, expected {num_bits}")
    if codes.numel() and not bool((codes.abs() == 1).all()):
        raise ValueError(f"{name}: entries must be -1 or +1; of 0 and 1 use 2 * bits - 1")


def pack_bits(codes: Tensor, *, num_bits: int | None = None) -> Tensor:
    """Pack codes, eight bits a byte.

    Args:
        codes: int8 ±1 ``[n, num_bits]``.
        num_bits: bits that the codes must have; None takes any number.

    Returns:
        uint8 ``[n, ceil(num_bits / 8)]`` on the same device.

    Raises:
        TypeError, ValueError: not codes, or not of ``num_bits`` bits.
    """
    check_codes(codes, "codes", num_bits=num_bits)
    packed = np.packbits((codes > 0).cpu().numpy(), axis=1)
    return torch.from_numpy(packed).to(codes.device)


def num_bytes(num_bits: int) -> int:
    """Bytes of a packed code."""
    return (num_bits + 7) // 8


def check_packed(packed: Tensor, num_bits: int, name: str = "packed") -> None:
    """Check packed codes: uint8 ``[n, ceil(num_bits / 8)]``, whose padding bits are zero."""
    if not isinstance(packed, Tensor) or packed.dtype != torch.uint8:
        raise TypeError(
            f"{name}: expected a uint8 tensor, as pack_bits() returns, got {kind_of(packed)}"
        )
    if (own := vars(packed).get("num_bits", num_bits)) != num_bits:  # read_codes says so
        raise ValueError(f"{name}: has {own} bits, expected {num_bits}; take a store of {own} bits")
    width = num_bytes(num_bits)
    if packed.dim() != 2 or packed.size(1) != width:
        raise ValueError(
            f"{name}: {num_bits} bits take shape [n, {width}], got {list(packed.shape)}"
        )
    if num_bits % 8 and bool((packed[:, -1] & (0xFF >> num_bits % 8)).any()):
        raise ValueError(f"{name}: bits after bit {num_bits} are not zero; is num_bits right?")


def unpack_bits(packed: Tensor, num_bits: int) -> Tensor:
    """Undo :func:`pack_bits`.

    Args:
        packed: uint8 ``[n, ceil(num_bits / 8)]``.
        num_bits: bits of a code.

    Returns:
        int8 ±1 ``[n, num_bits]`` on the same device.

    Raises:
        TypeError, ValueError: not packed codes of ``num_bits`` bits.
    """
    check_positive_int(num_bits, "num_bits")
    check_packed(packed, num_bits)
    bits = np.unpackbits(packed.cpu().numpy(), axis=1, count=num_bits)
    return torch.from_numpy(bits.astype(np.int8)).mul_(2).sub_(1).to(packed.device)


_ROUNDING = 1e-3  # of means of codes, as MCGCN's attention makes them: still 127 steps


def quantize(relaxed: Tensor, codes: Tensor | None = None) -> Tensor:
    """Relaxed codes in steps of 1 / 127, one byte a bit; what rounds to 0 is one step.

    Args:
        relaxed: float ``[n, num_bits]`` in [-1, 1].
        codes: int8 ±1 ``[n, num_bits]``, their signs; by default ``binarize(relaxed)``. Where a
            relaxed code is all but 0 they decide.

    Returns:
        int8 ``[n, num_bits]``, -127 to 127 but 0, whose signs are the codes.

    Raises:
        TypeError, ValueError: not finite floats in [-1, 1], or of other signs than the codes.
    """
    check_relaxed(relaxed, "relaxed")
    if relaxed.numel() and (largest := float(relaxed.abs().max())) > 1 + _ROUNDING:
        raise ValueError(f"relaxed: goes up to {largest:g}; expected values in [-1, 1]")
    signs = binarize(relaxed) if codes is None else codes.to(relaxed.device)
    steps = check_signs(relaxed, signs, "relaxed").to(torch.int8)
    return torch.where(steps == 0, signs, steps)


def check_signs(relaxed: Tensor, signs: Tensor, name: str) -> Tensor:
    """Relaxed codes in steps; ``ValueError`` if some that are not all but 0 have other signs."""
    steps = relaxed.detach().double().mul(LEVELS).round()
    wrong = (steps * signs < 0).any(1).nonzero().flatten()
    if len(wrong):
        raise ValueError(
            f"{name}: {len(wrong)} rows have other signs than their codes (first: row "
            f"{int(wrong[0])}); give codes and relaxed codes of one pass, codes = binarize({name})"
        )
    return steps


def check_relaxed(relaxed: Tensor, name: str, shape: tuple[int, int] | None = None) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these are finite floats of this shape."""
    check_floats(relaxed, name)
    if not bool(relaxed.isfinite().all()):
        raise ValueError(f"{name}: contains NaN or inf; did training diverge?")
    if shape not in (None, relaxed.shape):
        raise ValueError(
            f"{name}: expected shape {list(shape)}, a row a code, got {list(relaxed.shape)}"
        )


def exact_queries(relaxed: Tensor) -> Tensor:
    """Relaxed codes ``[q, num_bits]`` to 38 binary places or so, as far as sums of them are exact.

    Their products with int8 then add up without rounding, in whatever order and company, so that
    items with equal codes have equal scores; a score moves by less than 1e-9 of the largest.
    """
    query = relaxed.detach().double()
    places = 52 - 7 - query.size(1).bit_length()  # a float64 has 52, an int8 takes 7
    exponent = torch.frexp(query.abs().amax(1, keepdim=True)).exponent.cpu().numpy()
    scale = torch.from_numpy(np.ldexp(1.0, np.minimum(places - exponent, 1000))).to(query)
    return (query * scale).round() / scale


def hamming_distance(a: Tensor, b: Tensor) -> Tensor:
    """Number of differing bits of all pairs.

    Args:
        a: int8 ±1 ``[n, num_bits]``.
        b: int8 ±1 ``[m, num_bits]`` on the same device.

    Returns:
        int32 ``[n, m]``. It takes ``8 n m`` bytes: use ``HammingIndex`` for large sets.

    Raises:
        TypeError, ValueError: not codes, or of different widths.
    """
    check_codes(a, "a")
    check_codes(b, "b", num_bits=a.size(1))
    # codes are ±1, so a.b = num_bits - 2 * distance; exact in float32 up to 2^24 bits
    products = a.float() @ b.float().T
    return products.sub_(a.size(1)).div_(-2).to(torch.int32)


@dataclass(frozen=True)
class CodeDiagnostics:
    """How well a set of codes uses its bits."""

    num_codes: int  #: items
    num_bits: int  # bits of a code
    bit_mean: Tensor  #: mean of each bit, float64 ``[num_bits]`` in [-1, 1]; 0 is balanced
    imbalance: float  #: mean of ``|bit_mean|``; 0 is best, 1 means that all bits are constant
    bit_entropy: float  #: mean entropy of a single bit, in bits, 0 to 1; 1 is best
    #: mean absolute Pearson correlation of two different bits; 0 is best. Constant bits have none
    #: and are left out; NaN if fewer than two bits vary
    correlation: float
    constant_bits: int  #: bits with the same value for all items
    code_entropy: float  #: entropy of whole codes, in bits; at most ``log2(num_codes)``
    distinct_codes: int  #: number of different codes
    collisions: int  #: items that share their code with another item
    largest_bucket: int  #: items that share the most frequent code

    def __str__(self) -> str:
        """One readable line a property."""
        return f"""\
{self.num_codes} codes of {self.num_bits} bits
imbalance of a bit        {self.imbalance:.3f} (0 is best)
entropy of a bit          {self.bit_entropy:.3f} of 1 bit
correlation of two bits   {self.correlation:.3f} (0 is best)
constant bits             {self.constant_bits}
entropy of a code         {self.code_entropy:.2f} bits
distinct codes            {self.distinct_codes}
items sharing their code  {self.collisions}
largest bucket            {self.largest_bucket}"""


def code_diagnostics(codes: Tensor) -> CodeDiagnostics:
    """Judge how well codes use their bits, without labels.

    Args:
        codes: int8 ±1 ``[n, num_bits]``, at least one row.

    Raises:
        TypeError, ValueError: not codes, or no rows.
    """
    check_codes(codes, "codes")
    if codes.size(0) == 0:
        raise ValueError("codes: has no rows; give at least one")
    x = codes.cpu().double()
    n, num_bits = codes.shape
    mean = x.mean(0)
    ones = (1 + mean) / 2
    entropy = -(torch.xlogy(ones, ones) + torch.xlogy(1 - ones, 1 - ones)) / np.log(2)
    counts = bucket_sizes(codes)
    share = counts.double() / n
    varying = x[:, mean.abs() < 1].T  # a bit a row
    bits = len(varying)
    others = float(varying.corrcoef().abs().sum()) - bits if bits > 1 else float("nan")
    return CodeDiagnostics(
        num_codes=n,
        num_bits=num_bits,
        bit_mean=mean,
        imbalance=float(mean.abs().mean()),
        bit_entropy=float(entropy.mean()),
        correlation=others / max(bits * (bits - 1), 1),
        constant_bits=num_bits - bits,
        code_entropy=float(-(share * share.log2()).sum()) + 0.0,
        distinct_codes=counts.numel(),
        collisions=int(counts[counts > 1].sum()),
        largest_bucket=int(counts.max()),
    )


def bucket_sizes(codes: Tensor) -> Tensor:
    """How many items have each of the codes that occur, int64 ``[distinct codes]``, on the CPU."""
    packed = np.ascontiguousarray(pack_bits(codes).cpu().numpy())
    rows = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    return torch.from_numpy(np.unique(rows, return_counts=True)[1])
