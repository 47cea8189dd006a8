"""bertsmith predict: a fine-tuned model's answers for a file of texts."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.options import FileFormat, Lane, Model, TextColumns, lane_of
from bertsmith.cli.terminal import Bars, talk


def predict(
    file: Annotated[
        Path, Argument(help="Texts: csv, tsv, JSON lines, JSON, Parquet, CoNLL, or one a line; - is stdin.")
    ],
    model: Model,
    text: TextColumns = None,
    format: FileFormat = "auto",
    to: Annotated[str, Option("--to", help="What to print: jsonl, csv, tsv; conll for tags.")] = "jsonl",
    lane: Lane = "float32",
) -> None:
    """Predict with a fine-tuned model: one JSON line a text, in order, or as --to says.

    Library call: bertsmith.load(MODEL).predict(TEXTS); .predictor and bertsmith.tasks.written stream files
    """
    import bertsmith
    from bertsmith.tasks import Columns, Predictor, written

    predictor = Predictor(bertsmith.load(model).checkpoint, lane=lane_of(lane))
    if predictor.running.about:
        talk.print(predictor.running.about, soft_wrap=True)
    texts = predictor.read_texts(file, columns=Columns(texts=tuple(text or ())), format=format)  # pyright: ignore[reportArgumentType]
    with Bars() as bars:
        for line in written(predictor.stream(texts, progress=bars), predictor.task, to):
            sys.stdout.write(line)
