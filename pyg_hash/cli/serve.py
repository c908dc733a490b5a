"""``pyg-hash serve``: a local search page for a run, with a JSON API."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.options import UsageError, add_run
from pyg_hash.cli.queries import load_model, own_function
from pyg_hash.runs import Run
from pyg_hash.typing import IMAGE, TEXT
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.optional import require


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash serve``."""
    add_run(parser)
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets the network in, without password or encryption",
    )
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one and prints it")
    parser.add_argument("--threads", type=int, default=2, help="searches that run at a time")
    for modality, things in ((IMAGE, "pictures"), (TEXT, "texts")):
        words = f"your own encoder of {things}, MODULE:FUNCTION"
        parser.add_argument(f"--{modality}_encoder", type=str | None, default=None, help=words)


def run(args: Namespace) -> int:
    """Load the run, print the address and serve until stopped."""
    from pyg_hash.serve import Limits, SearchEngine, serve
    from pyg_hash.serve.server import address_of, is_loopback, listen

    try:
        check_positive_int(args.threads, "threads")
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not 0 <= args.port <= 65535:
        raise UsageError(f"port: expected 0 to 65535, got {args.port}")
    for module, package in (("starlette", "starlette"), ("uvicorn", "uvicorn")):
        require(module, package, extra="serve")  # before the work, not after it
    folder = Run.open(args.run, need=("config", "model", "items", "index_image", "index_text"))
    names = {IMAGE: args.image_encoder, TEXT: args.text_encoder}
    own = {modality: own_function(name) for modality, name in names.items() if name is not None}
    with listen(args.host, args.port) as listening:
        model = load_model(folder, args.model)
        title = f"{type(model).__name__} on {Path(folder.config()['dataset']).name}"
        engine = SearchEngine.of(folder, model, title=title, own=own)
        for note in engine.notes:
            print(f"note: {note}")
        if not is_loopback(listening):
            print(f"note: {args.host} lets the network in: everybody who reaches it can search")

        def ready() -> None:
            print(f"search page: {address_of(listening)} (stop with Ctrl-C)", flush=True)

        serve(engine, listening, limits=Limits(threads=args.threads), ready=ready)
    return 0
