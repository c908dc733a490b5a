"""Training on mini-batches: what a step is made of, and in which precision."""

import copy
import warnings

import pytest
import torch
from small import adam, assert_same_state, graph_for, model_for, small_graph, small_model

from pyg_hash.metrics import OddDataWarning
from pyg_hash.models import GCH, MCGCN, SGCH, SGEH, HashModel, Objective
from pyg_hash.models.batches import WHOLE, Share
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import fit
from pyg_hash.typing import MODALITIES, HashOutput


def batches(kind=MCGCN, count=4):
    """Small graphs that stand for mini-batches of one."""
    return [graph_for(kind, seed=seed) for seed in range(count)]


def train(model, data, optimizer=None, epochs=2, **kwargs):
    optimizer = adam(model) if optimizer is None else optimizer
    return fit(model, data, optimizer, epochs=epochs, progress=False, **kwargs)


def assert_close(a, b):
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
def test_a_loader_of_the_whole_view_changes_nothing(kind):
    data = graph_for(kind)
    a, b = model_for(kind, data), model_for(kind, data)
    first = train(a, data)
    second = train(b, data, loader=[b.training_view(data)])
    assert first == second
    assert_same_state(a, b)
    assert a.intake is not None and b.intake is not None


def test_each_batch_is_a_step():
    data, parts = small_graph(), batches()
    model, by_hand = small_model(data), small_model(data)
    history = train(model, data, loader=parts)
    optimizer, losses = adam(by_hand), []
    for _ in range(2):
        for batch in parts:
            optimizer.zero_grad()
            losses.append(by_hand.loss(by_hand.train()(batch), batch)["loss"])
            losses[-1].backward()
            optimizer.step()
    assert_close(model, by_hand)
    expected = [torch.stack(losses[:4]).mean().item(), torch.stack(losses[4:]).mean().item()]
    assert [row["loss"] for row in history] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [4, 5])
def test_accumulate_is_the_mean_of_the_gradients(count):
    """The last group of five batches by twos is filled up with the first batch."""
    data, parts = small_graph(), batches(count=count)
    model, by_hand = small_model(data), small_model(data)
    train(model, data, loader=parts, accumulate=2, epochs=1)
    optimizer = adam(by_hand)
    for start in range(0, count, 2):
        group = (parts + parts)[start : start + 2]
        optimizer.zero_grad()
        losses = [by_hand.loss(by_hand.train()(batch), batch)["loss"] for batch in group]
        torch.stack(losses).mean().backward()
        optimizer.step()
    assert_close(model, by_hand)


def test_alternating_parts_go_in_lockstep():
    """The discriminator's step on all batches of a group comes before the codes' step on any."""
    data, parts = graph_for(SGCH), batches(SGCH, 2)
    model, by_hand = model_for(SGCH, data), model_for(SGCH, data)
    sgd = {n: torch.optim.SGD(p, lr=0.01) for n, p in model.parts().items()}
    train(model, data, sgd, loader=parts, accumulate=2, epochs=2)
    sgd = {n: torch.optim.SGD(p, lr=0.01) for n, p in by_hand.parts().items()}
    for _ in range(2):
        outs = [by_hand.train()(batch) for batch in parts]
        for part, loss in (
            ("discriminator", by_hand.discriminator_loss),
            ("codes", lambda out, batch: by_hand.loss(out, batch)["loss"]),
        ):
            by_hand.zero_grad()
            losses = [loss(out, batch) for out, batch in zip(outs, parts, strict=True)]
            torch.stack(losses).mean().backward(inputs=by_hand.parts()[part])
            sgd[part].step()
    assert_close(model, by_hand)


@pytest.mark.parametrize("kind", [GCH, SGEH])
def test_accumulate_of_methods_with_batches_of_their_own(kind):
    data = graph_for(kind)
    one, two = (model_for(kind, data, batch_size=8) for _ in range(2))
    assert len(train(one, data)) == len(train(two, data, accumulate=3)) == 2
    assert not torch.equal(one.encode(data, "image"), torch.zeros(1))
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)
    )


def test_batch_normalisation_takes_one_update_a_step():
    """Two equal batches of a step leave the statistics of one."""
    data = graph_for(GCH)
    model = model_for(GCH, data, batch_size=48, dropout=0.0)  # one batch, which is then repeated
    twice = copy.deepcopy(model)
    train(model, data, torch.optim.SGD(model.parameters(), lr=0.01), epochs=1)
    train(twice, data, torch.optim.SGD(twice.parameters(), lr=0.01), epochs=1, accumulate=2)
    assert_close(model, twice)
    assert any("running_mean" in name for name in model.state_dict())


class Normed(HashModel):
    """One layer behind batch normalisation."""

    def __init__(self, num_bits: int = 2) -> None:
        super().__init__(num_bits, {"num_bits": num_bits})
        self.norm = torch.nn.BatchNorm1d(12)
        self.lin = torch.nn.Linear(12, num_bits)

    def forward(self, data):
        codes = torch.tanh(self.lin(self.norm(data["image"].x)))
        return HashOutput(codes, codes)

    def loss(self, out, data):
        return {"loss": out.image.square().mean()}

    def relaxed_new(self, x, modality):
        return self.lin(self.norm(x))


def test_batch_normalisation_goes_on_from_step_to_step():
    """Each step starts from the statistics that the one before left."""
    data, parts = graph_for(MCGCN), batches(count=4)
    torch.manual_seed(0)
    model = Normed()
    train(model, data, torch.optim.SGD(model.parameters(), lr=0.0), loader=parts, accumulate=2)
    expected = torch.zeros(12)
    means = [batch["image"].x.mean(dim=0) for batch in parts]
    for i in (0, 2, 0, 2):  # two epochs
        expected = 0.9 * expected + 0.1 * (means[i] + means[i + 1]) / 2
    torch.testing.assert_close(model.norm.running_mean, expected)
    assert model.norm.num_batches_tracked.item() == 4


def test_noise_of_a_batch_does_not_depend_on_the_others():
    """Dropout of a batch is drawn from its own seed; the generator goes on after the epoch."""
    data = graph_for(GCH)
    model = model_for(GCH, data, batch_size=8)
    torch.manual_seed(3)
    train(model, data, epochs=1, accumulate=2)
    after = torch.rand(4)
    torch.manual_seed(3)
    torch.randint(2**48, ())
    assert torch.equal(after, torch.rand(4))


@pytest.mark.parametrize(("kind", "accumulate"), [(GCH, 1), (SGEH, 2), (MCGCN, 2), (SGCH, 1)])
def test_resume_equals_uninterrupted(kind, accumulate, tmp_path):
    data = graph_for(kind)
    extra = {"loader": batches(kind, 3)} if kind in (MCGCN, SGCH) else {}
    extra["accumulate"] = accumulate
    file = tmp_path / "c.safetensors"
    whole, first, second = (model_for(kind, data) for _ in range(3))
    torch.manual_seed(5)
    train(whole, data, epochs=2, **extra)
    torch.manual_seed(5)
    train(first, data, epochs=1, checkpoint=file, **extra)
    torch.manual_seed(99)
    train(second, data, epochs=2, checkpoint=file, resume=True, **extra)
    assert_same_state(whole, second)


# precision


@pytest.mark.parametrize("kind", [MCGCN, GCH, SGCH, SGEH])
def test_bf16_trains_fp32_parameters(kind):
    data = graph_for(kind)
    model, other = model_for(kind, data), model_for(kind, data)
    seen = []
    layer = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    layer.register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    torch.manual_seed(0)
    history = train(model, data, epochs=3, precision="bf16")
    torch.manual_seed(0)
    exact = train(other, data, epochs=3)
    assert torch.bfloat16 in seen
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert history[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.05)
    assert history != exact
    assert model.encode(data, "image").dtype == torch.int8


# shares


def test_shares_partition_the_batches():
    items = list(range(7))
    shares = [Share(place, 3, seed=1).of(items) for place in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]  # filled up with the first ones
    assert WHOLE.of(items) == items
    assert [Share(i, 4).of([5]) for i in range(4)] == [[5]] * 4


def test_shares_agree_on_the_order():
    orders = [torch.randperm(9, generator=Share(i, 2, seed=7).generator()) for i in range(2)]
    assert torch.equal(*orders)
    assert WHOLE.generator() is None


# what is refused


class Plain:
    """Batches of a loader, without its data."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


def test_what_cannot_be():
    data = small_graph()
    model = small_model(data)
    with pytest.raises(ValueError, match="loader: MCGCN takes all data at once.*2 batches"):
        train(model, data, accumulate=2)
    with pytest.raises(ValueError, match="accumulate"):
        train(model, data, accumulate=0)
    with pytest.raises(ValueError, match="precision: 'fp16'"):
        train(model, data, precision="fp16")
    with pytest.raises(TypeError, match="loader: a generator"):
        train(model, data, loader=(batch for batch in batches(count=1)))
    with pytest.raises(ValueError, match="loader: gave no batch"):
        train(model, data, loader=[])
    swapped = copy.copy(data)
    for m in MODALITIES:
        swapped[m].update(train_mask=data[m].query_mask, query_mask=data[m].train_mask)
    whole = InstanceLoader(swapped, batch_size=8)
    for loader in (whole, [*whole], Plain(whole)):
        with pytest.raises(ValueError, match="loader: trains on 12 pairs of data that are no trai"):
            train(model, data, loader=loader)
    with pytest.warns(OddDataWarning, match="loader: 48 of 48 pairs that it trains on are none of"):
        train(model, data, loader=InstanceLoader(small_graph(seed=9), batch_size=8), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OddDataWarning)
        train(model, data, loader=Plain(InstanceLoader(data, batch_size=8)), epochs=1)
    for kind in (GCH, SGEH):
        own = graph_for(kind)
        with pytest.raises(ValueError, match=f"loader: {kind.__name__} makes mini-batches"):
            train(model_for(kind, own), own, loader=[own])


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_batches_are_of_pairs(rate):
    """Labels tell who is no pair, and, where none are read, PyG's ``n_id``."""
    data = graph_for(MCGCN, rate=rate)
    model = model_for(MCGCN, data)
    view = model.training_view(data)
    rows = {m: torch.randperm(48)[:30] for m in MODALITIES}
    batch = view.subgraph(rows)
    for m in MODALITIES if rate == 0.0 else ():
        batch[m].n_id = rows[m]
    with pytest.raises(ValueError, match="loader: in a batch, .*(mask|y|n_id): differ, but row i"):
        train(model, data, loader=[batch])


class Pairs(SGEH):
    """Makes its batches without sharing them out."""

    makes_batches = False

    def objectives(self, data, epoch):
        yield Objective({"loss": self(data).image.square().mean()}, "codes")


class Claims(Pairs):
    makes_batches = True


class Shares(Pairs):
    makes_batches = True

    def objectives(self, data, epoch, share):
        for modality in share.of(["image", "text", "image"]):
            yield Objective({"loss": self(data)[modality].square().mean()}, "codes")


def test_batches_of_ones_own_need_a_share():
    data = graph_for(SGEH)
    for kind in (Pairs, Claims):
        with pytest.raises(
            ValueError, match=rf"{kind.__name__}.objectives: .*makes_batches = True.*share"
        ):
            train(model_for(kind, data), data, accumulate=2)
    assert train(model_for(Pairs, data), data) and train(
        model_for(Shares, data), data, accumulate=2
    )
