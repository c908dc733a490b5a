"""Parsing and error handling of the console command; each subcommand has a module of its own."""

from __future__ import annotations

import codecs
import copy
import gc
import inspect
import io
import json
import os
import re
import select
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from itertools import dropwhile
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader
from yaml import YAMLError

from pyg_hash import __version__
from pyg_hash.cli import options
from pyg_hash.cli.options import Options, UsageError
from pyg_hash.cli.output import say
from pyg_hash.utils.optional import imported
from pyg_hash.utils.settings import check_yaml, is_own
from pyg_hash.utils.signals import Stopped, stoppable

COMMANDS: dict[str, type[Options] | tuple[str, dict[str, type[Options]]]] = {
    "build": options.Build,
    "train": options.Train,
    "evaluate": options.Evaluate,
    "encode": options.Encode,
    "search": options.Search,
    "export": options.Export,
    "report": options.Report,
    "serve": options.Serve,
    "store": (
        "List, delete or change the items of a store.",
        {
            "list": options.ListItems,
            "delete": options.DeleteItems,
            "update": options.UpdateItems,
        },
    ),
    "data": (
        "Look into a feature file, or whether stored files are whole.",
        {"check": options.Check, "import": options.Import, "verify": options.Verify},
    ),
}
"""Name -> what it can be asked; or what it is for, and the same of its actions."""


_load_yaml = get_loader("yaml")


def _without_aliases(text: str) -> Any:
    check_yaml(text)
    return _load_yaml(text)


_MAPPINGS = {f.name for f in fields(options.TrainConfig) if "dict" in str(f.type)}


def build_parser(command: str, of: str) -> tuple[ArgumentParser, ArgumentParser | None]:
    """The parser of ``pyg-hash``, and that of one subcommand, the only one with options.

    Of a command with actions it is that of the action ``of``.
    """
    set_loader("yaml", _without_aliases, (YAMLError,))  # of --config
    parser = ArgumentParser(
        prog="pyg-hash",
        description="Graph-based cross-modal hashing: train, evaluate, search, report, serve.",
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"pyg-hash {__version__}")
    commands = parser.add_subcommands(dest="command", metavar="COMMAND")
    wanted = None

    def added(to: Any, name: str, about: str) -> ArgumentParser:
        first, _, more = inspect.cleandoc(about).partition("\n\n")
        sub = ArgumentParser(description=more or first, exit_on_error=False)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        to.add_subcommand(name, sub, help=first[0].lower() + first[1:].rstrip("."))
        return sub

    for name, kind in COMMANDS.items():
        about, actions = kind if isinstance(kind, tuple) else (str(kind.__doc__), {})
        sub = added(commands, name, about)
        if name != command:
            continue
        wanted = sub  # its options come now: jsonargparse wants outer levels first
        if not isinstance(kind, tuple):
            kind.add_arguments(sub)
            continue
        into = sub.add_subcommands(dest="action", metavar="ACTION")
        for action, one in actions.items():
            inner = added(into, action, str(one.__doc__))
            one.add_arguments(inner)
            wanted = inner if action == of else wanted
    return parser, wanted


def parse(argv: Sequence[str]) -> Namespace:
    """Parse a command line; ``UsageError``, of one line, for what it does not know."""
    command, action, *_ = [*dropwhile(lambda word: word not in COMMANDS, argv), "", ""]
    kind = COMMANDS.get(command)
    action = action if isinstance(kind, tuple) and action in kind[1] else ""
    parser, own_parser = build_parser(command, action)
    if not argv:
        parser.print_help(sys.stderr)
        raise UsageError(f"a command is missing; use one of {', '.join(COMMANDS)}")
    argv, dotted = _apart(argv) if command == "train" else (argv, [])
    try:
        args = parser.parse_args(list(argv))
        if args.command == "train" and args.train.resume and args.train.out:
            from pyg_hash.runs import PARTS

            stored = Path(args.train.out) / PARTS["config"]
            if stored.is_file():  # what is not said again is as it was
                args = parser.parse_args(["train", f"--config={stored}", *argv[1:]])
                there = str(_without_aliases(stored.read_text(encoding="utf-8")).get("model"))
                if str(args.train.model).lower() != there.lower():
                    raise UsageError(
                        f"model: the run in {args.train.out} is of {there}; leave --model out to "
                        "go on with it, or choose another --out"
                    )
    except UnicodeDecodeError as error:
        raise UsageError(f"config: no YAML file in UTF-8 ({error.reason})") from error
    except (ArgumentError, TypeError) as error:
        message = _plain(str(error))
        if "unrecognized arguments" in message and own_parser is not None:
            known = sorted(o for o in own_parser._option_string_actions if o[:2] == "--")
            asked = f"{command} {action}".strip()
            message += f"; '{asked}' knows {', '.join(o for o in known if '+' not in o)}"
        raise UsageError(message) from error
    for names, value in dotted:
        _put(args.train, names, value)
    for name in ("model", "dataset") if args.command == "train" else ():
        own = args.train[name]
        if is_own(own) and own not in [word.removeprefix(f"--{name}=") for word in argv]:
            raise UsageError(f"{name}: code that only a file names is not run; add --{name} {own}")
    return args


def _apart(argv: Sequence[str]) -> tuple[list[str], list[tuple[list[str], Any]]]:
    """Words for the parser, files first, as what stands later wins; and keys of mappings.

    Of ``--model_options.weights.a 1`` these are ``["model_options", "weights", "a"]`` and 1.
    """
    at = argv.index("train") + 1
    found, files, dotted, words = list[str](), list[str](), list[Any](), [*argv[at:]]
    while words and words[0] != "--":
        option, equal, value = words.pop(0).partition("=")
        names = option.removeprefix("--").split(".")
        is_file, is_of_mapping = option == "--config", option[:2] == "--" and names[0] in _MAPPINGS
        if (is_file or is_of_mapping) and not equal and words and words[0][:2] != "--":
            equal, value = "=", words.pop(0)
        if not is_of_mapping:
            (files if is_file else found).append(option + equal + value)
            continue
        try:
            made = _without_aliases(value) if value else value
        except (YAMLError, LookupError, ValueError) as error:
            if str(error).endswith(" twice"):
                raise UsageError(f"{option}: {error}") from error
            made = value  # a text, which did not mean to be a mapping
        if len(names) > 1 and equal:
            dotted.append((names, made))
        else:
            dotted = [one for one in dotted if one[0][0] != names[0]]  # this one is of the whole
            found.append(option + equal + value)
    return [*argv[:at], *files, *found, *words], dotted


def _put(args: Namespace, names: list[str], value: Any) -> None:
    """Set one key of a mapping, among what a file or other options say."""
    option, *path, last = names
    whole = args[option] if isinstance(args[option], dict) else {}
    holder: Any = copy.deepcopy(whole)  # it may be the parser's own default
    args[option] = holder
    for key in path:
        if holder.get(key) is None:
            holder[key] = {}
        holder = holder[key]
        if not isinstance(holder, dict):
            asked = ".".join(names)
            raise UsageError(f"--{asked}: another option gives a value in the place of these")
    holder[last] = value


def _plain(message: str) -> str:
    """A message of jsonargparse on one line, in the words of the command line."""
    message = re.sub(r'Parser key "(\w+)":', r"--\1:", " ".join(message.split()))
    message = re.sub(r"<class '(\w+)'>", r"\1", message)
    union = r"Does not validate against any .*: \[(.*), NoneType\] Errors: .* Given value: (.*)"
    message = re.sub(union, r"expected \1, got \2", message)
    message = re.sub(r"typing.Literal\[(.*?)\]", r"choice of \1", message)
    return re.sub(r"(required: )\w+\.(?:check\.)?(\w+)$", r"\1\2", message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console command; ``argv`` are the arguments, by default those of the process.

    The status is 0, or 1 for an error in the data or files, 2 for one in the command line, 128 and
    the number of the signal if stopped: 130 by Ctrl-C. ``serve``, stopped in good order, has 0.
    """
    argv = sys.argv[1:] if argv is None else argv
    argv = [re.sub(r"^--[\w-]+", lambda m: f"--{m[0][2:].replace('-', '_')}", x) for x in argv]
    debug = "--debug" in argv
    if any(re.fullmatch(r"(--\w+=)?[\w.]+:\w+", word) for word in argv):
        sys.path.append(os.getcwd())  # where MODULE:NAME of the user's own may lie
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written; to import torch, a folder is needed
        tempfile.tempdir = os.getcwd()
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.getcwd())
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show ends no command
        codecs.register_error("pyg_hash.escaped", _escaped)
        sys.stdout.reconfigure(errors="pyg_hash.escaped")
    try:
        args = parse(argv)
        kind, own = COMMANDS[args.command], args[args.command]
        if isinstance(kind, tuple):
            kind, own = kind[1][own.action], own[own.action]
        asked, command = kind.of(own), _imported(kind.does)
        with warnings.catch_warnings(), stoppable():
            _show_ours_in_one_line()
            status: int = command(asked) or 0
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except KeyboardInterrupt as error:
        print("pyg-hash: stopped", file=sys.stderr)
        return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 128 + 13
        if debug:
            raise
        say(f"error: {_told(error)}")
        return 2 if isinstance(error, UsageError) else 1


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Characters that an encoding lacks, as JSON writes them: what was JSON stays it."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _reader_left() -> bool:
    """Whether nobody reads the output any more, as ``head`` that has seen enough."""
    try:
        number, poll = sys.stdout.fileno(), select.poll()
    except (AttributeError, OSError, ValueError):  # no file, or no POSIX system
        return False
    poll.register(number, 0)
    if left := any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # for the flush at the end
    return left


def _imported(place: str) -> Callable[[Any], int | None]:
    """The function of a command.

    No garbage is collected while torch is imported, nor later of what that made: looking for it
    among what stays is a seventh of the time of a cold ``pyg-hash search``.
    """
    cold = "torch" not in sys.modules and gc.isenabled()
    if cold:
        gc.disable()
    try:
        command: Callable[[Any], int | None] = imported(f"pyg_hash.cli.{place}", "command")
        return command
    finally:
        if cold:
            gc.freeze()
            gc.enable()


def _show_ours_in_one_line() -> None:
    """Show each warning about somebody's data or files once, without the place in our code."""
    from pyg_hash.utils.checksums import UncheckedWarning
    from pyg_hash.utils.oddities import OddDataWarning

    show: Any = warnings.showwarning
    tell = cache(say)

    def shown(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, OddDataWarning | UncheckedWarning):
            tell(f"warning: {message}")
        else:
            show(message, category, *place, **more)

    warnings.simplefilter("always", OddDataWarning)
    warnings.showwarning = shown


def _told(error: Exception) -> str:
    """What the user reads of an error."""
    told = str(error).partition("\n")[0] or "out of memory"
    torchs = type(error) is not NotImplementedError and isinstance(error, RuntimeError)
    torchs = torchs and bool(re.search("(allocate|out of|enough) memory", told))
    if isinstance(error, MemoryError) or torchs:
        return f"not enough memory ({told}); use fewer or narrower rows, or shorter codes"
    ours = (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError)
    if isinstance(error, ours) and str(error):
        return str(error)
    # one that nobody foresaw; its text alone, for example of a KeyError, may say nothing
    return f"{type(error).__name__}: {error} (unexpected; --debug shows where)"
