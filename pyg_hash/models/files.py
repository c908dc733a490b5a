"""Trained models on disk: safetensors and JSON in a folder, never pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from pyg_hash.utils.files import (
    CorruptFileError,
    load_json,
    load_tensors,
    save_json,
    save_tensors,
    sha256,
)

FORMAT = "pyg_hash.model"
FORMAT_VERSION = 2
CONFIG, MODEL, INTAKE = "config.json", "model.safetensors", "intake.safetensors"


class ModelFiles(NamedTuple):
    """Content of a model folder."""

    name: str
    config: dict[str, Any]
    parameters: dict[str, Tensor]
    intake: tuple[dict[str, Tensor], dict[str, Any]] | None

    def own_modules(self) -> dict[str, str]:
        """Settings that were modules of the user's own, and the names of their classes."""
        return {
            name: value["module"]
            for name, value in self.config.items()
            if isinstance(value, dict) and set(value) == {"module"}
        }


def stored_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they go to a file: a module of the user's own is stored by its class name."""
    return {
        name: {"module": type(value).__qualname__} if isinstance(value, nn.Module) else value
        for name, value in config.items()
    }


def save_model_files(path: str | os.PathLike[str], files: ModelFiles) -> None:
    """Write a model folder.

    ``config.json`` is written last and names the SHA-256 of the other files, so that a folder
    whose writing was cut short is noticed when it is read.
    """
    folder = Path(path)
    save_tensors(folder / MODEL, files.parameters)
    if files.intake is not None:
        save_tensors(folder / INTAKE, *files.intake)
    written = [MODEL] if files.intake is None else [MODEL, INTAKE]
    record = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": files.name,
        "config": files.config,
        "sha256": {file: sha256(folder / file) for file in written},
    }
    save_json(folder / CONFIG, record)


def load_model_files(path: str | os.PathLike[str]) -> ModelFiles:
    """Read a model folder.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        CorruptFileError: a file is truncated, of another format, or not the one that
            ``config.json`` was written with.
    """
    folder = Path(path)
    config = folder / CONFIG
    if not config.is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG}; is this a folder that model.save() wrote?")
    record = load_json(config)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CorruptFileError(f"{config}: not the configuration of a model")
    version = record.get("version")
    if isinstance(version, int) and version != FORMAT_VERSION:
        advice = "newer than this library reads; upgrade pyg_hash"
        if version < FORMAT_VERSION:
            advice = "of a development version; train again"
        raise CorruptFileError(f"{config}: format {version} is {advice}")
    kinds = {"version": int, "model": str, "config": dict, "sha256": dict}
    if not all(isinstance(record.get(key), kind) for key, kind in kinds.items()) or not (
        {MODEL} <= set(record["sha256"]) <= {MODEL, INTAKE}
    ):
        raise CorruptFileError(f"{config}: entries are missing; save the model again")
    contents = {}
    for file, digest in record["sha256"].items():
        contents[file] = load_tensors(folder / file)
        if sha256(folder / file) != digest:
            raise CorruptFileError(
                f"{folder / file}: not the file that {CONFIG} was written with; "
                "save the model again"
            )
    return ModelFiles(record["model"], record["config"], contents[MODEL][0], contents.get(INTAKE))
