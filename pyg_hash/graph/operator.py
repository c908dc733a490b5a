"""The normalised adjacency of a graph as one linear map, class hubs included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from pyg_hash.utils.csr import csr_matrix, product, row_block, rows_of, sorted_csr, transpose


class SparseMap:
    r"""A constant sparse matrix :math:`A + L M L^\top` that acts on the rows of an array.

    ``sparse_map @ x`` is differentiable in ``x`` and keeps none of it for the backward pass. It is
    computed in the matrix's type, fp32, even under :func:`torch.autocast` to bf16: sums over many
    neighbours need the digits.

    Args:
        matrix: ``A``, CSR ``[rows, n]``.
        scatter: ``L``, CSR ``[n, U]``, or None.
        middle: ``M``, CSR ``[U, U]``, or None for the identity.
    """

    def __init__(
        self, matrix: Tensor, scatter: Tensor | None = None, middle: Tensor | None = None
    ) -> None:
        self.matrix = matrix
        self._scatter, self._middle = scatter, middle
        self._gather = None if scatter is None else transpose(scatter)
        self._transposed: tuple[Tensor, Tensor | None] | None = None  # made when it is needed
        self._constant: tuple[ReferenceType[Tensor], int, Tensor] | None = None

    @property
    def num_entries(self) -> int:
        """Stored weights of ``A``."""
        return self.matrix.values().numel()

    def __matmul__(self, x: Tensor) -> Tensor:
        """Propagate ``x`` ``[n, f]``: float ``[rows, f]``."""
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.to(self.matrix.dtype)
        result: Tensor = _Propagate.apply(x, self, False)  # type: ignore[no-untyped-call]
        return result

    def apply(self, x: Tensor, *, transposed: bool = False) -> Tensor:
        """The product itself, without autograd."""
        matrix, middle = self._transposes() if transposed else (self.matrix, self._middle)
        if self._scatter is None:
            return product(matrix, x)
        # where all is cliques one pass over the result is half of the time
        out = product(matrix, x) if self.num_entries else None
        return product(self._scatter, self._totals(x, middle), onto=out)

    def blocks(self, x: Tensor, size: int) -> Iterator[Tensor]:
        """:meth:`apply` in consecutive blocks of ``size`` rows; only one of them is alive."""
        totals = self._totals(x, self._middle)
        num_rows = self.matrix.size(0)
        for start in range(0, num_rows, size):
            stop = min(start + size, num_rows)
            out = product(row_block(self.matrix, start, stop), x)
            if self._scatter is not None:
                product(row_block(self._scatter, start, stop), totals, onto=out)
            yield out

    def of_constant(self, x: Tensor) -> Tensor:
        """``self @ x`` for features that stay the same: computed once and remembered."""
        if x.is_inference():  # such a tensor does not count its changes
            return self.apply(x)
        if self._constant is not None:
            kept, version, result = self._constant
            if kept() is x and version == x._version:
                return result
        result = self.apply(x.detach())
        self._constant = ref(x), x._version, result
        return result

    def _totals(self, x: Tensor, middle: Tensor | None) -> Tensor:
        """What each hub sends."""
        totals = x if self._gather is None else product(self._gather, x)
        return totals if middle is None else product(middle, totals)

    def _transposes(self) -> tuple[Tensor, Tensor | None]:
        if self._transposed is None:
            middle = None if self._middle is None else _transpose(self._middle)
            self._transposed = (_transpose(self.matrix), middle)
        return self._transposed


class _Propagate(torch.autograd.Function):
    """``sparse_map @ x``; keeps no activation, because the gradient is ``sparse_map^T @ grad``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sparse_map: SparseMap, transposed: bool) -> Tensor:
        ctx.arguments = (sparse_map, transposed)
        return sparse_map.apply(x, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        sparse_map, transposed = ctx.arguments
        back = _Propagate.apply(grads[0], sparse_map, not transposed)  # type: ignore[no-untyped-call]
        return back, None, None


class GraphOperator(SparseMap):
    r"""The GCN operator :math:`\hat A = D^{-1/2} (A + P M P^T + S) D^{-1/2}` of one graph.

    ``A`` holds weighted edges (target = row), ``P M P^T`` the label cliques of
    :class:`LabelHub`, which stay factored, ``S`` the self-loops, and ``D`` the row sums of all.

    Args:
        edge_index: int64 ``[2, E]``: source, target.
        edge_weight: float ``[E]``.
        self_loop: float ``[N]``, diagonal of ``S``.
        spread: ``P``, CSR ``[N, U]`` of ones where nodes are in hubs; None: there are no cliques.
        overlap: ``M``, CSR ``[U, U]``; None is the identity.
        degree: float ``[N]``, used in place of the row sums: the degrees in the whole graph, of
            which this one is a sample.

    Attributes:
        inv_sqrt_degree: the diagonal of :math:`D^{-1/2}`, float ``[N]``.

    Raises:
        ValueError: a node's degree is 0, negative, NaN or inf, so that no normalisation exists.
    """

    def __init__(
        self,
        edge_index: Tensor,
        edge_weight: Tensor,
        self_loop: Tensor,
        spread: Tensor | None = None,
        overlap: Tensor | None = None,
        *,
        degree: Tensor | None = None,
    ) -> None:
        num_nodes = self_loop.numel()
        source, target = edge_index
        if degree is None:
            degree = self_loop.clone().index_add_(0, target, edge_weight)
            if spread is not None:
                count = product(transpose(spread), torch.ones_like(degree).unsqueeze(1))
                count = count if overlap is None else product(overlap, count)
                degree += product(spread, count).squeeze(1)
        bad = ~((degree > 0) & degree.isfinite())  # NaN included
        if bool(bad.any()):
            node = int(bad.nonzero()[0])
            raise ValueError(
                f"edge_weight: node {node} has degree {float(degree[node]):g}; degrees must be "
                "positive and finite (negative similarities? use weight='binary')"
            )
        self.inv_sqrt_degree = degree.rsqrt()
        loop = torch.arange(num_nodes, device=degree.device)
        row, column = torch.cat((target, loop)), torch.cat((source, loop))
        value = torch.cat((edge_weight, self_loop))
        value = value * self.inv_sqrt_degree[row] * self.inv_sqrt_degree[column]
        keep = value != 0
        matrix = sorted_csr(row[keep], column[keep], value[keep], num_nodes, num_nodes)
        if spread is not None:
            value = self.inv_sqrt_degree[rows_of(spread)]
            spread = csr_matrix(spread.crow_indices(), spread.col_indices(), value, spread.size(1))
        super().__init__(matrix, spread, overlap)

    def to_dense(self) -> Tensor:
        """The operator as a dense ``[N, N]`` array: for small graphs and for tests."""
        return self.apply(torch.diag(torch.ones_like(self.inv_sqrt_degree)))


def _transpose(matrix: Tensor) -> Tensor:
    """The transposed matrix; the very same one if it is symmetric."""
    other = transpose(matrix)
    same = (
        torch.equal(matrix.crow_indices(), other.crow_indices())  # of another length: False
        and torch.equal(matrix.col_indices(), other.col_indices())
        and torch.allclose(matrix.values(), other.values(), rtol=1e-6, atol=0.0)
    )
    return matrix if same else other
