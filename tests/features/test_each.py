import pytest
import torch

from pyg_hash.features import BagOfWords, encode_each


def numbers(items):
    """Texts that are numbers; asks for all of them at once, as an encoder does."""
    return torch.tensor([[float(item), 1.0] for item in items])


def test_all_good_is_one_call_a_batch():
    sizes = []

    def encode(items):
        sizes.append(len(items))
        return numbers(items)

    found = encode_each(encode, [str(i) for i in range(7)], batch_size=3)
    assert sizes == [3, 3, 1]
    assert not found.problems and found.kept == list(range(7))
    assert torch.equal(found.values, numbers([str(i) for i in range(7)]))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_bad_items_are_named_and_the_rest_goes_on(batch_size):
    items = ["3", "x", "", "4", "nan", "5"]
    found = encode_each(numbers, items, batch_size=batch_size)
    assert found.kept == [0, 3, 5] and found.problems
    assert found.values[:, 0].tolist() == [3, 4, 5]
    assert sorted(found.problems) == [1, 2, 4]
    assert "'x'" in found.problems[1]
    assert "not finite" in found.problems[4]


def test_nothing_good_and_nothing_at_all():
    found = encode_each(numbers, ["a", "b"])
    assert found.values is None and found.kept == [] and len(found.problems) == 2
    assert not encode_each(numbers, []).problems


def test_missing_files_are_problems_of_items():
    def encode(paths):
        return torch.stack([torch.tensor([float(len(open(p).read()))]) for p in paths])

    found = encode_each(encode, [__file__, "/nowhere/at all", __file__])
    assert found.kept == [0, 2] and "No such file" in found.problems[1]


def test_feature_rows_are_items_too():
    x = torch.ones(5, 2)
    x[3, 1] = float("inf")
    found = encode_each(lambda rows: 2 * rows, x, batch_size=4)
    assert found.kept == [0, 1, 2, 4] and torch.equal(found.values, torch.full((4, 2), 2.0))


def test_other_errors_are_raised():
    def broken(items):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        encode_each(broken, ["a"])
    for wrong in (lambda items: torch.ones(len(items)), lambda items: [1], lambda items: None):
        with pytest.raises(TypeError, match="expected a tensor of 2 rows"):
            encode_each(wrong, ["a", "b"])
    with pytest.raises(TypeError, match="1 rows, got"):
        encode_each(lambda items: torch.ones(3, 4), ["a"])


def test_words_outside_the_vocabulary():
    pytest.importorskip("sklearn")
    encoder = BagOfWords().fit(["red car", "blue dog"])
    found = encode_each(encoder, ["red", "zebra crossing", "dog"])
    assert found.kept == [0, 2]
    assert found.problems[1].startswith("texts: 'zebra crossing' has no known word; unknown: zebra")
