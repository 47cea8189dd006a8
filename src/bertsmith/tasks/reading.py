"""Reading labelled texts for training and evaluation, and texts without labels for prediction."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bertsmith.errors import DataError, nearest
from bertsmith.tasks.columns import SAMPLED_ROWS, Columns, Layout, Wanted, find_columns
from bertsmith.tasks.records import Format, Records, Row, place, read_records
from bertsmith.tasks.task import Label, Task, Texts


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One example: a text or a pair, its label, and the line of the file on which it begins."""

    texts: Texts
    label: Label
    line: int


@dataclass(frozen=True)
class Labelled:
    """The examples of one file, and how its columns were understood."""

    path: Path
    layout: Layout
    examples: tuple[LabelledText, ...]

    @property
    def texts(self) -> list[Texts]:
        """The text or pair of each example."""
        return [example.texts for example in self.examples]

    @property
    def labels(self) -> list[Label]:
        """The label of each example."""
        return [example.label for example in self.examples]

    def at(self, line: int) -> str:
        """A place in this file, for a message."""
        return place(self.path, line)


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
    """Read all examples of a csv, tsv, JSON lines or Parquet file, perhaps with `.gz` or `.xz` behind its name.

    Columns that are not given are guessed; `Labelled.layout` says how. `usual` are those a model was trained with.

    Raises:
        DataError: with the line, for whatever is wrong in the file; it has no example; a label is none for this task.
    """
    records, layout, rows = _open(Path(path), task.wanted, columns, usual, format)
    examples = tuple(_labelled_text(records, layout, row, task) for row in rows)
    return Labelled(records.path, layout, examples)


def read_texts(
    path: str | Path,
    *,
    text_counts: tuple[int, ...] = (1,),
    columns: Columns = Columns(),
    usual: Columns = Columns(),
    format: Format = "auto",
) -> UnlabelledTexts:
    """Read the texts of a file, one at a time. Beyond the formats of `read_labelled`, a `.txt` file or standard input
    (`-`) has one text a line; for a task on pairs, two with a tab between.

    Raises:
        DataError: as `read_labelled`; what is wrong further down in the file is raised when the stream gets there.
    """
    wanted = Wanted(text_counts=text_counts, label=False)
    plain: Format = "lines" if 1 in text_counts else "tsv"
    records, layout, rows = _open(Path(path), wanted, columns, usual, format, plain)
    return UnlabelledTexts(records.path, layout, (_texts(records, layout, row) for row in rows))


def _open(
    path: Path, wanted: Wanted, columns: Columns, usual: Columns, format: Format, plain: Format = "tsv"
) -> tuple[Records, Layout, Iterator[Row]]:
    """The rows of a file below its header, and its layout."""
    records = read_records(path, format, plain=plain)
    sample = list(islice(records.rows, SAMPLED_ROWS))
    if not sample:
        raise DataError(f"{path}: there is nothing in this file.")
    if records.format == "lines":
        return records, Layout(Columns(("1",)), ("1",), header=False), chain(sample, records.rows)
    layout = find_columns(path, sample, wanted, columns, usual)
    skipped = 1 if layout.header and isinstance(sample[0].cells, list) else 0
    return records, layout, chain(sample[skipped:], records.rows)


def _labelled_text(records: Records, layout: Layout, row: Row, task: type[Task] | Task) -> LabelledText:
    assert layout.columns.label is not None
    try:
        label = task.read_label(_cell(records, layout, row, layout.columns.label))
    except ValueError as error:
        raise DataError(f"{records.at(row.line)}: {error} (column {layout.columns.label!r}).") from None
    return LabelledText(_texts(records, layout, row), label, row.line)


def _texts(records: Records, layout: Layout, row: Row) -> Texts:
    texts = [_text(records, layout, row, name) for name in layout.columns.texts]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _text(records: Records, layout: Layout, row: Row, name: str) -> str:
    text = _cell(records, layout, row, name)
    if not isinstance(text, str | None):
        raise DataError(f"{records.at(row.line)}: the column {name!r} holds {text!r:.60}, which is not text.")
    return text or ""


def _cell(records: Records, layout: Layout, row: Row, name: str) -> Any:
    try:
        return layout.cell(row, name)
    except KeyError:
        assert not isinstance(row.cells, list)
        raise DataError(f"{records.at(row.line)}: there is no {name!r}.{nearest(name, row.cells)}") from None
