"""Rows of the files that people keep labelled texts in: csv, tsv, JSON lines, JSON, Parquet, CoNLL, plain lines.

A row is a list of cells where the file has columns by position, and a mapping where it has them by name. What the cells
mean is decided in `columns.py`. Files are read as streams, so their size does not matter; but for JSON that is one value,
such as SQuAD's.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from bertsmith.data.conll import read_conll, read_conllu
from bertsmith.data.corpora import STDIN, numbered_lines, numbered_objects
from bertsmith.data.rows import Row, Unit, place
from bertsmith.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from _csv import Reader

Format = Literal["auto", "csv", "tsv", "jsonl", "json", "squad", "parquet", "conll", "conllu", "lines"]

_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".conll": "conll",
    ".conll03": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".conllu": "conllu",
}
_UNITS: dict[str, Unit] = {"parquet": "row", "json": "entry", "squad": "question"}
_SPREADSHEETS = {".xlsx", ".xls", ".ods"}
_SAMPLED_LINES = 1000
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Records:
    """The rows of one file. `format` is never "auto"."""

    path: Path
    format: Format
    rows: Iterator[Row]

    @property
    def unit(self) -> Unit:
        """What rows are counted in."""
        return _UNITS.get(self.format, "line")

    def at(self, line: int) -> str:
        """A place in this file, for a message."""
        return place(self.path, line, self.unit)


def read_records(
    path: Path, format: Format = "auto", *, plain: Format = "tsv", endings: Mapping[str, Format] = MappingProxyType({})
) -> Records:
    """Open a file. "auto" goes by its ending, without `.gz` or `.xz`; any other ending, and stdin, is read as `plain`.
    `endings` come before the usual ones. JSON is looked into: JSON lines, a list of objects, or a file of SQuAD's form.

    Rows without any text in them are passed over, but for "lines", where an empty line is an empty text, and for a table of
    one column, where "" is one.

    Raises:
        DataError: the file is missing. Iterating raises it for anything that is wrong in the file, with the line.
        UsageError: there is no such format.
    """
    formats = ("auto", *_READERS)
    if path.suffix.lower() in _SPREADSHEETS:
        raise DataError(f"{path}: this is a spreadsheet. Save it as csv (UTF-8) first.")
    if format not in formats:
        raise UsageError(f"{format!r} is not a format of labelled files.{nearest(format, formats)}")
    if path != STDIN and path.is_dir():
        raise DataError(f"{path}: this is a folder, and one file is needed here.")
    if path != STDIN and not path.exists():
        raise DataError(f"{path}: there is no such file.")
    if format == "auto":
        stem = path.with_suffix("") if path.suffix in (".gz", ".xz") else path
        format = (_ENDINGS | dict(endings)).get(stem.suffix.lower(), plain)
    if format == "json":
        format = _json_kind(path)
    return Records(path, format, _READERS[format](path))


def _read_csv(path: Path) -> Iterator[Row]:
    lines = numbered_lines(path)
    first = next(lines, None)
    if first is None:
        return
    # Spreadsheets write ";" where the comma is a decimal point.
    delimiter = next((d for d in (",", ";", "\t") if d in first[1]), ",")
    yield from _even(path, _quoted(path, chain([first], lines), delimiter))


def _read_tsv(path: Path) -> Iterator[Row]:
    lines = numbered_lines(path)
    sample = list(islice(lines, _SAMPLED_LINES))
    every = chain(sample, lines)
    if _quotes_cells([line for _, line in sample]):
        yield from _even(path, _quoted(path, every, "\t"))
    else:
        yield from _even(path, (Row(number, line.split("\t")) for number, line in every if line.strip()))


def _quoted(path: Path, lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[Row]:
    """Records in which a cell may stand in quotation marks, and then hold delimiters and line breaks."""
    reader = _csv_reader((line for _, line in lines), delimiter)
    start = 1
    try:
        for cells in reader:
            quoted_nothing = cells == [""]  # in a table of one column: an empty text, where a blank line is no row
            if quoted_nothing or any(cell.strip() for cell in cells):
                yield Row(start, cells)
            start = reader.line_num + 1
    except csv.Error as error:
        if "end of data" in str(error):
            problem = "a quotation mark is opened here and never closed. Close it, or double it where it is text"
        elif "new-line" in str(error):
            problem = "there is a carriage return inside the line. End lines with a line feed, as in: tr '\\r' '\\n'"
        else:
            problem = f"{error}. Inside quotation marks, write a quotation mark twice"
        raise DataError(f"{place(path, start)}: {problem}.") from None


def _csv_reader(lines: Iterator[str], delimiter: str) -> "Reader":
    # The limit belongs to the whole process; raising it cannot harm other readers, and a long text is a good text.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    return csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)


def _even(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows, which must all be as wide as the first."""
    first: Row | None = None
    for row in rows:
        first = first or row
        if len(row.cells) != len(first.cells):
            raise DataError(
                f"{place(path, row.line)}: found {len(row.cells)} columns, and line {first.line} has {len(first.cells)}. "
                "Every line needs the same number; a text with a separator or a line break in it needs quotation marks."
            )
        yield row


def _quotes_cells(lines: list[str]) -> bool:
    """Whether quotation marks in these tab-separated lines enclose cells, or are text, as in GLUE's files.

    They enclose cells if only that makes all lines equally wide, or if every cell that has one is properly enclosed and
    some cell gives it away: by a doubled mark inside, or by standing in a header that is enclosed throughout.
    """
    lines = [line for line in lines if line.strip()]
    if not any('"' in line for line in lines):
        return False
    if len({line.count("\t") for line in lines}) > 1:
        widths: set[int] = set()
        try:
            widths.update(len(cells) for cells in _csv_reader(iter(lines), "\t"))
        except csv.Error as error:
            if "end of data" not in str(error):  # the sample may end inside a cell
                return False
        return len(widths) == 1
    marked = [cell for line in lines for cell in line.split("\t") if '"' in cell]
    if not all(_QUOTED_CELL.fullmatch(cell) for cell in marked):
        return False
    header_is_quoted = all(_QUOTED_CELL.fullmatch(cell) for cell in lines[0].split("\t"))
    return header_is_quoted or any('""' in cell[1:-1] for cell in marked)


def _read_jsonl(path: Path) -> Iterator[Row]:
    return (Row(number, record) for number, record in numbered_objects(path))


def _json_kind(path: Path) -> Format:
    """JSON lines if the first line is an object by itself; else the file is one value, "json" or "squad"."""
    if path == STDIN:
        return "jsonl"
    first = next((line for _, line in numbered_lines(path) if line.strip()), "{}")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        squad = re.search(r'"data"\s*:\s*\[', "".join(line for _, line in islice(numbered_lines(path), _SAMPLED_LINES)))
        return "jsonl" if "}" in first and not squad else "squad" if squad else "json"
    if isinstance(value, dict):
        return "squad" if isinstance(value.get("data"), list) else "jsonl"
    return "json"


def _read_json(path: Path) -> Iterator[Row]:
    """A list of objects."""
    entries = _whole(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list of JSON objects, or one object a line.")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise DataError(f"{place(path, number, 'entry')}: expected a JSON object, got {entry!r:.60}.")
        yield Row(number, entry)


def _read_squad(path: Path) -> Iterator[Row]:
    """Questions with their contexts, one after the other (SQuAD 1.1 and 2.0)."""
    number = 0
    try:
        for article in _whole(path)["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    cells = {
                        "id": question.get("id", str(number)),
                        "question": question["question"],
                        "context": paragraph["context"],
                    }
                    if question.get("is_impossible"):
                        cells["answers"] = []
                    elif "answers" in question:  # where they are to be predicted, files have none
                        cells["answers"] = question["answers"]
                    yield Row(number, cells)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path}, after question {number}: not the form of SQuAD ({what}). "
            "Expected data, a list of articles with paragraphs, each with a context and qas."
        ) from None


def _whole(path: Path) -> Any:
    text = "\n".join(line for _, line in numbered_lines(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place(path, error.lineno)}: not JSON ({error.msg}).") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path == STDIN:
        raise UsageError("Parquet cannot be read from standard input: name a file.")
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(number, cells)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error


def _read_lines(path: Path) -> Iterator[Row]:
    return (Row(number, [line]) for number, line in numbered_lines(path))


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "squad": _read_squad,
    "conll": read_conll,
    "conllu": read_conllu,
    "parquet": _read_parquet,
    "lines": _read_lines,
}
