"""What new items must look like, for features and for raw items."""

import pytest
import torch
from small import assert_same_codes, graph_for, model_for
from toy import toy_data

from pyg_hash.models import MCGCN, SGCH
from pyg_hash.models.base import Intake
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
