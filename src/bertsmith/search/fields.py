"""What an index keeps of each text: the text, its id, and the other columns of the file that it comes from."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bertsmith.errors import DataError, UsageError

Kind = Literal["string", "int64", "float64", "bool"]
OWN = ("id", "text", "vector")
"""The columns that every index has."""

_SAID: dict[Kind, str] = {"string": "text", "int64": "whole numbers", "float64": "numbers", "bool": "true and false"}
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Entry:
    """One text to be found. `fields` are the other columns by name; `place` is where it stands, for messages. It is `spelled`
    if it comes from a file that knows no types, so that strings which are numbers throughout are numbers."""

    id: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    spelled: bool = False

    @property
    def where(self) -> str:
        """The place, or the id where none is known."""
        return self.place or f"text {self.id!r}"


def kinds_of(entries: Sequence[Entry], as_text: Collection[str] = ()) -> dict[str, Kind]:
    """What each column of these entries holds. Columns in `as_text` are text whatever they look like.

    Raises:
        UsageError: a column has a name that an index cannot have.
    """
    names = dict.fromkeys(name for entry in entries for name in entry.fields)
    for name in names:
        if name in OWN or name.startswith("_") or not name.strip() or any(mark in name for mark in '.`"\\'):
            raise UsageError(
                f"A column is called {name!r}: an index has its own columns {', '.join(OWN)}, and other names cannot be empty, "
                f"begin with _ or hold a point or a quotation mark. Rename it, or leave it out with --without {name!r}."
            )
    return {name: "string" if name in as_text else _kind(entries, name) for name in names}


def _kind(entries: Sequence[Entry], name: str) -> Kind:
    found = [(entry.fields.get(name), entry.spelled) for entry in entries]
    there = [(value, spelled) for value, spelled in found if value is not None and value != ""]
    if not there or any(isinstance(value, str) and not spelled for value, spelled in there):
        return "string"
    if all(isinstance(value, bool) for value, _ in there):
        return "bool"
    for kind in ("int64", "float64"):
        if all(_number(value, kind) is not None for value, _ in there):
            return kind
    return "string"


def value_of(entry: Entry, name: str, kind: Kind) -> Any:
    """An entry's content of a column as the index keeps it; None where there is nothing.

    Raises:
        DataError: it is of another kind.
    """
    value = entry.fields.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind == "string":
        if isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    if value == "":
        return None
    found = (value if isinstance(value, bool) else None) if kind == "bool" else _number(value, kind)
    if found is None:
        raise DataError(
            f"{entry.where}: the column {name!r} holds {str(value)[:40]!r}, and this index keeps {_SAID[kind]} there, as its "
            f"first texts had them. Correct it, or make the index anew with --as-text {name!r}."
        )
    return found


def _number(value: Any, kind: Kind) -> int | float | None:
    """The number that a value is or spells, None if it is none: a spelling that a number would lose (007) is text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value) if kind == "int64" else float(value)
    except (ValueError, OverflowError):
        return None
    if kind == "int64":
        exact = str(number) == value.strip() if isinstance(value, str) else number == value
        return number if exact and -_LARGEST <= number < _LARGEST else None
    zeros = (
        isinstance(value, str) and value.strip().lstrip("+-")[:1] == "0" and value.strip().lstrip("+-")[1:2].isdigit()
    )
    return number if math.isfinite(number) and not zeros else None
