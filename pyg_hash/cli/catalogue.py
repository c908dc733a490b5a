"""``pyg-hash build``: from pictures, texts or features to a run that finds all of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from pyg_hash.cli.build import Coder, digest_of_model, load_model, own_function, recipe_of
from pyg_hash.cli.options import Build, Serve, Train, TrainConfig, UsageError
from pyg_hash.cli.output import plain
from pyg_hash.cli.train import train_run
from pyg_hash.features import OwnEncoder, named_encoder, words_and_meaning
from pyg_hash.features.base import Encoded, encode_each
from pyg_hash.index import HammingIndex
from pyg_hash.models import HashModel
from pyg_hash.runs import ABOUT, BUILD, CATALOG, CHECKPOINT, DATA, PARTS, Run
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, binarize, other
from pyg_hash.utils import files
from pyg_hash.utils.locks import Lock
from pyg_hash.utils.pictures import picture_problem

if TYPE_CHECKING:
    from pyg_hash.datasets.sources import Source

Array = np.ndarray[Any, Any]
WORK = ".build.tmp"  # what is encoded, until all of it is done
FEWEST, FEW_QUERIES, MOST_QUERIES = 10, 20, 2000
SHARD = {IMAGE: 256, TEXT: 4096}  # items that are encoded between two files of what is done
BATCH = {IMAGE: 32, TEXT: 512}
_SHOWN = 20


def build(asked: Build) -> None:
    """Read, check, encode, train, evaluate and index; what is done is not done again."""
    from pyg_hash.datasets.sources import open_source

    recipe_of(TrainConfig(**_training(asked)))
    for folder in filter(os.path.isdir, asked.source):
        if Path(asked.out).resolve().is_relative_to(Path(folder).resolve()):
            raise UsageError(f"out: {asked.out} is in the source {folder}; choose another place")
    run = Run(Path(asked.out))
    run.check_place()
    columns = {role: getattr(asked, f"{role}_column") for role in (IMAGE, TEXT, "label", "id")}
    more = {n: getattr(asked, n) for n in ("images_root", "encoding", "label_separator")}
    source = open_source(asked.source, columns=columns, **more)
    print(f"source: {', '.join(asked.source)}: {len(source):,} rows")
    for name, how in source.read_as.items():
        print(plain(f"  {name:<9} {how}"))
    run.lock().release()  # the folder can be written
    with Lock(run.path / ".build.lock", f"out: {run.path}"):
        about: dict[str, Any] = {"arguments": arguments_of(asked), "source": digest_of(source)}
        about["data"] = files.sha256(json.dumps(about))[:12]  # stands in the data too
        if not _is_done(run, about, source):
            if not source.problems:  # refuses before the long look
                Plan.of(source, asked.train_rows, asked.seed)
            source.states = about["files"] = about.get("files") or states_of(source)
            source.encoders = _encoders(asked, source)
            _leave_out(source, asked.skip_bad)
            plan = Plan.of(source, asked.train_rows, asked.seed)
            print(plan.text)
            for modality in plan.sides:
                how = source.encoders[modality] or "words and what they mean, fitted"
                if modality not in source.features:
                    print(plain(f"  {modality} encoder: {how!s:.100}"))
            files.save_json(run.path / BUILD, about)
            try:
                _stages(asked, run, source, plan, about["data"])
            except KeyboardInterrupt:
                print("stopped; the same command goes on", file=sys.stderr)
                raise
        tell(run)


def _training(asked: Build) -> dict[str, Any]:
    own = {name: getattr(asked, name) for name in ("num_bits", "epochs", "seed")}
    return {"dataset": str(Path(asked.out) / DATA), "model": "taughthash", **own}


def _encoders(asked: Build, source: Source) -> dict[Modality, Any]:
    """The encoder of each modality; None for that of texts which is fitted, or for none."""
    found: dict[Modality, Any] = {}
    for modality, name in ((IMAGE, asked.image_encoder), (TEXT, asked.text_encoder)):
        ready = source.features.get(modality)
        if name is None and modality == IMAGE and ready is None and source.has(IMAGE).any():
            name = "efficientnet_lite0"
        if name is None:
            found[modality] = source.encoders.get(modality)
        elif ":" in name:
            width = None if ready is None else ready.shape[1]
            found[modality] = OwnEncoder(own_function(name, f"{modality}_encoder"), width)
        else:
            found[modality] = named_encoder(name, modality, progress=False)
    return found


def _is_done(run: Run, about: dict[str, Any], source: Source) -> bool:
    """Whether the run is there already, to which ``about`` is fitted.

    ``ValueError``: it is of something else. ``FileExistsError``: what is there is no build's, and
    would be replaced.
    """
    from pyg_hash.datasets.feature_file import open_feature_file, read_about

    path = run.path / BUILD
    if not path.is_file():
        own = *PARTS.values(), DATA, f"{DATA}.encoders", CATALOG, WORK
        theirs = {*run.strangers(), *(n for n in own if os.path.lexists(run.path / n))}
        if theirs:
            raise FileExistsError(
                f"out: {run.path} holds {', '.join(sorted(theirs))}, which no build wrote, as "
                f"there is no {BUILD}, and this one would replace; choose another folder"
            )
        return False
    if (run.path / WORK).is_symlink():
        raise FileExistsError(f"out: {run.path / WORK} is a link; remove it, then build again")
    there = files.load_json(path, dict)
    if not isinstance(there.get("arguments"), dict):
        raise files.CorruptFileError(f"{path}: not what pyg-hash build writes")
    if not isinstance(there.get("files"), list):
        raise ValueError(
            f"out: {run.path} was written by an earlier version, which this one does not go on "
            "with; what is finished can be searched; build into another folder"
        )
    if (run.path / DATA).is_file():  # before that, all that is there goes by its content
        changed = [n for n, v in about["arguments"].items() if there["arguments"].get(n) != v]
        what = ", ".join(changed)
        if not changed and there.get("source") == about["source"]:
            about |= {"data": there.get("data"), "files": states_of(source, there["files"])}
            # size and digest of each: when it was written does not count
            now, then = ([state.split()[::2] for state in of["files"]] for of in (about, there))
            each = zip_longest(read_files(source), now, then)
            if other := [path for path, own, old in each if own != old]:
                what = f"{len(other)} of the files changed, first {other[0]}"
        elif not changed:
            what = "the source has changed, or this version reads it otherwise"
        if what:
            later = (
                f". Rows that came later: pyg-hash encode {run.path} --images DIR (or --texts, "
                f"--features FILE) --ids FILE --out {run.catalog_file(IMAGE)} (or text.store), "
                "their fields: pyg-hash store update; or POST /api/items of pyg-hash serve"
            )
            raise ValueError(
                f"out: {run.path} was begun with other settings or data ({what}); choose another "
                f"folder, or delete it{later if run.has_catalog and not changed else ''}"
            )
        if not run.has_catalog:
            with open_feature_file(run.path / DATA) as file:
                if f"(build {about['data']})" not in (read_about(file) or ""):
                    raise FileExistsError(
                        f"out: {run.path / DATA} is not what this build wrote; put that back, or "
                        "choose another folder"
                    )
        if about != there:  # the times of files
            files.save_json(path, about)
    if not run.has_catalog:
        return False
    gone = [m for m in MODALITIES if not run.catalog_file(m).is_file()]
    for modality in gone:
        print(
            f"{run.catalog_file(modality)} is gone; it is made again, as of the source and "
            "without what was added, changed or deleted since, which the other one still knows"
        )
    if not gone:
        print("all of it is done already")
    return not gone


def _leave_out(source: Source, skip_bad: bool) -> None:
    """Look at every row before any work; with ``skip_bad``, leave out what is bad."""
    bad = list(bad_rows(source))
    problems = [f"{place}: {text}" for place, text in source.problems.items()]
    problems += [f"{_named(source, row)}: {text}" for row, _, text in bad]
    _refuse(problems, "problems, and nothing was done; mend them, or", skip_bad)
    for row, modality, _ in bad:
        for m in MODALITIES if modality is None else [modality]:
            source.drop(m, row)


def _named(source: Source, row: int) -> str:
    return f"{source.place(row)} ({source.ids[row]!r:.60})"


def _refuse(problems: list[str], what: str, skip_bad: bool) -> None:
    """``ValueError`` lists the first problems; with ``skip_bad`` it is printed, if any."""
    shown = "\n".join(f"  {p}" for p in problems[:_SHOWN] + ["..."] * (len(problems) > _SHOWN))
    if problems and not skip_bad:
        raise ValueError(f"source: {len(problems)} {what} leave these out with --skip_bad\n{shown}")
    if problems:
        print(plain(f"left out: {len(problems)}\n{shown}"))


def _stages(asked: Build, run: Run, source: Source, plan: Plan, mark: str) -> None:
    """Features of the drawn rows, the training, the codes of all."""
    from pyg_hash.datasets.feature_file import stored_encoder

    dataset = run.path / DATA
    if TEXT in plan.sides and TEXT not in source.features and source.encoders[TEXT] is None:
        if dataset.is_file():
            fitted = stored_encoder(dataset, TEXT)
        else:
            train = plan.splits["train"]
            fitted = words_and_meaning([source.texts[row] or "" for row in train])
        source.encoders[TEXT] = fitted
    if not dataset.is_file():
        _write_data(asked, dataset, source, plan, mark)
    if not run.has("metrics"):
        begun = (run.path / CHECKPOINT).is_file()
        rate = 1.0 if "labeled" in plan.splits else 0.0
        own = {**_training(asked), "label_rate": rate, "out": str(run.path)}
        train_run(Train(**own, resume=begun or run.has("model")))
    write_catalog(run, source, plan, load_model(run))
    shutil.rmtree(run.path / WORK, ignore_errors=True)


def _write_data(asked: Build, path: Path, source: Source, plan: Plan, mark: str) -> None:
    """The feature file that the training reads; ``mark`` tells that this build wrote it."""
    from pyg_hash.datasets import write_feature_file

    found, bad = dict[Modality, tuple[Any, Any]](), list[str]()  # rows, and their features
    for m in plan.sides:
        if m in source.features:
            found[m] = plan.rows, source.rows(m, plan.rows)
            continue
        rows, encoder = plan.rows.tolist(), source.encoders[m]
        is_own = isinstance(encoder, OwnEncoder)
        of = encoder.name if is_own else json.dumps(encoder.settings(), default=str)
        parts = list(in_shards(path.parent / WORK, m, source, rows, encoder, of))
        lost = [one for part in parts for one in part.problems.items()]
        bad += [f"{m} {source.items(m)[row]!r:.80}: {text}" for row, text in lost]
        if len(lost) == len(rows):
            raise ValueError(f"source: none of its {m}s can be encoded; the first: {bad[0]}")
        values = torch.cat([part.values for part in parts if part.values is not None])
        found[m] = [row for part in parts for row in part.kept], values
    _refuse(bad, "items cannot be encoded;", asked.skip_bad)
    rows = reduce(np.intersect1d, [own for own, _ in found.values()])
    features = {m: x[np.isin(own, rows)] for m, (own, x) in found.items()}
    splits: dict[str, Any] = {name: np.isin(rows, own) for name, own in plan.splits.items()}
    alone = features[plan.sides[0]]
    labels: Any = None
    if "labeled" in plan.splits:
        lists = [source.labels[row] for row in rows]
        labels = [own[0] for own in lists] if all(len(own) == 1 for own in lists) else lists
    images = [source.images[row] for row in rows]
    write_feature_file(
        path,
        image=features.get(IMAGE, alone),
        text=features.get(TEXT, alone),
        labels=labels,
        ids=[source.ids[row] for row in rows],
        texts=[source.texts[row] for row in rows],
        image_paths=[p and files.relative_path(p, path.parent) for p in images],
        about=f"rows of {', '.join(Path(name).name for name in asked.source)} (build {mark})",
        **{f"{m}_encoder": source.encoders[m] for m in plan.sides},
        **splits,
    )


@dataclass
class Plan:
    """Which rows train, ask and are searched; row numbers of the source, ascending."""

    sides: list[Modality]  # that the source has
    splits: dict[str, Array]  # "labeled" among them, where the training uses labels
    text: str  # for people

    @classmethod
    def of(cls, source: Source, train_rows: int, seed: int) -> Plan:
        """The plan; ``ValueError``: there are not enough pairs."""
        has = {m: source.has(m) for m in MODALITIES}
        sides = [m for m in MODALITIES if has[m].any()]
        pairs = np.flatnonzero(np.logical_and.reduce([has[m] for m in sides] or [has[IMAGE]]))
        counts = {m: int(own.sum()) for m, own in has.items()}
        if len(pairs) < FEWEST:
            raise ValueError(
                f"source: {counts[IMAGE]:,} rows have a picture, {counts[TEXT]:,} a text, and "
                f"{len(pairs):,} both; one space is learned from at least {FEWEST} that have both: "
                "give texts to pictures (a column, or a .txt beside each), or leave one side out"
            )
        told = np.array([bool(labels) for labels in source.labels], bool)[pairs]
        classes = {label for row in pairs[told] for label in source.labels[row]}
        use = len(classes) > 1 and told.sum() >= FEWEST
        able = pairs[told] if use else pairs  # an evaluation needs all labels
        rng = np.random.default_rng(seed)

        def drawn(rows: Array, most: int) -> Array:
            return np.sort(rng.permutation(rows)[:most])

        given = {name: np.flatnonzero(mask) for name, mask in source.splits.items()}
        if "query" in given:
            rest = given.get("database", np.setdiff1d(pairs, given["query"]))
            train = drawn(np.intersect1d(given.get("train", rest), pairs), train_rows)
            splits, given = {"train": train}, {"database": rest, **given}
            most = {"query": MOST_QUERIES, "database": train_rows, "val": train_rows}
            for name, count in most.items():
                rows = drawn(np.intersect1d(given.get(name, []), able), count)
                splits |= {name: rows} if len(rows) else {}
        else:
            # a tenth of the pairs, but 20 if that is not a fifth; of the labelled ones a tenth at
            # most: each has a weight of its own in pair recall and mAP, and is lost to the training
            labelled = able if use else pairs[:0]
            count = min(MOST_QUERIES, max(len(pairs) // 10, min(FEW_QUERIES, len(pairs) // 5)))
            judging = drawn(labelled, min(count, max(1, len(labelled) // 10)))
            others = drawn(np.setdiff1d(pairs, labelled), count - len(judging))
            query = np.union1d(judging, others)
            train = drawn(np.setdiff1d(pairs, query), train_rows)
            splits = {"train": train, "query": query}
        splits.setdefault("database", np.intersect1d(train, able))
        if use:
            told_rows = np.intersect1d(given.get("labeled", able), able)
            splits["labeled"] = np.intersect1d(told_rows, train)
        judged = int(np.isin(splits["query"], able).sum())
        names, asked = {IMAGE: "pictures", TEXT: "texts"}, len(splits["query"])
        kind = "pairs" if len(sides) > 1 else names[sides[0]]
        told_of = f"{len(classes):,} classes" if use else "no labels"
        some = f", {judged:,} of them labelled" if judged < asked else ""
        text = (
            f"plan: train on {len(splits['train']):,} of {len(pairs):,} {kind} ({told_of}), hold "
            f"out {asked:,}{some} (seed {seed}), then index {counts[IMAGE]:,} pictures and "
            f"{counts[TEXT]:,} texts"
        )
        if len(sides) == 1:
            lacking = names[other(sides[0])]
            text += (
                f"\nnote: there are no {lacking}, so each of the {kind} is paired with itself, and "
                f"pair recall says how often it finds itself: {kind} will find {kind}, and nothing "
                f"else. Give {lacking} too to search by them"
            )
        return cls(sides, splits, text)

    @property
    def rows(self) -> Array:
        """The rows of any split."""
        return np.unique(np.concatenate([*self.splits.values()]))


def arguments_of(asked: Build) -> dict[str, Any]:
    """The options but ``out``, with absolute paths: the command is the same in any folder."""
    found = asdict(asked)
    del found["out"]
    found["source"] = [*map(os.path.abspath, asked.source)]
    for name in ("images_root", "image_encoder", "text_encoder"):
        is_named = (found[name] or "").lower() in ("efficientnet_lite0", "static_words")
        if not is_named and os.path.isdir(found[name] or ""):
            found[name] = os.path.abspath(found[name])
    return found


def digest_of(source: Source) -> str:
    """SHA-256 of what the rows are."""
    shapes = {m: list(x.shape) for m, x in source.features.items()}
    rows = [source.ids, source.texts, source.labels, source.written or source.images]
    columns = {name: (kind.__name__, values) for name, (kind, values) in source.fields.items()}
    return files.sha256(json.dumps([*rows, columns, shapes, source.files]))


def read_files(source: Source) -> list[str | None]:
    """The files that are encoded, one a row of pictures, or hold features."""
    paths = [] if IMAGE in source.features else [*source.images]
    return paths + (source.files if source.features else [])


def states_of(source: Source, kept: Sequence[str] = ()) -> list[str]:
    """Size, time and digest of each of :func:`read_files`.

    A file that has the size and time that are ``kept`` of it is not read.
    """
    paths, found = tqdm(read_files(source), "files read", delay=1, unit=""), list[str]()
    for path, before in zip_longest(paths, kept):
        found.append("")  # of a row without a picture, or one that cannot be read, as is told later
        if path is not None and os.path.isfile(path):  # a pipe would be waited for
            with suppress(OSError):
                about = os.stat(path)
                state = f"{about.st_size} {about.st_mtime_ns} "
                is_kept = str(before).startswith(state)
                found[-1] = before if is_kept else state + files.sha256(Path(path))[:16]
    return found


def bad_rows(source: Source) -> Iterator[tuple[int, Modality | None, str]]:
    """All that cannot be indexed: a row, what of it is bad (None: all), and why."""
    first: dict[str, int] = {}
    for row, name in enumerate(source.ids):
        if not name:
            yield row, None, "has no id"
        elif first.setdefault(name, row) != row:
            yield row, None, f"has the id of {source.place(first[name])}"
        elif problem := files.bad_text(name):
            # in a folder it is a file's name
            yield row, None, f"its id {problem}" if source.files else files.bad_name()
    if IMAGE not in source.features:
        for row, path in enumerate(tqdm(source.images, "pictures checked", delay=1, unit="")):
            if path is not None and (problem := picture_problem(path)):
                # a picture of a folder is all that there is of its row
                yield row, IMAGE if source.files else None, f"{path}: {problem}"
    for row, text in enumerate(source.texts):
        if text is not None and (problem := files.bad_text(text)):
            yield row, TEXT, f"its text {problem}"
        elif text and TEXT not in source.features and not any(map(str.isalnum, text)):
            yield row, TEXT, f"its text {text!r:.20} has no word"
    for modality in source.features:
        there = source.has(modality)
        for start, block in source.blocks(modality):
            bad = there[start : start + len(block)] & ~np.isfinite(block).all(axis=1)
            for row in np.flatnonzero(bad).tolist():
                yield start + row, modality, f"its {modality} features are not finite"


def in_shards(
    folder: Path,
    name: Modality,
    source: Source,
    rows: Sequence[int],
    encode: Callable[[Any], Any],
    of: str,
) -> Iterator[Encoded]:
    """What rows come to, some at a time, by their numbers; in files, so never made twice.

    ``of`` tells one way of encoding from another.
    """
    title = "pictures encoded" if name == IMAGE else "texts encoded"
    with tqdm(total=len(rows), desc=title, unit="", delay=1) as bar:
        for start in range(0, len(rows), SHARD[name]):
            some = rows[start : start + SHARD[name]]
            part = [source.items(name)[row] for row in some]
            digests = [source.states[row].split()[-1:] for row in some] if name == IMAGE else []
            which = files.sha256(of, json.dumps(part), *chain(*digests))
            path = folder / f"{name}-{which[:20]}.safetensors"
            try:
                tensors, about = files.load_tensors(path)
                values, problems = tensors.get("values"), about
            except (FileNotFoundError, files.CorruptFileError):  # of one who was killed, or damaged
                found = encode_each(encode, part, batch_size=BATCH[name])
                save_shard(path, found)
                values, problems = found.values, found.problems
            lost = {some[int(place)]: text for place, text in problems.items()}
            yield Encoded(values, [row for row in some if row not in lost], lost)
            bar.update(len(part))


def save_shard(path: Path, found: Encoded) -> None:
    """Keep what was encoded."""
    values = {} if found.values is None else {"values": found.values}
    files.save_tensors(path, values, found.problems)


def write_catalog(run: Run, source: Source, plan: Plan, model: HashModel) -> None:
    """The codes of all rows, a file a modality; one that is finished stays, with additions."""
    digest, is_finished = digest_of_model(model), run.has_catalog
    (folder := run.path / CATALOG).mkdir(exist_ok=True)
    for path in map(run.catalog_file, MODALITIES if not is_finished else ()):
        try:
            is_ours = not os.path.lexists(path) or HammingIndex.open(path).model == digest
        except (files.CorruptFileError, OSError):
            is_ours = False
        if not is_ours:
            raise FileExistsError(
                f"out: {path} is damaged, or none of this build's; remove it or move it elsewhere"
            )
    root, images = files.below_one(source.images)
    columns: dict[str, tuple[type, list[Any]]] = {
        "text": (str, source.texts),
        "image": (str, images),
        "labels": (list, source.labels),
        **source.fields,
    }
    about: dict[str, Any] = {"format": "pyg_hash.catalog", "version": 1, "images_root": root}
    about |= {"model": digest, "rows": len(source)}
    held_out = [source.ids[row] for row in plan.splits["query"]]
    for modality in MODALITIES:
        path = run.catalog_file(modality)
        if is_finished and path.is_file():
            index = run.catalog(modality)
        else:
            path.unlink(missing_ok=True)  # of one who was killed
            kinds = {name: kind for name, (kind, _) in columns.items()}
            index = HammingIndex.create(path, model.num_bits, ids=str, fields=kinds, model=digest)
            index.modality = modality
            for rows, relaxed in relaxed_codes(run, source, plan, model, modality):
                ids = [source.ids[row] for row in rows]
                kept = {name: [of[row] for row in rows] for name, (_, of) in columns.items()}
                index.add(binarize(relaxed), ids, kept, relaxed=relaxed)
            index.save()
        about[modality] = len(index)
        there = index.contains(held_out)
        known = [name for name, own in zip(held_out, there, strict=True) if own]
        about |= {"example": known[0]} if known else {}
    files.save_json(folder / ABOUT, about)


def relaxed_codes(
    run: Run, source: Source, plan: Plan, model: HashModel, modality: Modality
) -> Iterator[tuple[list[int], Any]]:
    """Rows of the source that have the modality, some at a time, and their relaxed codes."""
    if modality not in plan.sides:
        return
    coder, there = Coder(model, modality, source.encoders[modality]), source.has(modality)
    if modality in source.features:
        for start, block in source.blocks(modality):
            rows = np.flatnonzero(there[start : start + len(block)])
            if len(rows):
                yield (start + rows).tolist(), coder.relax(torch.from_numpy(block[rows]))
        return
    from pyg_hash.datasets.feature_file import StoredMatrix, open_feature_file, read_strings

    row_of = {source.ids[row]: row for row in plan.rows.tolist()}
    with open_feature_file(run.path / DATA) as file:  # of these the features are there already
        known = [row_of[name] for name in read_strings(file, "ids") or []]
        features = StoredMatrix(file, modality).read()
    yield known, coder.relax(features)
    rest = np.setdiff1d(np.flatnonzero(there), known).tolist()
    of = digest_of_model(model) + modality
    for found in in_shards(run.path / WORK, modality, source, rest, coder, of):
        for row, problem in found.problems.items():
            print(plain(f"not indexed: {modality} of {_named(source, row)}: {problem}"))
        if found.values is not None:
            yield found.kept, found.values


def tell(run: Run) -> None:
    """What there is now, one search, and how to go on."""
    folder = run.path / CATALOG
    stores = {modality: run.catalog(modality) for modality in MODALITIES}
    print(f"catalogue: {len(stores[IMAGE]):,} pictures and {len(stores[TEXT]):,} texts in {folder}")
    asks: Modality = TEXT if len(stores[TEXT]) else IMAGE
    found: Modality = other(asks) if len(stores[other(asks)]) else asks
    queries, database = stores[asks], stores[found]
    if len(queries):
        name = files.load_json(folder / ABOUT, dict).get("example")  # one that did not train
        if name is None or not queries.contains([name])[0]:
            name = queries.list(limit=1)[0]
        codes, relaxed = queries.codes([name]), queries.relaxed([name])
        near = database.search(codes, min(4, len(database)), rescore=relaxed)
        asked = queries.metadata([name])
        first = f"{asked['text'][0] or asked['image'][0] or name!r:.70}"
        print(plain(f"example: the {asks} {first} finds"))
        for distance, answer, score in zip(*(part[0].tolist() for part in near), strict=True):
            if asks != found or answer != name:
                about = database.metadata([answer])
                what = about["text"][0] or about["image"][0] or ""
                found_at = f"  score {score:5.2f}  distance {distance:2d}  "
                print(plain(f"{found_at}{answer}  {what:.60}"))
    print(f"search page: pyg-hash serve {run.path}   (http://127.0.0.1:{Serve.port})")
