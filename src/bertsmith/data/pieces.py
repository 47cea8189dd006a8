"""Pieces: a corpus cut into parts of about a megabyte, each of them tokenized once and kept until all are there.

    .NAME.work-3f9a.../            beside the folder NAME that is being made; the number stands for all that shapes a piece
        0000000-8d1c....npz        a finished piece, under its place and the hash of its text

A piece appears in one atomic step after it is on disk, so a preparation that is killed loses only those at work. A later
one cuts the corpus anew and finds the pieces whose text has not changed.
"""

import errno
import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from bertsmith.data.corpora import Document
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.folders import cannot_write, make_folder

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


class Workspace:
    """The folder of finished pieces beside the folder `out`, locked for this process.

    `options` is all that shapes a piece besides its text; other options mean another folder, and pieces that were made
    with other ones are thrown away. `finished` says how many pieces stood here, `begun_anew` whether some were thrown away.

    Raises:
        UsageError: another process prepares the same, or the place cannot be written.
    """

    def __init__(self, out: Path, options: dict[str, Any]) -> None:
        self._out = out
        number = sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = out.parent / f".{out.name}.work-{number}"
        make_folder(self.folder)
        self._lock = os.open(self.folder, os.O_RDONLY)
        if not _locked(self._lock):
            os.close(self._lock)
            raise UsageError(f"{out}: another process is preparing this folder. Let it end, or choose another place.")
        self.begun_anew = sweep(out, but=self.folder)
        for file in self.folder.glob("*.part"):
            file.unlink()
        self._there = {file.stem for file in self.folder.glob("*.npz")}
        self.finished = len(self._there)
        self.names: list[str] = []
        self.keep = True

    def __contains__(self, piece: Piece) -> bool:
        return piece.name in self._there

    def save(self, name: str, done: TokenizedPiece) -> None:
        """Make a piece durable, then visible.

        Raises:
            CheckpointError: the disk is full.
        """
        part = self.folder / f"{name}.part"
        try:
            with part.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **{f.name: getattr(done, f.name) for f in fields(done)})
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self.folder / f"{name}.npz")
            os.fsync(self._lock)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CheckpointError(
                    f"{self.folder}: the disk is full. The finished pieces of text are kept: free some space and run the "
                    "same command again."
                ) from error
            raise cannot_write(self.folder, error) from error
        self._there.add(name)

    def load(self, name: str, *members: str) -> TokenizedPiece:
        """A finished piece, or only some `members` of it: the others are empty then.

        Raises:
            CheckpointError: it was damaged since; it is removed, so that the same command makes it anew.
        """
        file = self.folder / f"{name}.npz"
        try:
            with ZipFile(file) as stored:  # which checks a CRC of each member
                found = {name: _array(stored, name) for name in members or [f.name for f in fields(TokenizedPiece)]}
            return TokenizedPiece(**{f.name: found.get(f.name, np.empty(0)) for f in fields(TokenizedPiece)})
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            file.unlink(missing_ok=True)
            raise CheckpointError(
                f"{file}: this finished piece of text was damaged ({error}). Run the same command again: it is made anew."
            ) from error

    def close(self) -> None:
        """Give the folder free, and remove it unless `keep` says to keep it and there is something in it."""
        if not (self.keep and any(self.folder.glob("*.npz"))):
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def sweep(out: Path, but: Path | None = None) -> bool:
    """Remove the workspaces of `out` that nobody works in, except `but`; say whether a finished piece went with them."""
    found = False
    for folder in out.parent.glob(f".{glob.escape(out.name)}.work-*"):
        if folder == but:
            continue
        lock = os.open(folder, os.O_RDONLY)
        if _locked(lock):
            found = found or any(folder.glob("*.npz"))
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
    return found


def _array(stored: ZipFile, name: str) -> np.ndarray:
    with stored.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _locked(descriptor: int) -> bool:
    """Take the lock, which the kernel drops when this process dies, unless another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
