"""Files with one word a line and an empty line between sentences: CoNLL's of any year, and CoNLL-U.

A row is a sentence. Its cells are lists with one entry a word, by the number of the column from 1, or by CoNLL-U's names.
"""

from collections.abc import Iterator
from pathlib import Path

from bertsmith.data.corpora import numbered_lines
from bertsmith.data.rows import Row, place
from bertsmith.errors import DataError

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read_conll(path: Path) -> Iterator[Row]:
    """Columns parted by tabs if the first word has one, else by white space. `-DOCSTART-` is no sentence.

    In a file with tabs, a line without one that begins with `#` is a comment; in any other, `#` may be a word.
    """
    tabs: bool | None = None
    width = 0
    for block in _blocks(path):
        sentence: list[list[str]] = []
        for number, line in block:
            tabs = "\t" in line if tabs is None and not line.startswith("# ") else tabs
            if tabs is not False and line.startswith("#") and "\t" not in line:
                continue
            cells = line.split("\t") if tabs else line.split()
            width = width or len(cells)
            if len(cells) != width or width < 2 or not cells[0].strip():
                raise DataError(
                    f"{place(path, number)}: found {_columns(cells)}, and the first word has {width}. Each line needs a word "
                    "and its label, parted as in the lines before; an empty line ends a sentence."
                )
            sentence.append(cells)
        if sentence and sentence[0][0] != "-DOCSTART-":
            yield Row(block[0][0], {str(i + 1): [cells[i].strip() for cells in sentence] for i in range(width)})


def read_conllu(path: Path) -> Iterator[Row]:
    """The words of syntax: lines for contractions (1-2) and empty nodes (1.1) are passed over, and so are comments."""
    for block in _blocks(path):
        sentence: list[list[str]] = []
        for number, line in block:
            if line.startswith("#"):
                continue
            cells = line.split("\t")
            if len(cells) != len(CONLLU):
                raise DataError(
                    f"{place(path, number)}: found {_columns(cells)}, and CoNLL-U has {len(CONLLU)}, parted by tabs."
                )
            if cells[0].isdecimal():
                sentence.append(cells)
        if sentence:
            yield Row(block[0][0], {name: [cells[i] for cells in sentence] for i, name in enumerate(CONLLU)})


def _blocks(path: Path) -> Iterator[list[tuple[int, str]]]:
    """Lines, with their numbers, between empty ones."""
    block: list[tuple[int, str]] = []
    for number, line in numbered_lines(path):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _columns(cells: list[str]) -> str:
    return f"{len(cells)} column{'s' if len(cells) != 1 else ''}"
