"""Where predictions and labels differ, in words that a person can read."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertsmith.tasks.prediction import Prediction
from bertsmith.tasks.reading import Labelled
from bertsmith.tasks.tagging import Tag
from bertsmith.tasks.task import Answer, Label, Task, Texts
from bertsmith.tasks.words import Words


@dataclass(frozen=True)
class Mistake:
    """One example that came out wrong: its place in the file, its text, what is true and what was said.

    `weight` orders mistakes, the most telling first: how sure the model was, or by how much a number is off.
    """

    place: str
    text: str
    truth: str
    said: str
    weight: float


def find_mistakes(
    task: Task, labelled: Labelled, predictions: Sequence[Prediction], *, limit: int = 50
) -> list[Mistake]:
    """The `limit` most telling mistakes."""
    found: list[Mistake] = []
    for example, prediction in zip(labelled.examples, predictions, strict=True):
        truth, said = _true(task, example.texts, example.label), _said(example.texts, prediction)
        if truth != said and not (prediction.answer and said in truth.split(" / ")):
            place = f"{labelled.unit} {example.line}"
            found.append(Mistake(place, _shown(example.texts), truth, said, _weight(example.label, prediction)))
    return sorted(found, key=lambda mistake: -mistake.weight)[:limit]


def _true(task: Task, texts: Texts, label: Label) -> str:
    if isinstance(texts, Words):
        assert isinstance(label, tuple) and isinstance(task, Tag)
        tags = [str(tag) for tag in label]
        entities = task.found_scheme.entities(tags)
        if task.metric == "accuracy":
            return " ".join(tags)
        words = texts.words
        return "; ".join(f"{name}: {' '.join(words[first : last + 1])}" for name, first, last in entities) or "nothing"
    if isinstance(label, tuple):
        answers = dict.fromkeys(part.text if isinstance(part, Answer) else part for part in label)
        return " / ".join(answers) or "nothing"
    return (
        texts[1 + label]
        if task.kind == "choice" and isinstance(texts, tuple) and isinstance(label, int)
        else _text(label)
    )


def _said(texts: Texts, p: Prediction) -> str:
    if p.words is not None:
        if p.entities is None:
            return " ".join(word.tag for word in p.words)
        assert isinstance(texts, Words)
        words = texts.words
        return "; ".join(f"{e.label}: {' '.join(words[e.first : e.last + 1])}" for e in p.entities) or "nothing"
    if p.answer is not None:
        return p.answer.text or "nothing"
    if p.option is not None and isinstance(texts, tuple):
        return texts[1 + p.option]
    if p.labels is not None:
        return " / ".join(p.labels) or "nothing"
    return _text(p.label if p.score is None else p.score)


def _weight(label: Label, p: Prediction) -> float:
    if p.score is not None and isinstance(label, float):
        return abs(p.score - label)
    if p.words:
        wrong = [word.probability for word, tag in zip(p.words, label, strict=True) if word.tag != tag]  # type: ignore[arg-type]
        return max(wrong, default=0.0)
    if p.answer is not None:
        return p.answer.probability
    return max((p.probabilities or {}).values(), default=0.0)


def _shown(texts: Texts) -> str:
    if isinstance(texts, Words):
        return texts.text
    return texts if isinstance(texts, str) else " ‖ ".join(texts)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
