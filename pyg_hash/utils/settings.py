"""What users write: names, cut short or not, of columns too, and options of constructors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle, repeat
from typing import Any, TypeVar, cast


class SettingError(ValueError):
    """A setting, or a value of one, that does not exist; the command line's exit status 2."""


T = TypeVar("T")


def check_two(value: Any, name: str) -> None:
    """Raise unless ``value`` is two positive integers."""
    from pyg_hash.utils.checks import check_collection, check_size  # torch again

    check_collection(value, name)
    if len(value) != 2:
        raise ValueError(f"{name}: expected two numbers, got {value!r}")
    for number in value:
        check_size(number, name)


def find(name: str, known: Mapping[str, T], argument: str, more: str = "") -> T:
    """What is called ``name``, in any case, with ``-`` or ``_`` or without, or cut short if unique.

    ``SettingError``: none or several; the message names ``argument``, ``known`` and ``more``.
    """
    bare = {key: re.sub("[-_]", "", key.lower()) for key in (name, *known)}
    starting = [key for key in known if bare[name] and bare[key].startswith(bare[name])]
    same = [key for key in starting if bare[key] == bare[name]]
    found = [key for key in same if key == name.lower()] or same or starting
    if len(found) != 1:
        listed = f"{', '.join(known)} {more}".strip()
        raise SettingError(f"{argument}: {name!r} is not known; use one of {listed}")
    return known[found[0]]


def is_own(name: str | None) -> bool:
    """Whether a setting is ``MODULE:CLASS``, of a user's own code, and no feature file."""
    return ":" in (name or "") and not str(name).lower().endswith((".h5", ".hdf5"))


def field_name(column: str) -> str:
    """The name of a column as one word of a filter: letters, digits and ``_``."""
    plain = re.sub(r"\W+", "_", unicodedata.normalize("NFC", column)).strip("_") or "column"
    return plain if plain[0].isalpha() else f"c_{plain}"


def check_options(
    kind: type, options: Iterable[str], argument: str, taken: Iterable[str] = ()
) -> None:
    """Raise ``SettingError`` unless all options are keywords of ``kind``, and not ``taken``."""
    from pyg_hash.utils.checks import keywords_of  # torch, which --help does without

    allowed = [name for name in keywords_of(kind) if name not in set(taken)]
    unknown = [name for name in options if name not in allowed]
    if unknown:
        what = f"{kind.__name__} has no option {', '.join(map(repr, unknown))}"
        raise SettingError(f"{argument}: {what}; use some of {', '.join(allowed) or '(none)'}")


def check_yaml(text: str) -> None:
    """Raise ``yaml.YAMLError`` for damage, a key twice, deep nesting, aliases (few lines, much)."""
    import yaml  # few files need it

    resolve: Any = yaml.SafeLoader("").resolve  # 1 is another key than "1"
    around: list[Iterator[set[Any] | None]] = [repeat(None)]  # of each: its keys, if one is next
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.YAMLError(f"the alias *{event.anchor}; write its value out")
        if isinstance(event, yaml.events.NodeEvent):
            keys, mark = next(around[-1]), cast(Any, event.start_mark)
            if keys is not None and isinstance(event, yaml.events.ScalarEvent):
                tag = event.tag or resolve(yaml.ScalarNode, event.value, event.implicit)
                if (tag, event.value) in keys:
                    raise yaml.YAMLError(f"line {mark.line + 1}: the key {event.value!r} twice")
                keys.add((tag, event.value))
        if isinstance(event, yaml.events.CollectionStartEvent):
            mapping = isinstance(event, yaml.events.MappingStartEvent)
            around.append(cycle((set(), None)) if mapping else repeat(None))
        elif isinstance(event, yaml.events.CollectionEndEvent):
            around.pop()
        if len(around) > 51:
            raise yaml.YAMLError("more than 50 mappings and lists in one another")
