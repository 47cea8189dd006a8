"""The tasks by themselves: labels, targets, predictions, judgement."""

from pathlib import Path

import numpy as np
import pytest

from bertsmith import nn
from bertsmith.config import from_dict, to_dict
from bertsmith.errors import ConfigError, DataError, UsageError
from bertsmith.tasks import (
    Choice,
    Classify,
    Columns,
    Label,
    Labelled,
    LabelledText,
    Layout,
    Multilabel,
    Pair,
    Prediction,
    Regress,
    Span,
    Tag,
    Task,
    Window,
    find_task,
)
from bertsmith.tasks.schemes import Bio
from bertsmith.tasks.task import stored_task
from bertsmith.text import Encoding

LAYOUT = Layout(Columns(("text",), "label"), ("text", "label"), header=True)


def labelled(*labels: Label) -> Labelled:
    return Labelled(
        Path("f.csv"), LAYOUT, tuple(LabelledText("t", label, i) for i, label in enumerate(labels, start=2))
    )


def predictions(task: Task, scores: np.ndarray, cut: np.ndarray) -> list[Prediction]:
    """As if each row of scores were of a text that fits into one window."""

    def window(truncated: int) -> Window:
        return Window(Encoding([2], ["[CLS]"], [(0, 0)], [None], [0], truncated), 1, 0)

    return [task.predict("t", [window(c)], [row]) for row, c in zip(scores, cut.tolist(), strict=True)]


def test_the_order_of_labels_is_not_that_of_the_examples() -> None:
    first = Classify.learn(labelled("b", "10", "a", "9", "b", "-1"))
    assert first == Classify.learn(labelled("9", "b", "-1", "a", "10"))
    assert first.labels == ("-1", "9", "10", "a", "b")


def test_one_class_cannot_be_learned() -> None:
    with pytest.raises(DataError, match=r"f.csv: every example has the label 'pos'"):
        Classify.learn(labelled("pos", "pos"))
    with pytest.raises(DataError, match=r"f.csv: every example has the number 2.5"):
        Regress.learn(labelled(2.5, 2.5))


def test_an_unseen_label_is_named_with_its_line_and_the_known_ones() -> None:
    with pytest.raises(
        DataError, match=r"f.csv, line 3: the label 'Pos' does not occur in the training data.*neg, pos"
    ):
        Classify(("neg", "pos")).check(labelled("pos", "Pos"))


def test_probabilities_are_a_softmax_of_any_scores() -> None:
    task = Classify(("a", "b", "c"))
    first, second = predictions(task, np.array([[0, np.log(3), 0], [1e4, 0, -1e4]], np.float32), np.array([0, 7]))
    assert first.label == "b" and first.truncated == 0
    assert first.probabilities == pytest.approx({"a": 0.2, "b": 0.6, "c": 0.2})
    assert second.label == "a" and second.truncated == 7
    assert second.as_dict() == {
        "label": "a",
        "probabilities": {"a": 1.0, "b": 0.0, "c": 0.0},
        "windows": 1,
        "truncated": 7,
    }


def test_evaluation_of_a_case_counted_by_hand() -> None:
    task = Classify(("a", "b"))
    scores = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    evaluation = task.evaluate(["a", "b", "b", "b"], predictions(task, scores, np.array([0, 2, 0, 0])))
    assert evaluation.confusion == ((1, 0), (2, 1))
    assert evaluation.metrics["accuracy"] == 0.5
    assert evaluation.metrics["macro_f1"] == pytest.approx((0.5 + 0.5) / 2)
    assert evaluation.majority == 0.75
    assert (evaluation.count, evaluation.truncated) == (4, 1)
    assert evaluation.label_scores is not None and evaluation.label_scores["b"].precision == 1
    assert evaluation.label_scores["b"].recall == pytest.approx(1 / 3)


def test_collapse_is_one_answer_to_different_questions() -> None:
    task = Classify(("a", "b"))
    same = predictions(task, np.array([[1, 0], [1, 0]], np.float32), np.zeros(2, int))
    assert task.is_collapsed(["a", "b"], same)
    assert not task.is_collapsed(["a", "a"], same)
    numbers = predictions(Regress(), np.array([[1.0], [1.001]], np.float32), np.zeros(2, int))
    assert Regress().is_collapsed([0.0, 5.0], numbers)
    assert not Regress().is_collapsed([1.0, 1.001], numbers)


def test_regression_is_trained_on_standard_scores_and_folds_them_into_the_head(checkpoint: object) -> None:
    task = Regress.learn(labelled(10.0, 30.0))
    assert (task.targets(30.0), task.targets(10.0)) == ({"label": 1.0}, {"label": -1.0})
    config = nn.Model.Config(encoder=checkpoint.model.config.encoder, heads={"sequence_score": task.objective().head()})  # type: ignore[attr-defined]
    model = config.initialized(3).eval()
    pooled = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
    head = model.heads["sequence_score"]
    import torch

    before = predictions(task, head(torch.from_numpy(pooled)).detach().numpy(), np.zeros(5, int))
    finished = task.finish(model)
    after = predictions(finished, head(torch.from_numpy(pooled)).detach().numpy(), np.zeros(5, int))
    assert finished == Regress()
    assert [p.score for p in after] == pytest.approx([p.score for p in before], abs=1e-5)


@pytest.mark.parametrize(
    "task",
    [
        Classify(("a", "b")),
        Pair(("x", "y", "z")),
        Regress(1.5, 2.0),
        Multilabel(("a", "b"), 0.25),
        Tag(("O", "B-x", "I-x"), Bio()),
        Span(threshold=-1.5),
        Choice(),
    ],
)
def test_round_trip_and_what_else_a_checkpoint_says_of_it(task: Task) -> None:
    data = to_dict(task)
    assert from_dict(Task, data) == task
    assert stored_task({**data, "columns": {"texts": ["t"]}, "dev": {}}) == task


def test_wrong_tasks() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'classify'\? Allowed: choice, classify, multilabel, pair"):
        find_task("clasify")
    with pytest.raises(ConfigError, match="labels: expected at least 2"):
        Classify(("a",))
    with pytest.raises(ConfigError, match="each must be there once"):
        Classify(("a", "a"))
