"""The grammar of filters: what it means, and what is no filter."""

from __future__ import annotations

import pytest

from pyg_hash.index.where import Condition, Group, parse

FIELDS = {"year": int, "name": str, "w": float, "ok": bool, "tags": list, "a b": str, "größe": int}


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("year >= 2005", Condition("year", ">=", (2005,))),
        ("year=-5", Condition("year", "=", (-5,))),
        ("w < 3", Condition("w", "<", (3.0,))),
        ("w<>.5e1", Condition("w", "!=", (5.0,))),
        ("name == 'it''s'", Condition("name", "=", ("it's",))),
        ("`a b` = ''", Condition("a b", "=", ("",))),
        ("größe in (1, 2)", Condition("größe", "=", (1, 2))),
        ("name NOT IN ('a')", Condition("name", "!=", ("a",))),
        ("ok = TRUE", Condition("ok", "=", (True,))),
        ("tags has 'x'", Condition("tags", "has", ("x",))),
        ("tags is not null", Condition("tags", "null", (), True)),
        ("not not (year < 1)", Condition("year", "<", (1,))),
        ("not year is null", Condition("year", "null", (), True)),
        ("year = 5.5", Condition("year", "<", (-(2**63),))),  # no int
        ("year not in (5.5, 6.5)", Condition("year", ">=", (-(2**63),))),  # any int
        ("year in (5.5, 6, 7.0)", Condition("year", "=", (6, 7))),
        ("w = 5.5", Condition("w", "=", (5.5,))),
    ],
)
def test_conditions(text, tree):
    assert parse(text, FIELDS) == tree


@pytest.mark.parametrize("text", ["\u00e9", "e\u0301"])
def test_texts_are_found_in_any_normal_form(text):
    for test, op in (("tags has", "has"), ("name =", "="), ("name !=", "!=")):
        tree = parse(f"{test} '{text}'", FIELDS)
        assert tree.op == op and {*tree.values} == {"\u00e9", "e\u0301"}
    assert parse(f"id = '{text}'", {"id": str}).values == (text,)


def test_and_binds_more_than_or_and_not_most():
    a, b, c = (Condition("year", "=", (i,)) for i in range(3))
    assert parse("year=0 or year=1 and year=2", FIELDS) == Group(False, (a, Group(True, (b, c))))
    assert parse("(year=0 or year=1) and year=2", FIELDS) == Group(True, (Group(False, (a, b)), c))
    gone = [x._replace(negated=True) for x in (a, b, c)]
    assert parse("not (year=0 and year=1)", FIELDS) == Group(False, tuple(gone[:2]))
    want = Group(True, (gone[0], Group(False, tuple(gone[1:]))))
    assert parse("not (year=0 or year=1 and year=2)", FIELDS) == want
    assert parse("not year=0 and year=1", FIELDS) == Group(True, (gone[0], b))


def test_mappings_are_a_short_form():
    for mapping, text in [
        ({"year": [1, 2], "name": "x"}, "year in (1, 2) and name = 'x'"),
        ({"tags": "x", "year": None}, "tags has 'x' and year is null"),
    ]:
        assert parse(mapping, FIELDS) == parse(text, FIELDS)
    assert parse({"year": 5.5}, FIELDS) == Group(True, (Condition("year", "<", (-(2**63),)),))
    assert parse(None, FIELDS) is None and parse({}, FIELDS) is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "expected a field at letter 1, got the end; for example"),
        ("year", ValueError, "expected =, .* at letter 5, got the end"),
        ("year = ", ValueError, "expected a number, 'text', true or false"),
        ("year = 5 year", ValueError, "expected and, or or the end at letter 10, got 'year'"),
        ("(year = 5", ValueError, r"expected \) at letter 10"),
        ("year = 5 and", ValueError, "expected a field"),
        ("year in ()", ValueError, "expected a number"),
        ("year in (1 2)", ValueError, r"expected \) at letter 12"),
        ("year not = 1", ValueError, "expected in at letter 10"),
        ("name = 'open", ValueError, 'a field, sign or value at letter 8, got "\'open"'),
        ("year = 5; drop", ValueError, "letter 9, got '; drop'"),
        ("__import__('os') = 1", ValueError, "'__import__' is not known; this store keeps"),
        ("month = 5", ValueError, "'month' is not known"),
        ("year = '5'", TypeError, "expected int, got '5'"),
        ("name = 5", TypeError, "expected str, got 5"),
        ("ok = 1", TypeError, "expected bool, got 1"),
        ("ok < true", TypeError, "ok is bool, which knows no <"),
        ("tags = 'x'", TypeError, "tags is list, which knows no =; use has"),
        ("name has 'x'", TypeError, "name is str, which knows no has"),
        ("year = 9223372036854775808", ValueError, "does not fit int64"),
        ("w = 1e999", ValueError, "too large"),
        ("(" * 60 + "year = 1" + ")" * 60, ValueError, "more than 50 parentheses"),
        ("not " * 5000 + "year = 1", ValueError, "letters long; use at most 20000"),
        ("not " * 4000 + "year = 1", ValueError, "more than 50 parentheses and nots"),
    ],
)
def test_what_is_no_filter(text, error, message):
    with pytest.raises(error, match=message):
        parse(text, FIELDS)
