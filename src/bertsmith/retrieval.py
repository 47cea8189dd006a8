"""Files of texts to an index, and questions to it: the index of `bertsmith.search` with a model on both sides.

index_files(bertsmith.load("runs/mine"), ["abstracts.csv"], "abstracts.index")
finder = open_index("abstracts.index")                   # the index knows which model made it
finder.search("drag of a slender wing", k=3)             # [Hit(rank, id, text, fields), ...]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from bertsmith.baselines import BM25
from bertsmith.checkpoints import Checkpoint
from bertsmith.config import Part, from_dict, to_dict
from bertsmith.data.columns import SAMPLED_ROWS, Columns, Layout, Wanted, find_columns
from bertsmith.data.records import Format, Records, read_records
from bertsmith.data.rows import Row
from bertsmith.embed import Embedder, EmbedOptions
from bertsmith.errors import CheckpointError, ConfigError, DataError, UsageError, nearest
from bertsmith.model import LoadedModel, load
from bertsmith.nn import PoolerPooling
from bertsmith.progress import Progress, silent
from bertsmith.search import (
    MODES,
    Added,
    Description,
    Entry,
    Fingerprint,
    Hit,
    Index,
    Mode,
    Place,
    Recall,
    described,
    refusal,
    writing,
)
from bertsmith.tasks import Prediction

Way = Mode | Literal["bm25"]
WAYS: tuple[Way, ...] = (*MODES, "bm25")

BATCH = 4096  # texts that are embedded, written and acknowledged together
CANDIDATES = 100  # texts that a cross-encoder reads for one query, at least

_IDS = ("id", "_id")
_RELEVANT = ("1", "true", "yes", "relevant", "match", "duplicate", "paraphrase", "equivalent", "entailment", "similar")


@dataclass(frozen=True, kw_only=True)
class Source:
    """How texts stand in files: csv, tsv, JSON lines, JSON, Parquet, or plain lines.

    `text` and `id` name columns, or give their numbers from 1. Without `text` it is guessed; without `id` it is a column of
    that name, else the file and line. All other columns are kept beside the text, but for those in `without`.
    Columns in `as_text` are kept as text though they look like numbers.
    """

    text: str | None = None
    id: str | None = None
    without: tuple[str, ...] = ()
    as_text: tuple[str, ...] = ()
    format: Format = "auto"


@dataclass(frozen=True)
class Indexed:
    """What went into an index: texts that were new or replaced others, how many had nothing in them and were left out, how
    many were cut to the model's length or read in several windows, how the columns of each file were understood, and a sentence
    about how vectors were made."""

    added: Added
    empty: int
    truncated: int
    windowed: int
    layouts: dict[Path, Layout]
    about: str


def index_files(
    model: LoadedModel,
    files: Sequence[str | Path],
    out: str | Path,
    source: Source = Source(),
    *,
    options: EmbedOptions | None = None,
    language: str | None = "English",
    progress: Progress = silent,
) -> Indexed:
    """Make an index at `out` of the texts in `files`, or put them into the one that is there. Texts whose id is there
    already are replaced. A few thousand texts at a time are held, and are durable as soon as progress tells of them; beyond
    them, memory grows with the ids (some 0.2 kB a text).

    `options` say how vectors are made, which are at length 1 whatever they say of it. They are kept, and are those of an
    index that is there unless others are given: then they must make the same vectors, in whatever lane.

    `language` is for the stems and stop words of full-text search in a new index; None for neither, and for languages
    without spaces.

    Raises:
        DataError: with the line, for whatever is wrong in a file. What was put in before stays in.
        UsageError: the index was made by another model or with other options; another process is writing; something else
            is at `out`.
        CheckpointError: the index is damaged, or the disk is full.
    """
    files = [Path(file) for file in files]
    if not files:
        raise UsageError("No texts were given: name at least one file.")
    layouts: dict[Path, Layout] = {}
    opened = [_open(file, source) for file in files]
    entries = chain.from_iterable(_entries(*found, source, layouts) for found in opened)
    embedder = model.embedder.with_options(replace(options or options_of(out), normalize=True))
    added, empty, truncated, windowed = Added(), 0, 0, 0
    with writing(out, describe(embedder, language), as_text=source.as_text) as writer:
        while batch := list(islice(entries, BATCH)):
            some = [entry for entry in batch if entry.text.strip()]
            empty += len(batch) - len(some)
            if some:
                made = embedder.embed([entry.text for entry in some])
                added += writer.add(some, made.vectors)
                truncated += int((made.truncated > 0).sum())
                windowed += int((made.windows > 1).sum())
                progress("indexing texts", added.new + added.updated, None)
        if not added.new + added.updated:
            raise DataError(f"{', '.join(map(str, files))}: there is no text to put into an index.")
        writer.optimize()
    total = added.new + added.updated
    progress("indexing texts", total, total)
    return Indexed(added, empty, truncated, windowed, layouts, embedder.about)


def options_of(path: str | Path) -> EmbedOptions:
    """How the vectors of the index at `path` are made, and where there is none, those of a new one: as the model's folder
    says, at length 1.

    Raises:
        CheckpointError: the index is damaged, or of a later bertsmith.
    """
    made = described(path)
    return EmbedOptions(normalize=True) if made is None else _options(made, Place(path))


def delete_texts(path: str | Path, ids: Sequence[str]) -> int:
    """Take the texts with these ids out of an index, and return how many were there.

    Raises:
        UsageError: there is no index at `path`, or another process is writing.
    """
    with writing(path, Index(path).description) as writer:
        return writer.delete(ids)


def open_index(path: str | Path, model: LoadedModel | None = None) -> "Finder":
    """Open an index to search in it. It remembers which model made it; `model` is for when that has moved.

    Raises:
        UsageError: there is no index at `path`.
        CheckpointError: a file of it is missing or was cut; the message names it.
    """
    return Finder(Index(path), model)


class Finder:
    """Searches an index by queries in words.

    Attributes:
        index: the index, for search by vectors.
        options: how its vectors are made, as it was told when it was made.
    """

    def __init__(self, index: Index, model: LoadedModel | None = None) -> None:
        self.index = index
        self.options = _options(index.description, index.place)
        self._given = model

    @cached_property
    def model(self) -> LoadedModel:
        """The model that lies where that of the index did, or was given, loaded when it is first needed.

        Raises:
            CheckpointError: there is none.
        """
        try:
            return self._given or load(self.index.description.model)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} It made the index {self.index.place}: if it has moved, give it with --model."
            ) from None

    @cached_property
    def embedder(self) -> Embedder:
        """What makes the vectors of queries, exactly: `embedder_of` the model.

        Raises:
            CheckpointError: the model is not where it was.
            UsageError: what is there is another model; the message names both fingerprints.
        """
        return self.embedder_of(self.model.embedder)

    def embedder_of(self, given: Embedder) -> Embedder:
        """What makes vectors as the index wants them, of the model of another one, and in its lane: vectors of all lanes can
        be compared, and which one is best for a single query is not what was best for all texts.

        Raises:
            UsageError: the index was made by another model; the message names both fingerprints.
        """
        embedder = given.with_options(replace(self.options, lane=given.options.lane))
        asked = describe(embedder)
        if asked.fingerprint != self.index.description.fingerprint:
            raise refusal(self.index.place, self.index.description, asked)
        return embedder

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        mode: Way = "hybrid",
        where: str | None = None,
        exact: bool = False,
        rerank: "Reranker | None" = None,
    ) -> list[Hit]:
        """The `k` best texts, best first; see `bertsmith.search.Index.search`. With mode "bm25", by BM25 computed here over
        all texts, without an index or stems: to compare with. With `rerank`, a cross-encoder orders the best `CANDIDATES`.

        Raises:
            UsageError: there is no such mode, `where` cannot be understood, or another model lies where the index's was.
        """
        if mode not in WAYS:
            raise UsageError(f"{mode!r} is no way to search.{nearest(mode, WAYS)}")
        if k < 1:
            raise UsageError(f"k is how many texts to find, 1 or more, and {k} was given.")
        depth = k if rerank is None else max(k, CANDIDATES)
        if mode == "bm25":
            hits = self._by_bm25(query, depth, where)
        else:
            vector = None if mode == "text" else self.embedder.embed([query]).vectors[0]
            hits = self.index.search(vector, query, k=depth, mode=mode, where=where, exact=exact)
        return (rerank.order(query, hits) if rerank else hits)[:k]

    def recall(self, k: int = 10, *, queries: int = 100) -> Recall:
        """How much of the exact search the approximate one finds; see `bertsmith.search.Index.recall`."""
        return self.index.recall(k, queries=queries)

    def _by_bm25(self, query: str, k: int, where: str | None) -> list[Hit]:
        texts = sorted(self.index.texts(where))
        best = BM25([text for _, text in texts]).best(query, k)
        return self.index.get([texts[number][0] for number in best])


class Reranker:
    """A cross-encoder: a model fine-tuned on pairs (`finetune pair` or `finetune regress`), which reads query and text
    together. `label` is the one that says a text answers a query; of two labels it is known by its usual names.

    `score` is how well a text answers its query, from the prediction for both: the label's probability, or the number."""

    def __init__(self, model: LoadedModel, label: str | None = None) -> None:
        """Make ready.

        Raises:
            UsageError: the model was not fine-tuned on pairs, or it is not clear which of its labels is meant.
        """
        self.predictor = model.predictor
        if 2 not in self.predictor.text_counts or self.predictor.task.kind not in ("pair", "classify", "regress"):
            raise UsageError(
                f"{model.checkpoint.path}: a model that orders what was found reads pairs of texts, and this one does not. "
                "Make one: bertsmith finetune pair --train FILE --dev FILE -o RUN, with a query and a text in each row."
            )
        labels = [str(name) for name in (model.checkpoint.task or {}).get("labels") or ()]
        self.score: Callable[[Prediction], float] = _the_score
        if labels:
            chosen = label or _relevant_of(labels)
            if chosen not in labels:
                raise UsageError(
                    f"{model.checkpoint.path}: which of its labels says that a text answers the query? "
                    f"Name it with --rerank-label: {', '.join(labels)}."
                )
            self.score = lambda prediction: (prediction.probabilities or {})[chosen]

    def order(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits, best first by the cross-encoder, equally good ones in the order that they had."""
        scores = [self.score(found) for found in self.predictor.predict([(query, hit.text) for hit in hits])]
        order = sorted(range(len(hits)), key=lambda number: -scores[number])
        return [Hit(rank, hits[n].id, hits[n].text, hits[n].fields) for rank, n in enumerate(order, start=1)]


def describe(embedder: Embedder, language: str | None = "English") -> Description:
    """What an index remembers of what makes its vectors."""
    path = embedder.checkpoint.path
    said = "a model in memory" if path is None else str(path.absolute() if path.exists() else path)
    made = fingerprint(embedder)
    return Description(fingerprint=made, model=said, options=to_dict(embedder.options), language=language)


def fingerprint(embedder: Embedder) -> Fingerprint:
    """All that the direction of a vector depends on. The same model has the same in every format it is stored in, and in
    every lane."""
    checkpoint, options = embedder.checkpoint, embedder.options
    return Fingerprint(
        weights=_weights_sha256(checkpoint, pooled=isinstance(embedder.pooling, PoolerPooling)),
        tokenizer=embedder.tokenizer.sha256,
        pooling=_named_part(embedder.pooling),
        normalize=checkpoint.normalize,
        size=embedder.size,
        layers=_named_part(options.layers),
        long=_named_part(options.long),
    )


def _options(made: Description, place: Place) -> EmbedOptions:
    try:
        return replace(from_dict(EmbedOptions, made.options), normalize=True)
    except ConfigError as error:
        raise CheckpointError(f"{place}: how its vectors were made is not known to this bertsmith ({error}).") from None


def _named_part(part: Part) -> str:
    """For people: `mean`, `concatenated (numbers -2, -1)`."""
    settings = [(name, value) for name, value in to_dict(part).items() if name != "kind" and value is not None]
    said = ", ".join(f"{name} {str(value).strip('[]')}" for name, value in settings)
    return f"{part.kind} ({said})" if said else part.kind


def _weights_sha256(checkpoint: Checkpoint, *, pooled: bool) -> str:
    """SHA-256 over the weights that vectors come from: the encoder's, and the pooler's if it makes them."""
    digest = sha256()
    kept = ("encoder.", "mix.", "pooler.") if pooled else ("encoder.", "mix.")
    for name, tensor in sorted(checkpoint.model.state_dict().items()):
        if name.startswith(kept):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(memoryview(tensor.detach().cpu().contiguous().view(-1).numpy()).cast("B"))
    return digest.hexdigest()


def _open(path: Path, source: Source) -> tuple[Records, Layout, Iterator[Row]]:
    records = read_records(path, source.format, plain="lines")
    if records.format in ("squad", "conll", "conllu"):
        raise UsageError(
            f"{path}: files of the format {records.format} hold no texts with columns to put into an index."
        )
    sample = list(islice(records.rows, SAMPLED_ROWS))
    if not sample:
        raise DataError(f"{path}: there is nothing in this file.")
    if records.format == "lines":
        return records, Layout(Columns(("text",)), ("text",), header=False), chain(sample, records.rows)
    given = Columns(texts=(source.text,) if source.text else (), label=source.id)
    layout = find_columns(path, sample, Wanted(label=False), given, Columns())
    skipped = 1 if layout.header and isinstance(sample[0].cells, list) else 0
    return records, layout, chain(sample[skipped:], records.rows)


def _entries(
    records: Records, layout: Layout, rows: Iterator[Row], source: Source, layouts: dict[Path, Layout]
) -> Iterator[Entry]:
    (text,) = layout.columns.texts
    ids = (
        (_named(records, layout, source.id),) if source.id else tuple(name for name in _IDS if name in layout.names)[:1]
    )
    layouts[records.path] = Layout(Columns((text,), ids[0] if ids else None), layout.names, layout.header)
    for row in rows:
        place = records.at(row.line)
        cells: dict[str, Any] = dict(
            row.cells if isinstance(row.cells, dict) else zip(layout.names, row.cells, strict=False)
        )
        if missing := [name for name in (text, *ids) if name not in cells]:
            raise DataError(f"{place}: there is no {missing[0]!r}.{nearest(missing[0], cells)}")
        content, id = cells.pop(text), str(cells.pop(ids[0])) if ids else place
        if not isinstance(content, str | None):
            raise DataError(f"{place}: the column {text!r} holds {str(content)[:40]!r}, which is not text.")
        kept = {name: value for name, value in cells.items() if name not in source.without}
        yield Entry(id, content or "", kept, place, spelled=records.format in ("csv", "tsv"))


def _named(records: Records, layout: Layout, name: str) -> str:
    """The column that a person means by its name, or by its number from 1."""
    if name in layout.names:
        return name
    if name.isdecimal() and 1 <= int(name) <= len(layout.names):
        return layout.names[int(name) - 1]
    raise DataError(f"{records.path}: there is no column {name!r}.{nearest(name, layout.names)}")


def _relevant_of(labels: Sequence[str]) -> str | None:
    usual = [label for label in labels if label.casefold() in _RELEVANT]
    return usual[0] if len(usual) == 1 else None


def _the_score(prediction: Prediction) -> float:
    return prediction.score or 0.0
