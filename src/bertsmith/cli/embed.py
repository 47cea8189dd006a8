"""bertsmith embed: texts to vectors."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.cli.options import DEFAULT_MODEL, Dimensions, Lane, Layers, Long, Model, Pooling, embed_options
from bertsmith.cli.terminal import Bars, json_line, talk

if TYPE_CHECKING:
    from bertsmith.embed import Embedder, Written
    from bertsmith.embed.pieces import Unit
    from bertsmith.embed.reading import GivenText

_STDIO = Path("-")

Normalize = Annotated[
    bool | None, Option("--normalize/--no-normalize", help="Vectors of length 1. Default: the model's own.")
]


def embed(
    file: Annotated[
        Path | None, Argument(help="Texts: csv, tsv, JSON lines, JSON, Parquet, or one a line; - is stdin.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    text: Annotated[list[str] | None, Option("--text", help="A text instead of a file; any number of times.")] = None,
    pair: Annotated[list[str] | None, Option("--pair", help="For each --text, the second text of a pair.")] = None,
    out: Annotated[
        Path | None, Option("-o", "--out", help="File to write: .parquet, .arrow, .npy; - prints JSON lines.")
    ] = None,
    pooling: Pooling = None,
    layers: Layers = None,
    normalize: Normalize = None,
    dimensions: Dimensions = None,
    long: Long = None,
    lane: Lane = "float32",
    tokens: Annotated[bool, Option("--tokens", help="A vector for each token.")] = False,
    words: Annotated[bool, Option("--words", help="A vector for each word.")] = False,
    dtype: Annotated[str, Option(help="Of the numbers in the file: float32 or float16.")] = "float32",
    format: Annotated[str, Option("--format", help="auto, lines, csv, tsv, jsonl, json or parquet.")] = "auto",
    field: Annotated[
        list[str] | None, Option("--field", help="Column with the text; twice for pairs. Default: guessed, and said.")
    ] = None,
    keep: Annotated[list[str] | None, Option("--keep", help="Column to carry along; any number of times.")] = None,
    cluster: Annotated[
        str | None, Option(help="Embed on a Ray cluster: ray, or ray:ADDRESS (needs the extra cluster).")
    ] = None,
) -> None:
    """Turn texts into vectors.

    A file that was interrupted is taken up by the same command. Library call: bertsmith.load(MODEL).embed(TEXTS), and
    bertsmith.embed.embed_file for a file
    """
    import bertsmith
    from bertsmith.embed import Embedder, EmbedOptions, embed_file
    from bertsmith.errors import UsageError

    if (file is None) == (text is None) or (file is None) != (out is None) or (tokens and words):
        raise UsageError("Give a FILE and -o OUT, or --text TEXT; and --tokens or --words, if any of them.")
    if (text is not None or out == _STDIO) and (dtype != "float32" or cluster is not None):
        raise UsageError("--dtype and --cluster are for files of vectors: name one with -o OUT.")
    if (text is None and pair) or (text is not None and (field or keep)):
        raise UsageError("--pair belongs to --text; for a FILE, --field and --keep name its columns.")
    unit: Unit = "token" if tokens else "word" if words else "text"
    options = embed_options(EmbedOptions(normalize=normalize), pooling, layers, dimensions, long, lane)
    embedder = Embedder(bertsmith.load(model).checkpoint, options)
    talk.print(embedder.about if unit == "text" else embedder.about_tokens, markup=False, soft_wrap=True)
    fields, kept = tuple(field or ()), tuple(keep or ())
    if text is not None:
        _print(embedder, _typed(text, pair), unit)
    elif file is not None and out == _STDIO:
        from bertsmith.embed.reading import read_text_file

        read = read_text_file(file, format=format, fields=fields, keep=kept)  # pyright: ignore[reportArgumentType]
        talk.print(f"{file}: {read.layout}", markup=False, soft_wrap=True)
        _print(embedder, read.texts, unit, tuple(read.carried.names), 64 if file == _STDIO else 1024)
    elif file is not None and out is not None:
        with Bars() as bars:
            written = embed_file(
                embedder,
                file,
                out,
                unit=unit,
                precision=dtype,  # pyright: ignore[reportArgumentType]
                format=format,  # pyright: ignore[reportArgumentType]
                fields=fields,
                keep=kept,
                cluster=cluster,
                progress=bars,
            )
        _say(written, out, unit)


def _typed(texts: list[str], pairs: list[str] | None) -> "Iterable[GivenText]":
    from bertsmith.embed.reading import GivenText
    from bertsmith.errors import UsageError

    if pairs is None:
        return [GivenText(number, text) for number, text in enumerate(texts, start=1)]
    if len(pairs) != len(texts):
        raise UsageError(f"There are {len(texts)} --text and {len(pairs)} --pair; each pair needs one of both.")
    return [GivenText(number, pair) for number, pair in enumerate(zip(texts, pairs, strict=True), start=1)]


def _say(written: "Written", out: Path, unit: "Unit") -> None:
    of = "" if unit == "text" else f" of {unit}s"
    talk.print(
        f"{out}: {written.vectors:,} vectors{of} of {written.size}, from {written.texts:,} texts ({written.columns}). "
        f"{written.truncated:,} were cut to the model's length, {written.windowed:,} read in windows, "
        f"{written.empty:,} empty.",
        markup=False,
        soft_wrap=True,
    )


def _print(
    embedder: "Embedder", texts: "Iterable[GivenText]", unit: "Unit", names: tuple[str, ...] = (), ahead: int = 64
) -> None:
    """JSON lines, each as soon as it is there; a pipe that waits for them need not wait for the end."""
    from bertsmith.embed.records import vector_records

    cut = 0
    for number, record in enumerate(vector_records(embedder, texts, unit=unit, names=names, ahead=ahead), start=1):
        json_line(record)
        cut += record["truncated"] > 0
        if number % ahead == 0:
            sys.stdout.flush()
    if cut:
        talk.print(f"{cut:,} texts were cut to the model's length; --long windows reads all of them.")
