"""``pyg-hash serve``: a local search page for a run, with a JSON API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyg_hash.cli.build import load_model
from pyg_hash.cli.options import UsageError, check_positive, option
from pyg_hash.cli.queries import EncoderCommand
from pyg_hash.runs import Run
from pyg_hash.utils.optional import require


@dataclass(frozen=True, kw_only=True)
class Serve(EncoderCommand):
    """Load the run, print the address and serve until stopped."""

    host: str = option(
        "127.0.0.1",
        "address to listen at; 0.0.0.0 lets the network in, without password or encryption",
    )
    port: int = option(8765, "0 takes a free one and prints it")
    threads: int = option(2, "searches that run at a time")

    def execute(self) -> int:
        """Serve."""
        from pyg_hash.serve import Limits, SearchEngine, serve
        from pyg_hash.serve.server import address_of, is_loopback, listen

        check_positive(threads=self.threads)
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port: expected 0 to 65535, got {self.port}")
        for module in ("starlette", "uvicorn"):
            require(module, module, extra="serve")  # before the work, not after it
        run = Run.open(self.run, need=("config", "model", "items", "index_image", "index_text"))
        own = self.own_encoders()
        with listen(self.host, self.port) as listening:
            config = self.settings(run)
            model = load_model(run, config)
            title = f"{type(model).__name__} on {Path(config.dataset).name}"
            engine = SearchEngine.of(run, model, title=title, own=own)
            for note in engine.notes:
                print(f"note: {note}")
            if not is_loopback(listening):
                print(f"note: {self.host} lets the network in: everybody who reaches it can search")

            def ready() -> None:
                print(f"search page: {address_of(listening)} (stop with Ctrl-C)", flush=True)

            serve(engine, listening, limits=Limits(threads=self.threads), ready=ready)
        return 0
