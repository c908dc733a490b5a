"""The contract of every hashing model."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from pyg_hash.checkpoint import load_model_files, save_model_files
from pyg_hash.codes import binarize
from pyg_hash.io import CorruptFileError
from pyg_hash.models.anchors import AnchorBank
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality
from pyg_hash.validation import check_choice

_BATCH = 4096
Model = TypeVar("Model", bound="HashModel")


class HashModel(nn.Module, ABC):
    """Base class of the hashing models.

    A model is built from keywords alone, trained by :func:`pyg_hash.training.fit` (or by any loop
    around :meth:`forward` and :meth:`loss`), gives codes of the nodes of its graph by
    :meth:`encode` and, once :meth:`attach` has cached what is needed, codes of new images or texts
    alone by :meth:`encode_image` and :meth:`encode_text`.

    Attributes:
        num_bits: length of the codes.
        config: the constructor's keywords; ``type(model)(**model.config)`` builds the same model.
        anchors: what new items attach to; None until :meth:`attach`.
    """

    def __init__(self, num_bits: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.num_bits = num_bits
        self.config = config
        self.anchors: AnchorBank | None = None

    def reset_parameters(self) -> None:
        """Draw new parameters and forget the graph."""
        self.anchors = None
        for module in self.children():
            parts = module.values() if isinstance(module, nn.ModuleDict) else [module]
            for part in parts:
                part.reset_parameters()  # type: ignore[operator]

    @abstractmethod
    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes."""

    @abstractmethod
    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """Named scalar terms; ``'loss'`` is the total that training descends.

        Labels are read under ``labeled_mask`` only.
        """

    @abstractmethod
    def messages(self, data: HeteroData) -> dict[str, list[Tensor]]:
        """What each node sends to neighbours, one tensor a layer, for each channel."""

    @abstractmethod
    def relaxed_new(self, x: Tensor, modality: Modality, anchors: AnchorBank) -> Tensor:
        """Relaxed codes ``[n, num_bits]`` of new items from their scaled features ``[n, d]``."""

    def objectives(self, data: HeteroData, epoch: int) -> Iterator[dict[str, Tensor]]:
        """The losses that :func:`fit` descends one after the other in an epoch.

        Methods with alternating schedules yield several; the next one is computed only after the
        optimiser's step on the one before.
        """
        yield self.loss(self(data), data)

    @torch.no_grad()
    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """Codes of all nodes of one modality: int8 ``[N, num_bits]`` in {-1, +1}; sign(0) = +1."""
        check_choice(modality, MODALITIES, "modality")
        with _eval_mode(self):
            return binarize(self(data)[modality])

    @torch.no_grad()
    def attach(self: Model, data: HeteroData) -> Model:
        """Cache what :meth:`encode_image` and :meth:`encode_text` need of the graph.

        Call it after the last change of the parameters; :func:`fit` does.
        """
        if "anchor_mask" not in data[IMAGE]:
            raise ValueError("data: has no anchors; apply IntraKNN first")
        with _eval_mode(self):
            self.anchors = AnchorBank.from_data(data, self.messages(data))
        return self

    def encode_image(self, x: Tensor) -> Tensor:
        """Codes of new images alone.

        Each image joins its nearest anchors, as a node of the graph that no other node sees; the
        model is not retrained and no stored code changes.

        Args:
            x: image features as the data set delivers them (before scaling), float ``[n, d]``.

        Returns:
            int8 ``[n, num_bits]`` in {-1, +1}.

        Raises:
            RuntimeError: the model was neither fitted nor attached to a graph.
            TypeError, ValueError: features of the wrong type, width or content.
        """
        return self._encode_new(x, IMAGE)

    def encode_text(self, x: Tensor) -> Tensor:
        """Codes of new texts alone; see :meth:`encode_image`."""
        return self._encode_new(x, TEXT)

    @torch.no_grad()
    def _encode_new(self, x: Tensor, modality: Modality) -> Tensor:
        if self.anchors is None:
            raise RuntimeError(
                f"{type(self).__name__} knows no graph to attach new items to; "
                "call fit(...) or model.attach(data) first"
            )
        x = self.anchors.prepare(x, modality)
        with _eval_mode(self):
            parts = [
                self.relaxed_new(batch, modality, self.anchors) for batch in torch.split(x, _BATCH)
            ]
        return binarize(torch.cat(parts))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a folder.

        The files are ``config.json``, ``model.safetensors`` and, once the model is attached to a
        graph, ``anchors.safetensors``.
        """
        save_model_files(
            path,
            name=type(self).__name__,
            config=self.config,
            parameters=self.state_dict(),
            anchors=None if self.anchors is None else self.anchors.to_tensors(),
        )

    @classmethod
    def load(cls: type[Model], path: str | os.PathLike[str]) -> Model:
        """Read a model that :meth:`save` wrote.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            CorruptFileError: a file is truncated, or the files do not belong together.
            ValueError: the folder holds another kind of model.
        """
        files = load_model_files(path)
        if files.name != cls.__name__:
            raise ValueError(f"path: {path} holds a {files.name}, not a {cls.__name__}")
        try:
            model = cls(**files.config)
            model.load_state_dict(files.parameters, assign=True)  # keeps float64 what it was
        except (TypeError, ValueError, RuntimeError) as error:
            raise CorruptFileError(
                f"{path}: settings and parameters do not belong together ({error})"
            ) from error
        if files.anchors is not None:
            model.anchors = AnchorBank.from_tensors(*files.anchors)
        return model.eval()

    def _apply(self: Model, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.anchors is not None:
            self.anchors = self.anchors.map(fn)
        return self


class _eval_mode:
    """Switch a module to evaluation mode for a block, then back to what it was."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.was_training = module.training

    def __enter__(self) -> None:
        self.module.eval()

    def __exit__(self, *_: object) -> None:
        self.module.train(self.was_training)
