"""Predictions as files: JSON lines, csv, tsv, and CoNLL for tags."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bertsmith.errors import UsageError, nearest
from bertsmith.tasks.prediction import Entity, Prediction
from bertsmith.tasks.task import Task

_TAGGED = ("text_number", "label", "text", "start", "end", "probability", "windows", "truncated")
"""The columns of a table of entities or words: said also where none was found."""


def written(predictions: Iterable[Prediction], task: Task, format: str) -> Iterator[str]:
    """Pieces of text, one after the other a whole file; each prediction is written as soon as it is there.

    `jsonl` has everything that a prediction says. `csv` and `tsv` have a row each: label, score, answer or option, with
    probabilities, character offsets, `windows` and `truncated`; of `tag` a row for each entity or, without those, word.
    `conll` has a word and its tag a line.

    Raises:
        UsageError: there is no such format, or it is not one for this task.
    """
    if format not in _WRITERS:
        raise UsageError(f"{format!r} is not a format of predictions.{nearest(format, _WRITERS)}")
    if format == "conll" and task.kind != "tag":
        raise UsageError(
            f"conll has a tag for each word, and this model's task is {task.kind}: choose jsonl, csv or tsv."
        )
    return _WRITERS[format](predictions)


def _jsonl(predictions: Iterable[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        yield json.dumps(prediction.as_dict(), ensure_ascii=False) + "\n"


def _table(predictions: Iterable[Prediction], delimiter: str) -> Iterator[str]:
    for number, prediction in enumerate(predictions, start=1):
        if number == 1:
            names = list(_TAGGED if prediction.words is not None else next(_rows(prediction, number)))
            yield _line(names, delimiter)
        for row in _rows(prediction, number):
            yield _line(row.values(), delimiter)


def _conll(predictions: Iterable[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        yield "".join(f"{word.text}\t{word.tag}\n" for word in prediction.words or ()) + "\n"


_WRITERS: dict[str, Callable[[Iterable[Prediction]], Iterator[str]]] = {
    "jsonl": _jsonl,
    "csv": lambda predictions: _table(predictions, ","),
    "tsv": lambda predictions: _table(predictions, "\t"),
    "conll": _conll,
}


def _rows(prediction: Prediction, number: int) -> Iterator[dict[str, Any]]:
    """The rows of one prediction; all of a task have the same columns."""
    read = {"windows": prediction.windows, "truncated": prediction.truncated}
    if prediction.words is not None:
        things = prediction.words if prediction.entities is None else prediction.entities
        for thing in things:
            label = thing.label if isinstance(thing, Entity) else thing.tag
            cells = (number, label, thing.text, thing.start, thing.end, thing.probability, *read.values())
            yield dict(zip(_TAGGED, cells, strict=True))
    elif prediction.answer is not None:
        answer = prediction.answer
        found = {"answer": answer.text, "start": answer.start, "end": answer.end, "probability": answer.probability}
        yield found | ({} if prediction.no_answer is None else {"no_answer": prediction.no_answer}) | read
    elif prediction.option is not None:
        yield {
            "option": prediction.option,
            "probability": (prediction.probabilities or {})[str(prediction.option)],
        } | read
    elif prediction.score is not None:
        yield {"score": prediction.score} | read
    else:
        chosen = {"label": prediction.label} if prediction.labels is None else {"labels": ";".join(prediction.labels)}
        shares = {f"probability of {label}": share for label, share in (prediction.probabilities or {}).items()}
        yield chosen | shares | read


def _line(cells: Iterable[Any], delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerow(list(cells))
    return out.getvalue()
