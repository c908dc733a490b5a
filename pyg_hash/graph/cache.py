"""Operators are built once per graph, not once per epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor
from torch_geometric.data import HeteroData

Built = TypeVar("Built")
Key = list[tuple[Tensor, int]]


class GraphCache(Generic[Built]):
    """Remember what was built from the last two graphs seen.

    Two ``HeteroData`` objects count as the same graph if they hold the very same tensors of
    edges and label masks, unchanged in place since. Mini-batches, which bring the degrees of the
    whole graph along, come once and are not remembered.

    Args:
        build: makes the operators of a graph.
        watch: the tensors that decide, if not those.
    """

    def __init__(
        self,
        build: Callable[[HeteroData], Built],
        watch: Callable[[HeteroData], list[Tensor]] | None = None,
    ) -> None:
        self._build = build
        self._watch = watch or _graph_tensors
        self._slots: list[tuple[Key, Built]] = []

    def __call__(self, data: HeteroData) -> Built:
        """The operators of ``data``."""
        if any("degree" in store for store in data.node_stores):
            return self._build(data)
        key = [(tensor, _version(tensor)) for tensor in self._watch(data)]
        for slot in self._slots:
            if _same(key, slot[0]):
                return slot[1]
        built = self._build(data)
        # two: training on the anchors and validating on all nodes take turns
        self._slots = [*self._slots[-1:], (key, built)]
        return built

    def __deepcopy__(self, memo: dict[int, object]) -> GraphCache[Built]:
        return GraphCache(self._build, self._watch)


def _same(a: Key, b: Key) -> bool:
    return len(a) == len(b) and all(
        x is y and version == old and version >= 0
        for (x, version), (y, old) in zip(a, b, strict=True)
    )


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
