"""Pieces: a corpus cut into parts of about a megabyte, each of them tokenized once and kept until all are there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from bertsmith.data.corpora import Document

_CHARACTERS = 1 << 20

COLUMNS = (
    "source",
    "line",
    "apart",
    "sentences",
    "tokens",
    "words",
    "unknown_words",
    "longest_sentence",
    "shingles",
    "characters",
    "letters",
    "digits",
    "marks",
    "lines",
    "repeated_lines",
)


@dataclass(frozen=True)
class Piece:
    """Neighbouring documents of a corpus; `apart` if they were given as held-out text."""

    number: int
    documents: tuple[Document, ...]
    apart: bool = False

    @cached_property
    def name(self) -> str:
        """Its place, and a hash of all that stands in it."""
        digest = blake2b(digest_size=10)
        for document in self.documents:
            where = f"{document.source}\0{document.line}\0{self.apart}\0{len(document.text)}\0"
            digest.update(where.encode("utf-8", "surrogatepass"))
            digest.update(document.text.encode("utf-8", "surrogatepass"))
        return f"{self.number:07d}-{digest.hexdigest()}"

    def __str__(self) -> str:
        first, last = self.documents[0], self.documents[-1]
        end = f"line {last.line}" if last.source == first.source else f"{last.source}, line {last.line}"
        return f"{first.source}, line {first.line} to {end}"


@dataclass(frozen=True)
class TokenizedPiece:
    """What is kept of a piece: the documents that have tokens, as arrays.

    Attributes:
        tokens: ids `(tokens,)`.
        sentence_lengths: tokens of each sentence `(sentences,)`.
        starts_paragraph: bool `(sentences,)`.
        table: int64 `(documents, len(COLUMNS))`.
        digests: uint64 `(documents, 2)`, a hash of the text with its white space evened out.
        signatures: uint32 `(documents, permutations)` for near-duplicates, or `(documents, 0)`.
        languages: code of each document `(documents,)`, or `(0,)` where none were identified.
        sources: names of the files.
        empty: how many documents, and how many sentences, had no token.
    """

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    starts_paragraph: np.ndarray
    table: np.ndarray
    digests: np.ndarray
    signatures: np.ndarray
    languages: np.ndarray
    sources: np.ndarray
    empty: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """One column of the table, `(documents,)`."""
        return self.table[:, COLUMNS.index(name)]


def cut(documents: Iterable[Document], numbers: Iterator[int], *, apart: bool = False) -> Iterator[Piece]:
    """Pieces of about a million characters, numbered as given. They do not depend on who works on them."""
    piece, size = list[Document](), 0
    for document in documents:
        piece.append(document)
        size += len(document.text)
        if size >= _CHARACTERS:
            yield Piece(next(numbers), tuple(piece), apart)
            piece, size = [], 0
    if piece:
        yield Piece(next(numbers), tuple(piece), apart)
