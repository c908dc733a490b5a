"""What a fitted model keeps to encode new items alone: their shapes and the fitted scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.transforms.scale import apply_scaling
from pyg_hash.typing import MODALITIES, Modality
from pyg_hash.utils.checks import check_features, check_item_shape

Scaling = dict[str, dict[str, Any]]


@dataclass
class Intake:
    """Checks and scales new items as the training data were.

    Attributes:
        shapes: shape of one item of a modality before scaling, ``[d]`` for features.
        is_features: whether items of a modality are rows of real numbers.
        scaling: fitted feature scaling (``data.scaling``), empty if there was none.
    """

    shapes: dict[str, list[int]]
    is_features: dict[str, bool]
    scaling: Scaling = field(default_factory=dict)

    @classmethod
    def from_data(cls, data: HeteroData) -> Intake:
        """Shapes and scaling of ``data``."""
        return cls(item_shapes(data), holds_features(data), fitted_scaling(data))

    def prepare(self, x: Tensor, modality: Modality, like: Tensor) -> Tensor:
        """Check and scale new items, ``[n, *shape]``, in the type and place of ``like``.

        Items that the data did not hold as features (pictures or word numbers for a network of the
        user's own) keep their type.

        Raises:
            TypeError, ValueError: see :func:`pyg_hash.utils.checks.check_features` and
                :func:`pyg_hash.utils.checks.check_item_shape`.
        """
        shape = self.shapes[modality]
        if not self.is_features[modality]:
            check_item_shape(x, "x", shape)
            return x.to(like) if x.is_floating_point() else x.to(like.device)
        check_features(x, "x", num_features=shape[0])
        return apply_scaling(x.to(like), self.scaling.get(modality))

    def map(self, function: Callable[[Tensor], Tensor]) -> Intake:
        """Apply ``function`` to every tensor (used by ``model.to(device)``)."""
        return Intake(self.shapes, self.is_features, map_scaling(self.scaling, function))

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Flat tensors and JSON metadata, for :func:`pyg_hash.utils.files.save_tensors`."""
        tensors = {
            f"scaling.{m}.{k}": v
            for m, scaling in self.scaling.items()
            for k, v in scaling.items()
            if isinstance(v, Tensor)
        }
        plain = {
            m: {k: v for k, v in scaling.items() if not isinstance(v, Tensor)}
            for m, scaling in self.scaling.items()
        }
        about = {"shapes": self.shapes, "is_features": self.is_features, "scaling": plain}
        return tensors, about

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Intake:
        """Inverse of :meth:`to_tensors`."""
        return cls(metadata["shapes"], metadata["is_features"], stored_scaling(tensors, metadata))


def item_shapes(data: HeteroData) -> dict[str, list[int]]:
    """Shape of one item of each modality, before any scaling."""
    scaling = fitted_scaling(data)
    shapes = {}
    for modality in MODALITIES:
        shapes[str(modality)] = list(data[modality].x.shape[1:])
        for key in ("mean", "components"):
            if key in scaling.get(modality, {}):
                shapes[modality] = [int(scaling[modality][key].size(0))]
                break
    return shapes


def holds_features(data: HeteroData) -> dict[str, bool]:
    """Whether items of each modality are rows of real numbers, not raw."""
    return {str(m): data[m].x.dim() == 2 and data[m].x.is_floating_point() for m in MODALITIES}


def fitted_scaling(data: HeteroData) -> Scaling:
    """``data.scaling``, or nothing."""
    return dict(data.scaling) if "scaling" in data else {}


def map_scaling(scaling: Scaling, function: Callable[[Tensor], Tensor]) -> Scaling:
    """Apply ``function`` to the tensors of a scaling."""
    return {
        m: {k: function(v) if isinstance(v, Tensor) else v for k, v in fitted.items()}
        for m, fitted in scaling.items()
    }


def stored_scaling(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Scaling:
    """The scaling in what :meth:`Intake.to_tensors` gave."""
    scaling: Scaling = {m: dict(s) for m, s in metadata["scaling"].items()}
    for name, tensor in tensors.items():
        if name.startswith("scaling."):
            _, modality, key = name.split(".")
            scaling[modality][key] = tensor
    return scaling
