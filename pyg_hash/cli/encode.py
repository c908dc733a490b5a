"""``pyg-hash encode`` and ``export``: codes and encoders as files, or codes in a store."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from pyg_hash.cli import build
from pyg_hash.cli.options import Encode, Export, UsageError
from pyg_hash.cli.output import check_out, say
from pyg_hash.cli.store import alone, lines_of, run_around
from pyg_hash.features.base import Encoded
from pyg_hash.index import CodeStore, HammingIndex
from pyg_hash.index.export import FORMATS
from pyg_hash.index.lookup import KINDS
from pyg_hash.models import HashModel
from pyg_hash.runs import ABOUT, CATALOG, Run
from pyg_hash.stores import MilvusStore, store_class
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, binarize
from pyg_hash.utils.files import atomic_path, load_json, relative_path
from pyg_hash.utils.hdf5 import new_hdf5
from pyg_hash.utils.locks import BusyError
from pyg_hash.utils.settings import field_name, find

_ROWS = 10_000  # at a time, into a collection
_PATIENCE = 60.0  # seconds, with others who change the store


def encode(asked: Encode) -> None:
    """Encode, write to a file or into a store, and sum it up."""
    raw = asked.images is not None or asked.texts is not None
    if not raw and asked.features is None:
        raise UsageError("input: give --images DIR, --texts FILE or --features FILE.h5")
    if asked.features is not None and raw:
        raise UsageError("features: give either --features or raw --images and --texts")
    kind = store_class(asked.out)
    into_store = kind is not None
    if asked.index is not None and kind is not HammingIndex:
        raise UsageError("index: is for --out NAME.store; of all stores, for NAME.store only")
    named = not into_store and not Path(asked.out).is_dir()
    if named and Path(asked.out).suffix.lower() not in (".h5", ".hdf5"):
        raise UsageError(
            f"out: {asked.out} ends with none of .h5, .hdf5 (codes in HDF5), .store, .lance, "
            ".db (stores); rename it. For .npz, .parquet, .csv, ... write NAME.store, then: "
            "pyg-hash export NAME.store --to FORMAT --out FILE"
        )
    run = Run.open(asked.run, need=("config", "model"))
    if not into_store:
        check_out(asked.out, "encode")
    if asked.features is not None:
        inputs = build.feature_rows(asked.features, asked.source)
    else:
        inputs = [] if asked.images is None else [build.pictures(asked.images)]
        inputs += [] if asked.texts is None else [build.text_lines(asked.texts)]
    if into_store and len(inputs) > 1:
        raise UsageError("out: a store is for codes of pictures or of texts; call encode for each")
    if asked.ids is not None:
        if len(inputs) > 1:
            raise UsageError("ids: are those of one kind of items; encode each kind apart")
        ids, (items,) = lines_of(asked.ids), inputs
        if len(ids) != len(items.ids):
            raise ValueError(f"ids: {asked.ids} has {len(ids)} lines for {len(items.ids)} items")
        inputs = [replace(items, ids=ids, bare=False)]
    if into_store or asked.ids is not None:
        check_unique(inputs[0])
    coders = build.coders_of(asked, run, inputs)
    there = partial(_store, asked, coders[0].model, inputs[0])
    store = there() if into_store else None
    results = []
    for items, coder in zip(inputs, coders, strict=True):
        found = coder.each(items)
        if raw and items.modality == TEXT:
            for row in found.kept:
                coder.note_unknown_words(items.values[row], f"{items.where[row]}: ")
        results.append((items, found))
    lost = sum(len(found.problems) for _, found in results)
    total = sum(len(items.ids) for items in inputs)
    if lost == total:
        first = next(iter(results[0][1].problems.values())) if total else "no items"
        raise ValueError(f"none of {total} items could be encoded; the first: {first}")
    if asked.strict and lost:
        raise ValueError(
            f"{lost} of {total} items could not be encoded; {asked.out} was not written"
        )
    digest = build.digest_of_model(coders[0].model)
    with alone(asked.out):
        if store is None:
            write_codes(asked, results, digest)
        else:
            store = to_change_now(store, there)
        for items, found in results:
            bits = "" if found.values is None else f" of {found.values.size(1)} bits"
            more = f", {len(found.problems)} skipped" if found.problems else ""
            where = asked.out
            if store is not None:
                known = _put(asked, store, items, found, digest)
                more += f", {known} replaced" if known else ""
                where += f" ({len(store)} items)"
            print(f"{items.modality}: {len(found.kept)} codes{bits}{more} -> {where}")


def _store(asked: Encode, model: HashModel, items: build.NewItems) -> CodeStore:
    """The store to put codes of items under string ids into; made if needed."""
    kind: Any = store_class(asked.out)
    about: dict[str, Any] = {"ids": str, "model": build.digest_of_model(model)}
    if asked.index is not None:
        known = {name.lower(): cls for name, cls in KINDS.items()}
        about["index"] = find(asked.index, known, "index")()
    try:
        store = build.open_store(asked.out, model, asked.force)
    except FileNotFoundError:
        try:
            store = kind.create(asked.out, model.num_bits, **about)
        except FileExistsError as error:
            if kind is HammingIndex and Path(asked.out).is_file():  # one of ours, made since
                return _store(asked, model, items)
            told = f"out: {asked.out} is there, but no store; choose another name"
            raise FileExistsError(told) from error
    else:
        if asked.index is not None:
            raise UsageError(f"index: {asked.out} is there already and keeps its own")
        if store.id_type is not str:
            raise ValueError(
                f"store: {asked.out} has {store.id_type.__name__} ids; the command line adds codes "
                "under string ids alone: choose another store, or add them from Python"
            )
    if asked.relaxed and not store.has_relaxed and (len(store) or kind is not HammingIndex):
        raise UsageError(
            f"relaxed: {asked.out} keeps codes alone; use a new NAME.store or leave out"
        )
    if isinstance(store, HammingIndex) and store.modality not in (None, items.modality):
        raise ValueError(
            f"out: {asked.out} keeps the {store.modality}s of a run, which are found and "
            f"replaced by their ids, and these are {items.modality}s; choose the other store"
        )
    if items.bare and len(store):
        raise UsageError(
            f"ids: {asked.features} has none, and its row numbers would replace those of "
            f"other files in {asked.out}, which is not empty; give --ids FILE, or features "
            "in HDF5 with ids"
        )
    return store


def _put(asked: Encode, store: CodeStore, items: build.NewItems, found: Encoded, model: str) -> int:
    """Put codes into a store, and save; how many items were there before."""
    assert found.values is not None
    names, own = [items.ids[row] for row in found.kept], found.values
    kept = _kept(asked, items, found.kept) if asked.features is None else {}
    kept = {name: values for name, values in kept.items() if store.fields.get(name) is str}
    present = store.contains(names) if kept else []
    at = [row for row, known in enumerate(present) if known]
    old = store.metadata([names[row] for row in at])
    for field, values in kept.items():  # what an item has already is its owner's
        others = []
        for row, value in zip(at, old[field], strict=True):
            others += [names[row]] * (value not in (None, values[row]))
            values[row] = values[row] if value is None else value
        if others:
            say(
                f"note: {len(others)} of {len(at)} items that were there keep their field "
                f"{field}, which is not what was encoded (first: {others[0]!r:.60}); change it "
                f"with: pyg-hash store update {asked.out} --metadata FILE"
            )
    relaxed = own if asked.relaxed or store.has_relaxed else None
    of: Any = {"model": model, "force": asked.force}
    count = store.replace(binarize(own), names, kept, relaxed=relaxed, **of)
    store.save()
    return count


def _kept(asked: Encode, items: build.NewItems, rows: list[int]) -> dict[str, list[str]]:
    """What a store with such a field keeps of raw items, in a catalogue as ``build`` does."""
    values: list[str] = [items.values[row] for row in rows]
    if items.modality == TEXT:
        return {TEXT: values}
    values = [build.printable(os.path.abspath(path)) for path in values]
    if (run := run_around(asked.out)) is not None:
        root = run.pictures_root()
        inside = [root != "" and Path(path).is_relative_to(root) for path in values]
        if not all(inside):
            say(
                f"note: {inside.count(False)} of {len(inside)} pictures lie outside of "
                f"{root or 'any folder'}, the catalogue's images_root: serve does not show them"
            )
        both = zip(values, inside, strict=True)
        values = [relative_path(path, root) if within else path for path, within in both]
    return {IMAGE: values}


def ascii_names(fields: Iterable[str]) -> dict[str, str]:
    """Names of fields in letters, digits and ``_`` of ASCII, each another."""
    called: dict[str, str] = {}
    for field in fields:
        plain = unicodedata.normalize("NFKD", field).encode("ascii", "ignore").decode()
        name = field_name(plain)[:60]
        while name in called.values():
            name += "_"
        called[field] = name
    return called


def check_unique(items: build.NewItems) -> None:
    """Raise ``ValueError`` if two items have one id: a store would keep one of them."""
    first: dict[str, int] = {}
    for row, name in enumerate(items.ids):
        if row not in items.problems and first.setdefault(name, row) != row:
            raise ValueError(
                f"ids: {name!r} is that of {items.where[first[name]]} and {items.where[row]}; ids "
                "must be unique: leave one out, or give others with --ids FILE"
            )


def write_codes(asked: Encode, results: list[tuple[build.NewItems, Encoded]], model: str) -> None:
    """Write codes and names as HDF5.

    For each modality: ``codes`` int8 ``[n, num_bits]`` and ``ids`` of the items that were encoded,
    ``relaxed`` float16 ``[n, num_bits]`` if wanted, ``lines`` (of texts: their line numbers), and
    ``skipped``, one message for each other item. The file's attribute ``model`` is its digest.
    """
    import h5py

    strings = h5py.string_dtype()
    with atomic_path(asked.out) as temporary, new_hdf5(temporary) as file:
        file.attrs["model"] = model
        for items, found in results:
            if found.values is None:
                continue
            group = file.create_group(items.modality)
            values = found.values.cpu()
            group.create_dataset("codes", data=binarize(values).numpy(), compression="gzip")
            if asked.relaxed:
                group.create_dataset("relaxed", data=values.half().numpy())
            group.create_dataset("ids", data=[items.ids[row] for row in found.kept], dtype=strings)
            if isinstance(items.values, list) and items.modality == TEXT:  # lines of a file
                group.create_dataset("lines", data=[row + 1 for row in found.kept])
            if found.problems:
                group.create_dataset("skipped", data=[*found.problems.values()], dtype=strings)


def to_change_now(store: CodeStore, again: Callable[[], CodeStore]) -> CodeStore:
    """The store as others have left it meanwhile, locked; ``BusyError``: they go on and on."""
    until, tell = time.monotonic() + _PATIENCE, cache(say)
    while isinstance(store, HammingIndex):
        try:
            store.lock()
            break
        except BusyError as error:
            if time.monotonic() > until:
                raise
            tell(f"waiting: {error}")
            store.close()
            time.sleep(0.05)
            store = again()
    return store


def export(asked: Export) -> None:
    """Write the encoders of a run, or the codes of a run or of a store."""
    if (kind := store_class(asked.run)) is not None:
        _export_store(asked, kind)
        return
    run = Run.open(asked.run, need=("config", "model"))
    endings = {"onnx": ".onnx", "milvus": ".milvus.parquet"}  # another layout's own name
    ending = endings.get(asked.to) or FORMATS[asked.to][0]
    files = {} if _is_collection(asked) else _files(asked, run, ending)
    if asked.to == "onnx":
        from pyg_hash.models.onnx import export_onnx

        model = build.load_model(run, build.settings_of(asked, run))
        for modality, path in files.items():
            if run.has_catalog and load_json(run.path / CATALOG / ABOUT).get(modality) == 0:
                continue  # built of pictures or texts alone, which trained both encoders
            export_onnx(model, path, modality)
            print(f"{modality}: features to codes of {model.num_bits} bits -> {path}")
        return
    items = None if run.has_catalog else run.items(asked.images_root)
    for modality in MODALITIES:
        with run.searched(modality, items, named=True) as store:
            if len(store):
                _write(asked, store, str(files.get(modality, asked.out)), modality)


def _export_store(asked: Export, kind: Any) -> None:
    if asked.to == "onnx":
        raise UsageError(f"to: {asked.run} is a store, which has no encoder; name a run")
    ending = FORMATS[asked.to][0]
    if asked.out is None:
        raise UsageError(f"out: name the file to write, such as codes{ending}")
    own = Path(asked.out).suffix.lower().replace(".hdf5", ".h5")
    others = {".onnx", ".store", *(end for end, _ in FORMATS.values())} - {ending}
    if own in others and not _is_collection(asked):
        raise UsageError(
            f"out: {asked.out} is the name of another format than {asked.to}; name it "
            f"{Path(asked.out).with_suffix(ending)}, or give the --to that fits"
        )
    with kind.open(asked.run) as store:
        if not _is_collection(asked):
            check_out(asked.out, asked.to)
        _write(asked, store, asked.out)


def _is_collection(asked: Export) -> bool:
    return asked.to == "milvus" and store_class(asked.out or "") is MilvusStore


def _files(asked: Export, run: Run, ending: str) -> dict[Modality, Path]:
    folder = run.path / "export" if asked.out is None else Path(asked.out)
    if folder.is_file() or folder.suffix:
        raise UsageError(f"out: {folder} is the name of a file; a run has two, name a folder")
    files = {modality: folder / f"{modality}{ending}" for modality in MODALITIES}
    for path in files.values():
        check_out(path, asked.to)
    return files


def _write(asked: Export, store: CodeStore, out: str, name: Modality | None = None) -> None:
    if _is_collection(asked):
        called = ascii_names(store.fields)
        kinds = {called[field]: kind for field, kind in store.fields.items()}
        if other := [f"{field} as {own}" for field, own in called.items() if field != own]:
            say(f"note: fields that a collection cannot name: {', '.join(other)}")
        about: Any = {"ids": store.id_type, "fields": kinds, "model": store.model}
        with MilvusStore.create(out, store.num_bits, name=name or "codes", **about) as new:
            try:
                for codes, ids in store.items(_ROWS):
                    kept = {called[f]: values for f, values in store.metadata(ids).items()}
                    new.add(torch.from_numpy(codes), ids, kept)
                new.save()
            except BaseException:
                new.client.drop_collection(new.name)  # half of it is none
                raise
    else:
        store.export(out, to=asked.to)
    how = "without" if asked.to in ("faiss", "npz", "h5") else "with"
    more = f", {how} {', '.join(store.fields)}" if store.fields else ""
    print(f"{len(store):,} codes of {store.num_bits} bits{more} -> {out}")
