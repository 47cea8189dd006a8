"""Regression: a number for a text or for a pair of texts, such as the similarity of two sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch

from bertsmith.config import require
from bertsmith.data.columns import NUMBER, Wanted
from bertsmith.errors import DataError
from bertsmith.nn import Model, SequenceHead
from bertsmith.objectives import Objective, SequenceScore
from bertsmith.tasks import metrics
from bertsmith.tasks.prediction import Evaluation, Prediction, reading_counts
from bertsmith.tasks.task import Label, Task, Texts, cut_counts
from bertsmith.text.windows import Window

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled


@dataclass(frozen=True)
class Regress(Task, kind="regress"):
    """A number for each text or pair of texts.

    In training the head predicts (label - center) / scale, so that labels in euros and labels between 0 and 1 learn alike.
    `finish` folds both numbers into the head's weights: the model that is saved gives labels as they were in the file.
    """

    wanted: ClassVar[Wanted] = Wanted(text_counts=(1, 2), numeric=True, labels=NUMBER)
    metric_names: ClassVar[tuple[str, ...]] = ("spearman", "pearson", "mean_squared_error")
    center: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.scale > 0, "scale", f"expected more than 0, got {self.scale}")

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        """A finite number."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("there is no number" if value is None else f"{value!r:.60} is not a number")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError(f"{value!r:.60} is not a number") from None
        if not abs(number) < float("inf"):
            raise ValueError(f"{value!r:.60} is not a finite number")
        return number

    @classmethod
    def names(cls, label: Label) -> Iterable[str]:
        return ()

    @classmethod
    def learn(cls, train: "Labelled") -> "Regress":
        """Mean and standard deviation of the labels."""
        labels = np.array(train.labels, np.float64)
        if np.ptp(labels) == 0:
            raise DataError(f"{train.path}: every example has the number {labels[0]:g}. There is nothing to learn.")
        return cls(float(labels.mean()), float(labels.std()))

    def objective(self) -> Objective:
        return SequenceScore()

    def targets(self, label: Label) -> dict[str, int | float]:
        assert isinstance(label, float), "numbers are read as such"
        return {"label": (label - self.center) / self.scale}

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        """By the mean of the windows' scores."""
        mean = float(np.mean([score[0] for score in scores], dtype=np.float64))
        return Prediction(score=mean * self.scale + self.center, **cut_counts(windows))

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        pair = np.array(truth, np.float64), np.array([p.score for p in predictions], np.float64)
        return Evaluation(
            **reading_counts(predictions), metrics={name: getattr(metrics, name)(*pair) for name in self.metric_names}
        )

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        # A hundredth of the labels' spread is noise around one number, whatever it may correlate with.
        spread = float(np.std(np.array(truth, np.float64)))
        return spread > 0 and float(np.std(np.array([p.score for p in predictions], np.float64))) < spread / 100

    @torch.no_grad()
    def finish(self, model: Model) -> "Regress":
        head = cast(SequenceHead, model.heads[self.objective().kind]).classifier
        assert head.bias is not None, "a sequence head has one"
        head.weight.mul_(self.scale)
        head.bias.mul_(self.scale).add_(self.center)
        return Regress()
