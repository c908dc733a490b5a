"""What one visitor may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyg_hash.utils.checks import check_number, check_positive_int


@dataclass(frozen=True)
class Limits:
    """Limits of the search page.

    Attributes:
        upload_bytes: of a picture.
        upload_timeout: seconds in which it must have come.
        letters: of a text.
        k: answers, if nothing is said.
        max_k: answers at most.
        threads: in which models run.
        waiting: requests that may run and wait for these threads; one more is refused (503).
        timeout: seconds after which a request that still waits is given up (503).
        pictures: small pictures kept in memory, of some 10 kB each.
    """

    upload_bytes: int = 10_000_000
    upload_timeout: float = 20.0
    letters: int = 1000
    k: int = 24
    max_k: int = 200
    threads: int = 2
    waiting: int = 512
    timeout: float = 60.0
    pictures: int = 2000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                check_positive_int(value, field.name)
            elif check_number(value, field.name) <= 0:
                raise ValueError(f"{field.name}: expected more than 0 seconds, got {value!r}")
        if self.k > self.max_k:
            raise ValueError(f"k: {self.k} is more than max_k = {self.max_k}")

    def to_dict(self) -> dict[str, int | float]:
        """Those that a visitor should know."""
        return {name: getattr(self, name) for name in ("upload_bytes", "letters", "k", "max_k")}
