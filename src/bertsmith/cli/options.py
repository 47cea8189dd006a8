"""Options that several verbs share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.shipped import DEFAULT

if TYPE_CHECKING:
    from bertsmith.data.columns import Columns

Model = Annotated[
    Path,
    Option("--model", "-m", help="Model folder, bertsmith's or from Hugging Face; or the name of a shipped one."),
]
DEFAULT_MODEL = Path(DEFAULT)
Json = Annotated[bool, Option("--json", help="Print JSON lines.")]
Texts = Annotated[list[Path], Argument(help="Text files or folders: plain text, JSON lines, Parquet; .gz and .xz too.")]
TextFormat = Annotated[
    str,
    Option("--format", help="How documents stand in the files: auto, text (blank line between), file, jsonl, parquet."),
]
Field = Annotated[str, Option(help="The field or column with the text, for JSON lines and Parquet.")]
Processes = Annotated[int, Option(help="Processes to work with; the result is the same for any number.")]
FileFormat = Annotated[
    str,
    Option("--format", help="auto, csv, tsv, jsonl, json, squad, parquet, conll, conllu or lines."),
]
TextColumns = Annotated[
    list[str] | None,
    Option("--text", help="Column with the text; twice for a pair. Default: guessed, and said."),
]
Label = Annotated[
    list[str] | None,
    Option("--label", help="Column with the label; several of 0 and 1 for multilabel. Default: guessed, and said."),
]


def columns(text: list[str] | None, label: list[str] | None) -> "Columns":
    """The columns that `--text` and `--label` name."""
    from bertsmith.data.columns import Columns

    labels = tuple(label or ())
    one = labels[0] if len(labels) == 1 else None
    return Columns(texts=tuple(text or ()), label=one, indicators=() if one else labels)


Lane = Annotated[
    str, Option(help="Numbers to compute in: float32, exact; bfloat16, faster, near to it; int8, faster still.")
]
