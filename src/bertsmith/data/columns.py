"""Which column of a labelled file holds what: guessed from names and content, said aloud, or given."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bertsmith.data.records import Format
from bertsmith.data.rows import Row
from bertsmith.errors import DataError, nearest

SAMPLED_ROWS = 200
"""How many rows are looked at to guess the columns."""

# Names that people give, best first; all compared without regard to case.
ONE_TEXT = (
    "text",
    "sentence",
    "review",
    "content",
    "document",
    "comment",
    "tweet",
    "message",
    "post",
    "body",
    "abstract",
    "passage",
    "utterance",
    "question",
    "query",
    "sentence1",
    "text_a",
    "headline",
    "title",
)
TWO_TEXTS = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("#1 string", "#2 string"),
    ("query", "document"),
    ("query", "passage"),
    ("question", "passage"),
    ("question", "answer"),
    ("question", "sentence"),
    ("text", "pair"),
)
CLASS = (
    "label",
    "gold_label",
    "class",
    "category",
    "target",
    "quality",
    "sentiment",
    "intent",
    "topic",
    "stance",
    "polarity",
    "entailment_judgment",
    "rating",
)
NUMBER = (
    "score",
    "similarity",
    "relatedness_score",
    "label",
    "rating",
    "stars",
    "gold",
    "target",
    "value",
)
INDICATED = {"0": False, "0.0": False, "False": False, "1": True, "1.0": True, "True": True}
"""What a column of 0 and 1 may hold."""
_NUMBERING = {"index", "idx", "id", "guid", "uid", "pair_id", "#1 id", "#2 id", "unnamed: 0", ""}

# So many rows tell a header from data by its label, which no other row has.
_ENOUGH_ROWS = 10


@dataclass(frozen=True)
class Columns:
    """Names of the columns, or their numbers from 1. What is left empty is guessed.

    `indicators` instead of a `label`: a column for each label, with 0 or 1 in it.
    """

    texts: tuple[str, ...] = ()
    label: str | None = None
    indicators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What a task needs of a file.

    `text_counts`: how many text columns an example may have. `label`: whether one is needed. `numeric`: whether it is a
    number. `indicators`: whether several columns of 0 and 1 will do too. `texts` and `labels` are the usual names of their
    columns, best first. `endings` are the formats of files that hold such examples under a name that tells of another;
    `plain` is that of files whose ending says nothing.
    """

    text_counts: tuple[int, ...] = (1,)
    label: bool = True
    numeric: bool = False
    indicators: bool = False
    texts: tuple[tuple[str, ...], ...] = (*TWO_TEXTS, *((name,) for name in ONE_TEXT))
    labels: tuple[str, ...] = CLASS
    endings: Mapping[str, Format] = field(default_factory=dict)
    plain: Format = "tsv"

    @property
    def known(self) -> set[str]:
        """All usual names."""
        return {
            *ONE_TEXT,
            *CLASS,
            *NUMBER,
            *self.labels,
            *(name for names in (*TWO_TEXTS, *self.texts) for name in names),
        }

    def usual_texts(self, there: Mapping[str, str]) -> tuple[str, ...]:
        """The text columns of a file by their usual names; `there` gives its columns by their names in lower case."""
        for names in self.texts:
            if len(names) in self.text_counts and all(name in there for name in names):
                return tuple(there[name] for name in names)
        return ()

    def left_over(self, names: Sequence[str]) -> tuple[str, ...]:
        """The text columns of a file without usual names, where these are all that is left; nothing if it is not clear."""
        return tuple(names) if len(names) in self.text_counts else ()

    def usual_label(self, there: Mapping[str, str]) -> str | None:
        """The label column by its usual names."""
        return next((there[name] for name in self.labels if name in there), None)


@dataclass(frozen=True)
class Layout:
    """The columns of one file, found. `names` are all of its columns; without a header, their numbers from 1."""

    columns: Columns
    names: tuple[str, ...]
    header: bool

    def __str__(self) -> str:
        """What stands where, for people: `text = column 'sentence', label = column 'label'`."""
        texts, label = self.columns.texts, self.columns.label
        roles = ["text"] if len(texts) == 1 else [f"text {number}" for number in range(1, len(texts) + 1)]
        found = [*zip(roles, texts, strict=True), *([("label", label)] if label is not None else [])]
        said = ", ".join(f"{role} = column {repr(name) if self.header else name}" for role, name in found)
        if self.columns.indicators:
            said += f", labels = the columns of 0 and 1 {', '.join(map(repr, self.columns.indicators))}"
        return said if self.header else f"{said} (no header)"

    def cell(self, row: Row, name: str) -> Any:
        """The content of column `name`; KeyError where the row has none."""
        return row.cells[name] if isinstance(row.cells, Mapping) else row.cells[self.names.index(name)]


def find_columns(path: Path, rows: Sequence[Row], wanted: Wanted, given: Columns, usual: Columns) -> Layout:
    """Find the columns of the file at `path` by its first `rows`.

    `given` decides where it says something. `usual` are the columns that the model was trained with: they are taken where
    the file has columns of those names.

    Raises:
        DataError: a given column is not there, or the columns cannot be told apart; it lists what there is.
    """
    names, header = _names(rows, wanted, given)
    if header and _positional(rows) and len(rows) == 1:
        raise DataError(f"{path}: there is a header and nothing below it.")
    finder = _Finder(path, names, [_values(row, names) for row in rows[1 if header and _positional(rows) else 0 :]])
    label = finder.given(given.label) if given.label is not None else None
    indicators = tuple(finder.given(name) for name in given.indicators)
    if indicators and not wanted.indicators:
        raise finder.error(f"{len(indicators)} label columns are given, and this task takes one")
    texts = tuple(finder.given(name) for name in given.texts)
    if not texts and usual.texts and set(usual.texts) <= set(names) and header:
        texts = usual.texts
        label = label or (usual.label if usual.label in names else None)
        if label is None and not indicators and set(usual.indicators) <= set(names):
            indicators = usual.indicators
    if texts and len(texts) not in wanted.text_counts:
        raise finder.error(f"{len(texts)} text columns are given, and this task takes {_counts(wanted)}")
    if wanted.label and label is None and not indicators:
        indicators = finder.indicators(texts) if wanted.indicators and header else ()
        label = None if indicators else finder.label(wanted, texts)
    if not texts:
        texts = finder.texts(wanted, indicators if label is None else (label,))
    return Layout(Columns(texts, label, indicators) if wanted.label else Columns(texts), names, header)


def _names(rows: Sequence[Row], wanted: Wanted, given: Columns) -> tuple[tuple[str, ...], bool]:
    """The names of all columns, and whether the file says them itself."""
    if not _positional(rows):
        return tuple(dict.fromkeys(name for row in rows for name in row.cells)), True
    first = [str(cell).strip() for cell in rows[0].cells]
    numbers = tuple(str(number) for number in range(1, len(first) + 1))
    named = [
        name for name in (*given.texts, given.label, *given.indicators) if name is not None and name not in numbers
    ]
    if named or _is_header(first, [_values(row, numbers) for row in rows[1:]], wanted, given.label):
        return tuple(first), True
    return numbers, False


def _is_header(first: list[str], others: list[list[Any]], wanted: Wanted, label: str | None) -> bool:
    """Whether the first row names the columns: it has a usual name, or a label that none of many other rows has."""
    folded, known = [cell.casefold() for cell in first], wanted.known
    if any(name in known and not any(row[i] == first[i] for row in others) for i, name in enumerate(folded)):
        return True
    if not wanted.label or not others:
        return False
    place = int(label) - 1 if label is not None and int(label) <= len(first) else _least_varied(others, wanted)
    values = [row[place] for row in others]
    if wanted.numeric:
        return not _is_number(first[place]) and all(map(_is_number, values))
    return len(values) >= _ENOUGH_ROWS and len(set(values)) <= len(values) / 2 and first[place] not in values


class _Finder:
    """Looks for columns in one file."""

    def __init__(self, path: Path, names: tuple[str, ...], sample: list[list[Any]]) -> None:
        self.path = path
        self.names = names
        self.sample = sample
        self.by_folded = {name.casefold(): name for name in reversed(names)}

    def error(self, problem: str) -> DataError:
        example = self.sample[0] if self.sample else [""] * len(self.names)
        there = ", ".join(f"{name!r} ({str(cell)[:30]!r})" for name, cell in zip(self.names, example, strict=True))
        return DataError(
            f"{self.path}: {problem}. Columns, each with its first content: {there}. "
            "Name the text and label columns, or give their numbers from 1."
        )

    def given(self, name: str) -> str:
        """The column that a person means by `name`: its name, or its number from 1."""
        if name in self.names:
            if self.names.count(name) > 1:
                raise DataError(
                    f"{self.path}: two columns are called {name!r}. Give the number of the one that is meant."
                )
            return name
        if name.isdecimal() and 1 <= int(name) <= len(self.names):
            return self.names[int(name) - 1]
        raise DataError(f"{self.path}: there is no column {name!r}.{nearest(name, self.names)}")

    def label(self, wanted: Wanted, texts: Sequence[str]) -> str:
        """The label column: by a usual name, else the one that is left, else the one whose content looks like it."""
        name = wanted.usual_label({folded: name for folded, name in self.by_folded.items() if name not in texts})
        if name is not None:
            return name
        usual = self._usual_texts(wanted) or texts
        rest = self._rest(usual)
        if usual and len(rest) == 1:
            return rest[0]
        if not usual and len(rest) - 1 in wanted.text_counts:
            places = [self.names.index(name) for name in rest]
            return rest[_least_varied([[row[place] for place in places] for row in self.sample], wanted)]
        raise self.error("it is not clear which column holds the label")

    def indicators(self, texts: Sequence[str]) -> tuple[str, ...]:
        """All columns with nothing but 0 and 1 in them, if there are several."""
        columns = [name for name in self._rest(texts) if self._indicates(name)]
        return tuple(columns) if len(columns) > 1 else ()

    def texts(self, wanted: Wanted, labels: Sequence[str]) -> tuple[str, ...]:
        """The text columns: by usual names, else those that are left."""
        usual = self._usual_texts(wanted, labels)
        if usual:
            return usual
        rest = self._rest(labels)
        for left in (rest, [name for name in rest if name.casefold() not in {*CLASS, *NUMBER}]):
            if found := wanted.left_over(left):
                return found
        raise self.error(f"it is not clear which columns hold the text, and this task takes {_counts(wanted)}")

    def _indicates(self, name: str) -> bool:
        place = self.names.index(name)
        return bool(self.sample) and all(str(row[place]).strip() in INDICATED for row in self.sample)

    def _usual_texts(self, wanted: Wanted, labels: Sequence[str] = ()) -> tuple[str, ...]:
        return wanted.usual_texts({folded: name for folded, name in self.by_folded.items() if name not in labels})

    def _rest(self, taken: Collection[str]) -> list[str]:
        return [name for name in self.names if name not in taken and name.casefold() not in _NUMBERING]


def _positional(rows: Sequence[Row]) -> bool:
    return not isinstance(rows[0].cells, Mapping)


def _values(row: Row, names: tuple[str, ...]) -> list[Any]:
    if isinstance(row.cells, Mapping):
        return [row.cells.get(name) for name in names]
    return list(islice(row.cells, len(names)))


def _least_varied(rows: list[list[Any]], wanted: Wanted) -> int:
    """The column that looks like labels: numbers throughout, or the fewest different values; the last of several."""
    columns = [[str(row[i]) for row in rows] for i in range(len(rows[0]))]
    if wanted.numeric:
        numeric = [i for i, values in enumerate(columns) if all(map(_is_number, values))]
        return numeric[-1] if numeric else len(columns) - 1
    return min(reversed(range(len(columns))), key=lambda i: len(set(columns[i])))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _counts(wanted: Wanted) -> str:
    first, last = wanted.text_counts[0], wanted.text_counts[-1]
    return f"{first} to {last}" if len(wanted.text_counts) > 2 else " or ".join(map(str, wanted.text_counts))
