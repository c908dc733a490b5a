"""``pyg-hash export``: encoders and codes as files that other programs read."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyg_hash.cli.build import PictureCommand, load_model
from pyg_hash.cli.options import UsageError, check_out, option
from pyg_hash.runs import Run
from pyg_hash.typing import MODALITIES, Modality

if TYPE_CHECKING:
    from pyg_hash.stores import CodeStore

_ROWS = 10_000  # at a time, into a collection


@dataclass(frozen=True, kw_only=True)
class Export(PictureCommand):
    """Write the encoders of a run, or the codes of a run or of a store."""

    run: str = option(MISSING, "a run folder, or a store: NAME.store, NAME.lance, ...", ["run"])
    to: Literal["onnx", "faiss", "parquet", "npz", "csv", "h5", "pgvector", "milvus"] = option(
        MISSING,
        "onnx: a run's encoders, from features to codes; faiss: for read_index_binary; pgvector: "
        "SQL; milvus: Parquet for its bulk insert, or with an address for --out a new collection; "
        "the others: plain files",
    )
    out: str | None = option(
        None,
        "the folder of a run's two files (default: RUN/export), the file of a store's; of milvus "
        "also NAME.db or http://HOST:PORT",
    )

    def execute(self) -> int:
        """Write, and say what."""
        from pyg_hash.stores import store_class
        from pyg_hash.stores.export import FORMATS

        kind = store_class(self.run)
        if self.to == "onnx":
            if kind is not None:
                raise UsageError(f"to: {self.run} is a store, which has no encoder; name a run")
            self._encoders(Run.open(self.run, need=("config", "model")))
            return 0
        ending = FORMATS[self.to][0]
        if kind is not None:
            if self.out is None:
                raise UsageError(f"out: name the file to write, such as codes{ending}")
            with kind.open(self.run) as store:
                self._codes(store, self.out)
            return 0
        run = Run.open(self.run, need=("config", "model"))
        items = None if run.has_catalog else run.items(self.images_root)
        for modality in MODALITIES:
            out = self.out if self._is_collection() else self._folder(run) / f"{modality}{ending}"
            with run.searched(modality, items, named=True) as store:
                if len(store):
                    self._codes(store, str(out), modality)
        return 0

    def _is_collection(self) -> bool:
        from pyg_hash.stores import MilvusStore, store_class

        return self.to == "milvus" and store_class(self.out or "") is MilvusStore

    def _folder(self, run: Run) -> Path:
        folder = run.path / "export" if self.out is None else Path(self.out)
        if folder.is_file() or folder.suffix:
            raise UsageError(f"out: {folder} is the name of a file; a run has two, name a folder")
        check_out(folder / "image")
        return folder

    def _encoders(self, run: Run) -> None:
        from pyg_hash.models.onnx import export_onnx

        folder = self._folder(run)
        model = load_model(run, self.settings(run))
        for modality in MODALITIES:
            path = folder / f"{modality}.onnx"
            export_onnx(model, path, modality)
            print(f"{modality}: features to codes of {model.num_bits} bits -> {path}")

    def _codes(self, store: CodeStore, out: str, name: Modality | None = None) -> None:
        if self._is_collection():
            self._insert(store, out, name or "codes")
        else:
            check_out(out)
            store.export(out, to=self.to)
        kept = "without" if self.to in ("faiss", "npz", "h5") else "with"
        more = f", {kept} {', '.join(store.fields)}" if store.fields else ""
        print(f"{len(store):,} codes of {store.num_bits} bits{more} -> {out}")

    def _insert(self, store: CodeStore, address: str, name: str) -> None:
        import torch

        from pyg_hash.stores import MilvusStore

        about: Any = {"ids": store.id_type, "fields": store.fields, "model": store.model}
        with MilvusStore.create(address, store.num_bits, name=name, **about) as new:
            for codes, ids in store.items(_ROWS):
                new.add(torch.from_numpy(codes), ids, store.metadata(ids) if store.fields else None)
            new.save()
