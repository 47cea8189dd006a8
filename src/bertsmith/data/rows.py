"""One record of a file, before anybody knows what its cells mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Unit = Literal["line", "row", "entry", "question"]
"""What the records of a file are counted in, for messages."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record and the number of the line on which it begins; in Parquet of the row, in JSON of the entry or question."""

    line: int
    cells: list[str] | Mapping[str, Any]


def place(path: Path, line: int, unit: Unit = "line") -> str:
    """Line `line` of the file at `path`, for a message."""
    return f"{path}, {unit} {line}"
