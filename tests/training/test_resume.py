"""Training that was interrupted goes on as if nothing had happened."""

import json
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small import adam, assert_same_state, model_for, small_graph, small_model
from torch.optim import lr_scheduler as rates
from toy import toy_data

from pyg_hash.models import MCGCN, SGEH, EncoderHashModel
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import fit
from pyg_hash.transforms import UnifiedAffinity
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.files import CorruptFileError, load_tensors, save_tensors

FIT = sys.modules["pyg_hash.training.fit"]  # the module, not the function

OPTIMIZERS = {
    "adam": adam,
    "amsgrad": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, amsgrad=True, betas=(0.8, 0.9)),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1),
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.05),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, momentum=0.5),
    "groups": lambda m: torch.optim.Adam(groups_of(m, 0.1), lr=1e-2),
}


def groups_of(model, rate):
    heads = {"params": model.classifiers.parameters(), "lr": rate}
    return [heads, {"params": model.channels.parameters()}]


@pytest.fixture(scope="module")
def data():
    return small_graph()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run" / "checkpoint.safetensors"


def run(data, epochs, make=adam, seed=0, **kwargs):
    model = small_model(data, seed=seed)
    optimizer = make(model)
    history = fit(model, data, optimizer, epochs=epochs, progress=False, **kwargs)
    return model, optimizer, history


def assert_same_run(data, first, second):
    assert_same_state(first[0], second[0])
    assert first[2] == second[2]
    a, b = first[1].state_dict(), second[1].state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for index, slots in a["state"].items():
        assert slots.keys() == b["state"][index].keys()
        for name, value in slots.items():
            other = b["state"][index][name]
            same = torch.equal(value, other) if torch.is_tensor(value) else value == other
            assert same, (index, name)
    for modality in MODALITIES:
        codes = [each[0].encode(data, modality) for each in (first, second)]
        assert torch.equal(*codes)
        assert torch.equal(
            first[0].intake.messages(modality)[0], second[0].intake.messages(modality)[0]
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_equals_uninterrupted(data, file, name):
    make = OPTIMIZERS[name]
    whole = run(data, 5, make)
    run(data, 3, make, checkpoint=file)
    # another seed: everything must come from the checkpoint
    resumed = run(data, 5, make, seed=9, checkpoint=file, resume=True)
    assert_same_run(data, whole, resumed)


@pytest.mark.parametrize("every", [2, 100])
def test_checkpoints_in_between_change_nothing(data, file, every):
    whole = run(data, 6)
    assert_same_run(data, whole, run(data, 6, checkpoint=file, checkpoint_every=every))
    assert_same_run(data, whole, run(data, 6, seed=3, checkpoint=file, resume=True))


def test_resume_without_a_file_starts(data, file):
    assert_same_run(data, run(data, 3), run(data, 3, checkpoint=file, resume=True))
    assert file.exists()


def test_without_resume_a_checkpoint_is_not_read(data, file):
    run(data, 3, checkpoint=file)
    assert_same_run(data, run(data, 2), run(data, 2, checkpoint=file))


def test_the_random_state_goes_on(data, file):
    """A callback that draws numbers draws the same ones."""

    def draw(_, row):
        row["drawn"] = torch.rand(()).item()

    whole = run(data, 6, callbacks=[draw])
    run(data, 2, callbacks=[draw], checkpoint=file)
    resumed = run(data, 6, seed=8, callbacks=[draw], checkpoint=file, resume=True)
    assert_same_run(data, whole, resumed)


def test_a_learning_rate_schedule_goes_on(data, file):
    def halve(optimizer):
        def callback(_, row):
            if row["epoch"] % 2 == 0:
                optimizer.param_groups[0]["lr"] /= 2

        return callback

    def scheduled(epochs, **kwargs):
        model = small_model(data)
        optimizer = adam(model)
        history = fit(
            model,
            data,
            optimizer,
            epochs=epochs,
            callbacks=[halve(optimizer)],
            progress=False,
            **kwargs,
        )
        return model, optimizer, history

    whole = scheduled(7)
    scheduled(4, checkpoint=file)
    assert_same_run(data, whole, scheduled(7, checkpoint=file, resume=True))


NESTED = {
    "sequence": lambda o: rates.SequentialLR(
        o, [rates.LinearLR(o, 0.1, 1, 2), rates.MultiStepLR(o, [1, 3])], milestones=[2]
    ),
    "chain": lambda o: rates.ChainedScheduler(
        [rates.MultiStepLR(o, [2, 4]), rates.ExponentialLR(o, 0.9)]
    ),
}


def scheduled(data, epochs, schedule, make=adam, seed=0, **kwargs):
    model = small_model(data, seed=seed)
    optimizer = make(model)
    how = {"schedulers": [schedule(optimizer)], "progress": False, **kwargs}
    return model, optimizer, fit(model, data, optimizer, epochs=epochs, **how)


@pytest.mark.parametrize("name", NESTED)
def test_milestones_inside_another_scheduler_go_on(data, file, name):
    whole = scheduled(data, 7, NESTED[name])
    scheduled(data, 3, NESTED[name], checkpoint=file)
    assert_same_run(data, whole, scheduled(data, 7, NESTED[name], checkpoint=file, resume=True))


def test_what_was_set_otherwise_is_refused(data, file):
    def halving(o):
        return rates.StepLR(o, 2, 0.5)

    scheduled(data, 3, halving, OPTIMIZERS["groups"], checkpoint=file)
    for schedule, make, message in (
        (lambda o: rates.StepLR(o, 2, 0.9), OPTIMIZERS["groups"], r"schedulers.0..gamma 0.5, not"),
        (lambda o: rates.ExponentialLR(o, 0.5), OPTIMIZERS["groups"], r"StepLR, not Exponential"),
        (
            halving,
            lambda m: torch.optim.Adam(groups_of(m, 0.2), lr=1e-2),
            r"param_groups.0..lr 0.1, not 0.2",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            scheduled(data, 6, schedule, make, checkpoint=file, resume=True)
    tensors, metadata = load_tensors(file)
    save_tensors(file, tensors, {k: v for k, v in metadata.items() if k not in ("set", "rng")})
    scheduled(data, 6, halving, OPTIMIZERS["groups"], checkpoint=file, resume=True)


def test_the_same_optimizer_may_go_on(data, file):
    """Its rate is another by then, and is no other setting."""
    model = small_model(data)
    optimizer = OPTIMIZERS["sgd"](model)
    schedulers = [rates.StepLR(optimizer, 2, 0.5)]
    for epochs in (3, 6):
        how = {"schedulers": schedulers, "checkpoint": file, "resume": True, "progress": False}
        history = fit(model, data, optimizer, epochs=epochs, **how)
    whole = scheduled(data, 6, lambda o: rates.StepLR(o, 2, 0.5), OPTIMIZERS["sgd"])
    assert_same_run(data, whole, (model, optimizer, history))


class Shuffled:
    """Batches in an order drawn by the generators that a user may have."""

    def __init__(self, batches, draw):
        self.batches, self.draw = batches, draw
        self.generator = torch.Generator().manual_seed(3)

    def __iter__(self):
        return (self.batches[i] for i in self.draw(self))


@pytest.mark.parametrize(
    "draw",
    [
        lambda own: random.sample(range(4), 4),
        lambda own: np.random.permutation(4),
        lambda own: torch.randperm(4, generator=own.generator),
    ],
    ids=["random", "numpy", "own"],
)
def test_the_order_of_batches_goes_on(data, file, draw):
    def shuffled(epochs, **kwargs):
        random.seed(0), np.random.seed(0)
        batches = [*InstanceLoader(small_model(data).training_view(data), batch_size=12)]
        return run(data, epochs, loader=Shuffled(batches[:4], draw), **kwargs)

    whole = shuffled(6)
    shuffled(3, checkpoint=file)
    assert_same_run(data, whole, shuffled(6, checkpoint=file, resume=True))


@pytest.mark.parametrize("cut", [1, 5])
def test_early_stopping_goes_on(file, cut, monkeypatch):
    data = small_graph(validation=True, rate=1.0)
    scores = [0.1, 0.4, 0.3, 0.5, 0.2, 0.1, 0.3, 0.9]
    monkeypatch.setattr(
        FIT,
        "_validation_map",
        lambda model, _: scores[model.calls.pop(0)],
    )

    def stopping(epochs, start, **kwargs):
        model = small_model(data)
        object.__setattr__(model, "calls", list(range(start, 8)))
        optimizer = adam(model)
        history = fit(model, data, optimizer, epochs=epochs, patience=3, progress=False, **kwargs)
        return model, optimizer, history

    whole = stopping(20, 0)
    assert len(whole[2]) == 7  # best at 4, then three without
    stopping(cut, 0, checkpoint=file)
    assert_same_run(data, whole, stopping(20, cut, checkpoint=file, resume=True))
    # a run that has stopped stays so
    assert_same_run(data, whole, stopping(20, 7, checkpoint=file, resume=True))


def test_the_best_of_a_run_with_patience_does_not_undo_one_without(file):
    data = small_graph(validation=True, rate=1.0)
    whole = run(data, 12)
    run(data, 4, checkpoint=file, patience=99)
    resumed = run(data, 12, checkpoint=file, resume=True)
    assert_same_state(whole[0], resumed[0])


def test_other_data_are_refused(data, file):
    run(data, 2, checkpoint=file)
    other = data.clone()
    for m in MODALITIES:
        mask = other[m].train_mask = data[m].train_mask.clone()
        mask[(~mask).nonzero()[:3]] = True
        other[m].anchor_mask = other[m].joint_anchor_mask = mask
    with pytest.raises(ValueError, match="other data .train: "):
        run(other, 4, checkpoint=file, resume=True)
    other = data.clone()
    other["image"].x = other["image"].x.clone()
    other["image"].x[:2] += 1
    with pytest.raises(ValueError, match="image features: those of 2 of "):
        run(other, 4, checkpoint=file, resume=True)
    tensors, metadata = load_tensors(file)
    old = {name: x for name, x in tensors.items() if not name.startswith("rows.")}
    save_tensors(file, old, metadata)
    with pytest.raises(ValueError, match="image features: not there then.*start anew"):
        run(data, 3, checkpoint=file, resume=True)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (MCGCN, {"protocol": "transductive"}, "graph.intra_anchors train, not all"),
        (MCGCN, {"k": 6}, "graph.k 5, not 6"),
        (SGEH, {"k": 6}, "affinity.k 5, not 6"),
    ],
)
def test_another_graph_is_refused(kind, change, message, file):
    def train(epochs, protocol="inductive", k=5):
        data = small_graph(protocol, k=k)
        if kind is SGEH:
            data = UnifiedAffinity(4, k, progress=False)(toy_data())
        model = model_for(kind, data)
        how = {"checkpoint": file, "resume": True, "progress": False}
        fit(model, data, adam(model), epochs=epochs, **how)

    train(1)
    with pytest.raises(ValueError, match=message):
        train(2, **change)


# interruptions


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_a_callback_loses_no_epoch(data, file, error):
    def fail(_, row):
        if row["epoch"] == 2:
            raise error("stop here")

    with pytest.raises(error, match="stop here"):
        run(data, 4, callbacks=[fail], checkpoint=file)
    assert load_tensors(file)[1]["epoch"] == 2
    resumed = run(data, 4, seed=5, checkpoint=file, resume=True)
    assert_same_run(data, run(data, 4), resumed)


@pytest.mark.parametrize("where", ["forward", "loss", "step"])
def test_an_interrupt_in_the_middle_of_an_epoch(data, file, where, monkeypatch):
    model = small_model(data)
    optimizer = adam(model)
    owner = optimizer if where == "step" else model
    original, count = getattr(owner, where), [0]

    def interrupted(*args, **kwargs):
        count[0] += 1
        result = original(*args, **kwargs)
        if count[0] == 6:
            raise KeyboardInterrupt
        return result

    setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        how = {"checkpoint": file, "checkpoint_every": 2, "progress": False}
        fit(model, data, optimizer, epochs=7, **how)
    assert load_tensors(file)[1]["epoch"] == 4
    resumed = run(data, 7, seed=5, checkpoint=file, resume=True)
    assert_same_run(data, run(data, 7), resumed)


def test_a_failed_write_leaves_the_last_checkpoint(data, file, monkeypatch):
    run(data, 3, checkpoint=file)
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("pyg_hash.utils.files.seal", full)
    with pytest.raises(OSError, match="no space left"):
        run(data, 5, checkpoint=file, resume=True)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


# files that do not fit


def test_truncated_checkpoints_are_corrupt(data, file):
    run(data, 1, checkpoint=file)
    content = file.read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CorruptFileError, match="checkpoint.safetensors"):
            run(data, 2, checkpoint=file, resume=True)


def test_other_files_are_no_checkpoints(data, tmp_path):
    model, _, _ = run(data, 1)
    model.save(tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    for name in ("model.safetensors", "intake.safetensors", "foreign.safetensors"):
        with pytest.raises(CorruptFileError, match="not a training checkpoint"):
            run(data, 2, checkpoint=tmp_path / name, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"model": "GCH"}, "with model GCH"),
        (lambda m: {"config": m["config"] | {"alpha": 0.2}}, "settings"),
        (lambda m: {"config": m["config"] | {"num_bits": 16}}, "settings"),
        (
            lambda m: {"optimizers": {"all": m["optimizers"]["all"] | {"name": "SGD"}}},
            "optimizer SGD",
        ),
    ],
)
def test_checkpoints_of_something_else_are_refused(data, file, change, message):
    run(data, 2, checkpoint=file)
    tensors, metadata = load_tensors(file)
    save_tensors(file, tensors, metadata | change(metadata))
    before = file.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        run(data, 3, checkpoint=file, resume=True)
    assert "resume" in str(caught.value)
    assert file.read_bytes() == before


def test_another_optimizer_or_rate_is_refused(data, file):
    run(data, 2, checkpoint=file)
    for make, message in (
        (OPTIMIZERS["adamw"], "optimizer Adam"),
        (OPTIMIZERS["amsgrad"], "optimizer settings"),
        (OPTIMIZERS["groups"], "groups"),
        (lambda m: adam(m, lr=0.5), "optimizer settings.*0.01"),
    ):
        with pytest.raises(ValueError, match=message):
            run(data, 3, make, checkpoint=file, resume=True)


def test_the_state_is_plain_json_and_tensors(data, file):
    run(data, 2, checkpoint=file)
    tensors, metadata = load_tensors(file)
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["epoch"] == 2 and len(metadata["history"]) == 2
    assert {"model", "optimizer", "rng"} <= {name.split(".")[0] for name in tensors}


class Bank(EncoderHashModel):
    """Its loss draws the codes of texts to what those of images were, which the bank keeps."""

    def __init__(self, num_features, num_bits=12, act="tanh"):
        super().__init__(num_bits, num_features=num_features)
        self.of = torch.nn.ModuleDict(
            {m: torch.nn.Linear(d, num_bits) for m, d in self.num_features.items()}
        )
        self.held = {}
        self.ready()

    def ready(self):
        self.register_buffer("bank", None, persistent=False)

    def keep(self, codes):
        self.bank = codes

    def relaxed(self, x, modality):
        return torch.tanh(self.of[modality](x))

    def loss(self, out, data):
        before = out.image.detach()
        if self.bank is not None and len(self.bank) == len(before):
            before = self.bank.clone()
        self.keep(0.9 * before + 0.1 * out.image.detach())
        return {"loss": (out.text - before).square().mean() + out.image.square().mean()}


class InDict(Bank):
    def ready(self):
        self.held["bank"] = torch.zeros(60, 12)

    @property
    def bank(self):
        return self.held["bank"]

    def keep(self, codes):
        self.held["bank"] = codes


class InPlace(Bank):
    def ready(self):
        self.bank = torch.zeros(60, 12)

    def keep(self, codes):
        self.bank.copy_(codes)


class Growing(Bank):
    def ready(self):
        self.register_buffer("bank", torch.zeros(0, 12))


class Unset(Growing):
    def ready(self):
        self.register_buffer("bank", None)


class Knowing(Growing):
    """Reads its state in its own way."""

    def load_state_dict(self, state, *args, **keywords):
        self.bank = state["bank"].clone()
        return super().load_state_dict(state, *args, **keywords)


class Lazy(Bank):
    def ready(self):
        super().ready()
        self.bend = torch.nn.LazyLinear(12)

    def relaxed(self, x, modality):
        return torch.tanh(self.bend(super().relaxed(x, modality)))


def bank(kind, data, epochs, **kwargs):
    torch.manual_seed(0)
    model = kind(data.num_features)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(model, data, adam(model), epochs=epochs, progress=False, **kwargs)
    return model, [str(one.message) for one in said if "training changes" in str(one.message)]


@pytest.mark.parametrize(("kind", "name"), [(InDict, "held"), (InPlace, "bank")])
def test_attributes_that_a_checkpoint_does_not_hold_are_named(kind, name, file):
    said = bank(kind, toy_data(), 2, checkpoint=file)[1]
    assert said and all(
        line.startswith(f"{kind.__name__}.{name}: training changes") for line in said
    )
    assert f"register_buffer({name!r}, ..., persistent=False)" in said[0]


class Held(Bank):
    """Its plain buffers are no file's: of what it makes by itself."""

    def ready(self):
        super().ready()
        eye = torch.eye(3)
        for name, x in {
            "coo": eye.to_sparse(),
            "csr": eye.to_sparse_csr(),
            "phase": eye.to(torch.complex64),
            "tiny": eye.to(torch.float8_e4m3fn),
        }.items():
            self.register_buffer(name, x, persistent=False)


class Derived(Bank):
    """Modules of PyTorch's keep what they derive, and the model its last output."""

    def ready(self):
        super().ready()
        torch.nn.utils.spectral_norm(self.of["image"])

    def keep(self, codes):
        super().keep(codes)
        self._last = codes


class Renaming(Growing):
    """A buffer that grows, and names that its files have otherwise."""

    def ready(self):
        super().ready()
        self._register_state_dict_hook(self.out)
        self._register_load_state_dict_pre_hook(self.back)

    @staticmethod
    def out(model, state, *args):
        for name in [name for name in state if name.startswith("of.")]:
            state["encoder." + name[3:]] = state.pop(name)

    def back(self, state, *args):
        self.bank = torch.zeros_like(state["bank"])
        for name in [name for name in state if name.startswith("encoder.")]:
            state["of." + name[8:]] = state.pop(name)


@pytest.mark.parametrize("kind", [Bank, Lazy, Held, Derived, Renaming])
def test_buffers_and_ways_of_their_own_are_kept_in_silence(kind, file):
    data = toy_data()
    whole, said = bank(kind, data, 4)
    bank(kind, data, 2, checkpoint=file)
    resumed, also = bank(kind, data, 4, checkpoint=file, resume=True)
    assert_same_state(whole, resumed)
    assert torch.equal(whole.bank, resumed.bank) and not said + also


@pytest.mark.parametrize("kind", [Growing, Unset])
def test_a_shape_that_training_changes_is_found_after_an_epoch(kind, file):
    with pytest.raises(ValueError, match=r"bank: .* from .* to \[60, 12\].*persistent=False"):
        bank(kind, toy_data(), 3, checkpoint=file)
    assert not file.exists()
    assert bank(Knowing, toy_data(), 1, checkpoint=file)
    assert bank(kind, toy_data(), 1)  # no file has to hold it


def test_what_no_file_can_hold_is_named_before_the_training(file):
    class Extra(Bank):
        def get_extra_state(self):
            return {"bank": 1}

    data = toy_data()
    phases, sparse = Bank(data.num_features), Bank(data.num_features)
    phases.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
    sparse.register_buffer("eye", torch.eye(2).to_sparse())
    for model, message in (
        (Bank(data.num_features, act=torch.relu), "act: no file can hold this keyword"),
        (Extra(data.num_features), "_extra_state: get_extra_state gave a dict"),
        (phases, "phase: no file can hold a tensor of torch.complex64"),
        (sparse, "eye: no file can hold a tensor of torch.float32, torch.sparse_coo"),
    ):
        with pytest.raises(TypeError, match=message):
            fit(model, data, adam(model), epochs=1, checkpoint=file, callbacks=[pytest.fail])
        with pytest.raises(TypeError, match=message):
            model.save(file.parent / "model")
        assert not file.parent.exists()
    for state, name in (({"ema": torch.ones(2)}, r"\['ema'\]"), ({"last": {"f": str}}, r".*'f'\]")):
        model = Bank(data.num_features)
        own = Stateful(state)
        with pytest.raises(TypeError, match=f"callbacks: state_dict of Stateful{name}: no file"):
            fit(model, data, adam(model), epochs=1, checkpoint=file, callbacks=[pytest.fail, own])
        assert not file.exists()


class Stateful:
    def __init__(self, state):
        self.state = state

    def __call__(self, *_):
        pass

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_numbers_of_any_library_are_plain_ones_in_a_file(data, file):
    def rate(m):
        return torch.optim.Adam(m.parameters(), lr=torch.tensor(1e-2))

    def train(epochs, make=rate, **kwargs):
        own = Stateful({"best": np.float32(0.5), "count": torch.tensor(3)})
        return *run(data, epochs, make, callbacks=[own], **kwargs), own.state

    whole = train(5)
    train(3, checkpoint=file)
    resumed = train(5, checkpoint=file, resume=True)
    assert_same_run(data, whole, resumed)
    assert resumed[3] == {"best": 0.5, "count": 3}
    assert isinstance(resumed[1].param_groups[0]["lr"], torch.Tensor)
