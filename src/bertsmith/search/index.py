"""Finding texts: the nearest vectors, the words of a query, or both."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bertsmith.errors import CheckpointError, DataError, MissingExtra, UsageError, nearest
from bertsmith.search.places import Place
from bertsmith.search.ranking import reciprocal_rank_fusion
from bertsmith.search.seal import TABLE, Description, Seal, check_contents, check_sizes, read_seal

if TYPE_CHECKING:
    from lancedb.table import Table

Mode = Literal["vector", "text", "hybrid"]
MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")

EQUALS = 32  # asked for beyond k, so that of equally near texts those with the first ids are taken
FUSED = 100  # how deep each ranking is read before they are made one, at least
PROBES = 20  # cells of the approximate index that are looked into
REFINED = 2  # times as many candidates are measured by their whole vectors; `Index.recall` says what all this finds


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found. `rank` is 1 for the best; `fields` are its other columns."""

    rank: int
    id: str
    text: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Recall:
    """Of the `k` nearest texts, the share that the approximate search finds: the mean over `queries`. Where the index has
    nothing approximate in it, all searches are exact and the share is 1."""

    k: int
    queries: int
    share: float
    approximate: bool


class Index:
    """An index, as it was when it was opened: what others write meanwhile is seen when it is opened again.

    Equally good texts come in the order of their ids.
    """

    def __init__(self, path: str | Path) -> None:
        """Open an index, in a folder or at `s3://BUCKET/NAME`.

        Raises:
            UsageError: there is none at `path`.
            CheckpointError: a file of it is missing or was cut; the message names it.
        """
        self.place = Place(path)
        self._seal, self._table = _open(self.place)

    @property
    def description(self) -> Description:
        """What the index is made of."""
        return self._seal.description

    def __len__(self) -> int:
        return self._table.count_rows()

    def search(
        self,
        vector: NDArray[Any] | None = None,
        text: str | None = None,
        *,
        k: int = 10,
        mode: Mode = "vector",
        where: str | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The `k` best texts, best first; fewer where there are no more.

        mode "vector": those whose vectors have the smallest angle to `vector` (size,). "text": those that have words of
        `text`, by BM25 over LanceDB's full-text index. "hybrid": both rankings, made one by their ranks.
        `where` is a condition in SQL on the columns, which texts fulfil before they are ranked. `exact` looks at every vector.

        Raises:
            UsageError: something needed is not given, or `where` cannot be understood.
            DataError: `vector` has another size than those of the index, or is no direction.
        """
        if k < 1:
            raise UsageError(f"k is how many texts to find, 1 or more, and {k} was given.")
        if mode not in MODES:
            raise UsageError(f"{mode!r} is no way to search.{nearest(mode, MODES)}")
        if (vector is None and mode != "text") or (text is None and mode != "vector"):
            raise UsageError(f"Search of mode {mode!r} needs {_NEEDS[mode]}.")
        rankings: list[list[dict[str, Any]]] = []
        depth = max(FUSED, 5 * k) if mode == "hybrid" else k
        if mode != "text":
            assert vector is not None
            rankings.append(self._nearest(vector, depth, where, exact=exact))
        if mode != "vector":
            assert text is not None
            rankings.append(self._with_words(text, depth, where))
        rows = {row["id"]: row for ranking in rankings for row in ranking}
        order = [[row["id"] for row in ranking] for ranking in rankings]
        ids = reciprocal_rank_fusion(order) if mode == "hybrid" else order[0]
        return [self._hit(rank, rows[id]) for rank, id in enumerate(ids[:k], start=1)]

    def get(self, ids: Sequence[str]) -> list[Hit]:
        """The texts of these ids, ranked in this order, without those that are not there."""
        rows = {row["id"]: row for row in self._ask(self._table.search().where(among(ids)).limit(len(ids)), None)}
        return [self._hit(rank, rows[id]) for rank, id in enumerate((id for id in ids if id in rows), start=1)]

    def texts(self, where: str | None = None) -> Iterator[tuple[str, str]]:
        """Id and text of everything in the index, or of what `where` allows, in constant memory."""
        query = self._table.search().select(["id", "text"])
        if where:
            query = query.where(where)
        try:
            for batch in query.to_batches(1024):
                yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)
        except Exception as error:
            raise self._explain(error, where) from None

    @property
    def is_approximate(self) -> bool:
        """Whether search by vectors looks into a part of the index only, unless asked to be exact."""
        return any("vector" in index.columns for index in self._table.list_indices())

    def recall(self, k: int = 10, *, queries: int = 100) -> Recall:
        """Measure the approximate search against the exact one.

        Queries are texts of the index, taken evenly; what they find of themselves does not count.
        """
        size = len(self)
        queries = min(queries, size)
        if not queries or not self.is_approximate:
            return Recall(k, queries, 1.0, approximate=False)
        places = np.linspace(0, size - 1, queries).astype(int).tolist()
        shares: list[float] = []
        for row in self._table.take_offsets(places).select(["id", "vector"]).to_list():
            vector = np.array(row["vector"])
            near, found = (
                [hit["id"] for hit in self._nearest(vector, k + 1, None, exact=exact) if hit["id"] != row["id"]][:k]
                for exact in (True, False)
            )
            shares.append(len(set(near) & set(found)) / len(near) if near else 1.0)
        return Recall(k, queries, float(np.mean(shares)), approximate=True)

    def verify(self) -> None:
        """Read every file and compare it with what was written.

        Raises:
            CheckpointError: naming the first file that is not as it was.
        """
        check_contents(self.place, self._seal)

    def _nearest(self, vector: NDArray[Any], k: int, where: str | None, *, exact: bool) -> list[dict[str, Any]]:
        size = self.description.fingerprint.size
        if np.shape(vector) != (size,):
            raise DataError(
                f"{self.place}: its vectors have {size} numbers, and the query's shape is {np.shape(vector)}."
            )
        query = self._table.search(directions(vector[None], ["the query"])[0], vector_column_name="vector")
        query = query.distance_type("cosine").limit(k + EQUALS)  # pyright: ignore[reportAttributeAccessIssue]
        rows = self._ask(
            query.bypass_vector_index() if exact else query.nprobes(PROBES).refine_factor(REFINED), where, "_distance"
        )
        return sorted(rows, key=lambda row: (row["_distance"], row["id"]))[:k]

    def _with_words(self, text: str, k: int, where: str | None) -> list[dict[str, Any]]:
        query = self._table.search(text, query_type="fts", fts_columns="text").limit(k + EQUALS)
        return sorted(self._ask(query, where, "_score"), key=lambda row: (-row["_score"], row["id"]))[:k]

    def _ask(self, query: Any, where: str | None, *extra: str) -> list[dict[str, Any]]:
        query = query.select(["id", "text", *self.description.columns, *extra])
        if where:
            query = query.where(where, prefilter=True)
        try:
            return query.to_list()
        except Exception as error:
            raise self._explain(error, where) from None

    def _explain(self, error: Exception, where: str | None) -> Exception:
        if where:
            there = ", ".join(f"{name} ({kind})" for name, kind in self.description.columns.items()) or "none"
            said = str(error).splitlines()[0][:200]
            return UsageError(
                f'The condition {where!r} cannot be understood ({said}). It is SQL, such as "year > 1990"; names with other '
                f"than letters and digits stand in `...`. Columns beside id and text: {there}."
            )
        return CheckpointError(f"{self.place}: the index cannot be read ({str(error).splitlines()[0][:200]}).")

    def _hit(self, rank: int, row: Mapping[str, Any]) -> Hit:
        return Hit(rank, row["id"], row["text"], {name: row[name] for name in self.description.columns})


_NEEDS = {"vector": "a vector", "text": "a text", "hybrid": "a vector and a text"}


def lancedb() -> Any:
    """LanceDB, imported when an index is opened: it takes a second or two.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.setdefault("LANCEDB_LOG", "error")  # or it tells stderr that a new table is new
    try:
        import lancedb
    except ModuleNotFoundError:
        raise MissingExtra("lancedb", "search") from None
    return lancedb


def directions(vectors: NDArray[Any], names: Sequence[str]) -> NDArray[np.float32]:
    """Vectors (n, size) at length 1, float32, however long or short they were. `names` are those of the texts.

    Raises:
        DataError: one is not finite, or zero, so it points nowhere.
    """
    exact = np.asarray(vectors, np.float64)
    largest = np.abs(exact).max(axis=1, initial=0.0)
    for row in np.flatnonzero(~np.isfinite(largest) | (largest == 0)).tolist():
        problem = "is zero" if largest[row] == 0 else "holds a number that is not finite"
        raise DataError(f"The vector of {names[row]} {problem}, so it has no direction and cannot be compared.")
    scaled = exact / largest[:, None]  # a square of a very large or small number has no place in a float
    return (scaled / np.sqrt((scaled**2).sum(axis=1, keepdims=True))).astype(np.float32)


def among(ids: Sequence[str]) -> str:
    """The condition that a text has one of these ids."""
    return "id IN (" + ", ".join("'" + id.replace("'", "''") + "'" for id in ids) + ")" if ids else "false"


def _open(place: Place) -> tuple[Seal, "Table"]:
    """The sealed version of the table at a place. A writer may be clearing old files away meanwhile, so it is tried again
    while the seal changes."""
    connect = lancedb().connect
    while True:
        seal = read_seal(place)
        try:
            check_sizes(place, seal)
            table = connect(place.name).open_table(Path(TABLE).stem)
            table.checkout(seal.version)
        except CheckpointError:
            if read_seal(place) == seal:
                raise
        except Exception as error:  # Lance's own panics are among them
            if read_seal(place) == seal:
                raise CheckpointError(
                    f"{place}: the index cannot be opened ({str(error).splitlines()[0][:200]}). If a machine stopped while it "
                    "was written, add to it once more, in its folder: what was not acknowledged is then cleared away."
                ) from None
        else:
            return seal, table
