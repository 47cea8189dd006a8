"""Whatever is wrong with a file is one sentence with its place, for every task, before anything is written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint
from bertsmith.errors import DataError
from bertsmith.tasks import Finetuning

Row = dict[str, object]
GOOD: dict[str, list[Row]] = {
    "classify": [{"text": "sun", "label": "pos"}, {"text": "rain", "label": "neg"}] * 3,
    "pair": [{"premise": "a", "hypothesis": b, "label": b} for b in ("sun", "rain")] * 3,
    "regress": [{"text": "sun", "score": 1.5}, {"text": "rain", "score": 0}] * 3,
    "multilabel": [{"text": "sun", "labels": ["a", "b"]}, {"text": "rain", "labels": []}] * 3,
    "tag": [{"tokens": ["the", "sun"], "tags": ["O", "B-x"]}, {"tokens": ["rain"], "tags": ["O"]}] * 3,
    "span": [{"question": "q", "context": "the sun", "answers": [{"text": "sun", "answer_start": 4}]}] * 6,
    "choice": [{"prompt": "a", "options": ["sun", "rain"], "label": i} for i in (0, 1)] * 3,
}
LABEL = {"regress": "score", "multilabel": "labels", "tag": "tags", "span": "answers"}
TEXT = {"pair": "hypothesis", "tag": "tokens", "span": "context", "choice": "options"}


def lines(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def look(checkpoint: Checkpoint, tmp_path: Path) -> Callable[..., str]:
    """Has both files looked at, and gives what is said of them in one sentence."""

    def look(task: str, train: bytes, dev: bytes) -> str:
        (tmp_path / "train.jsonl").write_bytes(train)
        (tmp_path / "dev.jsonl").write_bytes(dev)
        job = Finetuning(
            task=task,
            model=checkpoint,
            train=tmp_path / "train.jsonl",
            dev=tmp_path / "dev.jsonl",
            out=tmp_path / "run",
        )
        with pytest.raises(DataError) as raised:
            next(iter(job.run()))
        assert not (tmp_path / "run").exists()
        assert "\n" not in str(raised.value) and str(raised.value).endswith((".", "UTF-8"))
        return str(raised.value)

    return look


@pytest.mark.parametrize("task", GOOD)
class TestEveryTask:
    def test_a_missing_column(self, look: Callable[..., str], task: str) -> None:
        name = LABEL.get(task, "label")
        rows = [*GOOD[task], {key: value for key, value in GOOD[task][0].items() if key != name}]
        assert f"train.jsonl, line 7: there is no '{name}'" in look(task, lines(rows), lines(GOOD[task]))

    def test_columns_that_nobody_knows(self, look: Callable[..., str], task: str) -> None:
        rows = [{f"x{i}": value for i, value in enumerate(row.values())} | {"y": 1, "z": 2} for row in GOOD[task]]
        assert "train.jsonl: it is not clear which column" in look(task, lines(rows), lines(GOOD[task]))

    def test_one_example(self, look: Callable[..., str], task: str) -> None:
        said = look(task, lines(GOOD[task][:1]), lines(GOOD[task]))
        assert "train.jsonl: 1 example, and training needs at least 2" in said

    def test_nothing(self, look: Callable[..., str], task: str) -> None:
        assert "train.jsonl: there is nothing in this file" in look(task, b"\n", lines(GOOD[task]))

    def test_broken_utf_8(self, look: Callable[..., str], task: str) -> None:
        broken = lines(GOOD[task][:3]) + b'{"text": "caf\xe9"}\n'
        assert "train.jsonl, line 4, byte" in (said := look(task, broken, lines(GOOD[task]))) and "not UTF-8" in said

    def test_no_json(self, look: Callable[..., str], task: str) -> None:
        assert "dev.jsonl, line 3: not JSON" in look(task, lines(GOOD[task]), lines(GOOD[task][:2]) + b'{"text": \n')

    def test_text_that_is_none(self, look: Callable[..., str], task: str) -> None:
        rows = [*GOOD[task][:2], GOOD[task][0] | {TEXT.get(task, "text"): 5}]
        assert "dev.jsonl, line 3: 5 is not" in look(task, lines(GOOD[task]), lines(rows)) or task == "choice"

    def test_a_label_of_another_kind(self, look: Callable[..., str], task: str) -> None:
        rows = [*GOOD[task][:2], GOOD[task][0] | {LABEL.get(task, "label"): {"a": [1]}}]
        assert "dev.jsonl, line 3: {'a': [1]} is" in look(task, lines(GOOD[task]), lines(rows))


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        ("classify", "odd", "line 7: the label 'odd' does not occur in the training data"),
        ("pair", "odd", "line 7: the label 'odd' does not occur in the training data"),
        ("multilabel", ["a", "odd"], "line 7: the label 'odd' does not occur in the training data"),
        ("tag", ["O", "B-odd"], "line 7: the tag 'B-odd' of word 2, 'sun', does not occur in the training data"),
        ("tag", ["O"], "line 7: 2 words and 1 tags; each word needs one"),
        ("regress", "odd", "line 7: 'odd' is not a number"),
        ("span", [{"text": "rain", "answer_start": 4}], "line 7: the answer 'rain' is not at character 4"),
        ("span", [], "line 7: this question has no answer"),
        ("choice", 2, "line 7: 2 is none of the 2 options"),
    ],
)
def test_an_odd_label(look: Callable[..., str], task: str, label: object, message: str) -> None:
    odd = [*GOOD[task], GOOD[task][0] | {LABEL.get(task, "label"): label}]
    assert f"dev.jsonl, {message}" in look(task, lines(GOOD[task]), lines(odd))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("classify", "every example has the label 'pos'"),
        ("regress", "every example has the number 1.5"),
        ("multilabel", "every example has the same labels"),
        ("tag", "every word has the tag 'O'"),
        ("choice", "in every example option 0 is right"),
    ],
)
def test_one_class_only(look: Callable[..., str], task: str, message: str) -> None:
    row = GOOD[task][1 if task == "tag" else 0]
    assert f"train.jsonl: {message}" in look(task, lines([row] * 5), lines([row]))


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_line_of_a_megabyte_is_an_example_like_others(checkpoint: Checkpoint, tmp_path: Path, task: str) -> None:
    text = "the sun " * 125_000
    long: Row = {
        "classify": {"text": text, "label": "pos"},
        "tag": {"tokens": text.split(), "tags": ["O", "B-x"] * 125_000},
    }[task]
    (tmp_path / "train.jsonl").write_bytes(lines([*GOOD[task][:3], long]))
    (tmp_path / "dev.jsonl").write_bytes(lines(GOOD[task][:3]))
    survey = Finetuning(task=task, model=checkpoint, train=tmp_path / "train.jsonl", dev=tmp_path / "dev.jsonl").survey
    assert survey.train.tokens["longest"] > 250_000 and survey.train.too_long == 1 and survey.train.windows > 10_000
    assert "1 texts are over 40 tokens and are read in windows" in "\n".join(survey.lines())
