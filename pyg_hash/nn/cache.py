"""Operators are built once per graph, not once per epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor
from torch_geometric.data import HeteroData

Built = TypeVar("Built")


class GraphCache(Generic[Built]):
    """Remember what was built from the last graph seen.

    Two ``HeteroData`` objects count as the same graph if they hold the very same tensors of
    edges and label masks, unchanged in place since.

    Args:
        build: makes the operators of a graph.
    """

    def __init__(self, build: Callable[[HeteroData], Built]) -> None:
        self._build = build
        self._key: list[tuple[Tensor, int]] = []
        self._built: Built | None = None

    def __call__(self, data: HeteroData) -> Built:
        """The operators of ``data``."""
        key = [(tensor, _version(tensor)) for tensor in _graph_tensors(data)]
        same = len(key) == len(self._key) and all(
            a is b and version == old and version >= 0
            for (a, version), (b, old) in zip(key, self._key, strict=True)
        )
        if not same or self._built is None:
            self._built = self._build(data)
            self._key = key
        return self._built

    def __deepcopy__(self, memo: dict[int, object]) -> GraphCache[Built]:
        return GraphCache(self._build)


def _graph_tensors(data: HeteroData) -> list[Tensor]:
    tensors = [t for store in data.edge_stores for _, t in sorted(store.items(), key=_name)]
    keys = ("self_loop", "labeled_mask", "joint_anchor_mask")
    tensors += [store[key] for store in data.node_stores for key in keys if key in store]
    return [tensor for tensor in tensors if isinstance(tensor, Tensor)]


def _version(tensor: Tensor) -> int:
    """How often the tensor was changed; -1 for inference tensors, which do not count it."""
    return -1 if tensor.is_inference() else tensor._version


def _name(item: tuple[str, object]) -> str:
    return item[0]
