"""What a benchmark leaves: tables and goals on the screen, in JSON, in Markdown, and a plot.

See ``measure.py`` for how a benchmark uses it.
"""

import importlib.metadata
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from benchmarks.measure import cell, one_thread, options
from pyg_hash import __version__
from pyg_hash.utils.files import atomic_path, check_writable, save_json

PACKAGES = ("torch", "torch_geometric", "faiss-cpu", "faiss-gpu", "numpy", "scipy", "scikit-learn")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vpopcntdq", "amx_bf16")
PREDICTED = " (predicted)"  # a line of this ending is dashed, in the colour of its namesake
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@cache
def versions():
    found = {"pyg_hash": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine():
    """Processor, memory, GPU, load and versions, for people."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (ln.partition(":") for ln in lines)}
    flags = [flag for flag in FLAGS if flag in fields.get("flags", "").split()]
    model = fields.get("model name", platform.processor() or platform.machine())
    about = {
        "processor": f"{model}, {os.cpu_count()} cores ({', '.join(flags) or 'flags unknown'})",
        "memory": f"{MEMORY / 2**30:.0f} GiB",
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        about["gpu"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return about


def stated(script):
    """What the YAML beside a script says."""
    import yaml  # gpu.py has to do without

    return yaml.safe_load(Path(script).with_suffix(".yaml").read_text(encoding="utf-8"))


def write_text(path, text):
    """Write a file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def benchmark(title, all_threads=False, **choices):
    """Make a function of a record and its options the ``main`` of a benchmark, on one thread.

    ``title`` heads the page, ``choices`` are those of :func:`measure.options`. ``main`` is called
    where the file is the program: it stands last there.
    """

    def command(fill):
        def main(arguments=None):
            script = fill.__globals__
            args = options(script["__doc__"], arguments, **choices)
            if not all_threads:
                one_thread()
            record = Record(Path(script["__file__"]).stem, title, args)
            fill(record, args)
            record.save()

        if fill.__module__ == "__main__":
            main()
        return main

    return command


class Record:
    """The results of one run, printed as they come; ``args`` are from :func:`measure.options`."""

    def __init__(self, name, title, args):
        self.path = Path(args.out) / name
        check_writable(self.path.with_suffix(".json"))  # said before anything is measured
        self.short = bool(args.short)
        command = " ".join(["python -m", f"benchmarks.{name}", *args.flags])
        self.about = {"command": command, **machine()}
        self.title, self.protocol = title, args.protocol
        self.tables, self.goals, self.plots = [], [], []
        print(f"# {title}\n\n{self.protocol}", flush=True)

    def table(self, title, rows, note=""):
        """Add a table; its columns are the keys of the rows."""
        table = {"title": title, "rows": list(rows), "note": note}
        self.tables.append(table)
        print("\n" + _table(table), flush=True)

    def columns(self, title, key, of, note=""):
        """Add a table by its columns; the first has all rows, whose names stand under ``key``."""
        names = next(iter(of.values()))
        rows = ({key: n} | {head: values.get(n) for head, values in of.items()} for n in names)
        self.table(title, rows, note)

    def goal(self, text, reached, *, at_least=None, at_most=None):
        """Add a goal; ``reached`` None means that it was not measured. Exactly one bound."""
        if (at_least is None) == (at_most is None):
            raise ValueError("goal: give at_least or at_most, one of them")
        bound = f">= {at_least:g}" if at_most is None else f"<= {at_most:g}"
        verdict = "not measured" if reached is None else "short form"
        if reached is not None and not self.short:
            met = reached >= at_least if at_most is None else reached <= at_most
            verdict = "yes" if met else "no"
        self.goals.append({"goal": text, "bound": bound, "reached": reached, "met": verdict})
        print(f"\ngoal: {text} {bound}: {cell(reached)} ({verdict})", flush=True)

    def plot(self, title, series, *, x, y, log="xy"):
        """Add a panel of lines to the picture; ``log``: which axes are logarithmic."""
        self.plots.append({"title": title, "series": series, "x": x, "y": y, "log": log})

    def bars(self, title, values, *, x):
        """Add a panel of horizontal bars, for example times as fast as the reference."""
        self.plots.append({"title": title, "bars": values, "x": x})

    def markdown(self):
        about = "\n".join(f"- {key}: {value}" for key, value in self.about.items())
        short = ["Short form: sizes too small for conclusions."] if self.short else []
        parts = [f"# {self.title}", *short, about, self.protocol]
        goals = [{"title": "Goals", "rows": self.goals, "note": ""}] if self.goals else []
        return "\n\n".join([*parts, *map(_table, self.tables + goals)]) + "\n"

    def save(self):
        """Write the JSON, the Markdown and, if there is something to see, the picture."""
        names = ("title", "about", "short", "protocol", "tables", "goals", "plots")
        content = {name: getattr(self, name) for name in names}
        save_json(self.path.with_suffix(".json"), content)
        write_text(self.path.with_suffix(".md"), self.markdown())
        if self.plots:
            from benchmarks.picture import draw

            draw(self.plots, self.path.with_suffix(".png"))
        print(f"\nwritten: {self.path}.*", file=sys.stderr)


def grid(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _table(table):
    columns = list(dict.fromkeys(column for row in table["rows"] for column in row))
    lines = [[cell(row.get(column)) for column in columns] for row in table["rows"]]
    note = f"\n\n{table['note']}" if table["note"] else ""
    return f"## {table['title']}\n\n{grid(columns, lines)}{note}"
