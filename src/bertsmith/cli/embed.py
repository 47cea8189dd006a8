"""bertsmith embed: texts to vectors."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.options import DEFAULT_MODEL, Field, Model, TextFormat
from bertsmith.cli.terminal import Bars, json_line, talk


def embed(
    file: Annotated[Path | None, Argument(help="Texts, one a line; or JSON lines, or Parquet.")] = None,
    model: Model = DEFAULT_MODEL,
    text: Annotated[
        list[str] | None, Option("--text", help="A text; a JSON line with text, vector, truncated.")
    ] = None,
    out: Annotated[Path | None, Option("-o", "--out", help="Parquet file to write: text, vector, truncated.")] = None,
    format: TextFormat = "auto",
    field: Field = "text",
) -> None:
    """Turn texts into vectors.

    Library call: bertsmith.load(MODEL).embed(TEXTS), and bertsmith.embed.embed_file for a file
    """
    import bertsmith
    from bertsmith.embed import embed_file
    from bertsmith.errors import UsageError

    if (file is None) == (text is None) or (file is None) != (out is None):
        raise UsageError("Give a FILE and -o OUT, or --text TEXT.")
    loaded = bertsmith.load(model)
    if text is not None:
        made = loaded.embedder.embed(text)
        for line, vector, cut in zip(text, made.vectors.tolist(), made.truncated.tolist(), strict=True):
            json_line({"text": line, "vector": [round(x, 6) for x in vector], "truncated": cut})
    if file is not None and out is not None:
        with Bars() as bars:
            written = embed_file(loaded.embedder, file, out, format=format, field=field, progress=bars)
        talk.print(
            f"{out}: {written.texts:,} vectors of {written.size}; {written.truncated:,} texts were cut to the model's length"
        )
