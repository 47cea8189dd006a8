"""Pieces of a file of texts, and what is made of each: a table with a row for each text, token or word.

A pure function of the piece, so that a file is the same byte for byte however often it was interrupted and whoever did the
work: the same model, versions and number of threads on the same kind of processor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import count
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from bertsmith.embed.embedder import CHUNK, Embedder
from bertsmith.embed.reading import GivenText, empty
from bertsmith.errors import UsageError

Unit = Literal["text", "token", "word"]
"""What has a vector."""

Precision = Literal["float32", "float16"]

_CHARACTERS = {"text": 1 << 18, "token": 1 << 16, "word": 1 << 16}  # of a piece; tokens' vectors take much more room


@dataclass(frozen=True)
class TextPiece:
    """Neighbouring texts of a file."""

    number: int
    texts: tuple[GivenText, ...]

    @cached_property
    def name(self) -> str:
        """Its place, and a hash of all that stands in it."""
        digest = blake2b(digest_size=10)
        for given in self.texts:
            digest.update(repr((given.line, given.text, given.carried)).encode("utf-8", "surrogatepass"))
        return f"{self.number:07d}-{digest.hexdigest()}"

    def __str__(self) -> str:
        return f"lines {self.texts[0].line} to {self.texts[-1].line}"


@dataclass(frozen=True)
class Counts:
    """`texts`, those of them that were `truncated`, `windowed` or `empty`, and the `vectors` made."""

    texts: int = 0
    truncated: int = 0
    windowed: int = 0
    empty: int = 0
    vectors: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(self.numbers, other.numbers, strict=True)))

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.texts, self.truncated, self.windowed, self.empty, self.vectors


@dataclass(frozen=True)
class EmbeddedPiece:
    """What is kept of a piece: `table`, uint8, is an Arrow stream; `counts`, int64, are its `Counts`."""

    table: np.ndarray
    counts: np.ndarray

    @property
    def rows(self) -> pa.Table:
        return pa.ipc.open_stream(pa.py_buffer(self.table)).read_all()


def cut(texts: Iterable[GivenText], unit: Unit) -> Iterator[TextPiece]:
    """Pieces of about 260,000 characters, and of 4096 texts at most. They do not depend on who works on them."""
    numbers, piece, size = count(), list[GivenText](), 0
    for given in texts:
        piece.append(given)
        size += sum(map(len, given.text if isinstance(given.text, tuple) else (given.text,)))
        if size >= _CHARACTERS[unit] or len(piece) == CHUNK:
            yield TextPiece(next(numbers), tuple(piece))
            piece, size = [], 0
    if piece:
        yield TextPiece(next(numbers), tuple(piece))


@dataclass(frozen=True)
class Embedding:
    """Makes the table of a piece.

    `carried` are the columns that go along. `threads` is how many torch works with, wherever that is: sums come out a
    little different with another number.
    """

    embedder: Embedder
    unit: Unit
    precision: Precision
    carried: pa.Schema
    pairs: bool
    threads: int

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns: `line`, those of the text, those carried, `vector`, and counts where a row is a text; and as metadata
        the `lane` in which vectors were computed.

        Raises:
            UsageError: a column that goes along has a name that is needed.
        """
        of_piece = [(self.unit, pa.string()), ("start", pa.int32()), ("end", pa.int32())]
        of_piece += [("part", pa.int8())] * self.pairs
        text = [("text", pa.string()), *[("pair", pa.string())] * self.pairs] if self.unit == "text" else of_piece
        by_text = self.unit == "text"
        size = self.embedder.size if by_text else self.embedder.token_size
        kind = pa.float16() if self.precision == "float16" else pa.float32()
        counts = [("truncated", pa.int32()), ("windows", pa.int32())] if by_text else []
        ours = {name for name, _ in (*text, *counts)} | {"line", "vector"}
        if taken := sorted(ours & set(self.carried.names)):
            raise UsageError(
                f"The column {taken[0]!r} cannot go along: the file of vectors has one of that name itself."
            )
        columns = [("line", pa.int64()), *text, *self.carried, ("vector", pa.list_(kind, size)), *counts]
        return pa.schema(columns, metadata={"lane": self.embedder.lane.kind})

    def __call__(self, piece: TextPiece) -> EmbeddedPiece:
        """Its rows."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        table, counts = self._of_texts(piece) if self.unit == "text" else self._of_tokens(piece)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema) as stream:
            stream.write_table(table)
        return EmbeddedPiece(np.frombuffer(sink.getvalue(), np.uint8), np.array(counts.numbers, np.int64))

    def _of_texts(self, piece: TextPiece) -> tuple[pa.Table, Counts]:
        made = self.embedder.embed([given.text for given in piece.texts])
        texts = zip(*(g.text if isinstance(g.text, tuple) else (g.text,) for g in piece.texts), strict=True)
        columns = [*map(list, texts), *self._carried(piece, None), self._column(made.vectors)]
        columns += [made.truncated.astype(np.int32), made.windows.astype(np.int32)]
        counts = Counts(
            texts=len(piece.texts),
            truncated=int((made.truncated > 0).sum()),
            windowed=int((made.windows > 1).sum()),
            empty=sum(empty(given.text) for given in piece.texts),
            vectors=len(piece.texts),
        )
        return self._table([given.line for given in piece.texts], columns), counts

    def _of_tokens(self, piece: TextPiece) -> tuple[pa.Table, Counts]:
        texts = [given.text for given in piece.texts]
        embedder = self.embedder
        made = list(embedder.token_vectors(texts) if self.unit == "token" else embedder.word_vectors(texts))
        times = np.array([len(one.pieces) for one in made])

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(one, name) for one in made])

        offsets = joined("offsets")
        columns: list[Any] = [[piece for one in made for piece in one.pieces], offsets[:, 0], offsets[:, 1]]
        columns += [joined("parts")] * self.pairs
        columns += [*self._carried(piece, times), self._column(joined("vectors"))]
        counts = Counts(
            texts=len(texts),
            truncated=sum(one.truncated > 0 for one in made),
            windowed=sum(one.windows > 1 for one in made),
            empty=sum(map(empty, texts)),
            vectors=int(times.sum()),
        )
        return self._table(np.repeat([given.line for given in piece.texts], times), columns), counts

    def _carried(self, piece: TextPiece, times: np.ndarray | None) -> Iterator[Any]:
        """The columns that go along, each value as many `times` as its text has rows."""
        for place, field in enumerate(self.carried):
            column = pa.array([given.carried[place] for given in piece.texts], field.type)
            yield column if times is None else column.take(pa.array(np.repeat(np.arange(len(times)), times)))

    def _column(self, vectors: np.ndarray) -> pa.Array:
        if self.precision == "float16" and vectors.size and np.abs(vectors).max() > np.finfo(np.float16).max:
            raise UsageError("There are numbers over 65,504, which float16 cannot hold: take float32, or normalize.")
        flat = np.ascontiguousarray(vectors, self.precision).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])

    def _table(self, lines: Any, columns: list[Any]) -> pa.Table:
        arrays = [
            pa.array(values, field.type) if not isinstance(values, pa.Array) else values
            for field, values in zip(self.schema, [lines, *columns], strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)
