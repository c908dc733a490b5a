"""What a search found, for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy import provenance
from benchmarks.accuracy.markdown import digits, grid
from pyg_hash.utils.files import atomic_path

SHOWN = 10


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write the page."""
    with atomic_path(path) as temporary:
        temporary.write_text(page(content), encoding="utf-8")


def page(content: Mapping[str, Any]) -> str:
    """Markdown of what ``METHOD.json`` holds."""
    chosen, now = content["chosen"], content["defaults"]
    rates = content["rates"]
    share = f"{content['held_out']:.0%}"
    if rates is None:
        labels = f"none; {share} of the training items are held out, whose labels only score"
    else:
        shown = ", ".join(f"{rate:.0%}" for rate in rates)
        labels = f"{shown}; of the labelled items {share} are held out"
    facts = [
        f"- data: {'; '.join(f'{name}: {about}' for name, about in content['data'].items())}",
        f"- label rates: {labels}",
        f"- score: mean of i2t and t2i of the held-out items (mAP@all, expected ties, 32 bits, "
        f"inductive); the search: seeds {content['seeds']}, again: seeds {content['fresh_seeds']}",
        f"- trials: {len(content['trials'])}; a dash was ended early",
        f"- commit: {provenance.short(content['commit'])}",
    ]
    settings = [
        [f"`{name}`", _bounds(content["space"][name]), _value(now.get(name)), _value(value)]
        for name, value in chosen.items()
    ]
    trials = sorted(content["trials"], key=lambda trial: -(trial["score"] or 0.0))
    listed = trials[:SHOWN] + [t for t in trials[SHOWN:] if t["is_default"]]
    lines = []
    for trial in listed:
        name = f"{trial['number']}{' (default)' if trial['is_default'] else ''}"
        name += " (chosen)" if trial["number"] == content["chosen_trial"] else ""
        fresh = trial["fresh"]
        score = "-" if trial["score"] is None else digits(trial["score"])
        lines.append([name, score, digits(statistics.fmean(fresh)) if fresh else ""])
    return (
        "\n\n".join(
            [
                f"# Settings of {content['method']}",
                "\n".join(facts),
                grid(["setting", "searched", "default at the time", "chosen"], settings),
                grid(["trial", "score", "under other seeds"], lines),
            ]
        )
        + "\n"
    )


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bounds(of: list[Any]) -> str:
    kind, *values = of
    if kind == "One":
        return ", ".join(map(str, values[0]))
    if kind == "Whole":
        return f"{values[0]} to {values[1]}, steps of {values[2]}"
    return f"{values[0]:g} to {values[1]:g}" + (", log" if values[2] else "")
