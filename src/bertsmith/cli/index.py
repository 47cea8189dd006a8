"""bertsmith index: texts to an index that is searched by meaning and by words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.cli.options import DEFAULT_MODEL, Dimensions, Layers, Long, Model, Pooling, embed_options
from bertsmith.cli.terminal import Bars, talk

if TYPE_CHECKING:
    from bertsmith.retrieval import Indexed


def index(
    out: Annotated[str, Option("-o", "--out", help="Index folder: made, or added to where it is there.")],
    files: Annotated[
        list[Path] | None, Argument(help="Texts: csv, tsv, JSON lines, JSON, Parquet, or one a line; - is stdin.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    text: Annotated[str | None, Option(help="Column with the text. Default: guessed, and said.")] = None,
    id: Annotated[str | None, Option(help="Column with the id. Default: id, else file and line.")] = None,
    without: Annotated[
        list[str] | None, Option(help="Column to leave out; can be repeated. All others are kept.")
    ] = None,
    as_text: Annotated[list[str] | None, Option(help="Column to keep as text though it looks like numbers.")] = None,
    format: Annotated[str, Option(help="auto, csv, tsv, jsonl, json, parquet or lines.")] = "auto",
    pooling: Pooling = None,
    layers: Layers = None,
    dimensions: Dimensions = None,
    long: Long = None,
    lane: Annotated[
        str | None,
        Option(help="Numbers to compute vectors in, as in embed. Default: the index's; float32 for a new one."),
    ] = None,
    language: Annotated[
        str, Option(help="For stems and stop words of full-text search; none for neither.")
    ] = "English",
    delete: Annotated[list[str] | None, Option(help="Take out the text with this id; can be repeated.")] = None,
    check: Annotated[
        bool, Option("--check", help="Compare every file with what was written, and approximate search with exact.")
    ] = False,
) -> None:
    """Make an index of texts, add to it, take texts out of it, or check it. An index keeps how its vectors are made.

    Library call: bertsmith.index_files(bertsmith.load(MODEL), FILES, INDEX)
    """
    import bertsmith
    from bertsmith.errors import UsageError
    from bertsmith.retrieval import Source, delete_texts, options_of

    if not (files or delete or check):
        raise UsageError("Give FILEs with texts, or --delete ID, or --check.")
    if files:
        source = Source(
            text=text,
            id=id,
            without=tuple(without or ()),
            as_text=tuple(as_text or ()),
            format=format,  # pyright: ignore[reportArgumentType]
        )
        stems = None if language == "none" else language
        options = embed_options(options_of(out), pooling, layers, dimensions, long, lane)
        with Bars() as bars:
            done = bertsmith.index_files(
                bertsmith.load(model), files, out, source, options=options, language=stems, progress=bars
            )
        _say(done, out)
    if delete:
        talk.print(
            f"{out}: {delete_texts(out, delete):,} of {len(delete):,} texts taken out", soft_wrap=True, markup=False
        )
    if check:
        finder = bertsmith.open_index(out)
        finder.index.verify()
        recall = finder.recall()
        found = (
            f"approximate search finds {recall.share:.1%} of the {recall.k} nearest texts ({recall.queries} queries)"
        )
        how = found if recall.approximate else "search looks at every vector, so it is exact"
        talk.print(
            f"{out}: {len(finder.index):,} texts, every file as it was written; {how}", soft_wrap=True, markup=False
        )


def _say(done: "Indexed", out: str) -> None:
    for file, layout in done.layouts.items():
        name = layout.columns.label
        how = f"text = {layout.columns.texts[0]!r}, id = {repr(name) if name else 'file and line'}"
        talk.print(f"{file}: {how}", soft_wrap=True, markup=False)
    talk.print(done.about, soft_wrap=True, markup=False)
    talk.print(
        f"{out}: {done.added.new:,} texts are new, {done.added.updated:,} replaced one of the same id; {done.empty:,} "
        f"without text were left out, {done.truncated:,} were cut to the model's length, {done.windowed:,} read in windows",
        soft_wrap=True,
        markup=False,
    )
