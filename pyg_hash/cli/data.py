"""``pyg-hash data check``: what a feature file holds and what is wrong with it."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the subcommands of ``pyg-hash data``."""
    check = ArgumentParser(
        description="Shapes, types, ranges, NaN, duplicates, label balance, split overlap.",
        exit_on_error=False,
    )
    check.add_argument("file", type=str, help="a feature file in HDF5")
    check.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subcommands(dest="action", metavar="ACTION")
    commands.add_subcommand("check", check, help="report on a feature file")


def run(args: Namespace) -> int:
    """Print the report; 1 if the file cannot be trained on."""
    from pyg_hash.datasets import check_feature_file

    report = check_feature_file(args.check.file)
    print(report)
    return 0 if report.ok else 1
