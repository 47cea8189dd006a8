"""Several labels for each text, or none: topics, symptoms, kinds of toxicity."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bertsmith.config import require
from bertsmith.data.columns import CLASS, Wanted
from bertsmith.errors import DataError, nearest
from bertsmith.objectives import MultiLabel, Objective
from bertsmith.tasks import metrics
from bertsmith.tasks.classification import label_order, label_text
from bertsmith.tasks.prediction import Evaluation, Prediction, reading_counts, scores_by_label
from bertsmith.tasks.task import Label, Task, Texts, cut_counts
from bertsmith.text.windows import Window

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled

NONE = "(none)"
_SEPARATORS = re.compile(r"[,;|]")
_THRESHOLDS = np.arange(5, 96) / 100


@dataclass(frozen=True)
class Multilabel(Task, kind="multilabel"):
    """Any number of `labels` for each text: those whose probability is at least `threshold`, which is chosen on the dev
    file for the best micro F1. In a table, labels are parted by `,`, `;` or `|`, or each has a column of 0 and 1; in JSON
    they are a list."""

    wanted: ClassVar[Wanted] = Wanted(
        text_counts=(1, 2),
        indicators=True,
        labels=("labels", "topics", "tags", "categories", "classes", "genres", *CLASS),
    )
    metric_names: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "exact_match")
    labels: tuple[str, ...]
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require(bool(self.labels), "labels", "expected at least 1")
        require(len(set(self.labels)) == len(self.labels), "labels", "each must be there once")
        require(0 < self.threshold < 1, "threshold", f"expected between 0 and 1, got {self.threshold}")

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        """A list of labels, or a text of several; nothing is no label."""
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return ()
        parts = _SEPARATORS.split(value) if isinstance(value, str) else value if isinstance(value, list) else [value]
        return tuple(
            sorted({label_text(part) for part in parts if part != "" and not str(part).isspace()}, key=label_order)
        )

    @classmethod
    def names(cls, label: Label) -> Iterable[str]:
        return label if isinstance(label, tuple) and label else (NONE,)  # pyright: ignore[reportReturnType]

    @classmethod
    def learn(cls, train: "Labelled") -> "Multilabel":
        """The labels that occur, in an order that does not depend on that of the examples."""
        labels = sorted({name for label in train.labels for name in _set(label)}, key=label_order)
        if len({_set(label) for label in train.labels}) < 2:
            what = ", ".join(labels) or "no label"
            raise DataError(
                f"{train.path}: every example has the same labels ({what}). There is nothing to tell apart."
            )
        return cls(tuple(labels))

    def check(self, labelled: "Labelled") -> None:
        for example in labelled.examples:
            for label in sorted(_set(example.label) - set(self.labels)):
                raise DataError(
                    f"{labelled.at(example.line)}: the label {label!r} does not occur in the training data."
                    f"{nearest(label, self.labels)}"
                )

    def objective(self) -> Objective:
        return MultiLabel(num_labels=len(self.labels))

    def targets(self, label: Label) -> dict[str, int | float]:
        return {f"label_{number}": int(name in _set(label)) for number, name in enumerate(self.labels)}

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        """By the mean of the windows' scores."""
        shares = 1 / (1 + np.exp(-np.mean(scores, axis=0, dtype=np.float64)))
        probabilities = dict(zip(self.labels, shares.tolist(), strict=True))
        chosen = tuple(label for label, share in probabilities.items() if share >= self.threshold)
        return Prediction(labels=chosen, probabilities=probabilities, **cut_counts(windows))

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        there = self._table(_set(label) for label in truth)
        said = self._table(frozenset(p.labels or ()) for p in predictions)
        hits, predicted, real = (there & said).sum(0), said.sum(0), there.sum(0)
        by_label = metrics.scores_of_counts(hits, predicted, real)
        (whole,) = metrics.scores_of_counts(hits.sum()[None], predicted.sum()[None], real.sum()[None])
        occurs = (predicted + real) > 0
        return Evaluation(
            **reading_counts(predictions),
            metrics={
                "micro_f1": float(whole[2]),
                "macro_f1": float(by_label[occurs, 2].mean()) if occurs.any() else 0.0,
                "exact_match": float((there == said).all(1).mean()),
            },
            labels=self.labels,
            label_scores=scores_by_label(self.labels, by_label.tolist(), real.tolist()),
        )

    def tuned(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> "Multilabel":
        """With the threshold of the best micro F1; of equally good ones that nearest to a half."""
        there = self._table(_set(label) for label in truth)
        shares = np.array([list((p.probabilities or {}).values()) for p in predictions])

        def quality(threshold: float) -> tuple[float, float]:
            said = shares >= threshold
            return 2 * (there & said).sum() / max(int(there.sum() + said.sum()), 1), -abs(threshold - 0.5)

        return replace(self, threshold=float(max(_THRESHOLDS, key=quality)))

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        return len({p.labels for p in predictions}) == 1 and len({_set(label) for label in truth}) > 1

    def _table(self, rows: Iterable[frozenset[str]]) -> np.ndarray:
        """Which label is there, bool (examples, labels)."""
        return np.array([[label in row for label in self.labels] for row in rows], bool)


def _set(label: Label) -> frozenset[str]:
    assert isinstance(label, tuple)
    return frozenset(map(str, label))
