from collections import Counter

import pytest
from emoji_manifest import allot, stratified_split


def test_allot_by_largest_remainder():
    assert allot({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert allot({"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}
    assert allot({"a": 5, "b": 3}, 3) == {"a": 2, "b": 1}
    assert allot({"a": 2}, 0) == {"a": 0}
    with pytest.raises(ValueError, match=r"total: expected 0\.\.2"):
        allot({"a": 2}, 3)


def test_stratified_and_seeded():
    labels = ["a"] * 60 + ["b"] * 40
    query = stratified_split(labels, 10, seed=1)
    assert Counter(labels[i] for i in query) == {"a": 6, "b": 4}
    assert query == stratified_split(labels, 10, seed=1) != stratified_split(labels, 10, seed=2)


@pytest.mark.parametrize("seed", range(8))
def test_every_query_shares_a_word_with_what_stays(seed):
    words = [{"x", "y"}, {"x"}, {"y"}, {"z"}, {"z", "x"}, {"z", "w"}, {"w"}, {"alone"}]
    query = stratified_split(["a"] * 8, 3, seed=seed, words=words)
    known = set().union(*(words[i] for i in range(8) if i not in query))
    assert len(query) == 3 and all(words[i] & known for i in query)


def test_too_few_rows_that_may_be_queries():
    with pytest.raises(ValueError, match="num_queries: .*'a': 1"):
        stratified_split(["a", "a"], 1, seed=0, words=[{"x"}, {"y"}])
