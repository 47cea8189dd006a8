"""Predictions as files, and the mistakes among them."""

import csv
import io
import json
from pathlib import Path

import pytest

from bertsmith.errors import UsageError
from bertsmith.tasks import (
    Answer,
    Choice,
    Classify,
    Columns,
    Entity,
    Label,
    Labelled,
    LabelledText,
    Layout,
    Multilabel,
    Prediction,
    Regress,
    Span,
    Tag,
    TaggedWord,
    Task,
    Texts,
    Words,
    find_mistakes,
    written,
)
from bertsmith.tasks.prediction import Candidate

WORDS = (TaggedWord("Ada", 0, 3, "B-PER", 0.9), TaggedWord("wrote", 4, 9, "O", 0.8))
TAGGED = Prediction(words=WORDS, entities=(Entity("PER", "Ada", 0, 3, 0, 0, 0.9),))
CASES: list[tuple[Task, Prediction, dict[str, str]]] = [
    (
        Classify(("a", "b")),
        Prediction(label="a", probabilities={"a": 0.75, "b": 0.25}, windows=3),
        {"label": "a", "probability of a": "0.75", "probability of b": "0.25", "windows": "3", "truncated": "0"},
    ),
    (
        Multilabel(("a", "b")),
        Prediction(labels=("a", "b"), probabilities={"a": 0.75, "b": 0.5}),
        {"labels": "a;b", "probability of a": "0.75", "probability of b": "0.5", "windows": "1", "truncated": "0"},
    ),
    (Regress(), Prediction(score=1.5, truncated=2), {"score": "1.5", "windows": "1", "truncated": "2"}),
    (
        Choice(),
        Prediction(option=1, probabilities={"0": 0.25, "1": 0.75}),
        {"option": "1", "probability": "0.75", "windows": "1", "truncated": "0"},
    ),
    (
        Span(),
        Prediction(answer=Candidate('in "Rome"', 4, 13, 0.5)),
        {"answer": 'in "Rome"', "start": "4", "end": "13", "probability": "0.5", "windows": "1", "truncated": "0"},
    ),
    (
        Tag(("O", "B-PER")),
        TAGGED,
        {
            "text_number": "1",
            "label": "PER",
            "text": "Ada",
            "start": "0",
            "end": "3",
            "probability": "0.9",
            "windows": "1",
            "truncated": "0",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("task", "prediction", "row"), CASES, ids=[task.kind for task, _, _ in CASES])
def test_tables_and_json(task: Task, prediction: Prediction, row: dict[str, str]) -> None:
    for format, delimiter in (("csv", ","), ("tsv", "\t")):
        text = "".join(written([prediction, prediction], task, format))
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        assert len(rows) == 2 and rows[0] == row
    (line,) = "".join(written([prediction], task, "jsonl")).splitlines()
    assert json.loads(line) == json.loads(json.dumps(prediction.as_dict()))


def test_a_table_of_nothing_has_its_columns() -> None:
    nothing = Prediction(words=WORDS, entities=())
    (header,) = "".join(written([nothing, nothing], Tag(("O", "B-PER")), "csv")).splitlines()
    (same, *rows) = "".join(written([nothing, TAGGED], Tag(("O", "B-PER")), "csv")).splitlines()
    assert same == header == "text_number,label,text,start,end,probability,windows,truncated" and len(rows) == 1


def test_conll() -> None:
    assert "".join(written([TAGGED, TAGGED], Tag(("O", "B-PER")), "conll")) == "Ada\tB-PER\nwrote\tO\n\n" * 2


def test_what_cannot_be_written() -> None:
    with pytest.raises(UsageError, match=r"'xls' is not a format of predictions.*conll, csv, jsonl, tsv"):
        list(written([], Span(), "xls"))
    with pytest.raises(UsageError, match="conll has a tag for each word, and this model's task is span"):
        list(written([], Span(), "conll"))


def labelled(*examples: tuple[Texts, Label]) -> Labelled:
    layout = Layout(Columns(), (), header=True)
    return Labelled(
        Path("f"), layout, tuple(LabelledText(t, label, i) for i, (t, label) in enumerate(examples, start=2))
    )


@pytest.mark.parametrize(
    ("task", "examples", "predictions", "expected"),
    [
        (
            Classify(("a", "b")),
            [("x", "a"), ("y", "b"), ("z", "b")],
            [Prediction(label="a", probabilities={"a": p, "b": 1 - p}) for p in (0.6, 0.7, 0.9)],
            [("line 4", "z", "b", "a", 0.9), ("line 3", "y", "b", "a", 0.7)],
        ),
        (Regress(), [("x", 2.0), ("y", 1.0)], [Prediction(score=2.25), Prediction(score=4.0)],
            [("line 3", "y", "1", "4", 3.0), ("line 2", "x", "2", "2.25", 0.25)]),
        (Choice(), [(("p", "x", "y"), 0)], [Prediction(option=1, probabilities={"0": 0.4, "1": 0.6})],
            [("line 2", "p ‖ x ‖ y", "x", "y", 0.6)]),
        (Span(), [(("q", "in Rome"), (Answer("Rome", 3), Answer("in Rome", 0)))] * 2,
            [Prediction(answer=Candidate("in Rome", 0, 7, 0.5)), Prediction(answer=Candidate("in", 0, 2, 0.5))],
            [("line 3", "q ‖ in Rome", "Rome / in Rome", "in", 0.5)]),
        (Tag(("O", "B-PER")), [(Words.joined(["Ada", "wrote"]), ("O", "B-PER"))], [TAGGED],
            [("line 2", "Ada wrote", "PER: wrote", "PER: Ada", 0.9)]),
        (Multilabel(("a", "b")), [("x", ())], [Prediction(labels=("b",), probabilities={"a": 0.1, "b": 0.8})],
            [("line 2", "x", "nothing", "b", 0.8)]),
    ],
    ids=["classify", "regress", "choice", "span", "tag", "multilabel"],
)  # fmt: skip
def test_mistakes_are_told_the_most_telling_first(
    task: Task,
    examples: list[tuple[Texts, Label]],
    predictions: list[Prediction],
    expected: list[tuple[str, str, str, str, float]],
) -> None:
    found = find_mistakes(task, labelled(*examples), predictions)
    assert [(m.place, m.text, m.truth, m.said, m.weight) for m in found] == expected
    assert find_mistakes(task, labelled(*examples), predictions, limit=1) == found[:1]
