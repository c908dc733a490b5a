"""What a fitted model keeps to encode new items alone, and models on disk: no pickle."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from typing_extensions import Self

from pyg_hash.typing import MODALITIES, Modality
from pyg_hash.utils.checks import check_features, check_item_shape, check_path
from pyg_hash.utils.digests import sha256
from pyg_hash.utils.files import CorruptFileError, load_json, load_tensors
from pyg_hash.utils.scaling import apply_scaling

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

FORMAT = "pyg_hash.model"
FORMAT_VERSION = 2
CONFIG, MODEL, INTAKE = "config.json", "model.safetensors", "intake.safetensors"


@dataclass
class Intake:
    """Checks and scales new items as the training data were."""

    shapes: dict[str, list[int]]  # of one item of a modality before scaling, [d] for features
    is_features: dict[str, bool]  # whether items of a modality are rows of real numbers
    scaling: dict[str, dict[str, Any]] = field(default_factory=dict)  # fitted, as in the data

    @staticmethod
    def facts(data: HeteroData) -> dict[str, Any]:
        """What new items must be like to follow those of ``data``: the attributes above."""
        scaling = dict(data.scaling) if "scaling" in data else {}
        shapes: dict[str, list[int]] = {}
        is_features: dict[str, bool] = {}
        for m in MODALITIES:
            x, fitted = data[m].x, scaling.get(m, {})
            before = fitted.get("mean", fitted.get("components"))
            shapes[m] = list(x.shape[1:] if before is None else before.shape[:1])
            is_features[m] = x.dim() == 2 and x.is_floating_point()
        return {"shapes": shapes, "is_features": is_features, "scaling": scaling}

    def prepare(self, x: Tensor, modality: Modality, like: Tensor) -> Tensor:
        """Check and scale new items ``[n, *shape]``; features get ``like``'s type and place."""
        shape = self.shapes[modality]
        if not self.is_features[modality]:
            check_item_shape(x, "x", shape)
            return x.to(like) if x.is_floating_point() else x.to(like.device)
        check_features(x, "x", num_features=shape[0])
        return apply_scaling(x.to(like), self.scaling.get(modality))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply ``function`` to every tensor (used by ``model.to(device)``)."""
        tensors, metadata = self.to_tensors()
        return self.from_tensors({path: function(x) for path, x in tensors.items()}, metadata)

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by their path (``'scaling.image.mean'``), and all else as JSON metadata."""
        tensors: dict[str, Tensor] = {}
        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return tensors, _plain(tree, "", tensors)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_tensors`."""
        known = {f.name for f in fields(cls) if f.init}
        tree = {name: copy.deepcopy(value) for name, value in metadata.items() if name in known}
        for path, tensor in tensors.items():
            *parents, key = path.split(".")
            node = tree
            for name in parents:
                node = node.setdefault(name, {})
            node[key] = tensor
        return cls(**tree)


def _plain(tree: dict[str, Any], path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A tree without its tensors, which go to ``tensors`` by their path."""
    plain = {}
    for key, value in tree.items():
        if isinstance(value, list) and any(isinstance(each, Tensor) for each in value):
            value = {str(i): each for i, each in enumerate(value)}
        if isinstance(value, Tensor):
            tensors[path + key] = value
        elif isinstance(value, dict):
            plain[key] = _plain(value, f"{path}{key}.", tensors)
        else:
            plain[key] = value
    return plain


def stored_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they go to a file: a module of the user's own is stored by its class name."""
    return {
        name: {"module": type(value).__qualname__} if isinstance(value, nn.Module) else value
        for name, value in config.items()
    }


def load_model_files(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model folder's record and its other files' contents; raises if one is missing or broken."""
    check_path(path)
    folder = Path(path)
    config = folder / CONFIG
    if not config.is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG}; is this a folder that model.save() wrote?")
    record = load_json(config)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CorruptFileError(f"{config}: not the configuration of a model")
    kinds = {"version": int, "model": str, "config": dict, "sha256": dict}
    if isinstance(version := record.get("version"), int) and version != FORMAT_VERSION:
        raise CorruptFileError(
            f"{config}: format {version}, not {FORMAT_VERSION}; if newer, upgrade pyg_hash; "
            "if older, train again"
        )
    if not all(isinstance(record.get(key), kind) for key, kind in kinds.items()) or not (
        {MODEL} <= set(record["sha256"]) <= {MODEL, INTAKE}
    ):
        raise CorruptFileError(f"{config}: entries are missing; save the model again")
    contents = {}
    for file, digest in record["sha256"].items():
        contents[file] = load_tensors(folder / file, check=False)
        if sha256(folder / file) != digest:
            raise CorruptFileError(
                f"{folder / file}: not the file that {CONFIG} was written with; "
                "save the model again"
            )
    return record, contents
