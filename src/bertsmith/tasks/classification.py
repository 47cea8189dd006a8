"""Classification of a text, or of a pair of texts (Devlin et al. 2018, §4.1, tasks of GLUE)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bertsmith.config import require
from bertsmith.data.columns import Wanted
from bertsmith.errors import DataError, nearest
from bertsmith.objectives import Objective, SequenceLabel
from bertsmith.tasks import metrics
from bertsmith.tasks.prediction import Evaluation, Prediction, reading_counts, scores_by_label
from bertsmith.tasks.task import Label, Task, Texts, cut_counts
from bertsmith.text.windows import Window

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled


@dataclass(frozen=True)
class Classify(Task, kind="classify"):
    """One label of several for each text. `labels` are in the order of the head's scores."""

    wanted: ClassVar[Wanted] = Wanted(text_counts=(1,))
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "matthews_correlation")
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.labels) >= 2, "labels", f"expected at least 2, got {len(self.labels)}")
        require(len(set(self.labels)) == len(self.labels), "labels", "each must be there once")

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        return label_text(value)

    @classmethod
    def learn(cls, train: "Labelled") -> "Classify":
        """The labels that occur, in an order that does not depend on that of the examples."""
        labels = sorted({str(label) for label in train.labels}, key=label_order)
        if len(labels) < 2:
            raise DataError(
                f"{train.path}: every example has the label {labels[0]!r}. "
                "There is nothing to tell apart: training needs at least two labels."
            )
        return cls(tuple(labels))

    def check(self, labelled: "Labelled") -> None:
        for example in labelled.examples:
            if example.label not in self.labels:
                raise DataError(
                    f"{labelled.at(example.line)}: the label {example.label!r} does not occur in the training data."
                    f"{nearest(str(example.label), self.labels)}"
                )

    def objective(self) -> Objective:
        return SequenceLabel(num_labels=len(self.labels))

    def targets(self, label: Label) -> dict[str, int | float]:
        return {"label": self.labels.index(str(label))}

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        """By the mean of the windows' scores."""
        mean = np.mean(scores, axis=0)
        shares = softmax(mean).tolist()
        return Prediction(
            label=self.labels[int(mean.argmax())],
            probabilities=dict(zip(self.labels, shares, strict=True)),
            **cut_counts(windows),
        )

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        number = {label: index for index, label in enumerate(self.labels)}
        confusion = metrics.confusion_matrix(
            [number[str(label)] for label in truth], [number[str(p.label)] for p in predictions], len(number)
        )
        there = confusion.sum(1)
        return Evaluation(
            **reading_counts(predictions),
            metrics={name: getattr(metrics, name)(confusion) for name in self.metric_names},
            labels=self.labels,
            confusion=tuple(tuple(row) for row in confusion.tolist()),
            label_scores=scores_by_label(self.labels, metrics.label_scores(confusion).tolist(), there.tolist()),
            majority=float(there.max() / there.sum()),
        )

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        return len({p.label for p in predictions}) == 1 and len(set(truth)) > 1


@dataclass(frozen=True)
class Pair(Classify, kind="pair"):
    """One label of several for each pair of texts: entailment, paraphrase, an answer that fits."""

    wanted: ClassVar[Wanted] = Wanted(text_counts=(2,))


def label_text(value: Any) -> str:
    """A label as text: 1, 1.0 and "1" are the same label. ValueError if it is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):  # NaN: how pandas writes what is missing
        raise ValueError("there is no label")
    if not isinstance(value, str | int | float):
        raise ValueError(f"{value!r:.60} is no label")
    if not (text := str(value).strip()):
        raise ValueError("the label is empty")
    return text


def softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis, in float64."""
    shares = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def label_order(label: str) -> tuple[bool, float, str]:
    """Whole numbers first, by size; then the others, by their characters."""
    number = int(label) if label.removeprefix("-").isdecimal() else None
    return (number is None, number or 0, label)
