"""``pyg-hash data check``: what a feature file holds and what is wrong with it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.options import Command, option


@dataclass(frozen=True)
class Data(Command):
    """Print the report on a feature file; status 1 if it cannot be trained on."""

    file: str = option(MISSING, "a feature file in HDF5", ["file"])

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the subcommand ``check`` and its options."""
        check = ArgumentParser(
            description="Shapes, types, ranges, NaN, duplicates, label balance, split overlap.",
            exit_on_error=False,
        )
        check.add_argument("--debug", action="store_true", help="show the traceback of an error")
        super().add_arguments(check)
        commands = parser.add_subcommands(dest="action", metavar="ACTION")
        commands.add_subcommand("check", check, help="report on a feature file")

    @classmethod
    def of(cls, args: Namespace) -> Data:
        """The command of a parsed command line."""
        return super().of(args.check)

    def execute(self) -> int:
        """Check and print."""
        from pyg_hash.datasets import check_feature_file

        report = check_feature_file(self.file)
        print(report)
        return 0 if report.ok else 1
