"""Two ranks on this machine: the same result as one process that averages the same batches."""

import json

import pytest
import rank_cases
import torch
from rank_cases import CASES, train
from safetensors.torch import load_file
from small import adam, graph_for, model_for
from toy import toy_data

from benchmarks.measure import in_ranks
from pyg_hash.models import GCH, MCGCN
from pyg_hash.models.batches import Share
from pyg_hash.sampling import InstanceLoader
from pyg_hash.training import fit
from pyg_hash.training.ranks import Ranks, encode_sharded, process_group, shared_out


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What the two ranks of ``rank_cases.py`` left behind."""
    folder = tmp_path_factory.mktemp("ranks")
    in_ranks(2, rank_cases.all_cases, folder)
    return folder


def rows(file):
    return json.loads(file.read_text())


def assert_close(found, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_equal_one_process(out, name):
    model, data, history = train(name, accumulate=2)
    stored = [type(model).load(out / f"{name}-{rank}") for rank in range(2)]
    assert_close(stored[0].state_dict(), model.state_dict())
    for key, tensor in stored[0].state_dict().items():
        assert torch.equal(tensor, stored[1].state_dict()[key]), key
    assert torch.equal(stored[0].encode(data, "image"), stored[1].encode(data, "image"))
    for m, encode in (("image", "encode_image"), ("text", "encode_text")):
        x = toy_data(seed=5)[m].x
        assert torch.equal(getattr(stored[0], encode)(x), getattr(stored[1], encode)(x))
    for rank in range(2):
        for row, expected in zip(rows(out / f"{name}-{rank}.json"), history, strict=True):
            assert row == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_sharing_matters():
    """The cases would notice ranks that all did the same."""
    one, two = train("mcgcn")[0], train("mcgcn", accumulate=2)[0]
    assert any(
        not torch.allclose(a, b, atol=1e-3)
        for a, b in zip(one.parameters(), two.parameters(), strict=True)
    )


def test_accumulation_on_each_rank(out):
    model, _, _ = train("mcgcn", accumulate=4)
    for rank in range(2):
        assert_close(load_file(out / f"four-{rank}.safetensors"), model.state_dict())


@pytest.mark.parametrize("name", ["gch", "sgch"])
def test_resume_without_a_common_disk(out, name):
    kind = CASES[name][0]
    whole = kind.load(out / f"{name}-0").state_dict()
    for rank in range(2):
        resumed = kind.load(out / f"resumed-{name}-{rank}").state_dict()
        assert all(torch.equal(resumed[key], tensor) for key, tensor in whole.items())
        assert rows(out / f"resumed-{name}-{rank}.json") == rows(out / f"{name}-0.json")


def test_rank_0_evaluates_and_stops_all(out):
    first, second = (rows(out / f"stopped-{rank}.json") for rank in range(2))
    assert first == second and len(first) == 2
    assert all(0 < row["val_map"] <= 1 for row in first)


def test_errors_reach_all_ranks(out):
    first, second = (rows(out / f"errors-{rank}.json") for rank in range(2))
    assert first == second
    nan, no_loader, generator, view = first
    assert nan.startswith("FloatingPointError: loss: not finite in epoch 1")
    assert "takes all data at once" in no_loader
    assert "generator" in generator
    assert "cannot be shared out" in view


# one process


def test_one_process_needs_no_group():
    data = graph_for(GCH)
    model = model_for(GCH, data).attach(data)
    assert Ranks.of(model) == Ranks(0, 1, torch.device("cpu"))
    with process_group() as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()
    for m in ("image", "text"):
        assert torch.equal(encode_sharded(model, data, m), model.encode(data, m))
    assert torch.equal(
        encode_sharded(model, toy_data()["text"].x, "text"), model.encode_text(toy_data()["text"].x)
    )


def test_bad_devices_and_items():
    with pytest.raises(ValueError, match="device: 'tpu'"), process_group("tpu"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: no CUDA GPU"), process_group("cuda"):
            pass
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data).attach(data)
    with pytest.raises(ValueError, match="items: the nodes of MCGCN"):
        encode_sharded(model, data, "image")
    with pytest.raises(ValueError, match="modality"):
        encode_sharded(model, data, "video")


def instances(**kwargs):
    return InstanceLoader(graph_for(MCGCN, protocol="transductive"), batch_size=8, **kwargs)


def test_a_generator_of_the_loader_is_agreed_on():
    """Both shares of an epoch draw the same order, though they share the generator."""
    data = graph_for(MCGCN)
    models = [model_for(MCGCN, data) for _ in range(2)]
    for model, seed in zip(models, (1, 2), strict=True):
        torch.manual_seed(0)
        loader = rank_cases.sampled(model, data, generator=torch.Generator().manual_seed(seed))
        fit(model, data, adam(model), epochs=1, loader=loader, accumulate=2, progress=False)
    assert_close(models[0].state_dict(), models[1].state_dict())


def test_a_distributed_sampler_would_share_out_twice():
    sampler = torch.utils.data.DistributedSampler(range(60), num_replicas=2, rank=0)
    with pytest.raises(ValueError, match="loader: has a DistributedSampler"):
        shared_out(torch.utils.data.DataLoader(range(60), sampler=sampler), Share())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("shuffle", [False, True])
def test_shares_of_a_loader_are_its_batches(shuffle, workers):
    loader = instances(shuffle=shuffle, num_workers=workers)
    shares = []
    for place in range(3):
        share = shared_out(loader, Share(place, 3))
        torch.manual_seed(0)
        shares.append([b["image"].n_id[: b["image"].batch_size] for b in share])
        assert len(share) == len(shares[-1]) == 3
    dealt = [shares[i % 3][i // 3] for i in range(9)]
    assert torch.equal(dealt[8], dealt[0])  # filled up: there are 8
    seeds = torch.cat(dealt[:8])
    assert torch.equal(seeds.sort()[0], torch.arange(60))
    assert torch.equal(seeds, torch.arange(60)) != shuffle
    assert len(list(loader)) == 8  # the loader itself is as it was


def test_a_loader_alone_is_given_back():
    loader = instances()
    assert shared_out(loader, Share()) is loader
    with pytest.raises(TypeError, match="loader: batches of a dict_values"):
        shared_out({}.values(), Share(0, 2))


def test_shares_do_not_share_the_workers_of_a_loader_in_use():
    data = graph_for(MCGCN)
    loader = rank_cases.sampled(
        model_for(MCGCN, data), data, num_workers=1, persistent_workers=True
    )
    iter(loader)
    batches = [iter(shared_out(loader, Share(place, 2))) for place in range(2)]
    found = list(zip(*batches, strict=True))
    assert len(found) == 3  # of five batches, the first once more


def test_persistent_workers_serve_every_epoch():
    data = graph_for(MCGCN)
    model = model_for(MCGCN, data)
    loader = rank_cases.sampled(model, data, num_workers=1, persistent_workers=True)
    history = fit(model, data, adam(model), epochs=2, loader=loader, accumulate=2, progress=False)
    assert len(history) == 2
