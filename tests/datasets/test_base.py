import errno
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.transforms import BaseTransform, Compose, NormalizeFeatures

from pyg_hash.datasets import CrossModalDataset, Items, build_hetero
from pyg_hash.datasets.base import keeps_rows
from pyg_hash.features import BagOfWords
from pyg_hash.transforms import IntraKNN, ScaleFeatures
from pyg_hash.utils import checksums, files
from pyg_hash.utils.checksums import UncheckedWarning
from pyg_hash.utils.files import CorruptFileError

built = []


class Tiny(CrossModalDataset):
    """Four rows; remembers how often it was built."""

    def __init__(self, root, scale=1.0, **kwargs):
        self.scale = scale
        super().__init__(root, **kwargs)

    def settings(self):
        return {"scale": self.scale}

    def build(self):
        built.append(self.scale)
        x = torch.arange(8.0).view(4, 2) * self.scale
        return build_hetero(
            x, x + 1, y=torch.tensor([0, 1, 0, 1]), train=torch.arange(3), query=torch.tensor([3])
        )

    def read_items(self):
        return Items(list("abcd"), ["x", "y"], [None] * 4, list("ABCD"))


class Shift(BaseTransform):
    def __init__(self, by, in_place=False):
        self.by, self.in_place = by, in_place

    def forward(self, data):
        data.graph = {"by": self.by}
        if self.in_place:
            data["image"].x += self.by
        else:
            data["image"].x = data["image"].x + self.by
        return data

    def __repr__(self):
        return f"Shift({self.by}, {self.in_place})"


@pytest.fixture(autouse=True)
def _forget():
    built.clear()


def test_built_once_then_read(tmp_path):
    first, second = Tiny(tmp_path), Tiny(tmp_path)
    assert built == [1.0]
    assert torch.equal(first[0]["text"].x, second[0]["text"].x)
    assert len(second) == 1 and second.num_classes == 2


def test_nothing_is_pickled(tmp_path):
    Tiny(tmp_path, pre_transform=Shift(1))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and {path.name for path in files} == {"data.safetensors"}


def test_pre_transforms_live_side_by_side(tmp_path):
    one, two = (Tiny(tmp_path, pre_transform=Shift(by)) for by in (1, 2))
    plain = Tiny(tmp_path)
    assert built == [1.0]  # the raw part is shared
    for _ in range(2):  # the second time from the files
        assert one[0]["image"].x[0, 0] == 1 and one[0].graph == {"by": 1}
        assert two[0]["image"].x[0, 0] == 2
        assert plain[0]["image"].x[0, 0] == 0 and "graph" not in plain[0]
        one, two = (Tiny(tmp_path, pre_transform=Shift(by)) for by in (1, 2))
        plain = Tiny(tmp_path)
    assert built == [1.0]


def test_in_place_pre_transform_does_not_touch_the_stored_base(tmp_path):
    Tiny(tmp_path, pre_transform=Shift(5, in_place=True))
    assert Tiny(tmp_path, pre_transform=Shift(5, in_place=True))[0]["image"].x[0, 0] == 5
    assert Tiny(tmp_path)[0]["image"].x[0, 0] == 0


def test_arguments_live_side_by_side(tmp_path):
    assert Tiny(tmp_path, scale=2.0)[0]["image"].x[0, 1] == 2
    assert Tiny(tmp_path, scale=3.0)[0]["image"].x[0, 1] == 3
    assert Tiny(tmp_path, scale=2.0)[0]["image"].x[0, 1] == 2
    assert built == [2.0, 3.0]


def test_transform_runs_at_every_access(tmp_path):
    dataset = Tiny(tmp_path, transform=Shift(1))
    assert dataset[0]["image"].x[0, 0] == 1 and dataset[0]["image"].x[0, 0] == 1


def test_force_reload(tmp_path):
    Tiny(tmp_path)
    Tiny(tmp_path, force_reload=True)
    Tiny(tmp_path, pre_transform=Shift(1), force_reload=True)
    assert built == [1.0, 1.0, 1.0]


def test_lambda_cannot_be_a_stored_pre_transform(tmp_path):
    with pytest.raises(ValueError, match="pre_transform: .*memory address"):
        Tiny(tmp_path, pre_transform=lambda data: data)


class Drop(BaseTransform):
    """Says nothing of its argument in its ``repr``."""

    def __init__(self, n):
        self.n = n

    def forward(self, data):
        data["image"].x = data["image"].x[:, : self.n]
        return data


@pytest.mark.parametrize("make", [Drop, lambda n: Compose([Drop(n)]), lambda n: Compose([Both(n)])])
def test_a_stored_pre_transform_is_known_by_its_attributes_too(tmp_path, make):
    for n in (1, 2, 1):
        assert Tiny(tmp_path, pre_transform=make(n))[0]["image"].x.shape[1] == n


class Both(BaseTransform):
    def __init__(self, n):
        self.first, self.values = Drop(n), torch.ones(n)

    def forward(self, data):
        return self.first(data)


def test_transforms_of_others_are_told_apart(tmp_path):
    made = [NormalizeFeatures(["a"]), NormalizeFeatures(["b"])]  # have one repr
    folders = {Tiny(tmp_path, pre_transform=x).processed_dir for x in made}
    assert len(folders) == 2
    with pytest.raises(ValueError, match="memory address"):
        Tiny(tmp_path, pre_transform=Drop(lambda: 1))
    cyclic = []
    cyclic.append(cyclic)
    for odd in (np.array(["a"]), {1: 2, "x": 3}, cyclic):
        with pytest.raises(ValueError, match=r"pre_transform: Drop\(\) has attributes that cannot"):
            Tiny(tmp_path, pre_transform=Drop(odd))
    told = Tiny(None, pre_transform=Nothing({"ab", "cd", "ef"}))._described
    assert -1 < told.find("ab") < told.find("cd") < told.find("ef")


@pytest.mark.parametrize("inside", [False, True])
def test_a_transform_whose_code_changed_is_run_again(tmp_path, monkeypatch, inside):
    def made(folder, body):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "from torch_geometric.transforms import BaseTransform\n"
            "class Base(BaseTransform):\n"
            f"    def forward(self, data):\n        data.told = {body}\n        return data\n"
            "class Mine(Base):\n    pass\n"
        )
        spec = importlib.util.spec_from_file_location("mine", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return Holds(module.Mine()) if inside else module.Mine()

    for folder, body in (("a", 1), ("a", 22), ("b", 3), ("b", 3), ("a", 1)):
        assert Tiny(tmp_path / "root", pre_transform=made(folder, body))[0].told == body
    assert len(list((tmp_path / "root/processed").iterdir())) == 1 + 3  # and the base


def test_a_data_set_whose_code_changed_is_built_again(tmp_path, monkeypatch):
    def made(name, comment):
        path = tmp_path / f"{name}.py"
        path.write_text(
            f"class Mine(Tiny):\n    def build(self):  {comment}\n        return {{}}\n"
        )
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        module.Tiny = Tiny
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module.Mine

    kinds = [made(name, comment) for name, comment in (("a", "# 1"), ("b", "# 1"), ("c", "# 2"))]
    monkeypatch.setattr(Tiny, "_load_or_build", lambda self: None)
    first, same, other = (kind(tmp_path).processed_dir for kind in kinds)
    assert first == same != other


class Holds(BaseTransform):
    def __init__(self, inner):
        self.inner = inner

    def forward(self, data):
        return self.inner(data)


def test_features_that_new_items_will_not_have_are_said(tmp_path):
    class Doubled(BaseTransform):
        def forward(self, data):
            data["text"].x = 2 * data["text"].x
            return data

    scale = ScaleFeatures()
    for transform in (scale, Compose([scale, IntraKNN(2, "l2")]), None):
        assert "oddities" not in Tiny(tmp_path, pre_transform=transform)[0]
    for transform in (Doubled(), Compose([scale, Doubled()])):
        for _ in range(2):  # and from its file
            (line,) = Tiny(tmp_path, pre_transform=transform)[0].oddities
            assert line.startswith("text: pre_transform changes x by more than ScaleFeatures keeps")


def test_other_rows_are_no_changed_features(tmp_path):
    class Rows(BaseTransform):
        def __init__(self, rows):
            self.rows = rows

        def forward(self, data):
            for store in data.node_stores:
                for key, x in list(store.items()):
                    store[key] = x[self.rows]
            return data

    class Gone(BaseTransform):
        def forward(self, data):
            del data["image"].x
            data["text"].x = data["text"].x.to_sparse()
            return data

    for transform in (Rows([3, 1, 0, 2]), Rows([1, 2]), Gone()):
        assert "oddities" not in Tiny(None, pre_transform=transform)[0]
    data = Tiny(None, pre_transform=Compose([Rows([3, 1, 0, 2]), Shift(1, in_place=True)]))[0]
    assert [line[:6] for line in data.oddities] == ["image:"]


class Nothing(BaseTransform):
    def __init__(self, values):
        self.values = values

    def forward(self, data):
        return data


class Moved(BaseTransform):
    def __init__(self, rows, noise=0.0):
        self.rows, self.noise = rows, noise

    def forward(self, data):
        for m in ("image", "text"):
            for name, value in [*data[m].items()]:
                data[m][name] = value[self.rows]
            data[m].x = data[m].x + self.noise
        return data


def test_moved_rows_are_seen(tmp_path):
    for steps, kept in (
        ([Moved([3, 2, 1, 0])], False),
        ([ScaleFeatures(), Moved([0, 2, 1, 3])], False),
        ([Moved([0, 1, 3])], False),
        ([ScaleFeatures()], True),
        ([Moved([0, 1, 2, 3], noise=0.1)], True),
        ([Moved([0, 0, 2, 3])], True),  # features of another row, as a transform may fill them in
    ):
        for _ in range(2):  # the second time from the files
            dataset = Tiny(tmp_path, pre_transform=Compose(steps))
            assert keeps_rows(dataset, dataset[0]) == kept, steps


def test_items_are_one_a_row(tmp_path):
    for items, name in (
        (Items(list("abc"), ["x", "y"]), "ids has 3"),
        (Items(list("abcd"), ["x", "y"], texts=["t"]), "texts has 1"),
    ):
        dataset = Tiny(tmp_path)
        dataset.read_items = lambda items=items: items
        with pytest.raises(ValueError, match=f"Tiny.read_items: {name} entries, the data have 4"):
            _ = dataset.class_names
    for rows in ([0, 1, 2], [0, 1, 2, 3]):  # left out by a transform
        assert Tiny(tmp_path, pre_transform=Moved(rows)).ids == list("abcd")


def test_items(tmp_path):
    dataset = Tiny(tmp_path)
    assert dataset.ids == list("abcd") and dataset.texts == list("ABCD")
    assert dataset.class_names == ["x", "y"] and dataset.image_paths == [None] * 4


def test_no_encoder_is_a_clear_error(tmp_path):
    dataset = Tiny(tmp_path)
    with pytest.raises(ValueError, match="Tiny: its image features came ready-made"):
        dataset.image_encoder()
    with pytest.raises(ValueError, match="Tiny: its text features came ready-made"):
        dataset.text_encoder()


def test_damaged_cache_says_what_to_do(tmp_path):
    for options in ({}, {"pre_transform": Shift(1)}):
        path = Path(Tiny(tmp_path, **options).processed_paths[0])
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(CorruptFileError, match="force_reload=True"):
            Tiny(tmp_path, **options)
        Tiny(tmp_path, **options, force_reload=True)
        Tiny(tmp_path, **options)


def test_unwritable_root_is_found_before_building(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="root: cannot write to"):
        Tiny(tmp_path / "file" / "root")
    assert built == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_where_nothing_may_be_written_it_is_built_in_memory_with_one_note(
    tmp_path, monkeypatch, code
):
    def refused(target, *_):
        raise OSError(code, os.strerror(code), str(target))

    monkeypatch.setattr(checksums, "_said", set())
    monkeypatch.setattr(files, "_target", refused)  # of all that is written
    with pytest.warns(UncheckedWarning, match=r"root: nothing can be stored .* in memory") as said:
        first = Tiny(tmp_path, pre_transform=Shift(1))
        features = first.computed_once("image", lambda: torch.ones(2, 2))
        words = BagOfWords().fit(["a b"])
        first.keep_words(words)
    assert len(said) == 1 and first.text_encoder() is words and features.shape == (2, 2)
    assert built == [1.0] and not [*tmp_path.iterdir()]
    monkeypatch.undo()
    second = Tiny(tmp_path, pre_transform=Shift(1))
    assert torch.equal(first[0]["image"].x, second[0]["image"].x)
    monkeypatch.setattr(files, "_target", refused)
    Tiny(tmp_path), Tiny(tmp_path, pre_transform=Shift(1))  # what is stored is read
    assert built == [1.0, 1.0]


def test_failing_transform_keeps_the_base(tmp_path):
    class Fails(Shift):
        def forward(self, data):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        Tiny(tmp_path, pre_transform=Fails(1))
    Tiny(tmp_path)
    assert built == [1.0]


def test_user_changes_do_not_reach_the_data_set(tmp_path):
    dataset = Tiny(tmp_path)
    data = dataset[0]
    data["image"].x = torch.zeros(1)
    assert dataset[0]["image"].x.shape == (4, 2)
