"""The page of an evaluation."""

import re
from dataclasses import replace

from bertsmith.inspection.evaluation_page import EvaluationStory, evaluation_page

STORY = EvaluationStory(
    title="Evaluation: classify",
    lead="7 examples",
    numbers=[("0.714", "accuracy", "")],
    by_label={"good": (0.75, 0.6, 0.667, 5), "bad <b>": (0.5, 1.0, 0.667, 2)},
    labels=("good", "bad <b>"),
    confusion=((3, 2), (0, 2)),
    mistakes=[("line 4", "a <script> text", "good", "bad <b>", "93% sure")],
)


def test_it_shows_scores_confusions_and_mistakes() -> None:
    text = evaluation_page(STORY)
    assert "66.7%" in text and "93% sure" in text and "line 4" in text
    assert re.findall(r"<td[^>]*>([^<]*)</td>", text.split("What is taken")[1])[:4] == ["3", "2", "·", "2"]
    assert "good → bad" in text and "<script" not in text and "bad <b>" not in text


def test_many_labels_are_told_by_their_confusions_alone() -> None:
    labels = tuple(f"l{i}" for i in range(30))
    confusion = tuple(tuple(int(i == j) * 4 + int((i, j) == (3, 7)) for j in range(30)) for i in range(30))
    text = evaluation_page(replace(STORY, labels=labels, confusion=confusion))
    assert "l3 → l7" in text and "true \\ predicted" not in text


def test_nothing_wrong_is_said() -> None:
    text = evaluation_page(replace(STORY, by_label={}, labels=(), confusion=(), mistakes=()))
    assert "There is none." in text and "Each label" not in text
    assert "Nothing is taken for anything else" in evaluation_page(replace(STORY, confusion=((3, 0), (0, 2))))
