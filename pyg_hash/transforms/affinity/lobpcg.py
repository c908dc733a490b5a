"""LOBPCG that does not stall: finished eigenvectors are locked, and rounds start afresh."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, lobpcg

from pyg_hash.transforms.affinity.simplex import Floats

GUARD = 4
"""Further vectors in a block: convergence depends on the gap behind them."""
_ROUND = 50


def orthonormal(block: Floats, held: Floats) -> Floats:
    """An orthonormal basis of ``block`` off the columns of ``held``."""
    for _ in range(2):  # once more, as the first pass leaves rounding errors
        block = block - held @ (held.T @ block)
        block = np.linalg.qr(block)[0]
    return block


def first_block(null: Floats, start: Floats | None, width: int, rng: np.random.Generator) -> Floats:
    """Orthonormal columns off the null space, from an earlier block as far as it goes."""
    block: Floats = rng.standard_normal((len(null), width)) / np.sqrt(len(null))
    if start is not None:
        known = start[:, :width] - null @ (null.T @ start[:, :width])
        useful = np.linalg.norm(known, axis=0) > 1e-3  # others became indicators of components
        block[:, : known.shape[1]][:, useful] = known[:, useful]
    return orthonormal(block, null)


def deflated_lobpcg(
    lap: sp.csr_array,
    null: Floats,
    block: Floats,
    wanted: int,
    tol: float,
    rounds: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """The smallest eigenpairs off a known null space, with a diagonal preconditioner.

    SciPy's LOBPCG stalls where some columns of a block have converged and others have not. So it
    runs in rounds: after each, the leading finished columns become constraints, and a block that
    made no progress gets new random vectors behind the wanted ones.

    Args:
        lap: float64 ``[m, m]``, positive diagonal.
        null: orthonormal columns to stay away from, float64 ``[m, n]``.
        block: orthonormal columns to start from, ``wanted`` or more, float64 ``[m, w]``.
        wanted: number of eigenpairs that must be accurate.
        tol: residual of a finished column; up to twice as much is accepted.
        rounds: most rounds of 50 iterations.
        rng: draws new columns.

    Returns:
        values float64 ``[w]``, ascending, and vectors float64 ``[m, w]``.
    """
    width = block.shape[1]
    inverse = 1.0 / lap.diagonal()
    precondition = LinearOperator(
        lap.shape,
        matvec=lambda x: inverse * x.ravel(),
        matmat=lambda x: inverse[:, None] * x,
    )
    values, locked = np.empty(0), np.empty((len(block), 0))
    theta = np.empty(0)
    last = np.inf
    for _ in range(rounds):
        held = np.concatenate((null, locked), axis=1)
        block = orthonormal(block, held)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was reached is measured below
            found = lobpcg(
                lap, block, M=precondition, Y=held, tol=tol, maxiter=_ROUND, largest=False
            )
        theta, block = np.asarray(found[0]), np.asarray(found[1])
        error = np.linalg.norm(lap @ block - block * theta, axis=0)
        open_count = wanted - locked.shape[1]
        finished = error <= 2.0 * tol
        if finished[:open_count].all():
            break
        lead = int(np.argmin(finished))
        worst = float(error[lead:open_count].max())
        if lead == 0 and worst > 0.5 * last:
            theta, block = theta[:open_count], block[:, :open_count]
        last = worst
        values = np.concatenate((values, theta[:lead]))
        locked = np.concatenate((locked, block[:, :lead]), axis=1)
        theta, block = theta[lead:], block[:, lead:]
        new = rng.standard_normal((len(block), width - locked.shape[1] - block.shape[1]))
        block = np.concatenate((block, new / np.sqrt(len(block))), axis=1)
    values = np.concatenate((values, theta))
    vectors = np.concatenate((locked, block), axis=1)[:, : len(values)]
    order = np.argsort(values, kind="stable")
    return values[order], vectors[:, order]
