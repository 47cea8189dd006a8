"""bertsmith evaluate: how good a fine-tuned model is on a labelled file."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from bertsmith.cli.options import Json, Label, Model, TextColumns
from bertsmith.cli.terminal import Bars, facts, json_line, table, talk


def evaluate(
    file: Annotated[Path, Argument(help="Labelled file: csv, tsv, JSON lines, Parquet.")],
    model: Model,
    text: TextColumns = None,
    label: Label = None,
    json: Json = False,
) -> None:
    """Score a fine-tuned model on labelled texts.

    Library call: bertsmith.load(MODEL).predictor.evaluate(LABELLED)
    """
    import bertsmith
    from bertsmith.tasks import Columns

    predictor = bertsmith.load(model).predictor
    labelled = predictor.read_labelled(file, columns=Columns(texts=tuple(text or ()), label=label))
    talk.print(f"{file}: {labelled.layout}", soft_wrap=True)
    with Bars() as bars:
        found = predictor.evaluate(labelled, progress=bars)
    if json:
        json_line(found.as_dict())
        return
    scores: dict[str, object] = {name: f"{value:.4f}" for name, value in found.metrics.items()}
    if found.majority is not None:
        scores["majority class"] = f"{found.majority:.4f}"
    facts({"examples": f"{found.count:,}", **scores, "cut to the model's length": f"{found.truncated:,}"})
    if found.confusion is not None:
        print_confusion(found.labels, found.confusion)


def print_confusion(labels: tuple[str, ...], confusion: tuple[tuple[int, ...], ...]) -> None:
    """The confusion matrix, a row for each true label."""
    rows = [(name, *row) for name, row in zip(labels, confusion, strict=True)]
    table(["\ntrue \\ predicted", *labels], rows)
