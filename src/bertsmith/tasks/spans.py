"""Answers that stand in a text (Devlin et al. 2018, §4.2 and §4.3: SQuAD 1.1 and 2.0)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from bertsmith.config import require
from bertsmith.data import Batch
from bertsmith.data.columns import Wanted
from bertsmith.errors import DataError
from bertsmith.nn import Model
from bertsmith.objectives import AnswerSpan, Objective
from bertsmith.tasks.classification import softmax
from bertsmith.tasks.prediction import Candidate, Evaluation, Prediction, reading_counts
from bertsmith.tasks.squad import best_threshold, exact_and_f1
from bertsmith.tasks.task import Answer, Label, Lesson, Task, Texts, cut_counts, example
from bertsmith.text.windows import Cutter, Window, most_context

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled


@dataclass(frozen=True)
class Span(Task, kind="span"):
    """Where in a context the answer to a question stands.

    A long context is read in windows; a token may begin an answer only in the window that shows most of what is around it.
    The answer has the highest sum of start and end, is at most `max_answer_length` tokens long, and is the first of the
    `num_candidates` that are given. `threshold` is None where every question has an answer, as in SQuAD 1.1; else none is
    given where none is better by more than it, in logits, as in SQuAD 2.0: the best F1 on the dev file chooses it.
    """

    wanted: ClassVar[Wanted] = Wanted(
        text_counts=(2,),
        texts=(("question", "context"), ("question", "passage"), ("query", "context"), ("question", "text")),
        labels=("answers", "answer"),
        plain="json",
    )
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    threshold: float | None = None
    max_answer_length: int = 30
    num_candidates: int = 20

    def __post_init__(self) -> None:
        for name in ("max_answer_length", "num_candidates"):
            require(getattr(self, name) > 0, name, f"expected at least 1, got {getattr(self, name)}")

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        """SQuAD's list of answers with `text` and `answer_start`, the same as two lists, or a text that is in the context."""
        assert isinstance(texts, tuple)
        return tuple(_checked(text, start, texts[1]) for text, start in _pairs(value))

    @classmethod
    def names(cls, label: Label) -> Iterable[str]:
        return ("answer" if label else "no answer",)

    @classmethod
    def learn(cls, train: "Labelled") -> "Span":
        """Whether there are questions without an answer."""
        if not any(train.labels):
            raise DataError(f"{train.path}: no question has an answer. There is nothing to learn.")
        return cls(threshold=None if all(train.labels) else 0.0)

    def check(self, labelled: "Labelled") -> None:
        for one in labelled.examples:
            if self.threshold is None and not one.label:
                raise DataError(
                    f"{labelled.at(one.line)}: this question has no answer, and in the training data every question has one."
                )

    def objective(self) -> Objective:
        return AnswerSpan()

    def windows(self, texts: Texts, cutter: Cutter) -> tuple[Window, ...]:
        assert isinstance(texts, tuple), "a question and a context"
        return cutter.pair(texts[0], texts[1], cut="second")

    def lessons(self, windows: Sequence[Window], label: Label) -> list[Lesson]:
        """Every window, with the first answer where it shows it whole, else with none, which is [CLS]."""
        answer = next(iter(_answers(label)), None)
        return [((example(window, _place(window, answer)),),) for window in windows]

    def scores(self, model: Model, inputs: Batch) -> Sequence[Tensor]:
        """For each window (tokens, 2): start and end."""
        hidden = model(inputs).at(inputs.token_positions)
        return model.heads[self.objective().kind](hidden).float().cpu().split(inputs.lengths.tolist())

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        assert isinstance(texts, tuple)
        found: dict[str, tuple[float, int, int]] = {}
        for score, start, end in sorted(self._spans(windows, scores), key=lambda span: -span[0]):
            found.setdefault(texts[1][start:end], (score, start, end))
            if len(found) == self.num_candidates:
                break
        none = float(min(table[0].sum() for table in scores))
        if not found:  # there is nothing in the context to point at
            found[""] = (none, 0, 0)
        best = next(iter(found.values()))[0]
        if self.threshold is not None:
            found.setdefault("", (none, 0, 0))
        shares = softmax(np.array([score for score, _, _ in found.values()])).tolist()
        candidates = [
            Candidate(text, start, end, share)
            for (text, (_, start, end)), share in zip(found.items(), shares, strict=True)
        ]
        answer = candidates[0]
        if self.threshold is not None and none - best > self.threshold:
            answer = next(c for c in candidates if not c.text)
        return Prediction(
            answer=answer,
            candidates=tuple(sorted(candidates, key=lambda c: -c.probability)),
            no_answer=None if self.threshold is None else none - best,
            **cut_counts(windows),
        )

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        said = [p.answer.text if p.answer else "" for p in predictions]
        scores = np.array([self._score(label, answer) for label, answer in zip(truth, said, strict=True)])
        has = np.array([bool(label) for label in truth])
        found = {"f1": scores[:, 1], "exact_match": scores[:, 0]}
        measured = {name: float(values.mean()) for name, values in found.items()}
        if self.threshold is not None:
            for group, chosen in (("answerable", has), ("unanswerable", ~has)):
                if chosen.any():
                    measured |= {f"{name}_{group}": float(values[chosen].mean()) for name, values in found.items()}
        return Evaluation(**reading_counts(predictions), metrics=measured, majority=float(1 - has.mean()) or None)

    def tuned(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> "Span":
        if self.threshold is None:
            return self
        best = [next((c.text for c in p.candidates or () if c.text), "") for p in predictions]
        scores = [self._score(label, answer)[1] for label, answer in zip(truth, best, strict=True)]
        odds = [p.no_answer or 0.0 for p in predictions]
        return replace(
            self, threshold=best_threshold(scores, odds, [bool(text) for text in best], [bool(t) for t in truth])
        )

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        said = {p.answer.text for p in predictions if p.answer}
        return len(said) == 1 and len({tuple(_texts(label)) for label in truth}) > 1

    def _score(self, label: Label, answer: str) -> tuple[float, float]:
        return exact_and_f1(_texts(label), answer, may_be_none=self.threshold is not None)

    def _spans(self, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Iterator[tuple[float, int, int]]:
        """Score, start and end in characters of the likeliest spans of each window."""
        judged = [np.zeros(window.count, bool) for window in windows]
        for number, place in most_context(windows):
            judged[number][place - windows[number].begin] = True
        for window, table, fit in zip(windows, scores, judged, strict=True):
            starts, ends = table[window.begin : window.begin + window.count].T
            first = np.argsort(-np.where(fit, starts, -np.inf), kind="stable")[: self.num_candidates]
            last = np.argsort(-ends, kind="stable")[: self.num_candidates]
            for start in first[fit[first]].tolist():
                for end in last[(last >= start) & (last < start + self.max_answer_length)].tolist():
                    yield float(starts[start] + ends[end]), window.offsets[start][0], window.offsets[end][1]


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """Answer texts and starts (None where none is said) out of the forms that files have them in."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return []
    if isinstance(value, str):
        return [(value, None)] if value.strip() else []
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            return [(texts, starts)]
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return list(zip(texts, starts, strict=True))
    elif isinstance(value, list) and all(isinstance(answer, str | Mapping) for answer in value):
        return [pair for answer in value for pair in _pairs(answer)]
    raise ValueError(f"{value!r:.60} is not answers: a text, or a list of objects with text and answer_start")


def _checked(text: Any, start: Any, context: str) -> Answer:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the answer {text!r:.40} is not text")
    if start is None:
        if (start := context.find(text)) < 0:
            raise ValueError(f"the answer {text!r:.80} is not in the context")
    elif not isinstance(start, int) or context[start : start + len(text)] != text or start < 0:
        there = (
            f", where {context[start : start + len(text)]!r:.40} stands"
            if isinstance(start, int) and start >= 0
            else ""
        )
        raise ValueError(f"the answer {text!r:.80} is not at character {start} of the context{there}")
    return Answer(text, start)


def _place(window: Window, answer: Answer | None) -> dict[str, int | float]:
    """The tokens at which the answer begins and ends, if the window shows all of it."""
    offsets = window.offsets
    if answer is not None and offsets and offsets[0][0] <= answer.start:
        end = answer.start + len(answer.text)
        inside = [i for i, (first, last) in enumerate(offsets) if last > answer.start and first < end]
        if inside and offsets[-1][1] >= end:
            return {"start": window.begin + inside[0], "end": window.begin + inside[-1]}
    return {"start": 0, "end": 0}


def _answers(label: Label) -> list[Answer]:
    assert isinstance(label, tuple)
    return [answer for answer in label if isinstance(answer, Answer)]


def _texts(label: Label) -> list[str]:
    return [answer.text for answer in _answers(label)]
