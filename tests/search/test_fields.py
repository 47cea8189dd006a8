"""What columns hold, guessed from their first contents and kept to."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from bertsmith.errors import DataError, UsageError
from bertsmith.search.fields import Entry, kinds_of, value_of


@pytest.mark.parametrize(
    ("values", "typed", "spelled"),
    [
        (["1", "-20", ""], "string", "int64"),
        (["1", "2.5", None], "string", "float64"),
        (["007", "12"], "string", "string"),
        (["0.5", "-0"], "string", "float64"),
        (["9223372036854775808"], "string", "float64"),
        (["1e999", "nan"], "string", "string"),
        (["", None], "string", "string"),
        ([1, 2], "int64", "int64"),
        ([1, 2.5], "float64", "float64"),
        ([True, None], "bool", "bool"),
        ([True, 1], "string", "string"),
        ([[1], {"a": 2}], "string", "string"),
        ([date(2026, 11, 21)], "string", "string"),
    ],
)
def test_kinds(values: list[Any], typed: str, spelled: str) -> None:
    entries = [Entry(str(n), "text", {"c": value}) for n, value in enumerate(values)]
    loose = [replace(entry, spelled=True) for entry in entries]
    assert kinds_of(entries) == {"c": typed}
    assert kinds_of(loose) == {"c": spelled}
    assert kinds_of(loose, ["c"]) == {"c": "string"}
    for entry in entries:  # what a kind was guessed from can be kept as it
        value_of(entry, "c", kinds_of(loose)["c"])


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [
        (3, "string", "3"),
        (["é", 2], "string", '["é", 2]'),
        (date(2026, 11, 21), "string", "2026-11-21"),
        ("", "string", ""),
        ("", "int64", None),
        (float("nan"), "float64", None),
        ("12", "int64", 12),
        (2, "float64", 2.0),
        (False, "bool", False),
    ],
)
def test_values(value: Any, kind: Any, kept: Any) -> None:
    found = value_of(Entry("1", "text", {"c": value}), "c", kind)
    assert found == kept and type(found) is type(kept)


def test_a_value_of_another_kind_is_said() -> None:
    for value, kind in (("x", "int64"), (2.5, "int64"), ("yes", "bool"), (True, "float64"), (2**63, "int64")):
        with pytest.raises(DataError, match=r"a\.csv, line 9: the column 'c' holds .* --as-text 'c'"):
            value_of(Entry("1", "text", {"c": value}, "a.csv, line 9"), "c", kind)


@pytest.mark.parametrize("name", ["text", "vector", "_score", "a.b", "a`b", " "])
def test_names_that_an_index_cannot_have(name: str) -> None:
    with pytest.raises(UsageError, match="leave it out with --without"):
        kinds_of([Entry("1", "text", {name: 1})])
