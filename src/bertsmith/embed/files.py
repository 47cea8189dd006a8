"""Files of texts to files of vectors."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertsmith.data import read_documents
from bertsmith.data.corpora import numbered_lines, refuse_table
from bertsmith.embed.embedder import CHUNK, Embedder
from bertsmith.errors import DataError, UsageError
from bertsmith.folders import cannot_write, make_folder
from bertsmith.progress import Progress, silent


@dataclass(frozen=True)
class Written:
    """What went into a file: how many texts, the size of their vectors, how many texts were cut."""

    texts: int
    size: int
    truncated: int


def embed_file(
    embedder: Embedder,
    file: Path,
    out: Path,
    *,
    format: str = "auto",
    field: str = "text",
    progress: Progress = silent,
) -> Written:
    """Write one row a text to the Parquet file `out`: `text`, `vector` (fixed-size list of float32), `truncated`.

    `file` holds one text a line; with format "jsonl" or "parquet" (or such an ending) one a record. Memory stays constant,
    and `out` appears whole or not at all. The folders above it are made where they are missing.

    Raises:
        DataError: `file` cannot be read, or holds no text.
        UsageError: `out` exists already, or cannot be written.
        CheckpointError: the disk is full.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out}: this already exists. Choose another place, or remove it first.")
    if out.suffix != ".parquet":
        raise UsageError(f"{out}: vectors are written as Parquet. Choose a name that ends in .parquet.")
    size = embedder.size
    schema = pa.schema([("text", pa.string()), ("vector", pa.list_(pa.float32(), size)), ("truncated", pa.int32())])
    temporary = out.with_name(f".{out.name}.partial")
    texts = truncated = 0
    chunks = _chunks(_texts(file, format, field))
    make_folder(out.parent)
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            for chunk in chunks:
                made = embedder.embed(chunk)
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(made.vectors.reshape(-1)), size)
                columns = [pa.array(chunk), vectors, pa.array(made.truncated.astype(np.int32))]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                texts += len(chunk)
                truncated += int((made.truncated > 0).sum())
                progress("embedding texts", texts, None)
        if not texts:
            raise DataError(f"{file}: there is no text in this file.")
        temporary.rename(out)
    except OSError as error:  # readers of `file` raise DataError for theirs
        raise cannot_write(out, error) from error
    finally:
        with suppress(OSError):  # a name that cannot be written cannot be removed either
            temporary.unlink(missing_ok=True)
    progress("embedding texts", texts, texts)
    return Written(texts, size, truncated)


def _texts(file: Path, format: str, field: str) -> Iterator[str]:
    """One text a line; a record of JSON lines or Parquet is one text, whatever lines are in it."""
    if format == "auto":
        refuse_table(file)
    has_records = {".jsonl", ".ndjson", ".json", ".parquet"} & set(file.suffixes)
    if format == "text" or (format == "auto" and not has_records):
        if not file.is_file():
            raise DataError(f"{file}: there is no such file. For a folder of documents use --format file.")
        return (line for _, line in numbered_lines(file) if line.strip())
    documents = read_documents([file], format=format, field=field)  # pyright: ignore[reportArgumentType]
    return (document.text for document in documents)


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
