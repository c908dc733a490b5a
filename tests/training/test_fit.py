"""The training loop: what it does, when it ends, and what it refuses."""

import copy
import math
import sys
import threading
import warnings

import pytest
import torch
from small import adam, assert_same_state, graph_for, model_for, small_graph, small_model
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from toy import toy_data

from pyg_hash.metrics import CollapseWarning, evaluate
from pyg_hash.models import DCMH, DGCPN, MCGCN, SGCH, HashModel, Objective, TaughtHash
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate
from pyg_hash.typing import HashOutput

FIT = sys.modules["pyg_hash.training.fit"]  # the module, not the function


@pytest.fixture(scope="module")
def data():
    return small_graph()


@pytest.fixture(scope="module")
def split():
    return small_graph(validation=True, rate=1.0)


def train(model, data, epochs=5, **kwargs):
    return fit(model, data, adam(model), epochs=epochs, progress=False, **kwargs)


@pytest.mark.parametrize("protocol", ["inductive", "strict", "transductive"])
def test_loss_falls(protocol):
    graph = small_graph(protocol)
    history = train(small_model(graph), graph, 30)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert all(math.isfinite(value) for row in history for value in row.values())


def test_same_seed_same_codes(data):
    runs = []
    for _ in range(2):
        model = small_model(data)
        runs.append((train(model, data, 8), model))
    assert runs[0][0] == runs[1][0]
    assert_same_state(runs[0][1], runs[1][1])
    raw = toy_data()
    for modality in ("image", "text"):
        codes = [model.encode(data, modality) for _, model in runs]
        assert torch.equal(*codes)
    assert torch.equal(*(model.encode_image(raw["image"].x) for _, model in runs))


def test_features_that_ask_for_gradients_get_none():
    codes = []
    for asks in (False, True):
        data = LabelRate(1.0, seed=0)(toy_data())
        data["text"].x.requires_grad_(asks)
        torch.manual_seed(0)
        model = TaughtHash((data["image"].num_features, data["text"].num_features), 4, 8)
        train(model, data, 2)
        codes.append(model.encode(data, "text"))
        assert data["text"].x.requires_grad == asks and data["text"].x.grad is None
    assert torch.equal(*codes)


def test_equals_the_loop_written_out(data):
    model, by_hand = small_model(data), small_model(data)
    train(model, data, 4)
    optimizer = adam(by_hand)
    for _ in range(4):
        optimizer.zero_grad()
        by_hand.loss(by_hand.train()(data), data)["loss"].backward()
        optimizer.step()
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_fit_attaches_the_final_parameters(data):
    model = small_model(data)
    x = toy_data()["text"].x
    train(model, data)
    codes = model.encode_text(x)
    assert torch.equal(codes, model.attach(data).encode_text(x))


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
def test_backward_hooks_may_be_anywhere(kind):
    data, seen = graph_for(kind), []
    plain, model = (model_for(kind, data) for _ in range(2))
    for part in model.modules():
        part.register_full_backward_hook(lambda part, *grads: seen.append(part))
    for each in plain, model:
        fit(each, data, adam(each), epochs=2, progress=False)
    assert_same_state(plain, model)
    assert any(part._get_name() == "Linear" for part in seen)


def test_a_compiled_model_trains_as_itself(data, tmp_path):
    with pytest.warns(UserWarning, match=r"call compile\(\) of each of its encoders"):
        train(torch.compile(small_model(data)), data, 2, checkpoint=tmp_path / "c")
    train(small_model(data), data, 3, checkpoint=tmp_path / "c", resume=True)
    model, graphs = model_for(TaughtHash, data), []
    for encoder in model.encoders.values():
        encoder.compile(backend=lambda graph, _: graphs.append(graph) or graph.forward)
    train(model, data, 1)
    assert graphs


@pytest.mark.filterwarnings("error")
def test_a_model_of_inference_mode_is_named(data):
    with torch.inference_mode():
        model = small_model(data)
    with pytest.raises(RuntimeError, match="MCGCN was made or loaded under inference_mode"):
        train(model, data)


def test_stale_anchors_are_not_used(data):
    """After an interrupted second fit the cached messages would be of other parameters."""
    model = small_model(data)
    train(model, data)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, data, callbacks=[interrupt])
    with pytest.raises(RuntimeError, match="attach"):
        model.encode_image(toy_data()["image"].x)


# callbacks


def test_callbacks_see_each_epoch_and_add_numbers(data):
    model, seen = small_model(data), []

    def note(given, row):
        assert given is model
        seen.append(row["epoch"])
        row["twice"] = 2 * row["epoch"]
        row["tensor"] = torch.tensor(0.5)
        row["norm"] = next(given.parameters()).detach().norm()

    history = train(model, data, 3, callbacks=[note])
    assert seen == [1, 2, 3]
    assert [row["twice"] for row in history] == [2, 4, 6]
    assert all(type(row["tensor"]) is float and type(row["norm"]) is float for row in history)


def test_threads_that_train_at_once_are_told_and_wait_for_nobody(data):
    def another(*_):
        train(small_model(data), data, 1)

    def elsewhere(*_):
        thread = threading.Thread(target=another)
        thread.start()
        thread.join(120)
        assert not thread.is_alive()

    train(small_model(data), data, 1, callbacks=[another])  # of which nothing is told
    with pytest.warns(RuntimeWarning, match="no seed decides"):
        train(small_model(data), data, 1, callbacks=[elsewhere])


def test_stop_iteration_ends_the_training_tidily(data, tmp_path):
    def stop(_, row):
        if row["epoch"] == 3:
            raise StopIteration

    also = []
    model = small_model(data)
    history = train(
        model,
        data,
        50,
        callbacks=[stop, lambda _, row: also.append(row["epoch"])],
        checkpoint=tmp_path / "c.safetensors",
    )
    assert len(history) == 3 and also == [1, 2, 3]
    assert model.intake is not None
    expected = small_model(data)
    train(expected, data, 3)
    assert_same_state(model, expected)
    assert (tmp_path / "c.safetensors").exists()


def test_rows_that_cannot_be_written_are_refused(data, tmp_path):
    def bad(_, row):
        row["path"] = tmp_path

    with pytest.raises(TypeError, match=r"callbacks: row\['path'\]"):
        train(small_model(data), data, callbacks=[bad], checkpoint=tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").exists()


# early stopping


def test_best_parameters_come_back(split):
    """Measured scores are replaced, so that the best epoch is known."""
    scores = iter([0.1, 0.5, 0.3, 0.2, 0.9])
    model, kept = small_model(split), {}

    def keep(given, row):
        kept[row["epoch"]] = {n: p.detach().clone() for n, p in given.named_parameters()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FIT, "_validation_map", lambda *_: next(scores))
        history = train(model, split, 20, patience=2, callbacks=[keep])
    assert [row["val_map"] for row in history] == [0.1, 0.5, 0.3, 0.2]
    assert all(torch.equal(p, kept[2][n]) for n, p in model.named_parameters())
    assert not all(torch.equal(p, kept[4][n]) for n, p in model.named_parameters())


def test_an_equal_score_is_no_new_best(split, monkeypatch):
    monkeypatch.setattr(FIT, "_validation_map", lambda *_: 0.5)
    assert len(train(small_model(split), split, 20, patience=3)) == 4


def test_validation_is_measured_every_few_epochs(split):
    history = train(small_model(split), split, 7, patience=50, eval_every=3)
    assert [row["epoch"] for row in history if "val_map" in row] == [3, 6]


def test_val_map_is_that_of_the_validation_nodes(split):
    model = small_model(split)
    measured = []

    def measure(given, row):
        result = evaluate(given, split, split="val")
        measured.append((result.i2t + result.t2i) / 2)

    history = train(model, split, 3, patience=9, callbacks=[measure])
    assert [row["val_map"] for row in history] == measured


def test_validation_does_not_change_the_training(split):
    with_, without = small_model(split), small_model(split)
    kept = {}

    def keep(given, row):
        kept[row["epoch"]] = {n: p.detach().clone() for n, p in given.named_parameters()}

    train(with_, split, 4, patience=99, callbacks=[keep])
    train(without, split, 4)
    assert all(torch.equal(p, kept[4][n]) for n, p in without.named_parameters())


def test_validation_warns_of_nothing_and_sets_no_filter(split, monkeypatch):
    """Filters are those of the process: two threads that set them leave them changed."""
    model, seen = small_model(split), []

    def encode(given, modality):
        seen.append([*warnings.filters])
        return torch.ones(len(given[modality].x), model.num_bits, dtype=torch.int8)

    monkeypatch.setattr(model, "encode", encode)
    with pytest.warns(CollapseWarning):
        evaluate(model, split)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        train(model, split, 1, patience=9)
        assert seen[-1] == [*warnings.filters]


# what is refused


def test_bad_arguments_are_named(data, tmp_path):
    model = small_model(data)
    optimizer = adam(model)
    for name in ("epochs", "checkpoint_every", "eval_every", "patience"):
        for value, error in (
            (0, ValueError),
            (-3, ValueError),
            (2.5, TypeError),
            (True, TypeError),
        ):
            with pytest.raises(error, match=name):
                fit(model, data, optimizer, **{"epochs": 1, name: value})
    with pytest.raises(ValueError, match=r"patience.*ValidationSplit"):
        train(model, data, patience=3)
    split = small_graph(validation=True)
    for m in ("image", "text"):
        split[m].train_mask = split[m].database_mask
    with pytest.raises(ValueError, match=r"patience: \d+ rows of val_mask are also in train_mask"):
        train(model, split, patience=3)
    with pytest.raises(ValueError, match="resume.*checkpoint"):
        train(model, data, resume=True)


def test_batches_of_graphs(data):
    """A graph is one; features may be of several."""
    for batch in (Batch.from_data_list([data, data]), next(iter(DataLoader([data])))):
        with pytest.raises(TypeError, match="data: is a batch of graphs"):
            train(small_model(data), batch)
        with pytest.raises(TypeError, match="data: is a batch of graphs"):
            evaluate(small_model(data), batch)
    for scaled in (False, True):
        plain = Batch.from_data_list([graph_for(DCMH, scale=scaled)] * 2)
        train(model_for(DCMH, plain), plain)
    data.graph = data.graph | {"layers": [5, 10]}  # of one's own
    train(small_model(data), data)


def test_an_empty_training_set_is_named(data):
    empty = small_graph()
    for m in ("image", "text"):
        empty[m].train_mask = torch.zeros(60, dtype=torch.bool)
    with pytest.raises(ValueError, match="train_mask"):
        train(small_model(data), empty)


def test_an_optimizer_of_another_model_is_noticed(data):
    model, other = small_model(data), small_model(data, seed=1)
    before = {name: p.clone() for name, p in other.named_parameters()}
    with pytest.raises(ValueError, match="optimizer"):
        fit(model, data, adam(other), epochs=1, progress=False)
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())


def test_what_needs_more_than_a_step_is_refused(data):
    model = small_model(data)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam(model))
    with pytest.raises(TypeError, match="schedulers: ReduceLROnPlateau waits for a value"):
        fit(model, data, adam(model), epochs=1, progress=False, schedulers=[plateau])
    with pytest.raises(TypeError, match="optimizer: LBFGS"):
        fit(model, data, torch.optim.LBFGS(model.parameters()), epochs=1, progress=False)


def test_a_scheduler_of_another_optimizer_is_refused(data):
    model = small_model(data)
    ours, other = adam(model), adam(model)
    steps = [torch.optim.lr_scheduler.StepLR(each, 1, 0.1) for each in (ours, other)]
    with pytest.raises(ValueError, match="schedulers: .* another optimizer"):
        fit(model, data, ours, epochs=1, progress=False, schedulers=steps)
    chained = torch.optim.lr_scheduler.ChainedScheduler(steps[:1])
    fit(model, data, ours, epochs=1, progress=False, schedulers=[chained])
    assert ours.param_groups[0]["lr"] == pytest.approx(0.1 * other.param_groups[0]["initial_lr"])


def test_a_schedule_of_ones_own_needs_no_optimizer(data, tmp_path):
    class Warm:
        def __init__(self, optimizer):
            self.of, self.n = optimizer, 0

        def step(self):
            self.n += 1
            for group in self.of.param_groups:
                group["lr"] = 1e-3 / self.n

        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, state):
            self.n = state["n"]

    model = small_model(data)
    ours = adam(model)
    for epochs in (2, 3):
        own = Warm(ours)
        more = {"schedulers": [own], "checkpoint": tmp_path / "x", "resume": True}
        assert len(fit(model, data, ours, epochs=epochs, progress=False, **more)) == epochs
        assert own.n == epochs and ours.param_groups[0]["lr"] == 1e-3 / epochs


@pytest.mark.parametrize("kind", [MCGCN, SGCH, TaughtHash])
def test_masks_of_images_alone_or_of_bytes_train_as_those_of_both(kind):
    graph = graph_for(kind, scale=False)
    bare, small = copy.copy(graph), copy.copy(graph)
    for key in ("train_mask", "labeled_mask"):
        for m in ("image", "text"):
            small[m][key] = graph[m][key].byte()
        if kind is TaughtHash:  # the graph of others sets both
            del bare["text"][key]
    states = []
    for each in (graph, bare, small):
        model = model_for(kind, each)
        train(model, each, 2)
        states.append(model.state_dict())
    for state in states[1:]:
        assert all(torch.equal(x, states[0][name]) for name, x in state.items())
    assert small["image"].train_mask.dtype == torch.uint8  # the data stay as they are
    assert kind is not TaughtHash or "train_mask" not in bare["text"]
    for y in (graph["image"].y.numpy(), graph["image"].y.to_sparse()):
        small["image"].y = y
        with pytest.raises(TypeError, match=r"\['image'\].y: expected a dense tensor, got"):
            train(model, small, 1)


@pytest.mark.parametrize("kind", [MCGCN, SGCH, TaughtHash])
@pytest.mark.parametrize("name", ["train_mask", "labeled_mask", "y"])
def test_sides_that_contradict_each_other_are_refused(kind, name):
    data = graph_for(kind)
    model = model_for(kind, data)
    other = data["text"][name].clone()
    other[:2] = ~other[:2] if name != "y" else other[:2] + 1
    data["text"][name] = other
    with pytest.raises(ValueError, match=rf"'image'\].{name} and data\['text'\].{name}: differ"):
        train(model, data)


def test_labels_that_are_not_read_may_differ():
    data = small_graph()
    data["text"].y = torch.where(data["text"].labeled_mask, data["text"].y, -1)
    train(small_model(data), data)


def test_a_part_of_the_parameters_may_be_trained(data):
    model = small_model(data)
    before = model.classifiers["image"].lin.weight.clone()
    frozen = model.channels["image"].conv1.lin.weight.clone()
    optimizer = torch.optim.SGD(model.classifiers.parameters(), lr=0.1)
    fit(model, data, optimizer, epochs=2, progress=False)
    assert torch.equal(model.channels["image"].conv1.lin.weight, frozen)
    assert not torch.equal(model.classifiers["image"].lin.weight, before)


@pytest.mark.parametrize("kind", [TaughtHash, DGCPN])  # a part a side, and one of both
def test_a_frozen_part_stays_as_it_is(kind):
    data = graph_for(kind)
    model = model_for(kind, data)
    before = copy.deepcopy(model)
    model.encoders["image"].requires_grad_(False)
    assert "loss" in train(model, data)[0]
    assert_same_state(model.encoders["image"], before.encoders["image"])
    assert not torch.equal(model.encoders["text"].lin2.weight, before.encoders["text"].lin2.weight)
    for block in (torch.no_grad(), torch.inference_mode()):
        with block, pytest.raises(RuntimeError, match="fit: gradients are off"):
            train(model, data)
    with pytest.raises(ValueError, match="model: no parameter of this .* has requires_gr"):
        train(model.requires_grad_(False), data)


def test_nan_loss_is_an_error_and_spares_the_checkpoint(data, tmp_path):
    file = tmp_path / "c.safetensors"
    model = small_model(data)

    def poison(given, row):
        if row["epoch"] == 3:
            with torch.no_grad():
                next(given.parameters()).fill_(float("nan"))

    with pytest.raises(FloatingPointError, match=r"epoch 4 .*'pairwise': nan"):
        train(model, data, callbacks=[poison], checkpoint=file, checkpoint_every=2)
    again = small_model(data, seed=7)
    history = train(again, data, 5, checkpoint=file, resume=True)
    assert len(history) == 5
    expected = small_model(data)
    train(expected, data, 5)
    assert_same_state(again, expected)


def test_divergence_in_the_last_epoch_is_noticed(data, tmp_path):
    """The loss was fine, the step was not: no NaN model may be returned or saved."""
    model = small_model(data)
    next(model.parameters()).register_hook(lambda grad: grad * float("inf"))
    file = tmp_path / "c.safetensors"
    with pytest.raises(FloatingPointError, match="parameters"):
        train(model, data, 1, checkpoint=file, checkpoint_every=1)
    assert not file.exists()


def test_an_unwritable_checkpoint_is_noticed_before_training(data, tmp_path):
    (tmp_path / "file").write_text("no folder")
    model = small_model(data)
    before = small_model(data)
    with pytest.raises(OSError, match="file"):
        train(model, data, checkpoint=tmp_path / "file" / "c.safetensors")
    with pytest.raises(IsADirectoryError, match="folder"):
        train(model, data, checkpoint=tmp_path)
    assert_same_state(model, before)


# alternating objectives


class Alternating(HashModel):
    """Two objectives an epoch, the second of which depends on the first one's step."""

    def __init__(self, num_bits: int = 2) -> None:
        super().__init__(num_bits, {"num_bits": num_bits})
        self.weight = torch.nn.Parameter(torch.ones(num_bits))
        self.seen: list[float] = []

    def forward(self, data):
        codes = torch.tanh(self.weight).expand(data["image"].num_nodes, -1)
        return HashOutput(codes, codes)

    def loss(self, out, data):
        return {"loss": out.image.sum()}

    def relaxed_new(self, x, modality):
        return torch.tanh(self.weight).expand(x.size(0), -1)

    def objectives(self, data, epoch):
        self.seen.append(self.weight[0].item())
        yield Objective({"loss": self.weight.sum(), "first": self.weight.sum()})
        self.seen.append(self.weight[0].item())
        yield Objective({"loss": 2 * self.weight.sum(), "second": torch.tensor(float(epoch))})


def test_objectives_are_descended_one_after_the_other(data):
    model = Alternating()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    history = fit(model, data, optimizer, epochs=2, progress=False)
    assert model.seen == [1.0, 0.75, 0.25, 0.0]
    bits = model.num_bits
    # each term is the mean over the steps that have it
    assert [row["loss"] for row in history] == [bits * (1 + 1.5) / 2, bits * (0.25 + 0) / 2]
    assert [row["first"] for row in history] == [bits * 1.0, bits * 0.25]
    assert [row["second"] for row in history] == [0.0, 1.0]


class Parts(Alternating):
    """Two parts whose losses reach both; a step must change only its own."""

    def __init__(self, num_bits: int = 2) -> None:
        super().__init__(num_bits)
        self.other = torch.nn.Parameter(torch.ones(num_bits))
        self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def parts(self):
        return {"left": [self.weight, self.frozen], "right": [self.other]}

    def objectives(self, data, epoch):
        both = self.weight.sum() + self.other.sum()
        yield Objective({"loss": both, "size": both}, "left")
        self.seen.append((self.weight[0].item(), self.other[0].item()))
        both = self.weight.sum() + self.other.sum()
        yield Objective({"loss": both}, "right")
        self.seen.append((self.weight[0].item(), self.other[0].item()))


@pytest.mark.parametrize("one", [True, False])
def test_a_step_changes_its_part_alone(data, one):
    model = Parts()
    if one:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
        right = 0.75
    else:
        rates = {"left": 0.25, "right": 0.5}
        optimizer = {n: torch.optim.SGD(p, lr=rates[n]) for n, p in model.parts().items()}
        right = 0.5
    history = fit(model, data, optimizer, epochs=1, progress=False)
    assert model.seen == [(0.75, 1.0), (0.75, right)]
    assert history[0] == {
        "epoch": 1,
        "loss": 4.0 + 3.5,
        "left_loss": 4.0,
        "left_size": 4.0,
        "right_loss": 3.5,
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda parts: {"left": torch.optim.SGD(parts["left"])}, "one optimiser a part.*right"),
        (lambda parts: {}, "got none"),
        (lambda parts: {n: torch.optim.SGD(parts["left"]) for n in parts}, "part 'right'"),
    ],
)
def test_optimizers_must_fit_the_parts(data, make, message):
    model = Parts()
    with pytest.raises(ValueError, match=message):
        fit(model, data, make(model.parts()), epochs=1, progress=False)


def test_resume_with_an_optimizer_a_part(data, tmp_path):
    def run(epochs, **kwargs):
        model = Parts()
        optimizers = {n: torch.optim.Adam(p, lr=0.01) for n, p in model.parts().items()}
        fit(model, data, optimizers, epochs=epochs, progress=False, **kwargs)
        return model

    whole = run(5)
    run(2, checkpoint=tmp_path / "c")
    resumed = run(5, checkpoint=tmp_path / "c", resume=True)
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.other, resumed.other)
    model = Parts()
    with pytest.raises(ValueError, match="optimizers of parts"):
        fit(
            model, data, torch.optim.Adam(model.parameters(), lr=0.01), epochs=6,
            checkpoint=tmp_path / "c", resume=True, progress=False,
        )  # fmt: skip


class Named(Alternating):
    """A term whose name is one of the history's own."""

    def objectives(self, data, epoch):
        yield Objective({"loss": self.weight.sum(), self.name: self.weight.sum()})


@pytest.mark.parametrize("name", ["epoch", "val_map"])
def test_columns_of_the_history_are_not_replaced(data, name):
    model = Named()
    model.name = name
    with pytest.raises(ValueError, match=f"loss: '{name}' is a column"):
        train(model, data)


def test_two_terms_are_no_one_column_of_the_history(data):
    class Both(Parts):
        def objectives(self, data, epoch):
            yield Objective({"loss": self.weight.sum(), "b_loss": self.weight.sum()}, "a")
            yield Objective({"loss": self.other.sum()}, "a_b")

        def parts(self):
            return {"a": [self.weight], "a_b": [self.other]}

    with pytest.raises(ValueError, match="loss: 'a_b_loss' is a column"):
        train(Both(), data)


@pytest.mark.parametrize("column", ["epoch", "loss"])
def test_callbacks_add_columns_and_replace_none(data, column):
    measured = train(Alternating(), data, callbacks=[lambda _, row: row.update(val_map=0.5)])
    assert measured[-1]["val_map"] == 0.5  # measured by themselves
    with pytest.raises(ValueError, match=rf"callbacks: row\['{column}'\] is a column"):
        train(Alternating(), data, callbacks=[lambda _, row: row.update({column: 7.0})])


def test_an_objective_of_no_part_is_named(data):
    class Split(Alternating):
        def parts(self):
            return {"left": [self.weight]}

    model = Split()
    with pytest.raises(ValueError, match=r"Split.objectives: .*'model', but parts\(\) are left"):
        train(model, data)
