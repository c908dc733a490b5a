"""What new items must look like, for features and for raw items."""

import copy

import pytest
import torch
from small import assert_same_codes, graph_for, model_for
from toy import toy_data

from pyg_hash.models import MCGCN, SGCH, GraphHashModel
from pyg_hash.models.base import Intake
from pyg_hash.nn import GCNChannel
from pyg_hash.transforms import ScaleFeatures
from pyg_hash.utils.files import load_tensors, save_tensors

LIKE = torch.zeros(1, dtype=torch.float64)


def raw_items():
    data = toy_data()
    data["image"].x = torch.randint(0, 255, (60, 3, 4, 5), dtype=torch.uint8)
    data["text"].x = torch.randint(0, 99, (60, 7))
    return data


def test_features_are_scaled_as_those_of_the_data():
    data = ScaleFeatures()(toy_data())
    intake = Intake.of(data)
    assert intake.about["shapes"] == {"image": [12], "text": [9]}
    again = intake.prepare(toy_data()["image"].x, "image", data["image"].x)
    assert torch.equal(again, data["image"].x)
    assert intake.prepare(toy_data()["image"].x, "image", LIKE).dtype == torch.float64


def test_raw_items_keep_their_type():
    data = raw_items()
    intake = Intake.of(data)
    assert intake.about["shapes"] == {"image": [3, 4, 5], "text": [7]}
    for modality in ("image", "text"):
        x = data[modality].x[:2]
        assert torch.equal(intake.prepare(x, modality, LIKE), x)
    floats = intake.prepare(data["image"].x[:2].float(), "image", LIKE)
    assert floats.dtype == torch.float64  # as the parameters


def test_a_graph_without_anchors():
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data)
    for modality in ("image", "text"):
        del data[modality].anchor_mask
    with pytest.raises(ValueError, match="data: has no anchors; apply IntraKNN first"):
        model.attach(data)


def test_bad_raw_items():
    intake = Intake.of(raw_items())
    with pytest.raises(ValueError, match=r"x: expected shape \[n, 3, 4, 5\], got \[2, 3, 4\]"):
        intake.prepare(torch.zeros(2, 3, 4), "image", LIKE)
    with pytest.raises(ValueError, match="no rows"):
        intake.prepare(torch.zeros(0, 7, dtype=torch.long), "text", LIKE)
    with pytest.raises(ValueError, match="NaN"):
        intake.prepare(torch.full((1, 3, 4, 5), float("nan")), "image", LIKE)
    with pytest.raises(TypeError, match="list"):
        intake.prepare([[1]], "text", LIKE)


@pytest.mark.parametrize("make", [raw_items, lambda: ScaleFeatures()(toy_data())])
def test_stored_and_mapped(make, tmp_path):
    intake = Intake.of(make())
    save_tensors(tmp_path / "x", intake.tensors, intake.about)
    again = Intake(*load_tensors(tmp_path / "x"))
    assert again.about == intake.about
    for modality in ("image", "text"):
        scaling = intake.scaling(modality)
        assert set(again.scaling(modality)) == set(scaling)
        for name, value in scaling.items():
            assert torch.equal(
                torch.as_tensor(again.scaling(modality)[name]), torch.as_tensor(value)
            )
    moved = intake.map(lambda tensor: tensor.to("meta")).tensors
    assert {tensor.device.type for tensor in moved.values()} <= {"meta"}


def test_an_intake_of_ones_own_constructor_is_mapped():
    class Own(Intake):
        def __init__(self, tensors, about):
            super().__init__(tensors, about)

    intake = Own.of(raw_items())
    intake.trained = {"rows": torch.arange(2)}
    moved = intake.map(torch.clone)
    assert type(moved) is Own and moved.trained is intake.trained


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
def test_messages_of_other_parameters_are_not_answered_with(kind, tmp_path):
    data, x = graph_for(kind), toy_data()["image"].x
    model, other = model_for(kind, data).attach(data), model_for(kind, data, seed=1)
    codes, state = model.encode_image(x), copy.deepcopy(model.state_dict())
    model.save(tmp_path / "model")
    with torch.inference_mode():
        assert torch.equal(kind.load(tmp_path / "model").encode_image(x), codes)
    for each in copy.deepcopy(model).double().float(), kind.load(tmp_path / "model"), model:
        each.requires_grad_(False).load_state_dict(state)
        assert torch.equal(each.encode_image(x), codes)
    copy.deepcopy(model).bfloat16().float().encode_image(x)  # whose messages are rounded alike
    for change in (
        lambda each: each.load_state_dict(other.state_dict()),
        lambda each: torch._foreach_neg_([*each.requires_grad_(False).parameters()]),
        lambda each: each.load_state_dict(other.state_dict(), assign=True),
    ):
        for each in copy.deepcopy(model), kind.load(tmp_path / "model").to("cpu"):
            change(each)
            for work in (
                lambda each=each: each.cpu().encode_image(x),
                lambda each=each: each.save(tmp_path / "no"),
            ):
                with pytest.raises(RuntimeError, match=r"weight has changed .*attach\(data\)"):
                    work()
            each.attach(data).encode_image(x)


@pytest.mark.parametrize("kind", [MCGCN, SGCH])
@pytest.mark.parametrize("protocol", ["inductive", "transductive"])
def test_stored_items_keep_their_codes_as_new_items(kind, protocol, tmp_path):
    """A labelled anchor has another code in the graph than a stranger with its features."""
    raw = toy_data()
    data = graph_for(kind, protocol)
    model = model_for(kind, data)
    model.attach(data)
    for again in (model, save_and_load(model, tmp_path)):
        for modality, encode in (("image", again.encode_image), ("text", again.encode_text)):
            relaxed = model.eval()(data)[modality].detach()
            stored, found = model.encode(data, modality), encode(raw[modality].x)
            anchors = data[modality].anchor_mask
            assert torch.equal(found[anchors], stored[anchors])
            assert_same_codes(found, stored, relaxed)
            one = encode(raw[modality].x[anchors][-1:])
            assert torch.equal(one, stored[anchors][-1:])
    fresh = model.encode_image(raw["image"].x + 1e-3)  # of strangers that are as near as can be
    assert not torch.equal(fresh, model.encode(data, "image"))


def save_and_load(model, folder):
    model.save(folder)
    return type(model).load(folder)


class TwoChannels(GraphHashModel):
    """On one place after each other, beside each other, or of the joint graph one a modality."""

    def __init__(self, num_features, num_bits=6, way="after"):
        super().__init__(num_bits, num_features, specific=way != "joint", joint=way == "joint")
        self.way, widths = way, self.num_features
        kinds = torch.nn.ModuleDict
        self.latent = kinds({m: torch.nn.Linear(d, num_bits) for m, d in widths.items()})
        self.first = kinds({m: GCNChannel(num_bits, num_bits, num_bits) for m in widths})
        self.second = kinds({m: GCNChannel(num_bits, num_bits, num_bits) for m in widths})

    def loss(self, out, data):
        raise NotImplementedError

    def propagate(self, x, places):
        h = {m: torch.cat([self.latent[m](part) for part in parts]) for m, parts in x.items()}
        if self.way == "joint":
            all_h, place = torch.cat([*h.values()]), places["joint"]
            return {m: self.first[m](all_h, place)[0].chunk(len(x))[i] for i, m in enumerate(x)}
        z = {m: self.first[m](h[m], places[m])[0] for m in x}
        h = z if self.way == "after" else h
        return {m: z[m] + 2 * self.second[m](h[m], places[m])[0] for m in x}


@pytest.mark.parametrize("way", ["after", "beside"])
def test_two_channels_on_one_place(way):
    """A query of the inductive protocol is a new item: neither path may differ from training's."""
    raw, data = toy_data(), graph_for(MCGCN)
    torch.manual_seed(0)
    model = TwoChannels(data.num_features, way=way).attach(data)
    for modality, relax in (("image", model.relax_image), ("text", model.relax_text)):
        expected = model(data)[modality].detach()
        torch.testing.assert_close(relax(raw[modality].x), expected, rtol=0, atol=1e-5)


def test_channels_of_the_joint_graph_that_one_modality_does_not_pass():
    data = graph_for(MCGCN)
    model = TwoChannels(data.num_features, way="joint").attach(data)
    with pytest.raises(ValueError, match=r"places\['joint'\].receive .* 2 times for text .* 4 for"):
        model.encode_text(toy_data()["text"].x)
