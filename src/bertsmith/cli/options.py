"""Options that several verbs share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from bertsmith.shipped import DEFAULT

if TYPE_CHECKING:
    from bertsmith.data.columns import Columns
    from bertsmith.embed import EmbedOptions
    from bertsmith.embed import Lane as EmbedLane

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
Pooling = Annotated[
    str | None,
    Option(
        help="mean, mean_text (without [CLS] and [SEP]), cls, pooler, max, mean_max, mean_sqrt_len_tokens, weightedmean, "
        "lasttoken. Default: the model's own."
    ),
]
Layers = Annotated[
    str | None,
    Option(help="-2: the layer before the last; -2,-1: both, side by side; averaged:-2,-1. Default: the last."),
]
Dimensions = Annotated[int | None, Option(help="Keep the first so many numbers.")]
Long = Annotated[
    str | None,
    Option(help="Texts over the model's length: cut, or windows, whose mean is taken. Default: cut."),
]


def embed_options(
    options: "EmbedOptions",
    pooling: str | None,
    layers: str | None,
    dimensions: int | None,
    long: str | None,
    lane: str | None,
) -> "EmbedOptions":
    """`options` with what is chosen; what is None is as it was."""
    from bertsmith.config import from_dict, to_dict
    from bertsmith.embed import EmbedOptions

    kinds = {"pooling": pooling, "long": long, "lane": lane}
    chosen: dict[str, Any] = {name: {"kind": kind} for name, kind in kinds.items() if kind is not None}
    if layers is not None:
        chosen["layers"] = _layers(layers)
    if dimensions is not None:
        chosen["dimensions"] = dimensions
    return from_dict(EmbedOptions, to_dict(options) | chosen)


def lane_of(kind: str) -> "EmbedLane":
    """The lane of that name."""
    from bertsmith.config import from_dict
    from bertsmith.embed import EmbedOptions

    return from_dict(EmbedOptions, {"lane": {"kind": kind}}).lane


def _layers(text: str) -> dict[str, Any]:
    from bertsmith.errors import UsageError

    kind, _, numbers = text.rpartition(":")
    try:
        return {"kind": kind or "concatenated", "numbers": [int(number) for number in numbers.split(",")]}
    except ValueError:
        raise UsageError(f"--layers {text}: expected numbers such as -2 or -2,-1 or averaged:-2,-1.") from None
