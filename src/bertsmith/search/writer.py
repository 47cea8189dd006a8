"""Putting texts into an index, and taking them out: one writer at a time, every change acknowledged when it is durable."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bertsmith.errors import CheckpointError, DataError, UsageError
from bertsmith.ownership import OWNER, owned
from bertsmith.search.fields import Entry, kinds_of, value_of
from bertsmith.search.index import among, directions, lancedb
from bertsmith.search.places import Place
from bertsmith.search.seal import (
    SEAL,
    TABLE,
    Description,
    Seal,
    check_sizes,
    read_seal,
    roll_back,
    sealed_files,
    without_missing,
    write_seal,
)

if TYPE_CHECKING:
    from lancedb.table import Table

APPROXIMATE_FROM = 20_000
"""From so many texts on, an index gets an approximate index of its vectors. Below, looking at every vector is quick."""

_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_NEVER = timedelta(days=36_500)
_READERS_MAY_TAKE = timedelta(hours=1)  # what was superseded longer ago than this is removed
_IDS_AT_ONCE = 1000
_CACHED_BYTES = 64 << 20  # of indexes, and of what was read of files: a writer reads little twice


@dataclass(frozen=True)
class Added:
    """How many texts were new, and how many took the place of one with the same id."""

    new: int = 0
    updated: int = 0

    def __add__(self, other: "Added") -> "Added":
        return Added(self.new + other.new, self.updated + other.updated)


class Writer:
    """Changes an index. Made by `writing`."""

    def __init__(self, path: Path, description: Description, *, as_text: Collection[str]) -> None:
        self.path, place = path, Place(path)
        self._as_text = as_text
        library = lancedb()
        few = library.Session(index_cache_size_bytes=_CACHED_BYTES, metadata_cache_size_bytes=_CACHED_BYTES)
        self._database = library.connect(str(path), session=few)
        self._table: Table | None = None
        if (path / SEAL).exists():
            seal = read_seal(place)
            if seal.description.fingerprint != description.fingerprint:
                raise refusal(path, seal.description, description)
            roll_back(path, seal)
            check_sizes(place, seal)
            self._seal = without_missing(path, seal) if seal.clearing else seal
            with _said(path):
                table = self._table = self._database.open_table(Path(TABLE).stem)
            if table.version != seal.version:
                raise CheckpointError(
                    f"{path}: the table is at version {table.version}, and {seal.version} was acknowledged last. "
                    "Make the index anew, or take a copy of it."
                )
        else:
            if foreign := sorted(f.name for f in path.iterdir() if f.name not in (OWNER, TABLE, f".{SEAL}.new")):
                raise UsageError(
                    f"{path}: this is no index, and there is {foreign[0]} in it. Choose another place with -o."
                )
            self._seal = Seal(description=description, version=0, files={})

    def add(self, entries: Sequence[Entry], vectors: NDArray[Any]) -> Added:
        """Put in texts with their vectors (texts, size), all or none; those whose id is there already are replaced. Of
        several with one id the last counts. When this returns, they are durable.

        The first texts of an index decide what its columns hold.

        Raises:
            DataError: a text has no id, or a column that the index does not have, or holds something else than it keeps
                there; or a vector is of another size or no direction.
            CheckpointError: the disk is full.
        """
        if not entries:
            return Added()
        size = self._seal.description.fingerprint.size
        if vectors.shape != (len(entries), size):
            raise DataError(
                f"{self.path}: {len(entries)} texts need vectors ({len(entries)}, {size}), not {vectors.shape}."
            )
        units = directions(vectors, [entry.where for entry in entries])
        table = self._table if self._table is not None else self._create(entries)
        last = {entry.id: number for number, entry in enumerate(entries)}
        chosen = sorted(last.values())
        rows = self._rows([entries[number] for number in chosen], units[chosen])
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        with _said(self.path):
            done = merge.execute(rows)
        self._acknowledge(table)
        return Added(done.num_inserted_rows, done.num_updated_rows + len(entries) - len(chosen))

    def delete(self, ids: Sequence[str]) -> int:
        """Take texts out, and return how many were there. Their bytes stay in the folder until what holds them is rewritten."""
        if self._table is None:
            return 0
        before = self._table.count_rows()
        with _said(self.path):
            for part in _parts(ids):
                self._table.delete(part)
        self._acknowledge(self._table)
        return before - self._table.count_rows()

    def optimize(self, *, approximate_from: int = APPROXIMATE_FROM) -> None:
        """Bring what was added into the indexes and into few files, and remove what was superseded over an hour ago.

        Without it everything is found as well, only more slowly. From `approximate_from` texts on, vectors get an
        approximate index.
        """
        if self._table is None:
            return
        from lancedb.index import IvfHnswSq

        with _said(self.path):
            has_index = any("vector" in index.columns for index in self._table.list_indices())
            if not has_index and self._table.count_rows() >= approximate_from:
                self._table.create_index("vector", config=IvfHnswSq(distance_type="cosine"))
            # Old versions stay until a newer one is acknowledged: removing them first could remove the only sealed one.
            self._table.optimize(cleanup_older_than=_NEVER)
        self._acknowledge(self._table)
        self._seal = replace(self._seal, clearing=True)
        write_seal(self.path, self._seal)
        with _said(self.path):
            self._table.optimize(cleanup_older_than=_READERS_MAY_TAKE, delete_unverified=True)
        self._seal = without_missing(self.path, self._seal)
        self._acknowledge(self._table)

    def _create(self, entries: Sequence[Entry]) -> "Table":
        from lancedb.index import FTS, BTree

        description = self._seal.description
        description = replace(description, columns=kinds_of(entries, self._as_text))
        self._seal = replace(self._seal, description=description)
        language = description.language
        words = FTS() if language is None else FTS(language=language)
        if language is None:
            words = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False)
        with _said(self.path):
            # Left by a writer that died before it acknowledged anything, if there is one.
            table = self._database.create_table(Path(TABLE).stem, schema=self._schema(), mode="overwrite")
            table.create_index("id", config=BTree())
            table.create_index("text", config=words)
        self._table = table
        return table

    def _schema(self) -> pa.Schema:
        description = self._seal.description
        vector = pa.list_(pa.float32(), description.fingerprint.size)
        own = [pa.field("id", pa.string()), pa.field("text", pa.string()), pa.field("vector", vector)]
        return pa.schema([*own, *(pa.field(name, _TYPES[kind]) for name, kind in description.columns.items())])

    def _rows(self, entries: Sequence[Entry], units: NDArray[np.float32]) -> pa.Table:
        columns = self._seal.description.columns
        for entry in entries:
            if not entry.id:
                raise DataError(f"{entry.where}: the id is empty, and every text of an index needs one of its own.")
            if unknown := entry.fields.keys() - columns.keys():
                raise DataError(
                    f"{entry.where}: there is a column {min(unknown)!r}, which the index does not have. Its columns beside "
                    f"id and text: {', '.join(columns) or 'none'}. Leave it out with --without {min(unknown)!r}."
                )
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(units.reshape(-1)), units.shape[1])
        found = {name: [value_of(entry, name, kind) for entry in entries] for name, kind in columns.items()}
        try:
            own = [pa.array([entry.id for entry in entries]), pa.array([entry.text for entry in entries]), vectors]
            others = [pa.array(values, _TYPES[columns[name]]) for name, values in found.items()]
        except UnicodeEncodeError as error:
            raise DataError(f"{entries[0].where} or a text after it is not Unicode ({error.reason}).") from None
        return pa.Table.from_arrays([*own, *others], schema=self._schema())

    def _acknowledge(self, table: "Table") -> None:
        files = sealed_files(self.path, self._seal.files)
        self._seal = replace(self._seal, version=table.version, files=files)
        write_seal(self.path, self._seal)


@contextmanager
def writing(path: str | Path, description: Description, *, as_text: Collection[str] = ()) -> Iterator[Writer]:
    """Write into the index at `path`, which is made where it is not there yet. Nobody else can meanwhile; others can read.

    `as_text` are columns of a new index that are text whatever they look like. An older index keeps its description, of
    which only the fingerprint must be the same.

    Raises:
        UsageError: another process is writing; `path` is in a bucket; the index was made by another model or with other
            options; something else is at `path`.
        CheckpointError: the index is damaged; the message names the file.
    """
    path = Place(path).folder
    lancedb()
    with owned(path):
        yield Writer(path, description, as_text=as_text)


def _parts(ids: Sequence[str]) -> list[str]:
    """Conditions that texts have one of these ids, each of a length that a parser takes."""
    return [among(ids[start : start + _IDS_AT_ONCE]) for start in range(0, len(ids), _IDS_AT_ONCE)]


def refusal(path: Path | Place, made: Description, asked: Description) -> UsageError:
    """What to raise where an index was made by another model than the one at hand, or with other options."""
    options = made.fingerprint.how != asked.fingerprint.how
    first = "the first model with the options of the index, by giving none" if options else "the first model"
    return UsageError(
        f"{path}: this index was made by {made.model} ({made.fingerprint}), and its vectors cannot be compared with those of "
        f"{asked.model} ({asked.fingerprint}). Use {first}, or make another index with -o."
    )


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Errors of LanceDB in one sentence."""
    try:
        yield
    except Exception as error:  # Lance's own panics are among them
        said = str(error).splitlines()[0][:300]
        if "No space left" in str(error) or "os error 28" in str(error):
            raise CheckpointError(
                f"{path}: the disk is full. What was acknowledged is still there. Free some space."
            ) from None
        raise CheckpointError(f"{path}: the index cannot be written ({said}).") from error
