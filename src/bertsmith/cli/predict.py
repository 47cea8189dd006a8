"""bertsmith predict: a fine-tuned model's answers for a file of texts."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bertsmith.cli.options import Model, TextColumns
from bertsmith.cli.terminal import Bars, json_line


def predict(
    file: Annotated[Path, Argument(help="Texts: csv, tsv, JSON lines, Parquet, or one a line; - is stdin.")],
    model: Model,
    text: TextColumns = None,
    format: Annotated[str, Option("--format", help="auto, csv, tsv, jsonl, parquet or lines.")] = "auto",
) -> None:
    """Predict with a fine-tuned model: one JSON line a text, in order.

    Library call: bertsmith.load(MODEL).predict(TEXTS); .predictor streams files
    """
    import bertsmith
    from bertsmith.tasks import Columns

    predictor = bertsmith.load(model).predictor
    texts = predictor.read_texts(file, columns=Columns(texts=tuple(text or ())), format=format)  # pyright: ignore[reportArgumentType]
    with Bars() as bars:
        for prediction in predictor.stream(texts, progress=bars):
            json_line(prediction.as_dict())
