"""Answers out of contexts, and the official scores of SQuAD."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.errors import DataError
from bertsmith.tasks import Answer, Cutter, Finetuning, Predictor, Span, find_task, read_labelled, read_texts
from bertsmith.tasks.squad import best_threshold, exact_and_f1

FILLING = ("house", "tree", "road", "walks", "green", "stone")


def questions(count: int, seed: int, *, unanswerable: float = 0.0) -> list[dict[str, Any]]:
    """`sun ?` asks for the words between the two signs after the word sun."""
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        words = [str(word) for word in random.choice(FILLING, random.integers(4, 12))]
        answer = str(random.choice(("sun", "gold", "joy", "song")))
        start = int(random.integers(len(words)))
        has = random.random() >= unanswerable
        before = " ".join(words[:start]) + " " if start else ""
        context = f"{before}{answer if has else 'mud'} {' '.join(words[start:])}"
        answers = [{"text": answer, "answer_start": len(before)}] if has else []
        made.append({"id": f"q{number}", "question": "the bird", "context": context, "answers": answers})
    return made


def squad(rows: Sequence[dict[str, Any]]) -> str:
    """SQuAD's own form, two questions a paragraph where they can be."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [{k: row[k] for k in ("id", "question", "answers")} | {"is_impossible": not row["answers"]}],
        }
        for row in rows
    ]
    return json.dumps({"version": "2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}, indent=1)


@pytest.fixture
def job(checkpoint: Checkpoint, tmp_path: Path) -> Finetuning:
    (tmp_path / "train.json").write_text(squad(questions(200, 1)), encoding="utf-8")
    (tmp_path / "dev.json").write_text(squad(questions(50, 2)), encoding="utf-8")
    return Finetuning(
        task="span",
        model=checkpoint,
        train=tmp_path / "train.json",
        dev=tmp_path / "dev.json",
        out=tmp_path / "run",
        epochs=4,
        batch_size=8,
        seeds=(0,),
        learning_rate=4e-3,
    )


def test_learns_predicts_and_is_a_bert_for_question_answering(job: Finetuning, tmp_path: Path) -> None:
    result = job.finish()
    assert result.metric == "f1" and result.best.dev.metrics["exact_match"] > 0.9
    saved = Predictor(load_model(tmp_path / "run"))
    assert saved.task == Span()
    assert saved.evaluate(saved.read_labelled(job.dev)) == result.best.dev
    context = "tree road gold house"
    (prediction,) = saved.predict([("the bird", context)])
    answer = prediction.answer
    assert answer is not None and (answer.text, answer.start, answer.end) == ("gold", 10, 14)
    assert prediction.no_answer is None and sum(c.probability for c in prediction.candidates or ()) == pytest.approx(1)

    transformers = pytest.importorskip("transformers", reason="transformers is only there for development")
    theirs = transformers.BertForQuestionAnswering.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    inputs = tokenizer("the bird", context, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        found = theirs(**inputs)
    start, end = found.start_logits[0, 4:-1].argmax() + 4, found.end_logits[0, 4:-1].argmax() + 4
    assert (offsets[start][0], offsets[end][1]) == (answer.start, answer.end)


def test_long_contexts_and_no_answers(job: Finetuning, tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(squad(questions(200, 1, unanswerable=0.4)), encoding="utf-8")
    (tmp_path / "dev.json").write_text(squad(questions(50, 2, unanswerable=0.4)), encoding="utf-8")
    result = replace(job, max_length=12, stride=4).finish()
    metrics = result.best.dev.metrics
    assert result.best.dev.windowed > 20 and metrics["f1"] > 0.85
    assert min(metrics["f1_answerable"], metrics["f1_unanswerable"]) > 0.7
    saved = Predictor(load_model(tmp_path / "run"))
    assert isinstance(saved.task, Span) and saved.task.threshold is not None
    far, none = saved.predict([("the bird", "tree " * 60 + "gold" + " road" * 30), ("the bird", "tree " * 60)])
    assert far.answer is not None and (far.answer.text, far.answer.start) == ("gold", 300) and far.windows > 10
    assert none.answer is not None and none.answer.text == "" and (none.no_answer or 0) > saved.task.threshold


def test_windows_know_where_the_answer_is(checkpoint: Checkpoint) -> None:
    context = "tree " * 30 + "gold sun" + " road" * 30
    windows = Span().windows(("the bird", context), Cutter(checkpoint.tokenizer, 16, 5))
    lessons = Span().lessons(windows, (Answer("gold sun", 150),))
    shown = 0
    for ((example,),), window in zip(lessons, windows, strict=True):
        start, end = int(example.targets["start"]), int(example.targets["end"])
        tokens = window.encoding.tokens[start : end + 1]
        whole = {"gold", "sun"} <= set(window.encoding.tokens)
        assert tokens == (["gold", "sun"] if whole else ["[CLS]"])
        shown += whole
    assert shown >= 2


FORMS = [
    '{"question": "q", "context": "a sun b", "answers": [{"text": "sun", "answer_start": 2}]}',
    '{"question": "q", "context": "a sun b", "answers": {"text": ["sun"], "answer_start": [2]}}',
    '{"question": "q", "context": "a sun b", "answer": "sun"}',
    '{"question": "q", "passage": "a sun b", "answers": ["sun"]}',
    '[{"question": "q", "context": "a sun b", "answers": [{"text": "sun", "answer_start": 2}]}]',
    squad([{"id": "1", "question": "q", "context": "a sun b", "answers": [{"text": "sun", "answer_start": 2}]}]),
]


@pytest.mark.parametrize("content", FORMS)
def test_forms_of_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content + "\n", encoding="utf-8")
    (example,) = read_labelled(tmp_path / "a.json", find_task("span")).examples
    assert (example.texts, example.label) == (("q", "a sun b"), (Answer("sun", 2),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"question": "q", "context": "a sun", "answers": [{"text": "sun", "answer_start": 1}]}',
            "a.json, line 1: the answer 'sun' is not at character 1 of the context, where ' su' stands",
        ),
        ('{"question": "q", "context": "a sun", "answer": "mud"}', "line 1: the answer 'mud' is not in the context"),
        ('{"question": "q", "context": "a sun", "answers": 5}', "line 1: 5 is not answers"),
        ('{"question": "q", "context": 5, "answers": []}', "line 1: 5 is not text"),
        ('{"data": [{"paragraphs": [{"qas": []}, {"qas": [{"id": 1}]}]}]}', "not the form of SQuAD .there is no 'question'"),
        ('{"data": [\n{"paragraphs"}', "line 2: not JSON"),
        (
            squad([{"id": "1", "question": "q", "context": "a", "answers": [{"text": "sun", "answer_start": 0}]}]),
            "a.json, question 1: the answer 'sun' is not at character 0",
        ),
    ],
)  # fmt: skip
def test_bad_files_say_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path / "a.json", find_task("span"))


def test_answers_that_are_left_out_are_not_answers_that_are_none(tmp_path: Path) -> None:
    rows = questions(3, 2)
    (tmp_path / "a.json").write_text(squad(rows).replace('"answers"', '"answer"', 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"a.json, question 1: there is no 'answers'"):
        read_labelled(tmp_path / "a.json", find_task("span"))
    (tmp_path / "a.json").write_text(squad(rows).replace('"answers"', '"answer"'), encoding="utf-8")
    assert list(read_texts(tmp_path / "a.json", find_task("span"))) == [(r["question"], r["context"]) for r in rows]


def test_a_question_without_an_answer_needs_some_in_training(job: Finetuning, tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(squad(questions(9, 2, unanswerable=1)), encoding="utf-8")
    with pytest.raises(DataError, match="question 1: this question has no answer, and in the training data every"):
        _ = job.survey
    (tmp_path / "train.json").write_text(squad(questions(9, 2, unanswerable=1)), encoding="utf-8")
    with pytest.raises(DataError, match="no question has an answer"):
        _ = replace(job).survey


def test_published_predictions_get_their_published_scores(data_pack: Callable[[str], Path]) -> None:
    """BERT's ensemble (Devlin et al. 2018, table 2) on SQuAD 1.1 dev, all 10,570 questions."""
    folder = data_pack("squad-dev")
    labelled = read_labelled(folder / "dev-v1.1.rebuilt.json", find_task("span"))
    (file,) = [path for path in (folder / "predictions").iterdir() if "BERT (ensemble)" in path.name]
    said = json.loads(file.read_text(encoding="utf-8"))
    ids = re.findall(r'"id": "(\w+)"', (folder / "dev-v1.1.rebuilt.json").read_text(encoding="utf-8"))
    golds = [[answer.text for answer in label] for label in labelled.labels]  # type: ignore[union-attr]
    scores = [exact_and_f1(gold, said[i], may_be_none=False) for i, gold in zip(ids, golds, strict=True)]
    assert len(scores) == 10_570
    assert 100 * np.mean(scores, axis=0) == pytest.approx([86.21, 92.20], abs=0.005)


def test_scores_by_hand() -> None:
    assert exact_and_f1(["The Sun!"], "sun", may_be_none=False) == (1, 1)
    assert exact_and_f1(["a big sun", "moon"], "big star", may_be_none=False) == (0, 0.5)
    assert exact_and_f1(["the"], "a", may_be_none=False) == (1, 0)  # words that are no words: 1.1 gives no F1
    assert exact_and_f1(["the"], "a", may_be_none=True) == (1, 1)
    assert exact_and_f1([], "", may_be_none=True) == (1, 1)
    assert exact_and_f1([], "sun", may_be_none=True) == (0, 0)
    assert exact_and_f1(["sun"], "", may_be_none=True) == (0, 0)


def test_the_threshold_is_the_best_there_is() -> None:
    """Against every threshold."""
    random = np.random.default_rng(3)
    for _ in range(50):
        has = random.random(12) < 0.6
        scores = np.where(has, random.random(12).round(1), 0.0)
        odds = random.normal(size=12)

        def total(
            threshold: float, has: np.ndarray = has, scores: np.ndarray = scores, odds: np.ndarray = odds
        ) -> float:
            return float(np.where(odds > threshold, ~has, scores).sum())

        found = best_threshold(scores.tolist(), odds.tolist(), [True] * 12, has.tolist())
        assert total(found) == pytest.approx(max(map(total, [odds.min() - 1, *odds])))
