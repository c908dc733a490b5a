"""What goes back: JSON, errors as JSON, and the parameters of a request checked one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyg_hash.typing import MODALITIES, Modality


@dataclass(frozen=True)
class Reply:
    """A response, whatever framework sends it."""

    body: bytes
    media_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: for the one who asked.
        headers: to send along.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A value as JSON; only ASCII, so that any string of the data can be sent."""
    body = json.dumps(value, separators=(",", ":")).encode("ascii")
    fresh = {"Cache-Control": "no-store", **(headers or {})}
    return Reply(body, "application/json", status, fresh)


def error_reply(refused: Refused) -> Reply:
    """An error as JSON."""
    return json_reply({"error": str(refused)}, refused.status, refused.headers)


def parameters(query: Sequence[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    """The query parameters of a request by name.

    Raises:
        Refused: one that is not known, or given twice.
    """
    values: dict[str, str] = {}
    for name, value in query:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Refused(400, f"{name[:40]}: this parameter is not known; use {listed}")
        if name in values:
            raise Refused(400, f"{name}: is given twice")
        values[name] = value
    return values


def integer(text: str, name: str, low: int, high: int) -> int:
    """A parameter as an integer from ``low`` to ``high``.

    Raises:
        Refused: it is no such number.
    """
    number = int(text) if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) else None
    if number is None or not low <= number <= high:
        raise Refused(400, f"{name}: expected a number from {low} to {high}, got {text[:20]!r}")
    return number


def modality(text: str, name: str) -> Modality:
    """A parameter that names a modality.

    Raises:
        Refused: it does not.
    """
    for known in MODALITIES:
        if text == known:
            return known
    raise Refused(400, f"{name}: {text[:20]!r} is not known; use {' or '.join(MODALITIES)}")
