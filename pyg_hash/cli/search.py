"""``pyg-hash search`` and ``serve``: the items of a run or a store that are nearest to a query."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from pyg_hash.cli import build
from pyg_hash.cli.options import UsageError, check_positive, option, say
from pyg_hash.cli.store import cell, printed
from pyg_hash.features import UnreadableImageError
from pyg_hash.index import CodeStore
from pyg_hash.runs import CATALOG, Run, picture_file
from pyg_hash.serve.app import address_of, is_loopback, listen
from pyg_hash.serve.engine import Answers, SearchEngine, Wanted
from pyg_hash.serve.guard import Limits, check_proxy, log_access
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, other
from pyg_hash.utils.files import check_file, json_text
from pyg_hash.utils.optional import require

_NAME_WIDTH = 48


class SearchCommand(build.EncoderCommand, build.PictureCommand):
    """A command that searches a run, or a store of its model's codes."""

    store: str | None = option(
        None,
        "search there instead of in the run: what encode --out wrote, or one of yours: NAME.store, "
        "NAME.lance, NAME.db or http://HOST:PORT (Milvus)",
    )
    force: bool = option(False, "use a store or features although they are of another model")
    rescore: Literal["auto", "none"] = option(
        "auto",
        "auto: order the nearest by the query's real-valued code against the items' relaxed codes, "
        "or their bits where they have none (a score); none: by distance alone",
    )
    oversample: int = option(
        4, "how many of the nearest to rescore, times -k (25 at least), and all ties"
    )

    def opened(self) -> Run:
        """The run, which has what is searched."""
        run = Run.open(self.run, need=("config", "model"))
        if self.store is None and not run.has_catalog:
            run = Run.open(self.run, need=("items", "index_image", "index_text"))
        return run


class Search(SearchCommand, build.NewItemsCommand):
    """Search and print the answers, and on the standard error the time of the first query."""

    text: str | None = option(None, "search with these words")
    image: str | None = option(None, "search with this picture")
    modality: Modality | None = option(
        None, "which codes to search, image or text (default: not those of the query)"
    )
    where: str | None = option(
        None, "only items with such fields: \"year >= 2005 and labels has 'cat'\""
    )
    k: int = option(10, "number of answers", ["-k", "--k"])
    json: bool = option(False, "print one JSON object a query, each in a line, instead of tables")

    def _execute(self) -> None:
        if sum(given is not None for given in (self.text, self.image, self.features)) != 1:
            raise UsageError("query: give either --text WORDS or --image FILE or --features FILE")
        check_positive(k=self.k, oversample=self.oversample)
        self.check_source()
        if self.modality is not None and self.store is not None:
            raise UsageError("modality: says which codes of the run; a store has only its own")
        queries = self._queries()
        run = self.opened()
        if self.image is not None:
            check_file(self.image, "image")
        (coder,) = self.coders(run, [queries])
        target: Any = self.modality or other(queries.modality)
        index: CodeStore
        if self.store is not None:
            index = build.open_store(self.store, coder.model, self.force)
            if len(index) == 0:
                raise ValueError(f"store: {self.store} is empty; fill it with encode --out")
        else:
            items = None if run.has_catalog else run.items(self.images_root)
            index = run.searched(target, items)
            if len(index) == 0 and self.modality is None:  # it has the other kind alone
                index = run.searched(other(target), items)
            if len(index) == 0:
                raise ValueError(f"modality: the catalogue of {self.run} has no items of {target}")
        kept, values = [0], queries.values
        if self.features is not None:
            some = coder.each(queries)  # a bad row does not end the others
            kept, values, relaxed = some.kept, values[some.kept], some.values
            if relaxed is None:
                raise ValueError(f"features: no row of {self.features} can be encoded")
        else:
            try:
                relaxed = coder(values)
            except UnreadableImageError as error:
                raise ValueError(f"image: {error}") from error
        both = dict.fromkeys(MODALITIES, index)
        rescored = self.oversample if self.rescore == "auto" else None
        engine = SearchEngine(coder.model, both, {}, oversample=rescored, force=self.force)
        wanted, ties = Wanted(target, self.k, 0, self.where), self.store is None
        found = engine.nearest(relaxed, wanted, ties=ties)
        start = perf_counter()  # all is loaded, for there were answers before
        x = coder.features(values[:1])
        encoded = perf_counter()
        relaxed = coder.relax(x)
        coded = perf_counter()
        engine.nearest(relaxed, wanted, ties=False)
        end = perf_counter()
        if self.text is not None:
            coder.note_unknown_words(self.text)
        shown = []
        for row, answers in zip(kept, found, strict=True):
            listed = self._listed(answers, index, run)
            tied = {"tied": answers.tied} if ties and listed else {}
            shown.append({"query": queries.ids[row], "answers": listed, **tied})
        if self.json:
            print("\n".join(json_text(one, ensure_ascii=False) for one in shown))
        else:
            head = "" if self.features is None else "query {query}\n"
            print("\n\n".join(head.format(**one) + table(one) for one in shown))
        parts = {"features": encoded - start, "code": coded - encoded, "search": end - coded}
        times = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in parts.items())
        say(f"one query: {1e3 * (end - start):.1f} ms ({times})")

    def _queries(self) -> build.NewItems:
        if self.features is not None:
            both = build.feature_rows(self.features, self.source)
            if len(both) > 1:
                raise UsageError(
                    f"source: {self.features} holds pictures and texts; give --source image|text"
                )
            return both[0]
        if self.text is not None and not self.text.strip():
            raise UsageError("text: is empty; give words to search with")
        modality, value = (IMAGE, self.image) if self.text is None else (TEXT, self.text)
        return build.NewItems(modality, [value], [str(value)], [modality])

    def _listed(self, answers: Answers, index: CodeStore, run: Run) -> list[dict[str, Any]]:
        """The answers as plain values: what a run knows of its items, or the fields of a store."""
        root = run.pictures_root(self.images_root) if run.has_catalog else ""
        listed = []
        for place, item in enumerate(answers.items):
            answer = {"id": item["id"], "distance": answers.distances[place]}
            if answers.scores is not None:
                answer["score"] = round(answers.scores[place], 4)
            metadata = item["metadata"]
            if self.store is not None:
                metadata = {name: (item | metadata)[name] for name in index.fields}
            else:
                added = run.path.absolute() / CATALOG / "added"
                path = item["image"] and picture_file(item["image"], root, added)
                answer["name"] = item["text"] or item["id"]
                answer |= {"labels": item["labels"] or [], "path": path}
            if metadata or (self.store is None and run.has_catalog):
                answer["metadata"] = metadata
            listed.append(answer)
        return listed


def short_path(path: str) -> str:
    """``path`` as seen from the working folder, if it lies in there."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def table(found: dict[str, Any]) -> str:
    """The answers to a query as aligned text, and how many items are as far as the last."""
    answers = found["answers"]
    if not answers:  # an approximate index may miss all
        return "no answer"
    rows = [_cells(answer) for answer in answers]
    text = printed([*rows[0]], [[*row.values()] for row in rows], right=("score", "distance"))
    if "tied" not in found:
        return text
    tied, last = found["tied"], answers[-1]["distance"]
    number = f"{tied:,} items are" if tied > 1 else "no other item is"
    return f"{text}\n{number} at distance {last}, that of the last answer"


def _cells(answer: dict[str, Any]) -> dict[str, str]:
    cells = {"score": f"{answer['score']:.2f}"} if "score" in answer else {}
    cells["distance"] = str(answer["distance"])
    if "name" not in answer:
        cells["id"] = short_path(" ".join(answer["id"].split()))
    else:
        path = short_path(answer["path"]) if answer["path"] else "-"
        name, label = cell(answer["name"], _NAME_WIDTH), ", ".join(answer["labels"])
        cells |= {"name": name, "label": label, "id": answer["id"], "path": path}
    for name, value in answer.get("metadata", {}).items():
        while name in cells:  # as build names columns
            name += "_"
        cells[name] = cell(value)
    return cells


class Serve(SearchCommand):
    """Load the run, print the address and serve until stopped."""

    host: str = option(
        "127.0.0.1", "address to listen at; 0.0.0.0 lets the network in, without encryption"
    )
    port: int = option(8765, "0 takes a free one and prints it")
    threads: int = option(2, "searches that run at a time")
    token_file: str | None = option(
        None, "file with a token, in one line: who sends it may add and delete"
    )
    private: bool = option(False, "let nobody search without the token either")
    rate: float | None = option(
        None, "requests a second of one client, 0 for any (50 where the network is let in, else 0)"
    )
    proxy: str | None = option(None, "address of your proxy, whose X-Forwarded-For is believed")
    log: str | None = option(
        None,
        "file for the access log, in JSON lines; - for the standard error, which is where it goes "
        "if the network is let in",
    )

    def _execute(self) -> None:
        from pyg_hash.serve import serve

        check_positive(threads=self.threads, oversample=self.oversample)
        if self.rate is not None and not 0 <= self.rate < 1e9:
            raise UsageError(f"rate: expected 0 or more requests a second, got {self.rate}")
        check_proxy(self.proxy)
        token = self._token()
        for module in ("fastapi", "uvicorn"):
            require(module, module, extra="serve")  # before the work, not after it
        run = self.opened()
        with listen(self.host, self.port) as listening:
            own = self.own_encoders()
            config = self.settings(run)
            model = build.load_model(run, config)
            source = run.path.resolve() if run.has_catalog else Path(config.dataset)
            store = None if self.store is None else build.open_store(self.store, model, self.force)
            engine = SearchEngine.of(
                run,
                model,
                title=f"{type(model).__name__} on {source.name}",
                own=own,
                oversample=self.oversample if self.rescore == "auto" else None,
                images_root=self.images_root,
                store=store,
                force=self.force,
            )
            for note in engine.notes:
                print(f"note: {note}")
            if token and not engine.is_writable:
                use = "lets search alone" if self.private else "has no use"
                print(
                    f"note: nothing can be added or deleted, for {run.path} has no catalogue and "
                    f"no --store is given: the token {use}"
                )
            local = is_loopback(listening)
            if log := self.log or (None if local else "-"):
                log_access(log)
            if not local and not self.private:
                print(f"note: {self.host} lets the network in: everybody who reaches it can search")
            rate = (0.0 if local else 50.0) if self.rate is None else self.rate
            limits = Limits(threads=self.threads, rate=rate)
            said = f"search page: {address_of(listening)} (stop with Ctrl-C)"
            more: dict[str, Any] = {"token": token, "private": self.private, "proxy": self.proxy}
            more["ready"] = partial(print, said, flush=True)
            serve(engine, listening, limits=limits, **more)

    def _token(self) -> str | None:
        if self.token_file is None:
            if self.private:
                raise UsageError("private: needs a token; give --token_file FILE")
            return None
        try:
            with open(self.token_file, encoding="utf-8", errors="replace") as file:
                token = file.read(1 << 16).strip()  # a device may have no end
        except OSError as error:
            raise OSError(f"token_file: {self.token_file}: {error.strerror or error}") from error
        if len(token) < 16 or not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
            raise ValueError(
                f"token_file: {self.token_file} holds no token; write at least 16 letters and "
                "digits into it: openssl rand -hex 32"
            )
        return token
