"""A run folder: everything that one training leaves behind, enough to evaluate, encode and search.

=============================  ====================================================================
``config.yaml``                the settings; ``pyg-hash train --config`` repeats the run with them
``checkpoint.safetensors``     the state of the training, for ``--resume``
``model/``                     the trained model (:meth:`HashModel.save`)
``history.csv``                the losses of every epoch (also ``history.json``)
``record.json``                digests of what belongs together: data, model, encoders, items
``rows.safetensors``           prints of the rows that it was trained on, and their splits
``items.json``                 ids, texts, picture paths and labels of the instances, in row order
``encoders/image``, ``/text``  encoders of new raw items, where the data set has them
``index_image.safetensors``    codes of the database pictures (ids are row numbers of the items)
``index_text.safetensors``     codes of the database texts
``catalog/``                   codes of the whole source of ``pyg-hash build``: ``image.store``,
                               ``text.store`` and ``about.json``
``data.h5``, ``build.json``    the features and the settings of ``pyg-hash build``
``metrics.json``               the evaluation, with protocol and definition
=============================  ====================================================================
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from pyg_hash import __version__
from pyg_hash.features import load_encoder
from pyg_hash.index import HammingIndex
from pyg_hash.typing import Modality, PathLike, other
from pyg_hash.utils import files
from pyg_hash.utils.checks import check_flags, check_mapping
from pyg_hash.utils.checksums import CorruptFileError, UncheckedWarning
from pyg_hash.utils.digests import digest_of
from pyg_hash.utils.locks import Lock, replace_folder
from pyg_hash.utils.settings import SettingError, check_yaml

PARTS: dict[str, str] = {
    "config": "config.yaml",
    "model": "model/config.json",
    "items": "items.json",
    "index_image": "index_image.safetensors",
    "index_text": "index_text.safetensors",
    "metrics": "metrics.json",
}
"""Name of a part -> the file that shows that it is there. Encoders are optional."""
CHECKPOINT = "checkpoint.safetensors"  # the state of the training; it shows that a run was started
CATALOG, ABOUT = "catalog", "about.json"  # codes of all items of a build's source
BUILD, DATA = "build.json", "data.h5"  # what a build was told, and the features that it trained on
RECORD, ROWS = "record.json", "rows.safetensors"
HISTORY = "history.json"
_HEAD = "# repeat this run: pyg-hash train"
FORMAT, VERSION = "pyg_hash.run", 1
_OWN = (PARTS["config"], RECORD), (BUILD, DATA)  # of any training, or of a build that began
NAME = "item"  # the field of :meth:`Run.searched` that holds an item's id in the data set


class IncompleteRunError(FileNotFoundError):
    """A run folder lacks files that were asked for."""


@dataclass(frozen=True)
class RunItems:
    """What is known of the instances of a run; row ``i`` of every list is instance ``i``."""

    ids: list[str]  #: the data set's names
    texts: list[str | None]  #: None where there are features only
    image_paths: list[str | None]  #: the same
    labels: list[list[str]]  #: names of classes

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in vars(self).items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"items: the lists have different lengths: {sizes}")

    def __len__(self) -> int:
        return len(self.ids)

    def lacks(self) -> list[str]:
        """What the run has not kept of its items, for people."""
        kinds = {"picture files": self.image_paths, "raw texts": self.texts}
        words = "This run came without {}: cards show names instead."
        return [words.format(kind) for kind, values in kinds.items() if not any(values)]


@dataclass(frozen=True)
class Run:
    """One run folder.

    What reads a file of it raises :class:`CorruptFileError <pyg_hash.utils.files.CorruptFileError>`
    if the file is damaged or of a later version, ``FileNotFoundError`` if it is gone, and
    ``ValueError`` if it is that of another run, or of another model than the run's.
    """

    path: Path

    @classmethod
    def create(cls, path: PathLike, config: Mapping[str, Any], *, resume: bool = False) -> Run:
        """Make a run folder and write its settings into it, before any work is done.

        Raises:
            FileExistsError: there is a run in the folder and ``resume`` is False; or files that are
                no run's and would be replaced.
            OSError: the folder cannot be written, or a file of it is a link out of it.
            ValueError: ``resume``, but the settings differ from those of the run.
        """
        files.check_path(path)
        check_mapping(config, "config")
        check_flags(resume=resume)
        run = cls(Path(path))
        computed = [CHECKPOINT, *(PARTS[part] for part in {*PARTS} - {"config", "items"})]
        if any((run.path / file).is_file() for file in computed):
            if not run.has("config"):
                raise FileExistsError(
                    f"out: {path} holds parts of a run without {PARTS['config']}, so its settings "
                    "are unknown; put that file back or choose another folder"
                )
            if not resume:
                raise FileExistsError(
                    f"out: {path} holds a run already; go on with --resume or choose another folder"
                )
            there = run.config()
            changed = sorted(k for k in {*there, *config} if there.get(k) != config.get(k))
            if changed:
                listed = ", ".join(f"{k} ({there.get(k)!r} there)" for k in changed)
                raise ValueError(f"resume: {path} was started with other settings: {listed}")
        elif theirs := run.strangers():
            raise FileExistsError(
                f"out: {path} holds {', '.join(theirs)}, which may be somebody else's and a run "
                "would replace; remove them or choose another folder"
            )
        run.check_links(*PARTS.values(), CHECKPOINT, RECORD, ROWS, HISTORY, "history.csv")
        text = f"{_HEAD} --config config.yaml --out ANOTHER_FOLDER\n"
        text += yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        try:
            with files.atomic_path(run.file("config")) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise type(error)(f"out: cannot write to {path}: {error.strerror}") from error
        if not resume:  # left by one that was stopped before it began
            shutil.rmtree(run.path / "encoders", ignore_errors=True)
            for name in (RECORD, ROWS, PARTS["items"]):
                (run.path / name).unlink(missing_ok=True)
        return run

    @classmethod
    def open(cls, path: PathLike, need: Iterable[str] = ("config", "model", "items")) -> Run:
        """Open a run folder with some ``PARTS``; ``IncompleteRunError`` lists what it lacks."""
        files.check_path(path)
        run = cls(Path(path))
        if not run.path.is_dir():
            raise IncompleteRunError(f"run: {path} is no folder; give one that training wrote")
        need, command = {part: PARTS[part] for part in need}, run.build_command()
        lacking = [file for part, file in need.items() if not run.has(part)]
        if command and not run.has_catalog and {"index_image", "index_text"} & {*need}:
            lacking.append(f"{CATALOG}/{ABOUT}")  # the index files are of a part of the source
        if lacking:
            remedy = "give a folder that pyg-hash train wrote"
            if command or run.has("config"):
                command = command or f"pyg-hash train --out {path} --resume"
                remedy = f"finish it with: {command}"
            raise IncompleteRunError(
                f"run: {path} is incomplete, it lacks {', '.join(lacking)}; {remedy}"
            )
        return run

    def build_command(self) -> str | None:
        """The command that goes on with a run of ``pyg-hash build``; None: it is none."""
        path = self.path / BUILD
        if not path.is_file():
            return None
        try:
            told = dict(files.load_json(path, dict)["arguments"])
            words = ["pyg-hash", "build", *told.pop("source"), "--out", os.path.abspath(self.path)]
            for name, value in told.items():
                if value not in (None, False):
                    words.append(f"--{name}" if value is True else f"--{name}={value}")
            return shlex.join(words)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: not what pyg-hash build writes") from error

    def file(self, part: str) -> Path:
        """The file of one part."""
        return self.path / PARTS[part]

    def strangers(self) -> list[str]:
        """What lies where a new run writes, and is nothing that a stopped one left."""
        mine = [PARTS["config"], PARTS["items"], RECORD, ROWS, HISTORY, "history.csv", "encoders"]
        marks = (self.file("config"), _HEAD), (self.path / RECORD, FORMAT)
        begun = any(file.is_file() and mark.encode() in file.read_bytes() for file, mark in marks)
        names = {*PARTS.values(), "model", *mine}.difference(mine if begun else ())
        return sorted(name for name in names if os.path.lexists(self.path / name))

    def check_place(self) -> None:
        """Raise ``SettingError`` if the folder is inside that of another run."""
        for above in self.path.resolve().parents:
            if any(all((above / file).is_file() for file in own) for own in _OWN):
                raise SettingError(
                    f"out: {self.path} is inside the run {above}; choose another place"
                )

    def check_links(self, *names: str) -> None:
        """Raise ``PermissionError`` if a file that is to be written is a link out of the folder.

        Whoever made the run, and handed it over, chose where that leads.
        """
        for path in (self.path / name for name in names):
            real, own = Path(os.path.realpath(path)), os.path.realpath(self.path)
            if path.is_symlink() and not real.is_relative_to(own):
                why = f"{path} is a link out of the run, to {real}; remove it, or put a file there"
                raise PermissionError(errno.EACCES, why)

    def lock(self, *, make: bool = True, wait_s: float = 0.0) -> Lock:
        """The right to change the folder, which is made unless ``make`` is false.

        ``BusyError``: another process has the right, and keeps it for ``wait_s`` seconds;
        ``FileNotFoundError``: there is no such folder.
        """
        try:
            if make:
                self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(f"out: cannot write to {self.path}: {error.strerror}") from error
        lock = Lock(self.path / ".lock", f"run: {self.path}", wait_s)
        if not self.path.is_dir():
            raise FileNotFoundError(f"run: {self.path} was moved or removed meanwhile")
        return lock

    def has(self, part: str) -> bool:
        """Whether one part is there."""
        return self.file(part).is_file()

    def config(self) -> dict[str, Any]:
        """The settings of the run."""
        path = self.file("config")
        try:
            check_yaml(text := files.read_text(path))
            value = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise CorruptFileError(f"{path}: not valid YAML ({error})") from error
        if not isinstance(value, dict):
            raise CorruptFileError(f"{path}: expected settings as a mapping, got {value!r}")
        self.check("settings", _digest_of_settings(value), f"config: {path}")
        if (self.path / BUILD).is_file():  # its data lie in it, wherever it was moved
            value["dataset"] = str(self.path / DATA)
        return value

    def record(self) -> dict[str, Any]:
        """Digests of what belongs to the run; empty as long as nothing is noted."""
        path = self.path / RECORD
        if not path.is_file():
            return {}
        value: dict[str, Any] = files.load_json(path, dict)
        of = value.get("metrics", {})
        of = [of, *of.values()] if isinstance(of, dict) else [of]
        if value.get("format") != FORMAT or not all(isinstance(x, dict) for x in of):
            raise CorruptFileError(f"{path}: not the record of a run")
        if value.get("version") != VERSION:
            raise CorruptFileError(
                f"{path}: has version {value.get('version')!r}, this pyg_hash reads {VERSION}; "
                "upgrade pyg_hash"
            )
        return value

    def note(self, **digests: Any) -> None:
        """Add digests to the record."""
        head = {"format": FORMAT, "version": VERSION, "pyg_hash": __version__}
        files.save_json(self.path / RECORD, {**head, **self.record(), **digests})

    def check(self, part: str, digest: str, what: str) -> None:
        """Raise ``ValueError`` if a part is not the one that the record names, where it does."""
        known = self.record().get(part)
        if known not in (None, digest):
            raise ValueError(
                f"{what}: is not the {part} of the run {self.path} ({digest[:12]}, not "
                f"{known[:12]}); put back what belongs there, or train again into another folder"
            )

    def keep_rows(self, rows: Mapping[str, Tensor]) -> None:
        """Keep ``utils.provenance.data_rows``, and whose they are."""
        files.save_tensors(self.path / ROWS, rows)
        self.note(data=digest_of(rows), settings=_digest_of_settings(self.config()))

    def rows(self) -> dict[str, Tensor] | None:
        """What :meth:`keep_rows` kept; None: it has not yet."""
        path = self.path / ROWS
        if path.is_file():
            rows = files.load_tensors(path)[0]
            self.check("data", digest_of(rows), f"rows: {path}")
            return rows
        if "data" in self.record():
            raise ValueError(
                f"rows: {path} is gone, so nothing tells whether data are those of the training; "
                "put it back, or train again"
            )
        return None

    def save_items(self, items: RunItems) -> None:
        """Write ``items.json``; pictures below one folder are kept relative to it."""
        value = {**asdict(items), "images_root": None}
        if all(os.path.isabs(path) for path in items.image_paths if path is not None):
            value["images_root"], value["image_paths"] = files.below_one(items.image_paths)
        files.save_json(self.file("items"), value)
        self.note(items=files.sha256(self.file("items")))

    def items(self, images_root: PathLike | None = None) -> RunItems:
        """Read ``items.json``; ``images_root`` is the folder of the pictures, if they have moved.

        ``NotADirectoryError``: it is none.
        """
        files.check_folder(images_root, "images_root")
        value = files.load_json(self.file("items"), dict)
        self.check("items", files.sha256(self.file("items")), f"items: {self.file('items')}")
        try:
            root = value.pop("images_root", None)
            root = root if images_root is None else os.path.abspath(images_root)
            if root is not None:
                value["image_paths"] = [p and os.path.join(root, p) for p in value["image_paths"]]
            return RunItems(**value)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{self.file('items')}: not written by this version") from error

    def keep_history(self, history: Any) -> None:
        """Write the losses of every epoch."""
        history.to_csv(self.path / "history.csv")
        history.to_json(self.path / HISTORY)
        self.note(history=files.sha256(self.path / HISTORY))

    def history(self) -> Any:
        """What :meth:`keep_history` kept; empty for a model without epochs."""
        path = self.path / HISTORY
        if not path.is_file():
            return ()
        self.check("history", files.sha256(path), f"history: {path}")
        rows = files.load_json(path, list)
        if not all(isinstance(row, dict) for row in rows):
            raise CorruptFileError(f"{path}: not the history of a training")
        return rows

    def metrics(self) -> dict[str, Any]:
        """The evaluations by name, as :meth:`add_metrics` kept them; empty: there are none."""
        both = self.file("metrics"), self.path / RECORD

        def state() -> list[Any]:
            return [path.is_file() and path.stat().st_mtime_ns for path in both]

        while True:
            before = state()
            try:
                return self._metrics()
            except ValueError:  # or one is written by now, and the other is not
                time.sleep(0.1)
                if state() == before:
                    raise

    def _metrics(self) -> dict[str, Any]:
        path, known = self.file("metrics"), self.record().get("metrics", {})
        stored: dict[str, Any] = files.load_json(path, dict) if path.is_file() else {}
        for name, values in stored.items():
            if known.get(name, {}).get("values", of := digest_of({}, values)) != of:
                raise ValueError(
                    f"metrics: {path} holds another {name!r} than the run {self.path} was "
                    f"evaluated to; make it again with: pyg-hash evaluate {self.path}"
                )
        return stored

    def add_metrics(self, name: str, values: dict[str, Any], **of: str) -> None:
        """Keep one evaluation in ``metrics.json``, and what it is ``of`` in the record.

        A file that is damaged, or that of another run, is set aside, with a warning.
        ``PermissionError``: it is a link out of the run.
        """
        self.check_links(PARTS["metrics"], RECORD)
        try:
            stored = self.metrics()
        except ValueError as error:  # numbers can be computed again
            aside = self.file("metrics").with_suffix(".damaged")
            os.replace(self.file("metrics"), aside)
            warnings.warn(f"{error}; it is {aside.name} now", UncheckedWarning, stacklevel=2)
            stored = {}
        files.save_json(self.file("metrics"), {**stored, name: values})
        about = {**of, "values": digest_of({}, values)}
        self.note(metrics={**self.record().get("metrics", {}), name: about})

    def save_folder(self, name: str, save: Callable[[Path], Any]) -> None:
        """Let ``save`` write a subfolder; it appears whole or not at all."""
        target, temporary = self.path / name, self.path / f".{name.replace('/', '-')}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save(temporary)
        replace_folder(temporary, target)

    def encoder(self, modality: Modality) -> Any:
        """The encoder of new raw items of a modality; ``IncompleteRunError`` says why none is."""
        folder = self.path / "encoders" / modality
        if not folder.is_dir():
            why, remedy = self.why_no_encoder(modality)
            raise IncompleteRunError(
                f"{modality}: run {self.path} has no {modality} encoder, for {why}; {remedy}"
            )
        self.check_encoder(modality)
        return load_encoder(folder)

    def check_encoder(self, modality: Modality) -> None:
        """Raise ``ValueError`` if the encoder of a modality is not the one of the record."""
        folder = self.path / "encoders" / modality
        self.check(f"{modality}_encoder", files.digest_of_folder(folder), f"encoder: {folder}")

    def why_no_encoder(self, modality: Modality) -> tuple[str, str]:
        """Why there is no encoder of a modality, as a clause, and what to do."""
        about = self.path / CATALOG / ABOUT
        if about.is_file() and files.load_json(about, dict).get(modality) == 0:
            names = {"image": "pictures", "text": "texts"}
            why = f"it was built of {names[other(modality)]} alone, without {names[modality]}"
            return why, "build it again with these too to search by them"
        remedy = f"give --features FILE of the same kind, or --{modality}_encoder MODULE:FUNCTION"
        return "its data set came as features", remedy

    @property
    def has_catalog(self) -> bool:
        """Whether ``pyg-hash build`` made a catalogue of the whole source, which is searched."""
        return (self.path / CATALOG / ABOUT).is_file()

    def catalog_file(self, modality: Modality) -> Path:
        """The file of one modality in the catalogue."""
        return self.path / CATALOG / f"{modality}.store"

    def catalog(self, modality: Modality) -> HammingIndex:
        """The catalogue of one modality, with fields ``text``, ``image``, ``labels`` and more."""
        path = self.catalog_file(modality)
        if not path.is_file():
            raise IncompleteRunError(
                f"catalogue: {path} is gone; make it again with: {self.build_command()}"
            )
        store = HammingIndex.open(path)
        self.check("model", store.model or "", f"catalogue: {path}")
        return self._own(store, modality, f"catalogue: {path}")

    def pictures_root(self, images_root: PathLike | None = None) -> str:
        """The folder that the pictures of the catalogue, or run, are below, where it is not given.

        ``NotADirectoryError``: the one that is given is none.
        """
        files.check_folder(images_root, "images_root")
        path = self.path / CATALOG / ABOUT if self.has_catalog else self.file("items")
        about = files.load_json(path, dict)
        if self.has_catalog:
            self.check("model", str(about.get("model", "")), f"catalogue: {path}")
        return str(images_root or about.get("images_root") or "")

    def index_file(self, modality: Modality) -> Path:
        """The index file of one modality."""
        return self.file(f"index_{modality}")

    def index(self, modality: Modality) -> HammingIndex:
        """The Hamming index of the database items of one modality."""
        path = self.index_file(modality)
        return self._own(HammingIndex.load(path), modality, f"index: {path}")

    def _own(self, index: HammingIndex, modality: Modality, what: str) -> HammingIndex:
        if index.model is not None:
            self.check("model", index.model, what)
        if index.modality not in (None, modality):
            raise ValueError(
                f"{what}: holds codes of the other modality, {index.modality}; put back the file "
                "that belongs there"
            )
        return index

    def searched(
        self, modality: Modality, items: RunItems | None = None, *, named: bool = False
    ) -> HammingIndex:
        """The catalogue, else :meth:`index` with fields, in memory (``with_fields``).

        ``items`` are those of the run, if they are read already; ``named``: always under their ids.
        """
        if self.has_catalog:
            return self.catalog(modality)
        Run.open(self.path, need=[f"index_{modality}"])
        items = self.items() if items is None else items
        return with_fields(self.index(modality), items, self.index_file(modality), named=named)


def picture_file(image: str, root: str, added: Path) -> str:
    """Where a picture of a catalogue lies: below ``root``, or, if it was uploaded, in ``added``.

    An uploaded one is known by its name, ``added/`` and a digest, whatever folder stands before.
    """
    uploaded = re.fullmatch(r"(?:.*[/\\])?added[/\\]([0-9a-f]{32}\.jpg)", image)
    if uploaded and (added / uploaded[1]).is_file():
        return str(added / uploaded[1])
    return os.path.join(root, image)


def with_fields(
    index: HammingIndex, items: RunItems, path: object = "index", *, named: bool = False
) -> HammingIndex:
    """An index of row numbers, in memory, with what is known of the items beside the codes.

    The fields are ``item`` (the id in the data set, which filters know as ``id`` too), ``text``,
    ``image`` and ``labels``; or, if ``named``, the ids are the items', and there is no field for
    them. ``CorruptFileError``, which names ``path``: it has rows that the items have not.
    """
    rows = index.list(limit=len(index)).tolist()
    if not rows or rows[0] < 0 or rows[-1] >= len(items):
        raise CorruptFileError(
            f"{path}: does not fit the {len(items)} items of the run; train it again"
        )
    texts = (NAME, items.ids), ("text", items.texts), ("image", items.image_paths)
    known: dict[str, Any] = {name: [_storable(of[row]) for row in rows] for name, of in texts}
    known["labels"] = [[_storable(label) for label in items.labels[row]] for row in rows]
    ids: list[Any] = known.pop(NAME) if named else rows
    fields = {name: list if name == "labels" else str for name in known}
    found = HammingIndex(
        index.num_bits, ids=str if named else int, fields=fields, model=index.model
    )
    if not named:
        found.id_field = NAME
    relaxed = index.relaxed(rows) if index.has_relaxed else None
    found.add(index.codes(rows), ids, known, relaxed=relaxed)
    return found


def _storable(text: str | None) -> str | None:
    """A text, with signs in place of what an index does not keep."""
    return text and text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _digest_of_settings(settings: Mapping[str, Any]) -> str:
    """A digest of all but where the data lie, which a person may change when they have moved."""
    own = {k: v for k, v in settings.items() if k not in ("dataset", "root") and v is not None}
    return digest_of({}, own)


__all__ = ["Run"]
