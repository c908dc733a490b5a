"""The training history: one row an epoch."""

from __future__ import annotations

import csv
import os
from typing import Any

from pyg_hash.utils.files import atomic_path, save_json


class History(list[dict[str, Any]]):
    """Rows of named numbers, one an epoch; a plain list with two exports."""

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as a JSON list, atomically."""
        save_json(path, list(self))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, atomically; a value that an epoch does not have stays empty."""
        columns = list(dict.fromkeys(name for row in self for name in row))
        with (
            atomic_path(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self)
