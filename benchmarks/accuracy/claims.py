"""The part of a page that puts what is said of ablations beside what is measured."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.markdown import error, grid, signed
from benchmarks.accuracy.summary import Groups, Place, Verdict, versus
from benchmarks.accuracy.table import CROSS, Claim, Table

_SIGNS = {"ahead": "+", "behind": "-", "no difference": "0", "one seed": "?"}
_ABOUT = (
    "Differences of means, variant minus full, ± their standard error. Sign, i2t / t2i: `0` within "
    "two of these, else `+` or `-`; `?`: no claim, or a single seed. Few seeds: a sign is a hint, "
    "no proof. The sources' features and splits are others."
)


def claims(table: Table, groups: Groups) -> str:
    """One line a claim, data set, code length, label rate and pair of protocols."""
    lines = [line for data in groups.values_of("data") for line in _lines(table, groups, data)]
    heads = ["data", "bits", "variant", "full", *CROSS, "sign", "claimed", "verdict"]
    return f"{_ABOUT}\n\n{grid([*heads, 'source of the claim'], lines)}"


def _lines(table: Table, groups: Groups, data: str) -> Iterator[list[str]]:
    for claim in table.claims:
        for variant, full in _pairs(claim, groups, data):
            found = [
                versus(claim.full, groups.by_place[variant], groups.by_place[full], table.metric, t)
                for t in CROSS
            ]
            ours = signs(found)
            yield [
                *(SOURCES[data].title, str(variant.bits)),
                *(f"{place.method} ({place.protocol})" for place in (variant, full)),
                *(signed(v.difference) + error(v.error) for v in found),
                *(" / ".join(of) for of in (ours, claim.signs)),
                *(agreement(ours, claim.signs), claim.source),
            ]


def _pairs(claim: Claim, groups: Groups, data: str) -> Iterator[tuple[Place, Place]]:
    """The places of a variant and of what it is compared with."""
    for variant in groups.by_place:
        for own, other in claim.protocols:
            if (variant.data, variant.method, variant.protocol) != (data, claim.variant, own):
                continue
            full = variant._replace(method=claim.full, protocol=other)
            if full in groups.by_place:
                yield variant, full


def signs(found: list[Verdict]) -> tuple[str, ...]:
    """``+``, ``-``, or ``0`` for what may be chance; ``?`` if nobody can tell."""
    return tuple(_SIGNS[verdict.words] for verdict in found)


def agreement(ours: tuple[str, ...], claimed: tuple[str, ...]) -> str:
    """How the measured signs stand to the claimed ones."""
    pairs = [(o, c) for o, c in zip(ours, claimed, strict=True) if "?" not in (o, c)]
    if not pairs:
        return "no claim" if "?" in claimed else "open"
    agreeing = [o == c for o, c in pairs]
    if all(agreeing):
        return "agrees"
    if any(o not in (c, "0") for o, c in pairs):
        return "contradicts"
    return "agrees in part" if any(agreeing) else "no effect seen"
