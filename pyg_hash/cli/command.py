"""Parsing and error handling of the console command; each subcommand has a module of its own."""

from __future__ import annotations

import codecs
import copy
import gc
import io
import json
import os
import re
import select
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import dropwhile
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader
from yaml import YAMLError

from pyg_hash import __version__
from pyg_hash.utils.optional import imported
from pyg_hash.utils.settings import SettingError as UsageError
from pyg_hash.utils.settings import check_yaml, is_own
from pyg_hash.utils.signals import Stopped, stoppable

COMMANDS: dict[str, tuple[str | dict[str, tuple[str, str]], str]] = {
    "build": ("catalogue:Build", "from a folder, a table or features to a run that finds it all"),
    "train": ("train:Train", "train a model and write a run folder"),
    "evaluate": ("evaluate:Evaluate", "evaluate a run again: mAP in all four directions"),
    "encode": ("encode:Encode", "codes of new pictures, texts or features"),
    "search": ("search:Search", "nearest items of a run to a text or a picture"),
    "export": ("encode:Export", "encoders or codes as files for other programs"),
    "report": ("evaluate:Report", "one HTML page about a run: accuracy, gallery, curves, codes"),
    "serve": ("search:Serve", "a search page for a run in the browser, with a JSON API"),
    "store": (
        {
            "list": ("store:ListItems", "print items"),
            "delete": ("store:DeleteItems", "delete items"),
            "update": ("store:UpdateItems", "change fields of items"),
        },
        "list, delete or change the items of a store",
    ),
    "data": (
        {
            "check": ("evaluate:Check", "report on a feature file"),
            "import": (
                "evaluate:Import",
                "a feature file from MATLAB, HDF5, NPY or NPZ files of other projects",
            ),
            "verify": ("evaluate:Verify", "read stored files whole and compare their checksums"),
        },
        "look into a feature file, or whether stored files are whole",
    ),
}
"""Name -> class, in ``pyg_hash.cli``, or the same of its actions, and help.

Only the one that is asked for is imported. The docstring of an action is its longer help.
"""


_load_yaml = get_loader("yaml")


def _without_aliases(text: str) -> Any:
    check_yaml(text)
    return _load_yaml(text)


def _class(place: str) -> Any:
    return imported(f"pyg_hash.cli.{place}", "command")


_MAPPINGS = "model_options|graph_options|dataset_options|loader_options|scaling|optimizer|lr"


@cache
def build_parser(command: str, of: str = "") -> tuple[ArgumentParser, ArgumentParser | None]:
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

    def added(to: Any, name: str, text: str, more: str | None) -> ArgumentParser:
        sub = ArgumentParser(description=more, exit_on_error=False)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        to.add_subcommand(name, sub, help=text)
        return sub

    for name, (kind, text) in COMMANDS.items():
        sub = added(commands, name, text, text[0].upper() + text[1:] + ".")
        if name != command:
            continue
        wanted = sub  # its options come now: jsonargparse wants outer levels first
        if isinstance(kind, str):
            _class(kind).add_arguments(sub)
            continue
        actions = sub.add_subcommands(dest="action", metavar="ACTION")
        for action, (place, text) in kind.items():
            inner = added(actions, action, text, _class(place).__doc__)
            _class(place).add_arguments(inner)
            wanted = inner if action == of else wanted
    return parser, wanted


def parse(argv: Sequence[str]) -> Namespace:
    """Parse a command line; ``UsageError``, of one line, for what it does not know."""
    command, action, *_ = [*dropwhile(lambda word: word not in COMMANDS, argv), "", ""]
    kind = COMMANDS[command][0] if command else ""
    action = "" if isinstance(kind, str) or action not in kind else action
    parser, own_parser = build_parser(command, action)
    if not argv:
        parser.print_help(sys.stderr)
        raise UsageError(f"a command is missing; use one of {', '.join(COMMANDS)}")
    argv, deep = _apart(argv) if command == "train" else (argv, [])
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
    if deep:
        _put(args.train, deep)
    for name in ("model", "dataset") if args.command == "train" else ():
        own = args.train[name]
        if is_own(own) and own not in [word.removeprefix(f"--{name}=") for word in argv]:
            raise UsageError(f"{name}: code that only a file names is not run; add --{name} {own}")
    return args


Deep = tuple[str, list[str], Any]  # an option as it was given, its names, its value


def _apart(argv: Sequence[str]) -> tuple[list[str], list[Deep]]:
    """Options two levels deep stand apart, as the parser keeps the last; files come first."""
    found, deep, words, files = list[str](), list[Deep](), [*argv], list[str]()
    while words and words[0] != "--":
        word = words.pop(0)
        if re.match("--config(=|$)", word):
            files += [word, *words[: "=" not in word]]  # what stands later wins
            del words[: "=" not in word]
            continue
        named = re.fullmatch(rf"--((?:{_MAPPINGS})(?:\.\w+)*)(=.*)?", word, re.DOTALL)
        if named is None or (named[2] is None and (not words or words[0].startswith("--"))):
            found.append(word)
            continue
        value: Any = named[2][1:] if named[2] else words.pop(0)
        names = named[1].split(".")
        deep = [one for one in deep if one[1][: len(names)] != names]  # this one is of the whole
        if len(names) < 3:
            found += [word] if named[2] else [word, value]
        try:
            value = _without_aliases(value)
        except (YAMLError, LookupError, ValueError) as error:
            # a text, but not if it meant to be a mapping
            if str(error).endswith(" twice"):
                raise UsageError(f"--{named[1]}: {error}") from error
        if len(names) > 2:
            deep.append((word, names, value))
    at = found.index("train") + 1
    return [*found[:at], *files, *found[at:], *words], deep


def _put(args: Namespace, deep: list[Deep]) -> None:
    """Give options two levels deep their places among what a file or other options say."""
    for option in {names[0] for _, names, _ in deep}:
        args[option] = copy.deepcopy(args[option])  # may be the parser's own default
    for word, (*path, last), value in deep:
        holder: Any = args
        for key in path:
            if isinstance(holder, dict | Namespace) and holder.get(key) is None:
                holder[key] = {}
            holder = holder[key] if isinstance(holder, dict | Namespace) else None
        if not isinstance(holder, dict) or isinstance(holder.get(last), dict):
            raise UsageError(f"{word}: another option gives a value in the place of these")
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
        with _uncollected_imports():
            args = parse(argv)
        with warnings.catch_warnings(), stoppable():
            _show_ours_in_one_line()
            kind, own = COMMANDS[args.command][0], args[args.command]
            if not isinstance(kind, str):
                kind, own = kind[own.action][0], own[own.action]
            status: int = _class(kind).of(own).execute()
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
        print(f"pyg-hash: error: {_told(error)}", file=sys.stderr)
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


@contextmanager
def _uncollected_imports() -> Iterator[None]:
    """No garbage collection while torch is imported, nor later of what that made.

    Looking for garbage among what stays is a seventh of the time of a cold ``pyg-hash search``.
    """
    cold = "torch" not in sys.modules and gc.isenabled()
    if cold:
        gc.disable()
    try:
        yield
    finally:
        if cold:
            gc.freeze()
            gc.enable()


def _show_ours_in_one_line() -> None:
    """Show each warning about somebody's data or files once, without the place in our code."""
    from pyg_hash.cli.options import say
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
