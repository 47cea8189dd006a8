"""Reading labelled texts for training and evaluation, and texts without labels for prediction."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bertsmith.data.columns import INDICATED, SAMPLED_ROWS, Columns, Layout, Wanted, find_columns
from bertsmith.data.records import Format, Records, read_records
from bertsmith.data.rows import Row, Unit, place
from bertsmith.errors import DataError, nearest
from bertsmith.tasks.task import Label, Task, Texts


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One example: its text or texts, its label, and the line of the file on which it begins."""

    texts: Texts
    label: Label
    line: int


@dataclass(frozen=True)
class Labelled:
    """The examples of one file, how its columns were understood, and what its records are counted in."""

    path: Path
    layout: Layout
    examples: tuple[LabelledText, ...]
    unit: Unit = "line"

    @property
    def texts(self) -> list[Texts]:
        """The text or texts of each example."""
        return [example.texts for example in self.examples]

    @property
    def labels(self) -> list[Label]:
        """The label of each example."""
        return [example.label for example in self.examples]

    def at(self, line: int) -> str:
        """A place in this file, for a message."""
        return place(self.path, line, self.unit)


@dataclass(frozen=True)
class UnlabelledTexts:
    """The texts of one file, as a stream in constant memory, and how its columns were understood. Iterate it once."""

    path: Path
    layout: Layout
    texts: Iterator[Texts]

    def __iter__(self) -> Iterator[Texts]:
        return self.texts


def read_labelled(
    path: str | Path,
    task: type[Task] | Task,
    *,
    columns: Columns = Columns(),
    usual: Columns = Columns(),
    format: Format = "auto",
) -> Labelled:
    """Read all examples of a csv, tsv, JSON lines, JSON, Parquet, CoNLL or CoNLL-U file, perhaps with `.gz` or `.xz`
    behind its name.

    Columns that are not given are guessed; `Labelled.layout` says how. `usual` are those a model was trained with.

    Raises:
        DataError: with the line, for whatever is wrong in the file; it has no example; a label is none for this task.
    """
    records, layout, rows = _open(Path(path), task.wanted, columns, usual, format)
    examples = tuple(_labelled_text(records, layout, row, task) for row in rows)
    return Labelled(records.path, layout, examples, records.unit)


def read_texts(
    path: str | Path,
    task: type[Task] | Task = Task,
    *,
    text_counts: tuple[int, ...] | None = None,
    columns: Columns = Columns(),
    usual: Columns = Columns(),
    format: Format = "auto",
) -> UnlabelledTexts:
    """Read the texts of a file, one at a time. Beyond the formats of `read_labelled`, a `.txt` file or standard input
    (`-`) has one text a line; for a task on pairs, two with a tab between. `text_counts` are the numbers of text columns to
    look for, where the task takes several.

    Raises:
        DataError: as `read_labelled`; what is wrong further down in the file is raised when the stream gets there.
    """
    counts = text_counts or task.wanted.text_counts
    endings = {ending: kind for ending, kind in task.wanted.endings.items() if ending != ".txt"}
    wanted = replace(
        task.wanted, text_counts=counts, label=False, plain="lines" if 1 in counts else "tsv", endings=endings
    )
    records, layout, rows = _open(Path(path), wanted, columns, usual, format)
    return UnlabelledTexts(records.path, layout, (_texts(records, layout, row, task) for row in rows))


def _open(
    path: Path, wanted: Wanted, columns: Columns, usual: Columns, format: Format
) -> tuple[Records, Layout, Iterator[Row]]:
    """The rows of a file below its header, and its layout."""
    records = read_records(path, format, plain=wanted.plain, endings=wanted.endings)
    sample = list(islice(records.rows, SAMPLED_ROWS))
    if not sample:
        raise DataError(f"{path}: there is nothing in this file.")
    if records.format == "lines":
        return records, Layout(Columns(("1",)), ("1",), header=False), chain(sample, records.rows)
    layout = find_columns(path, sample, wanted, columns, usual)
    skipped = 1 if layout.header and isinstance(sample[0].cells, list) else 0
    return records, layout, chain(sample[skipped:], records.rows)


def _labelled_text(records: Records, layout: Layout, row: Row, task: type[Task] | Task) -> LabelledText:
    name, indicators = layout.columns.label, layout.columns.indicators
    texts = _texts(records, layout, row, task)
    if indicators:
        said = [one for one in indicators if _indicated(records, row, one, _cell(records, layout, row, one))]
        return LabelledText(texts, task.read_label(said, texts), row.line)
    assert name is not None
    try:
        label = task.read_label(_cell(records, layout, row, name), texts)
    except ValueError as error:
        raise DataError(f"{records.at(row.line)}: {error} (column {name!r}).") from None
    return LabelledText(texts, label, row.line)


def _indicated(records: Records, row: Row, name: str, value: Any) -> bool:
    """Whether a column of 0 and 1 says that its label is there."""
    said = str(value).strip()
    if said not in INDICATED:
        raise DataError(f"{records.at(row.line)}: {said!r:.60} is neither 0 nor 1 (column {name!r}).")
    return INDICATED[said]


def _texts(records: Records, layout: Layout, row: Row, task: type[Task] | Task) -> Texts:
    names = layout.columns.texts
    try:
        return task.read_texts([_cell(records, layout, row, name) for name in names])
    except ValueError as error:
        where = f"the column {names[0]!r}" if len(names) == 1 else f"the columns {', '.join(map(repr, names))}"
        raise DataError(f"{records.at(row.line)}: {error} (in {where}).") from None


def _cell(records: Records, layout: Layout, row: Row, name: str) -> Any:
    try:
        return layout.cell(row, name)
    except KeyError:
        assert not isinstance(row.cells, list)
        raise DataError(f"{records.at(row.line)}: there is no {name!r}.{nearest(name, row.cells)}") from None
