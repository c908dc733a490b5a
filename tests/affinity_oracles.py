"""SGEH's stage 1 in dense float64, row by row, from the formulas alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import torch


def planted(m: int, groups: int, *, spread: float = 2.0, seed: int = 0, widths=(20, 14)):
    """Two float32 views of Gaussian groups, rows of equal length, and the groups."""
    rng = np.random.default_rng(seed)
    y = rng.integers(groups, size=m)
    latent = spread * rng.standard_normal((groups, 6))[y] + rng.standard_normal((m, 6))
    views = []
    for width in widths:
        x = latent @ rng.standard_normal((6, width)) + 0.3 * rng.standard_normal((m, width))
        x *= np.sqrt(10.0) / np.linalg.norm(x, axis=1, keepdims=True)
        views.append(torch.from_numpy(x.astype(np.float32)))
    return views, y


def squared_distances(x: torch.Tensor) -> np.ndarray:
    """All pairs, by subtraction; inf on the diagonal (S_ii = 0)."""
    x = x.double().numpy()
    out = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(out, np.inf)
    return out


def can_row(e: np.ndarray, k: int) -> np.ndarray:
    """Eq. 4 on one row of costs."""
    order = np.argsort(e, kind="stable")
    bound = e[order[k]]
    s = np.zeros(len(e))
    for j in order[:k]:
        s[j] = (bound - e[j]) / (k * bound - e[order[:k]].sum())
    return s


def printed_row(b: np.ndarray, z: np.ndarray, w: float, k: int) -> np.ndarray:
    """Eq. 18 as printed, with the sign of its stray comma read as a minus, clipped."""
    order = np.argsort(b, kind="stable")
    near, last = order[:k], order[k]
    bottom = k * b[last] - b[near].sum() - 2 * k * w * z[last] + 2 * w * z[near].sum()
    s = np.zeros(len(b))
    for j in near:
        s[j] = max((b[last] - b[j] + 2 * w * z[j] - 2 * w * z[last]) / bottom, 0.0)
    return s


def newton_simplex(q: np.ndarray) -> np.ndarray:
    """Eq. 23: the root of f by Newton's method."""
    m = len(q)
    p = q + (1.0 - q.sum()) / m
    if p.min() >= 0:
        return p
    t = 0.0
    for _ in range(200):
        above = p > t  # (p_j - t)_+ must sum to 1
        value = (p[above] - t).sum() - 1.0
        if abs(value) < 1e-15:
            break
        t += value / above.sum()
    return np.maximum(p - t, 0.0)


def count_components(z: np.ndarray) -> tuple[int, np.ndarray]:
    """Flood fill on (z > 0), both directions; labels by first row."""
    joined = (z > 0) | (z > 0).T
    label = np.full(len(z), -1)
    count = 0
    for seed in range(len(z)):
        if label[seed] >= 0:
            continue
        label[seed], stack = count, [seed]
        while stack:
            for j in np.flatnonzero(joined[stack.pop()] & (label < 0)):
                label[j] = count
                stack.append(j)
        count += 1
    return count, label


def dense_laplacian(z: np.ndarray) -> np.ndarray:
    """D - (Z + Z^T) / 2."""
    half = (z + z.T) / 2
    return np.diag(half.sum(1)) - half


@dataclass
class DenseResult:
    """What the dense search found."""

    z: np.ndarray
    label: np.ndarray
    weights: list[float]
    counts: list[int] = field(default_factory=list)
    lams: list[float] = field(default_factory=list)


def dense_affinity(
    views,
    c: int,
    k: int = 5,
    *,
    rank: str = "effective",
    weight_rule: str = "gmc",
    u_step: str = "exact",
    lam: float = 1.0,
    max_iter: int = 20,
) -> DenseResult:
    """The whole search with m x m matrices and a full eigendecomposition a turn."""
    distances = [squared_distances(x) for x in views]
    m = len(distances[0])
    support = np.zeros((m, m), dtype=bool)
    for b in distances:
        np.put_along_axis(support, np.argsort(b, 1, kind="stable")[:, :k], True, axis=1)
    s = [np.stack([can_row(row, k) for row in b]) for b in distances]
    z = np.mean(s, axis=0)
    w = [1.0 / len(s)] * len(s)
    f = scipy.linalg.eigh(dense_laplacian(z))[1][:, :c]
    result = DenseResult(z, np.zeros(m), w)
    for _ in range(max_iter):
        if rank == "effective":
            s = [
                np.stack([can_row(b[i] - 2 * wv * z[i], k) for i in range(m)])
                for b, wv in zip(distances, w, strict=True)
            ]
        else:
            s = [
                np.stack([printed_row(b[i], z[i], wv, k) for i in range(m)])
                for b, wv in zip(distances, w, strict=True)
            ]
        power = {"gmc": 2.0, "paper": 1.0}[weight_rule]
        w = [1.0 / (power * np.linalg.norm(z - sv)) for sv in s]
        d = ((f[:, None] - f[None]) ** 2).sum(-1)
        z = np.zeros((m, m))
        for i in range(m):
            j = np.flatnonzero(support[i])
            if u_step == "exact":
                q = sum(wv * sv[i, j] for wv, sv in zip(w, s, strict=True)) - lam / 2 * d[i, j]
                q = q / sum(w)
            else:
                parts = zip(w, s, strict=True)
                q = np.mean([sv[i, j] - lam / (2 * len(s) * wv) * d[i, j] for wv, sv in parts], 0)
            z[i, j] = newton_simplex(q)
        z[z <= 1e-12] = 0.0
        count, label = count_components(z)
        result.counts.append(count)
        result.lams.append(lam)
        result.z, result.label, result.weights = z, label, w
        if count == c:
            break
        if count > c:
            lam /= 2  # and f stays what it was
        else:
            f = scipy.linalg.eigh(dense_laplacian(z))[1][:, :c]
            lam *= 2
    return result
