"""bertsmith evaluate: how good a model is on a file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from bertsmith.cli.options import DEFAULT_MODEL, FileFormat, Json, Label, Model, TextColumns, columns
from bertsmith.cli.terminal import Bars, facts, json_line, table, talk
from bertsmith.folders import cannot_write, make_folder

if TYPE_CHECKING:
    from bertsmith import LoadedModel
    from bertsmith.tasks import Accuracy, Evaluation, Labelled, Prediction, Predictor


def evaluate(
    file: Annotated[
        Path,
        Argument(
            help="Labelled file for a fine-tuned model, - is stdin; plain text or minimal pairs for a pretrained one."
        ),
    ],
    model: Model = DEFAULT_MODEL,
    text: TextColumns = None,
    label: Label = None,
    format: FileFormat = "auto",
    limit: Annotated[int | None, Option(help="Minimal pairs of each file, at most. Default: all.")] = None,
    variant: Annotated[
        str, Option(help="Of minimal pairs, what is hidden at a time: original (a token), within_word_l2r.")
    ] = "original",
    report: Annotated[
        Path | None, Option(help="Write a page for a fine-tuned model: scores, confusions, mistakes.")
    ] = None,
    json: Json = False,
) -> None:
    """Score a model.

    A fine-tuned model: its labels against those of a file (csv, tsv, JSON lines, JSON, Parquet, CoNLL). A pretrained model:
    the loss on hidden tokens of plain text; or, for JSON lines with sentence_good and sentence_bad, as in BLiMP, a file or a
    folder of them, how often it finds the good one likelier.

    Library call: bertsmith.load(MODEL).predictor.evaluate(LABELLED), or .evaluate_text(FILE), .evaluate_pairs(FILE)
    """
    import bertsmith
    from bertsmith.tasks import holds_minimal_pairs

    loaded = bertsmith.load(model)
    if loaded.checkpoint.task is not None:
        predictor = loaded.predictor
        labelled = predictor.read_labelled(file, columns=columns(text, label), format=format)  # pyright: ignore[reportArgumentType]
        score_labels(predictor, labelled, report, json=json)
    elif holds_minimal_pairs(file):
        score_pairs(loaded, file, limit, variant, json=json)
    else:
        score_text(loaded, file, json=json)


def score_labels(predictor: "Predictor", labelled: "Labelled", report: Path | None, *, json: bool) -> None:
    """A fine-tuned model on labelled texts."""
    if report is not None:
        make_folder(report.parent)  # what is in the way of the page is said before the work
    talk.print(f"{labelled.path}: {labelled.layout}", soft_wrap=True)
    with Bars() as bars:
        found, predictions = predictor.judge(labelled, progress=bars)
    if report is not None:
        write_report(report, predictor, labelled, found, predictions)
    if json:
        json_line(found.as_dict())
        return
    scores: dict[str, object] = {name: f"{value:.4f}" for name, value in found.metrics.items()}
    if found.majority is not None:
        scores["majority class"] = f"{found.majority:.4f}"
    read = {"read in windows": f"{found.windowed:,}", "not read to the end": f"{found.truncated:,}"}
    facts({"examples": f"{found.count:,}", **scores, **read})
    if found.label_scores is not None and predictor.task.kind in ("tag", "multilabel"):
        rows = [
            (name, *(f"{x:.4f}" for x in (s.precision, s.recall, s.f1)), s.count)
            for name, s in found.label_scores.items()
        ]
        table(["", "precision", "recall", "F1", "count"], rows)
    elif found.confusion is not None:
        print_confusion(found.labels, found.confusion)


def write_report(
    path: Path, predictor: "Predictor", labelled: "Labelled", found: "Evaluation", predictions: Sequence["Prediction"]
) -> None:
    """The page of an evaluation."""
    from bertsmith.inspection.evaluation_page import EvaluationStory, evaluation_page
    from bertsmith.tasks import find_mistakes

    numbers = [(f"{value:.3f}", name.replace("_", " "), "") for name, value in found.metrics.items()]
    if found.majority is not None:
        numbers.append(
            (f"{found.majority:.3f}", "always the most frequent answer", "a score is worth what it is above this")
        )
    off = predictor.task.kind == "regress"
    story = EvaluationStory(
        title=f"Evaluation: {predictor.task.kind}",
        lead=f"{found.count:,} examples of {labelled.path}; {found.windowed:,} were read in windows.",
        numbers=numbers,
        by_label={name: (s.precision, s.recall, s.f1, s.count) for name, s in (found.label_scores or {}).items()},
        labels=found.labels,
        confusion=found.confusion or (),
        mistakes=[
            (m.place, m.text, m.truth, m.said, f"off by {m.weight:.3g}" if off else f"{m.weight:.0%} sure")
            for m in find_mistakes(predictor.task, labelled, predictions)
        ],
    )
    try:
        path.write_text(evaluation_page(story), encoding="utf-8", newline="\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def score_pairs(loaded: "LoadedModel", file: Path, limit: int | None, variant: str, *, json: bool) -> None:
    """A pretrained model on minimal pairs."""
    with Bars() as bars:
        found = loaded.evaluate_pairs(file, limit=limit, variant=variant, progress=bars)  # pyright: ignore[reportArgumentType]
    if json:
        json_line(found.as_dict())
        return
    for title, accuracies in ({"file": found.paradigms} | dict(found.groups)).items():
        if len(accuracies) > 1:
            table([title, "accuracy", "95 %", "pairs"], [(name, *_cells(a)) for name, a in accuracies.items()])
            sys.stdout.write("\n")
    table(["", "accuracy", "95 %", "pairs"], [("all", *_cells(found.overall))])


def score_text(loaded: "LoadedModel", file: Path, *, json: bool) -> None:
    """A pretrained model on plain text."""
    with Bars() as bars:
        found = loaded.evaluate_text(file, progress=bars)
    if json:
        json_line({"masked_lm_loss": found.loss, "masked_lm_accuracy": found.accuracy, "predictions": found.count})
        return
    facts(
        {
            "masked-LM loss": f"{found.loss:.4f} nats a hidden token",
            "right": f"{found.accuracy:.2%}",
            "hidden tokens": f"{found.count:,}",
        }
    )


def print_confusion(labels: tuple[str, ...], confusion: tuple[tuple[int, ...], ...]) -> None:
    """The confusion matrix, a row for each true label."""
    rows = [(name, *row) for name, row in zip(labels, confusion, strict=True)]
    table(["\ntrue \\ predicted", *labels], rows)


def _cells(accuracy: "Accuracy") -> tuple[str, str, str]:
    return f"{accuracy.accuracy:.1%}", f"{accuracy.low:.1%} to {accuracy.high:.1%}", f"{accuracy.pairs:,}"
