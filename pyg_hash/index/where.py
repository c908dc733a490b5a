"""Filters: ``year >= 2005 and label in ('cat', 'dog')``, one grammar for every store.

::

    any    = all {"or" all}
    all    = one {"and" one}
    one    = "not" one | "(" any ")" | FIELD test
    test   = ("=" | "!=" | "<" | "<=" | ">" | ">=") value
           | ["not"] "in" "(" value {"," value} ")"
           | "has" value                               of a list
           | "is" ["not"] "null"
    value  = number | 'text' ('' is a ') | true | false

``id`` is a field of every store. A field whose name is no word stands in backquotes. No comparison
with a missing value holds; a list without a text is missing, too (``is null``). Texts, but ids, are
found in either normal form (NFC, NFD).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from unicodedata import normalize

from pyg_hash.index.columns import FIELD_TYPES, field_value
from pyg_hash.utils.settings import field_name

Where = Mapping[str, Any] | str
_LETTERS = 20_000  # of a filter
_DEPTH = 50
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|`(?P<field>[^`]+)`|(?P<word>[^\W\d]\w*)"
    r"|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<sign><=|>=|!=|<>|==|[=<>(),])"
    r"|(?P<odd>\S))"
)
_EXAMPLE = "for example year >= 2005 and labels has 'cat'"


class Condition(NamedTuple):
    """A field compared to values: ``=``, ``!=`` or ``has`` to any of them, ``<`` ... to one."""

    field: str
    op: str  # or null: the field is missing
    values: tuple[Any, ...] = ()
    negated: bool = False  # whatever it says does not hold


class Group(NamedTuple):
    """Conditions of which all hold, or one at least."""

    every: bool
    parts: tuple[Tree, ...]


Tree = Condition | Group


def parse(where: Where | None, fields: Mapping[str, type]) -> Tree | None:
    """A filter as a tree, without negations but in its leaves; None: no filter.

    ``where`` is a text, or the allowed value or values of each field; ``fields`` are the types of
    those that are known. ``ValueError``: it is none; ``TypeError``: one does not fit its field.
    """
    if where is None:
        return None
    if isinstance(where, str):
        return _Parser(where, fields).tree()
    parts: list[Tree] = []
    for name, wanted in where.items():
        kind = _kind(name, fields)
        if wanted is None:
            parts.append(Condition(name, "null"))
            continue
        single = isinstance(wanted, FIELD_TYPES) and not isinstance(wanted, list)
        values = [wanted] if single or getattr(wanted, "shape", None) == () else list(wanted)
        if not values:
            raise ValueError(f"where: {name} has no value to look for")
        parts.append(_condition(name, kind, "has" if kind is list else "=", values))
    return Group(True, tuple(parts)) if parts else None


def _kind(name: str, fields: Mapping[str, type]) -> type:
    if name not in fields:
        own = [field for field in fields if field.rstrip("_") == field_name(name)]
        other = f", but as {own[0]!r}" if own else ""  # the field of the column of this name
        raise ValueError(f"where: {name!r} is not known{other}; this store keeps {sorted(fields)}")
    return fields[name]


def _condition(name: str, kind: type, op: str, values: Sequence[Any]) -> Condition:
    if (op == "has") != (kind is list):
        remedy = "use has" if kind is list else "has is for lists"
        raise TypeError(f"where: {name} is {kind.__name__}, which knows no {op}; {remedy}")
    if op not in ("=", "!=", "has") and kind is bool:
        raise TypeError(f"where: {name} is bool, which knows no {op}; use = or !=")
    if kind is int:
        if op in ("=", "!="):
            values = [v for v in values if not _is_finite(v) or v.is_integer()]
        if not values:  # none that an int can equal: no int, or any
            op, values = "<" if op == "=" else ">=", [-(2**63)]
        rounded = math.ceil if op in ("<", ">=") else math.floor  # compares to all ints alike
        values = [rounded(v) if _is_finite(v) else v for v in values]
    kind = str if kind is list else kind
    values = [field_value(v, kind, f"where: {name}") for v in values]
    if kind is str and name != "id" and op in ("=", "!=", "has"):
        forms = ((v, normalize("NFC", v), normalize("NFD", v)) for v in values)
        values = [*dict.fromkeys(chain(*forms))]
    return Condition(name, op, tuple(values))


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


class _Parser:
    """Recursive descent over the tokens of a filter."""

    def __init__(self, text: str, fields: Mapping[str, type]) -> None:
        if len(text) > _LETTERS:
            raise ValueError(f"where: is {len(text)} letters long; use at most {_LETTERS}")
        self._text, self._fields, self._next = text, fields, 0
        found = ((token, str(token.lastgroup)) for token in _TOKEN.finditer(text.rstrip()))
        self._tokens = [(kind, token[kind], token.start(kind)) for token, kind in found]
        self._tokens.append(("end", "", len(text)))

    def tree(self) -> Tree:
        tree = self._group("or", 0, False)
        if self._tokens[self._next][0] != "end":
            raise self._error("and, or or the end")
        return tree

    def _error(self, expected: str) -> ValueError:
        kind, _, at = self._tokens[self._next]
        expected = "a field, sign or value" if kind == "odd" else expected
        got = repr(self._text[at : at + 20]) if at < len(self._text) else "the end"
        return ValueError(f"where: expected {expected} at letter {at + 1}, got {got}; {_EXAMPLE}")

    def _take(self, *wanted: str) -> str | None:
        """The next token, if it is one of these signs or words."""
        kind, text, _ = self._tokens[self._next]
        if kind not in ("sign", "word") or text.lower() not in wanted:
            return None
        self._next += 1
        return text.lower()

    def _need(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._error(sign)

    def _group(self, word: str, depth: int, negated: bool) -> Tree:
        parts: list[Tree] = []
        while not parts or self._take(word):
            inner = self._group("and", depth, negated) if word == "or" else None
            parts.append(inner or self._one(depth, negated))
        # a negated "and" is an "or" of what is negated
        return parts[0] if len(parts) == 1 else Group((word == "and") != negated, tuple(parts))

    def _one(self, depth: int, negated: bool) -> Tree:
        if depth > _DEPTH:
            raise ValueError(f"where: more than {_DEPTH} parentheses and nots in one another")
        if self._take("not"):
            return self._one(depth + 1, not negated)
        if self._take("("):
            tree = self._group("or", depth + 1, negated)
            self._need(")")
            return tree
        kind, name, _ = self._tokens[self._next]
        if kind not in ("word", "field"):
            raise self._error("a field")
        self._next += 1
        found = self._test(name, _kind(name, self._fields))
        return found._replace(negated=found.negated != negated)

    def _test(self, name: str, kind: type) -> Condition:
        if self._take("is"):
            negated = self._take("not") is not None
            self._need("null")
            return Condition(name, "null", negated=negated)
        other = self._take("not") is not None
        if self._take("in"):
            self._need("(")
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._need(")")
            return _condition(name, kind, "!=" if other else "=", values)
        sign = None if other else self._take("=", "==", "!=", "<>", "<", "<=", ">", ">=", "has")
        if sign is None:
            raise self._error("in" if other else "=, !=, <, <=, >, >=, in, has or is")
        sign = {"==": "=", "<>": "!="}.get(sign, sign)
        return _condition(name, kind, sign, [self._value()])

    def _value(self) -> Any:
        if truth := self._take("true", "false"):
            return truth == "true"
        kind, text, _ = self._tokens[self._next]
        if kind not in ("text", "number"):
            raise self._error("a number, 'text', true or false")
        self._next += 1
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if math.isinf(float(text)) or len(text) > 400:
            raise ValueError(f"where: {text:.40} is too large")
        return int(text) if text.lstrip("+-").isdigit() else float(text)
