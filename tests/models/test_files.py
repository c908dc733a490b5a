"""Model folders: complete, of the right kind and unharmed, or a clear error."""

import json
import shutil
from copy import deepcopy
from functools import partial

import pytest
import torch
from small import assert_same_state, small_graph, small_model
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import remove_parametrizations

from pyg_hash.models import GCH, ITQ, MCGCN
from pyg_hash.models.files import CONFIG, FORMAT_VERSION, INTAKE, MODEL, load_model_files
from pyg_hash.utils.files import CorruptFileError, load_json, load_tensors, save_json, save_tensors


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    data = small_graph()
    folder = tmp_path_factory.mktemp("saved")
    small_model(data).attach(data).save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def edit(folder, **changes):
    record = load_json(folder / CONFIG)
    save_json(folder / CONFIG, record | changes)


def test_content(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted([INTAKE, CONFIG, MODEL])
    record = load_json(folder / CONFIG)
    assert record["model"] == "MCGCN" and record["version"] == FORMAT_VERSION
    read, contents = load_model_files(folder)
    assert read == record
    tensors, metadata = contents[INTAKE]
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["graph"]["k"] == 5
    assert tensors["x.image"].shape == (48, 12)


def test_scaling_comes_back(folder):
    model = MCGCN.load(folder)
    assert model.intake.scaling("image")["mean"].shape == (12,)
    assert model.intake.scaling("text")["norm"] == pytest.approx(10**0.5)


@pytest.mark.parametrize("missing", [CONFIG, MODEL, INTAKE])
def test_missing_files(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        MCGCN.load(folder)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        MCGCN.load(tmp_path / "absent")


@pytest.mark.parametrize("name", [CONFIG, MODEL, INTAKE])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_files(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(CorruptFileError, match=name):
        MCGCN.load(folder)


@pytest.mark.parametrize("name", [MODEL, INTAKE])
@pytest.mark.parametrize("place", [-1, -500])
def test_a_flipped_bit(folder, name, place):
    content = bytearray((folder / name).read_bytes())
    content[place] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{name}.*config.json"):
        MCGCN.load(folder)


@pytest.mark.parametrize("name", [MODEL, INTAKE])
def test_files_of_two_models(folder, name, tmp_path):
    data = small_graph()
    small_model(data, seed=1).attach(data).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(CorruptFileError, match=name):
        MCGCN.load(folder)


def test_a_newer_version(folder):
    edit(folder, version=FORMAT_VERSION + 1, sha256={"weights.bin": ""})
    with pytest.raises(CorruptFileError, match="newer.*upgrade"):
        MCGCN.load(folder)


def test_another_model(folder):
    edit(folder, model="GCH")
    with pytest.raises(ValueError, match="holds a GCH, not a MCGCN"):
        MCGCN.load(folder)


@pytest.mark.parametrize("record", [[], 5, {}, {"format": "other"}, "text"])
def test_other_json(folder, record):
    save_json(folder / CONFIG, record)
    with pytest.raises(CorruptFileError, match=CONFIG):
        MCGCN.load(folder)


@pytest.mark.parametrize("key", ["version", "model", "config", "sha256"])
@pytest.mark.parametrize("value", [None, "1", []])
def test_entries_of_the_wrong_kind(folder, key, value):
    if (key, value) == ("model", "1"):
        pytest.skip("a name; tested as another model")
    edit(folder, **{key: value})
    with pytest.raises(CorruptFileError, match=CONFIG):
        MCGCN.load(folder)


@pytest.mark.parametrize("files", [{}, {INTAKE: "0"}, {MODEL: "0", "../../x": "0"}])
def test_files_that_do_not_belong(folder, files):
    edit(folder, sha256=files)
    with pytest.raises(CorruptFileError, match=CONFIG):
        MCGCN.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"num_bits": 9},
        {"unknown": 1},
        {"weights": {"balance": -1}},
        {"variant": "S"},
        {"num_bits": "8"},
        {"alpha": 1.0},  # of an earlier version
    ],
)
def test_settings_of_another_model(folder, change):
    config = load_json(folder / CONFIG)["config"]
    edit(folder, config=config | change)
    with pytest.raises(CorruptFileError, match="do not belong together.*train again"):
        MCGCN.load(folder)


def test_an_interrupted_save_is_noticed(folder, monkeypatch):
    """The parameters are new, the configuration is not: neither may pass for the other."""
    data = small_graph()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_hash.models.files.save_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_model(data, seed=1).attach(data).save(folder)
    with pytest.raises(CorruptFileError, match="save the model again"):
        MCGCN.load(folder)


def test_a_folder_that_cannot_be_made(saved, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError):
        MCGCN.load(saved).save(tmp_path / "file" / "model")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_moved_folder(folder, saved, tmp_path):
    moved = folder.rename(tmp_path / "with spaces ä")
    assert_same_state(MCGCN.load(moved), MCGCN.load(saved))


def test_saving_what_was_loaded_writes_the_same_bytes(saved, tmp_path):
    MCGCN.load(saved).save(tmp_path)
    for name in (CONFIG, MODEL, INTAKE):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_loading_leaves_the_random_state_to_the_seed(saved):
    """Loading draws initial parameters first; what is loaded must not depend on that."""
    torch.manual_seed(0)
    first = MCGCN.load(saved)
    torch.manual_seed(1)
    assert_same_state(first, MCGCN.load(saved))


def test_only_tensors_and_json_on_disk(saved):
    for name in (MODEL, INTAKE):
        tensors, _ = load_tensors(saved / name)
        assert tensors
    assert (saved / MODEL).stat().st_size < 40_000


def test_layers_are_read_in_their_order(folder):
    bank = MCGCN.load(folder).intake
    sent = [torch.full((2, 1), float(layer)) for layer in range(12)]
    stored = {f"messages.image.{layer}": x for layer, x in enumerate(sent)}
    save_tensors(folder / INTAKE, bank.tensors | stored, bank.about)
    again = type(bank)(*load_tensors(folder / INTAKE))
    assert len(again.messages("image")) == 12
    assert all(map(torch.equal, again.messages("image"), sent))


def test_parameters_of_another_shape_with_a_matching_digest(folder):
    import hashlib

    tensors, _ = load_tensors(folder / MODEL)
    tensors.pop(sorted(tensors)[0])
    save_tensors(folder / MODEL, tensors)
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    edit(folder, sha256=load_json(folder / CONFIG)["sha256"] | {MODEL: digest})
    with pytest.raises(CorruptFileError, match="Missing key"):
        MCGCN.load(folder)


class Normed(ITQ):
    def __init__(self, num_features, num_bits):
        super().__init__(num_features, num_bits)
        self.own = parametrizations.weight_norm(torch.nn.Linear(3, 2))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, torch.nn.utils.spectral_norm])
def test_parametrizations_are_the_class_s_or_undone(norm, tmp_path):
    Normed((4, 3), 4).save(tmp_path / "own")
    assert Normed.load(tmp_path / "own").own.parametrizations
    model = small_model(small_graph())
    norm(model.classifiers["text"].lin)
    before = torch.get_rng_state()
    with pytest.raises(
        TypeError, match=r"classifiers.text.lin are other .*remove_parametrizations"
    ):
        model.save(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before) and not (tmp_path / "model").exists()
    undo = torch.nn.utils.remove_spectral_norm
    if norm is parametrizations.weight_norm:
        undo = partial(remove_parametrizations, tensor_name="weight")
    undo(model.classifiers["text"].lin)
    model.save(tmp_path / "model")
    assert_same_state(MCGCN.load(tmp_path / "model"), model)


@pytest.mark.parametrize(
    "other",
    [
        lambda lin: torch.compile(lin, backend="eager"),
        lambda lin: torch.nn.Linear(lin.in_features, lin.out_features, bias=False),
        lambda lin: torch.nn.Linear(lin.in_features, lin.out_features + 1),
        lambda lin: torch.nn.Sequential(lin, torch.nn.ReLU()),
    ],
)
def test_layers_that_load_would_not_build_are_not_saved(other, tmp_path):
    model = small_model(small_graph())
    head = model.classifiers["text"]
    head.lin.compile(backend="eager")
    model.save(tmp_path / "model")
    assert_same_state(MCGCN.load(tmp_path / "model"), model)
    head.lin = other(head.lin)
    with pytest.raises(TypeError, match=r"part.compile\(\)(.|\n)*classifiers.text.lin"):
        model.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


class OnMemory(ITQ):
    """Cannot be built on device meta; its layer knows its width with the first batch."""

    def __init__(self, num_features, num_bits):
        super().__init__(num_features, num_bits)
        self.register_buffer("size", torch.ones(2))
        self.own = torch.nn.Linear(int(self.size.sum()), 2)
        self.lazy = torch.nn.LazyLinear(3)


def test_constructors_need_not_work_without_memory(tmp_path):
    model = OnMemory((4, 3), 4)
    model.lazy(torch.ones(1, 5))
    model.save(tmp_path)
    model.own = torch.nn.Linear(3, 2)
    with pytest.raises(TypeError, match="own.weight"):
        model.save(tmp_path)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_modules_of_ones_own_are_saved_as_they_are(tmp_path):
    own, again = (torch.nn.utils.weight_norm(torch.nn.Linear(20, 12)) for _ in range(2))
    model = GCH((12, 10), 3, 8, image_encoder=own)
    with pytest.raises(RuntimeError, match="deepcopy"):
        deepcopy(own)
    model.save(tmp_path)
    model.register_forward_pre_hook(lambda *x: None)
    model.save(tmp_path)
    assert_same_state(GCH.load(tmp_path, image_encoder=again), model)


class Appends(ITQ):
    def __init__(self, num_features, num_bits, head):
        super().__init__(num_features, num_bits)
        self.head = head.append(torch.nn.Linear(2, 1))


def test_a_constructor_may_change_the_module_it_is_given(tmp_path):
    head, again = (torch.nn.Sequential(torch.nn.Linear(3, 2)) for _ in range(2))
    model = Appends((4, 3), 4, head=head)
    model.save(tmp_path)
    assert_same_state(Appends.load(tmp_path, head=again), model)


def test_the_configuration_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / CONFIG).write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(FileExistsError, match="is of something else"):
        ITQ((4, 3), 4).save(tmp_path)
    assert "Bert" in (tmp_path / CONFIG).read_text()
    (tmp_path / CONFIG).write_text("")  # cut short by a power failure
    ITQ((4, 3), 4).save(tmp_path)
    ITQ((4, 3), 4).save(tmp_path)


class Plain(ITQ):
    def __init__(self, num_features, num_bits, widths=(), **more):
        super().__init__(num_features, num_bits)
        self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.b.weight = self.a.weight
        if isinstance(widths, list):
            widths.append(5)


def test_settings_are_those_that_were_given(tmp_path):
    """Whatever the constructor does to its lists afterwards."""
    given = [8, 3]
    model = Plain((4, 3), 4, given)
    assert given == [8, 3, 5] and model.config["widths"] == [8, 3]
    model.save(tmp_path)
    assert Plain.load(tmp_path).config == model.config


@pytest.mark.parametrize("value", [{0: 0.5}, [{"a": {True: 1}}]])
def test_keys_that_a_file_would_change_are_refused(value, tmp_path):
    with pytest.raises(TypeError, match=r"widths: .* key (0|True) back as a text"):
        Plain((4, 3), 4, value).save(tmp_path)


def test_one_parameter_of_two_parts_stays_one(tmp_path):
    model = Plain((4, 3), 4)
    model.save(tmp_path)
    again = Plain.load(tmp_path)
    assert again.a.weight is again.b.weight and again.digest() == model.digest()
    weight = again.a.weight.detach()
    for untied in (weight + 1, weight.double()):  # since: both are kept
        again.b.weight = torch.nn.Parameter(untied)
        again.save(tmp_path)
        loaded = Plain.load(tmp_path)
        assert_same_state(loaded, again)
        assert loaded.digest() == again.digest()


class Hooked(Plain):
    def _load_from_state_dict(self, state, prefix, *rest):
        state[f"{prefix}a.weight"].add_(1)
        super()._load_from_state_dict(state, prefix, *rest)


def test_what_loads_in_its_own_way_may_write_to_the_state(tmp_path):
    model = Hooked((4, 3), 4)
    model.save(tmp_path)
    assert torch.equal(Hooked.load(tmp_path).a.weight, model.a.weight + 1)
