"""Parsing and error handling of the console command; each subcommand has a module of its own."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader
from yaml import YAMLError

from pyg_hash import __version__
from pyg_hash.cli.catalogue import Build
from pyg_hash.cli.encode import Encode
from pyg_hash.cli.evaluate import Data, Evaluate, Report
from pyg_hash.cli.options import Command, UsageError
from pyg_hash.cli.search import Search, Serve
from pyg_hash.cli.store import Store
from pyg_hash.cli.train import Train
from pyg_hash.runs import PARTS
from pyg_hash.utils.files import check_yaml
from pyg_hash.utils.signals import Stopped, stoppable

COMMANDS: dict[str, tuple[type[Command], str]] = {
    "build": (Build, "from a folder, a table or features to a run that finds all of it"),
    "train": (Train, "train a model and write a run folder"),
    "evaluate": (Evaluate, "evaluate a run again: mAP in all four directions"),
    "encode": (Encode, "codes of new pictures, texts or features"),
    "search": (Search, "nearest items of a run to a text or a picture"),
    "report": (Report, "one HTML page about a run: accuracy, gallery, curves, codes"),
    "serve": (Serve, "a search page for a run in the browser, with a JSON API"),
    "store": (Store, "list, delete or change the items of a store"),
    "data": (Data, "look into a feature file, or whether stored files are whole"),
}


_load_yaml = get_loader("yaml")


def _without_aliases(text: str) -> Any:
    check_yaml(text)
    return _load_yaml(text)


def build_parser() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """The parser of ``pyg-hash`` and those of its subcommands."""
    set_loader("yaml", _without_aliases, (YAMLError,))  # of --config
    parser = ArgumentParser(
        prog="pyg-hash",
        description="Graph-based cross-modal hashing: train, evaluate, search, report, serve.",
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"pyg-hash {__version__}")
    commands = parser.add_subcommands(dest="command", metavar="COMMAND")
    parsers = {}
    for name, (kind, text) in COMMANDS.items():
        sub = ArgumentParser(description=text[0].upper() + text[1:] + ".", exit_on_error=False)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        commands.add_subcommand(name, sub, help=text)
        kind.add_arguments(sub)  # after add_subcommand: jsonargparse wants outer levels first
        parsers[name] = sub
    return parser, parsers


def parse(argv: Sequence[str]) -> Namespace:
    """Parse a command line; ``UsageError``, of one line, for what it does not know."""
    parser, parsers = build_parser()
    if not argv:
        parser.print_help(sys.stderr)
        raise UsageError(f"a command is missing; use one of {', '.join(COMMANDS)}")
    try:
        args = parser.parse_args(list(argv))
        if args.command == "train" and args.train.resume and args.train.out:
            stored = Path(args.train.out) / PARTS["config"]
            if stored.is_file():  # what is not said again is as it was
                args = parser.parse_args(["train", f"--config={stored}", *argv[1:]])
    except UnicodeDecodeError as error:
        raise UsageError(f"config: no YAML file in UTF-8 ({error.reason})") from error
    except (ArgumentError, TypeError) as error:
        message = _plain(str(error))
        command = argv[0]
        if "unrecognized arguments" in message and command in parsers:
            known = sorted(o for o in parsers[command]._option_string_actions if o[:2] == "--")
            message += f"; '{command}' knows {', '.join(o for o in known if '+' not in o)}"
        raise UsageError(message) from error
    own = args.train.model if args.command == "train" else None
    if own is not None and ":" in own and own not in [w.removeprefix("--model=") for w in argv]:
        raise UsageError(f"model: code that only a file names is not run; add --model {own}")
    return args


def _plain(message: str) -> str:
    """A message of jsonargparse on one line, in the words of the command line."""
    message = re.sub(r'Parser key "(\w+)":', r"--\1:", " ".join(message.split()))
    message = re.sub(r"<class '(\w+)'>", r"\1", message)
    message = re.sub(
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*), NoneType\] "
        r"Errors: .* Given value: (.*)",
        r"expected \1, got \2",
        message,
    )
    message = re.sub(r"typing.Literal\[(.*?)\]", r"choice of \1", message)
    return re.sub(r"(required: )\w+\.(?:check\.)?(\w+)$", r"\1\2", message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console command.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        0, or 1 for an error in the data or files, 2 for one in the command line, 128 and
        the number of the signal if stopped: 130 by Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    if any(re.fullmatch(r"(--\w+=)?[\w.]+:\w+", word) for word in argv):
        sys.path.append(os.getcwd())  # where MODULE:NAME of the user's own may lie
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written; to import torch, a folder is needed
        tempfile.tempdir = os.getcwd()
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.getcwd())
    try:
        args = parse(argv)
        with warnings.catch_warnings(), stoppable():
            _show_ours_in_one_line()
            return COMMANDS[args.command][0].of(args[args.command]).execute()
    except KeyboardInterrupt as error:
        print("pyg-hash: stopped", file=sys.stderr)
        return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
    except Exception as error:
        if debug:
            raise
        print(f"pyg-hash: error: {_told(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _show_ours_in_one_line() -> None:
    """Show each warning about somebody's data once, without the place in our code."""
    from pyg_hash.utils.oddities import OddDataWarning

    show: Any = warnings.showwarning
    told: set[str] = set()

    def shown(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, OddDataWarning):
            if str(message) in told:
                return
            told.add(str(message))
            print(f"pyg-hash: warning: {message}", file=sys.stderr)
        else:
            show(message, category, *place, **more)

    warnings.simplefilter("always", OddDataWarning)
    warnings.showwarning = shown


def _told(error: Exception) -> str:
    """What the user reads of an error."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'out of memory'}); use fewer or narrower rows"
    ours = (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError)
    if isinstance(error, ours) and str(error):
        return str(error)
    # one that nobody foresaw; its text alone, for example of a KeyError, may say nothing
    return f"{type(error).__name__}: {error} (unexpected; --debug shows where)"
