"""``pyg-hash search`` and ``serve``: the items of a run or a store that are nearest to a query."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from pyg_hash import serve as web
from pyg_hash.cli import build
from pyg_hash.cli.options import Search, SearchOptions, Serve, UsageError
from pyg_hash.cli.output import cell, plain, printed, say
from pyg_hash.features import UnreadableImageError
from pyg_hash.index import CodeStore
from pyg_hash.runs import CATALOG, Run, picture_file
from pyg_hash.serve.app import address_of, is_loopback, listen
from pyg_hash.serve.engine import Answers, SearchEngine, Wanted
from pyg_hash.serve.guard import Limits, check_proxy, log_access
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, other
from pyg_hash.utils.files import bad_text, check_file, json_text
from pyg_hash.utils.optional import require

_NAME_WIDTH, _ANY_WIDTH = 48, sys.maxsize


def _opened(asked: SearchOptions) -> Run:
    """The run, which has what is searched."""
    run = Run.open(asked.run, need=("config", "model"))
    if asked.store is None and not run.has_catalog:
        run = Run.open(asked.run, need=("items", "index_image", "index_text"))
    return run


def search(asked: Search) -> None:
    """Print the answers, and on the standard error the time of the first query."""
    if sum(given is not None for given in (asked.text, asked.image, asked.features)) != 1:
        raise UsageError("query: give either --text WORDS or --image FILE or --features FILE")
    if asked.modality is not None and asked.store is not None:
        raise UsageError("modality: says which codes of the run; a store has only its own")
    queries = _queries(asked)
    run = _opened(asked)
    if asked.image is not None:
        check_file(asked.image, "image")
    (coder,) = build.coders_of(asked, run, [queries])
    target: Any = asked.modality or other(queries.modality)
    index: CodeStore
    if asked.store is not None:
        index = build.open_store(asked.store, coder.model, asked.force)
        if len(index) == 0:
            raise ValueError(f"store: {asked.store} is empty; fill it with encode --out")
    else:
        items = None if run.has_catalog else run.items(asked.images_root)
        index = run.searched(target, items)
        if len(index) == 0 and asked.modality is None:  # it has the other kind alone
            index = run.searched(other(target), items)
        if len(index) == 0:
            raise ValueError(f"modality: the catalogue of {asked.run} has no items of {target}")
    kept, values = [0], queries.values
    if asked.features is not None:
        some = coder.each(queries)  # a bad row does not end the others
        kept, values, relaxed = some.kept, values[some.kept], some.values
        if relaxed is None:
            raise ValueError(f"features: no row of {asked.features} can be encoded")
    else:
        try:
            relaxed = coder(values)
        except UnreadableImageError as error:
            raise ValueError(f"image: {error}") from error
    both = dict.fromkeys(MODALITIES, index)
    rescored = asked.oversample if asked.rescore == "auto" else None
    engine = SearchEngine(coder.model, both, {}, oversample=rescored, force=asked.force)
    wanted, ties = Wanted(target, asked.k, 0, asked.where), asked.store is None
    found = engine.nearest(relaxed, wanted, ties=ties)
    start = perf_counter()  # all is loaded, for there were answers before
    x = coder.features(values[:1])
    encoded = perf_counter()
    relaxed = coder.relax(x)
    coded = perf_counter()
    engine.nearest(relaxed, wanted, ties=False)
    end = perf_counter()
    if asked.text is not None:
        coder.note_unknown_words(asked.text)
    shown = []
    for row, answers in zip(kept, found, strict=True):
        listed = _listed(asked, answers, index, run)
        tied = {"tied": answers.tied} if ties and listed else {}
        shown.append({"query": queries.ids[row], "answers": listed, **tied})
    if asked.json:
        print("\n".join(json_text(one, ensure_ascii=False) for one in shown))
    else:
        head = "" if asked.features is None else "query {query}\n"
        print("\n\n".join(plain(head.format(**one)) + table(one) for one in shown))
    parts = {"features": encoded - start, "code": coded - encoded, "search": end - coded}
    times = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in parts.items())
    say(f"one query: {1e3 * (end - start):.1f} ms ({times})")


def _queries(asked: Search) -> build.NewItems:
    if asked.features is not None:
        both = build.feature_rows(asked.features, asked.source)
        if len(both) > 1:
            raise UsageError(
                f"source: {asked.features} holds pictures and texts; give --source image|text"
            )
        return both[0]
    if asked.text is not None and not asked.text.strip():
        raise UsageError("text: is empty; give words to search with")
    if asked.text is not None and bad_text(asked.text):
        encoding = sys.getfilesystemencoding()
        told = f"text: is not in {encoding}, in which the system says that words are typed"
        raise UsageError(f"{told}; give it in that, or set a UTF-8 locale or PYTHONUTF8=1")
    modality, value = (IMAGE, asked.image) if asked.text is None else (TEXT, asked.text)
    return build.NewItems(modality, [value], [str(value)], [modality])


def _listed(asked: Search, answers: Answers, index: CodeStore, run: Run) -> list[dict[str, Any]]:
    """The answers as plain values: what a run knows of its items, or the fields of a store."""
    root = run.pictures_root(asked.images_root) if run.has_catalog else ""
    listed = []
    for place, item in enumerate(answers.items):
        answer = {"id": item["id"], "distance": answers.distances[place]}
        if answers.scores is not None:
            answer["score"] = round(answers.scores[place], 4)
        metadata = item["metadata"]
        if asked.store is not None:
            metadata = {name: (item | metadata)[name] for name in index.fields}
        else:
            added = run.path.absolute() / CATALOG / "added"
            path = item["image"] and picture_file(item["image"], root, added)
            answer["name"] = item["text"] or item["id"]
            answer |= {"labels": item["labels"] or [], "path": path}
        if metadata or (asked.store is None and run.has_catalog):
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
        cells["id"] = cell(short_path(answer["id"]), _ANY_WIDTH)
    else:
        path = short_path(answer["path"]) if answer["path"] else "-"
        cells["name"] = cell(answer["name"], _NAME_WIDTH)
        rest = {"label": ", ".join(answer["labels"]), "id": answer["id"], "path": path}
        cells |= {name: cell(value, _ANY_WIDTH) for name, value in rest.items()}
    for name, value in answer.get("metadata", {}).items():
        while name in cells:  # as build names columns
            name += "_"
        cells[name] = cell(value)
    return cells


def serve(asked: Serve) -> None:
    """Load the run, print the address and serve until stopped."""
    if asked.rate is not None and not 0 <= asked.rate < 1e9:
        raise UsageError(f"rate: expected 0 or more requests a second, got {asked.rate}")
    check_proxy(asked.proxy)
    token = _token(asked)
    for module in ("fastapi", "uvicorn"):
        require(module, module, extra="serve")  # before the work, not after it
    run = _opened(asked)
    with listen(asked.host, asked.port) as listening:
        own = build.own_encoders(asked, run)
        config = build.settings_of(asked, run)
        model = build.load_model(run, config)
        source = run.path.resolve() if run.has_catalog else Path(config.dataset)
        store = None if asked.store is None else build.open_store(asked.store, model, asked.force)
        engine = SearchEngine.of(
            run,
            model,
            title=f"{type(model).__name__} on {source.name}",
            own=own,
            oversample=asked.oversample if asked.rescore == "auto" else None,
            images_root=asked.images_root,
            store=store,
            force=asked.force,
        )
        for note in engine.notes:
            print(plain(f"note: {note}"))
        if token and not engine.is_writable:
            use = "lets search alone" if asked.private else "has no use"
            print(
                f"note: nothing can be added or deleted, for {run.path} has no catalogue and "
                f"no --store is given: the token {use}"
            )
        way = asked.host if not is_loopback(listening) else asked.proxy and "--proxy"
        local = not way
        if log := asked.log or (None if local else "-"):
            log_access(log)
        if not local and not asked.private:
            by = "; so can pages in their browsers, by a name of their own: give yours as --hosts"
            print(
                f"note: {way} lets the network in: everybody who reaches it can search"
                f"{'' if asked.hosts or way != asked.host else by}"
            )
        rate = (0.0 if local else 50.0) if asked.rate is None else asked.rate
        limits = Limits(threads=asked.threads, rate=rate)
        said = f"search page: {address_of(listening)} (stop with Ctrl-C)"
        more: dict[str, Any] = {"token": token, "private": asked.private, "proxy": asked.proxy}
        more["root_path"] = asked.root_path
        more["hosts"] = [] if asked.hosts is None else [*map(str.strip, asked.hosts.split(","))]
        more["ready"] = partial(print, said, flush=True)
        web.serve(engine, listening, limits=limits, **more)


def _token(asked: Serve) -> str | None:
    if asked.token_file is None:
        if asked.private:
            raise UsageError("private: needs a token; give --token_file FILE")
        return None
    try:
        with open(asked.token_file, encoding="utf-8-sig", errors="replace") as file:
            token = file.read(1 << 16).strip()  # a device may have no end
    except OSError as error:
        raise OSError(f"token_file: {asked.token_file}: {error.strerror or error}") from error
    if "\ufffd" in token or "\0" in token:
        raise ValueError(f"token_file: {asked.token_file} is not UTF-8; save it as UTF-8")
    if len(token) < 16 or not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise ValueError(
            f"token_file: {asked.token_file} holds no token; write at least 16 letters and "
            "digits into it: openssl rand -hex 32"
        )
    return token
