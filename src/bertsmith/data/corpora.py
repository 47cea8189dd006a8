"""Corpora: text files of several formats, read as a stream of documents in constant memory.

    text      a blank line between documents; each line inside a document is a paragraph
    file      one document per file
    jsonl     one JSON object a line, the text under one of its keys
    parquet   one document per row, the text in one column

Any of them except Parquet may be compressed (`.gz`, `.xz`). A folder stands for the files in it, in sorted order, and
`-` for standard input.
"""

import gzip
import json
import lzma
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from bertsmith.errors import DataError, UsageError, nearest
from bertsmith.folders import sha256_of

Format = Literal["auto", "text", "file", "jsonl", "parquet"]
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

STDIN = Path("-")
_BOM = b"\xef\xbb\xbf"
_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its paragraphs as lines of `text`, and where it came from (`line` is a row number in Parquet)."""

    text: str
    source: str
    line: int


@dataclass(frozen=True)
class Corpus:
    """Files or folders of text, and how documents stand in them (see `read_documents`)."""

    paths: Paths
    format: Format = "auto"
    field: str = "text"

    def documents(self) -> Iterator[Document]:
        """All documents, in order, one at a time."""
        return read_documents(self.paths, format=self.format, field=self.field)

    def sources(self) -> list[dict[str, Any]]:
        """For a manifest: `path`, `bytes` and `sha256` of each file. A stream is gone once read; it has no hash."""
        found: list[dict[str, Any]] = []
        for file in files_of(self.paths):
            size, digest = (file.stat().st_size, sha256_of(file)) if file.is_file() else (None, None)
            found.append({"path": file.as_posix(), "bytes": size, "sha256": digest})
        return found

    @property
    def name(self) -> str:
        """The files, for a message."""
        return _name_of(files_of(self.paths))


def read_documents(paths: Paths, *, format: Format = "auto", field: str = "text") -> Iterator[Document]:
    """All documents of `paths`, in order, one at a time.

    `auto` goes by each file's name: `.jsonl` and `.parquet` are what they say, everything else is `text`. `field` is
    the key or column that holds the text in `jsonl` and `parquet`; a null there is an empty document.

    Raises:
        UsageError: an unknown format.
        DataError: a missing file, one that is not UTF-8 or damaged, a missing field (with path and line), no document.
    """
    formats = ("auto", *_READERS)
    if format not in formats:
        raise UsageError(f"{format!r} is not a text format.{nearest(format, formats)}")
    return _read(files_of(paths), format, field)


def files_of(paths: Paths) -> list[Path]:
    """The files that `paths` stand for: folders are opened up, in sorted order, without hidden files.

    Raises:
        DataError: a path that does not exist, a folder without files, no path at all.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: list[Path] = []
    for path in map(Path, given):
        if path == STDIN or path.is_file() or path.is_fifo():
            files.append(path)
        elif path.is_dir():
            inside = [f for f in sorted(path.rglob("*")) if f.is_file() and not _hidden(f.relative_to(path))]
            if not inside:
                raise DataError(f"{path}: this folder has no text files in it.")
            files.extend(inside)
        else:
            raise DataError(f"{path}: there is no such file or folder.")
    if not files:
        raise DataError("No text was given: name at least one file or folder.")
    return files


def _name_of(files: list[Path]) -> str:
    """A short list of files, for a message."""
    return ", ".join(map(str, files[:5])) + (" ..." if len(files) > 5 else "")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read(files: list[Path], format: Format, field: str) -> Iterator[Document]:
    empty = True
    for file in files:
        name = format if format != "auto" else _guess(file)
        for document in _READERS[name](file, field):
            empty = False
            yield document
    if empty:
        raise DataError(f"There is no text in {_name_of(files)}.")


def _refuse_table(file: Path) -> None:
    """Raise a DataError where the name says that a file holds a table: its lines are not texts."""
    if {".csv", ".tsv"} & {suffix.lower() for suffix in file.suffixes[-2:]}:
        raise DataError(
            f"{file}: this is a table, and plain text is wanted. Save the column with the text as JSON lines or Parquet; "
            "or use --format text to read all of its lines as they are."
        )


def _guess(file: Path) -> str:
    _refuse_table(file)
    name = file.with_suffix("") if file.suffix in (".gz", ".xz") else file
    return _ENDINGS.get(name.suffix.lower(), "text")


def _read_text(file: Path, field: str) -> Iterator[Document]:
    start, paragraphs = 1, list[str]()
    for number, line in numbered_lines(file):
        if line.strip():
            if not paragraphs:
                start = number
            paragraphs.append(line)
        elif paragraphs:
            yield Document("\n".join(paragraphs), str(file), start)
            paragraphs = []
    if paragraphs:
        yield Document("\n".join(paragraphs), str(file), start)


def _read_file(file: Path, field: str) -> Iterator[Document]:
    text = "\n".join(line for _, line in numbered_lines(file))
    if text.strip():
        yield Document(text, str(file), 1)


def _read_jsonl(file: Path, field: str) -> Iterator[Document]:
    for number, record in numbered_objects(file):
        if field not in record:
            raise DataError(f"{file}, line {number}: there is no field {field!r}.{nearest(field, record)}")
        text = record[field]
        if not isinstance(text, str | None):
            raise DataError(f"{file}, line {number}: the field {field!r} holds {str(text)[:60]!r}, which is not text.")
        yield Document(text or "", str(file), number)


def _read_parquet(file: Path, field: str) -> Iterator[Document]:
    # Imported here: pyarrow takes longer to import than most corpora take to open.
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file == STDIN:
        raise UsageError("Parquet cannot be read from standard input: name a file.")
    try:
        # A small buffer, filled again and again: otherwise the column of a whole row group is read at once.
        with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
            if field not in table.schema_arrow.names:
                raise DataError(f"{file}: there is no column {field!r}.{nearest(field, table.schema_arrow.names)}")
            kind = table.schema_arrow.field(field).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
                raise DataError(f"{file}: the column {field!r} holds {kind}, which is not text.")
            row = 0
            for batch in table.iter_batches(batch_size=64, columns=[field], use_threads=False):
                for text in batch.column(0).to_pylist():
                    row += 1
                    yield Document(text or "", str(file), row)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file ({error}).") from error


_READERS = {"text": _read_text, "file": _read_file, "jsonl": _read_jsonl, "parquet": _read_parquet}


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded strictly, without their ends. A byte order mark at the start is dropped."""
    number, offset = 0, 0
    try:
        with _open(file) as stream:
            for line in stream:
                number += 1
                if number == 1 and line.startswith(_BOM):
                    offset = len(_BOM)
                    line = line[offset:]
                yield number, line.decode("utf-8").rstrip("\r\n")
                offset += len(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}, line {number}, byte {offset + error.start}: not UTF-8 text "
            f"(0x{error.object[error.start]:02x}: {error.reason}). "
            f"Convert the file first, for example with: iconv -f {_likely_encoding(error.object)} -t UTF-8"
        ) from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        where = f"damaged or cut off after line {number}" if number else "cannot be read"
        raise DataError(f"{file}: {where} ({error}).") from error


def _likely_encoding(line: bytes) -> str:
    """What a line that is not UTF-8 may be; spreadsheets save "Unicode text" as UTF-16, with a mark at its beginning."""
    return "UTF-16" if line.startswith((b"\xff\xfe", b"\xfe\xff")) else "ISO-8859-1"


def numbered_objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its line; empty lines are passed over."""
    for number, line in numbered_lines(file):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
            raise DataError(f"{file}, line {number}: not JSON ({error}). Each line must be one JSON object.") from None
        if not isinstance(record, dict):
            raise DataError(f"{file}, line {number}: expected a JSON object, got {line[:60]!r}.")
        yield number, record


def _open(file: Path) -> AbstractContextManager[BinaryIO]:
    if file == STDIN:
        return nullcontext(sys.stdin.buffer)
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(file.suffix, Path.open)
    return cast(AbstractContextManager[BinaryIO], opener(file, "rb"))
