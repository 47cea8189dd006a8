"""Texts of a file, one at a time, with what else of its columns is to go along."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertsmith.data.columns import SAMPLED_ROWS, Columns, Layout, Wanted, find_columns
from bertsmith.data.corpora import STDIN
from bertsmith.data.records import Format, Records, read_records
from bertsmith.data.rows import Row
from bertsmith.embed.options import Text
from bertsmith.errors import DataError, UsageError, nearest
from bertsmith.text.words import check_text

FORMATS = ("auto", "lines", "csv", "tsv", "jsonl", "json", "parquet")


@dataclass(frozen=True, slots=True)
class GivenText:
    """A text or pair, the number of its line or row in the file, and what of that row goes along."""

    line: int
    text: Text
    carried: tuple[Any, ...] = ()


@dataclass(frozen=True)
class TextFile:
    """The texts of one file, as a stream; iterate it once.

    `layout` says how its columns were understood. `carried` are the columns that go along, with their types.
    """

    path: Path
    layout: Layout
    carried: pa.Schema
    texts: Iterator[GivenText]

    @property
    def pairs(self) -> bool:
        return len(self.layout.columns.texts) == 2


def read_text_file(
    path: Path, *, format: Format = "auto", fields: tuple[str, ...] = (), keep: tuple[str, ...] = ()
) -> TextFile:
    """Open a file of texts. By its ending it is csv, tsv, JSON lines, JSON or Parquet; any other, and standard input, has
    one text a line, and an empty line is an empty text.

    `fields` are the columns with the text, two for pairs, by name or by number from 1; none: the column is guessed.
    `keep` are columns to go along: as they are from Parquet, as text from the others (JSON where they hold other things).

    Raises:
        UsageError: such a file is not one of texts.
        DataError: the file or a column is missing, or there is nothing in it; while iterating, whatever else is wrong.
    """
    if format not in FORMATS:
        raise UsageError(f"{format!r} is not a format of files of texts.{nearest(format, FORMATS)}")
    if len(fields) > 2:
        raise UsageError(f"{len(fields)} columns are given: a text has one, a pair has two.")
    records = read_records(path, format, plain="lines")
    if records.format not in FORMATS:
        raise UsageError(
            f"{path}: this is a file of {records.format}, and texts are needed. Use --format lines, or others."
        )
    # A stream may say nothing more until its first lines are answered.
    waits = path == STDIN and records.format in ("lines", "jsonl")
    sample = list(islice(records.rows, 1 if waits else SAMPLED_ROWS))
    if not sample:
        raise DataError(f"{path}: there is no text in this file.")
    if records.format == "lines":
        layout, skipped = Layout(Columns(("1",)), ("1",), header=False), 0
    else:
        wanted = Wanted(text_counts=(len(fields) or 1,), label=False)
        layout = find_columns(path, sample, wanted, Columns(texts=fields), Columns())
        skipped = 1 if layout.header and isinstance(sample[0].cells, list) else 0
    names = [_column(path, layout, name) for name in keep]
    rows = chain(sample[skipped:], records.rows)
    given = (_given(records, layout, row, names) for row in rows)
    types = _types(path, names) if records.format == "parquet" else [pa.string()] * len(names)
    if records.format != "parquet":
        given = (GivenText(one.line, one.text, tuple(map(_as_text, one.carried))) for one in given)
    return TextFile(path, layout, pa.schema(list(zip(names, types, strict=True))), given)


def _given(records: Records, layout: Layout, row: Row, names: list[str]) -> GivenText:
    texts = [_text(records, row, _cell(records, layout, row, name), name) for name in layout.columns.texts]
    text = texts[0] if len(texts) == 1 else (texts[0], texts[1])
    return GivenText(row.line, text, tuple(_cell(records, layout, row, name) for name in names))


def _text(records: Records, row: Row, cell: Any, name: str) -> str:
    """The cell's text; nothing in it is the empty text."""
    try:
        return check_text("" if cell is None else cell)
    except DataError as error:
        raise DataError(f"{records.at(row.line)}, column {name!r}: {error}") from None


def _cell(records: Records, layout: Layout, row: Row, name: str) -> Any:
    try:
        return layout.cell(row, name)
    except KeyError:
        raise DataError(f"{records.at(row.line)}: there is no {name!r}.{nearest(name, map(str, row.cells))}") from None


def _column(path: Path, layout: Layout, name: str) -> str:
    if name in layout.names:
        return name
    if name.isdecimal() and 1 <= int(name) <= len(layout.names):
        return layout.names[int(name) - 1]
    raise DataError(f"{path}: there is no column {name!r}.{nearest(name, layout.names)}")


def _types(path: Path, names: list[str]) -> list[pa.DataType]:
    schema = pq.read_schema(path)
    return [schema.field(name).type for name in names]


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def empty(text: Text) -> bool:
    """Whether there is nothing but white space in it."""
    return not "".join(text).strip()
