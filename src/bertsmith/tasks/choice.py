"""Choosing one of several options: endings of a story, answers to a question (Devlin et al. 2018, §4.4: SWAG)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bertsmith.data.columns import Wanted
from bertsmith.errors import DataError
from bertsmith.objectives import MultipleChoice, Objective
from bertsmith.tasks.classification import softmax
from bertsmith.tasks.prediction import Evaluation, Prediction, reading_counts
from bertsmith.tasks.task import Label, Lesson, Task, Texts, cut_counts, example
from bertsmith.text.windows import Cutter, Window

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled

_BEGINNINGS = ("prompt", "startphrase", "ctx", "context", "question", "sentence", "premise", "beginning", "text")
_LISTS = ("options", "endings", "choices", "candidates", "answers")
_NUMBERED = re.compile(r"(?:option|ending|choice|answer|candidate)[ _]?([0-9]+|[a-h])")


@dataclass(frozen=True)
class WantedChoice(Wanted):
    """A beginning, and either one column with a list of options or one column each: ending0, ending1 ..."""

    text_counts: tuple[int, ...] = tuple(range(2, 27))
    labels: tuple[str, ...] = ("label", "answer", "gold", "correct", "target", "answer_key", "answerkey")

    def usual_texts(self, there: Mapping[str, str]) -> tuple[str, ...]:
        beginning = next((there[name] for name in _BEGINNINGS if name in there), None)
        options = [there[name] for name in _LISTS if name in there][:1]
        if not options:
            options = [name for folded, name in sorted(there.items()) if _NUMBERED.fullmatch(folded)]
        return (beginning, *options) if beginning is not None and options else ()

    def left_over(self, names: Sequence[str]) -> tuple[str, ...]:
        return ()  # nothing tells a beginning from an option


@dataclass(frozen=True)
class Choice(Task, kind="choice"):
    """Which of any number of options goes with a beginning. An option's score is the mean over its windows."""

    wanted: ClassVar[Wanted] = WantedChoice()
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy",)

    @classmethod
    def read_texts(cls, cells: Sequence[Any]) -> Texts:
        """A beginning and its options; where each has a column, empty cells at the end of a row are none."""
        beginning, *options = cells
        if len(options) == 1 and isinstance(options[0], list):
            options = options[0]
        else:
            while options and options[-1] in (None, ""):
                options = options[:-1]
        texts = super().read_texts([beginning, *options])
        if not isinstance(texts, tuple) or len(texts) < 3:
            raise ValueError(f"{len(options)} option{'s' if len(options) != 1 else ''}; a choice needs at least two")
        return texts

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        """The right option: its number from 0, its letter from A, or its text."""
        options = texts[1:] if isinstance(texts, tuple) else ()
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str) and value not in options and len(value.strip()) == 1:
            value = ord(value.strip().upper()) - ord("A")
        if isinstance(value, str) and value in options:
            value = options.index(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(options):
            raise ValueError(
                f"{value!r:.60} is none of the {len(options)} options: expected a number from 0 to {len(options) - 1}, a "
                "letter from A, or the option's text"
            )
        return value

    @classmethod
    def learn(cls, train: "Labelled") -> "Choice":
        if len(set(train.labels)) < 2:
            raise DataError(
                f"{train.path}: in every example option {train.labels[0]} is right. Its place would be learned and nothing "
                "else; put the options into a random order."
            )
        return cls()

    def objective(self) -> Objective:
        return MultipleChoice()

    def windows(self, texts: Texts, cutter: Cutter) -> tuple[Window, ...]:
        assert isinstance(texts, tuple)
        beginning, *options = texts
        return tuple(w for part, option in enumerate(options) for w in cutter.pair(beginning, option, part=part))

    def lessons(self, windows: Sequence[Window], label: Label) -> list[Lesson]:
        """All options at once; of those with several windows an epoch takes one each."""
        parts = _by_part(windows)
        alternatives = max(map(len, parts))
        return [
            tuple(
                tuple(
                    example(
                        windows[part[min(number, len(part) - 1)]], {"option": option, "right": int(option == label)}
                    )
                    for option, part in enumerate(parts)
                )
                for number in range(alternatives)
            )
        ]

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        means = np.array([np.mean([scores[i][0] for i in part]) for part in _by_part(windows)])
        shares = softmax(means).tolist()
        return Prediction(
            option=int(means.argmax()),
            probabilities={str(option): share for option, share in enumerate(shares)},
            **cut_counts(windows),
        )

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        right = [label == p.option for label, p in zip(truth, predictions, strict=True)]
        return Evaluation(
            **reading_counts(predictions),
            metrics={"accuracy": float(np.mean(right))},
            majority=max(Counter(truth).values()) / len(truth),
        )

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        return len({p.option for p in predictions}) == 1 and len(set(truth)) > 1


def _by_part(windows: Sequence[Window]) -> list[list[int]]:
    """The numbers of the windows of each option."""
    parts: list[list[int]] = [[] for _ in range(windows[-1].part + 1)]
    for number, window in enumerate(windows):
        parts[window.part].append(number)
    return parts
