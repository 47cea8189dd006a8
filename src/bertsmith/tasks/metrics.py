"""Scores of predictions against the truth, in NumPy.

A score that divides by a spread is 0 where there is no spread: a model that always says the same has learned nothing, and
0 says so where an undefined number would break a table.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, num_labels: int) -> NDArray[np.int64]:
    """How often each label (row) was predicted as each label (column): (num_labels, num_labels)."""
    cells = np.asarray(truth, np.int64) * num_labels + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=num_labels * num_labels).reshape(num_labels, num_labels)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """The share of right predictions."""
    return float(np.trace(confusion) / confusion.sum())


def label_scores(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision, recall and F1 of each label: (num_labels, 3), 0 where nothing was predicted or nothing was there."""
    return scores_of_counts(np.diag(confusion), confusion.sum(0), confusion.sum(1))


def scores_of_counts(
    hits: NDArray[np.int64], predicted: NDArray[np.int64], there: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Precision, recall and F1 from counts of each label, each (labels,): (labels, 3), 0 where they divide by nothing."""
    zeros = np.zeros(len(hits))
    precision = np.divide(hits, predicted, out=zeros.copy(), where=predicted > 0)
    recall = np.divide(hits, there, out=zeros.copy(), where=there > 0)
    f1 = np.divide(2 * hits, predicted + there, out=zeros.copy(), where=predicted + there > 0)
    return np.stack([precision, recall, f1], axis=1)


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """The mean F1 over the labels that occur, in the truth or in the predictions: all labels count alike."""
    occurs = (confusion.sum(0) + confusion.sum(1)) > 0
    return float(label_scores(confusion)[occurs, 2].mean())


def matthews_correlation(confusion: NDArray[np.int64]) -> float:
    """Correlation of predicted and true labels, for any number of labels (Gorodkin 2004, R_K); CoLA's metric."""
    counts = confusion.astype(np.float64)
    total, there, predicted = counts.sum(), counts.sum(1), counts.sum(0)
    covariance = np.trace(counts) * total - there @ predicted
    spread = np.sqrt((total**2 - predicted @ predicted) * (total**2 - there @ there))
    return float(covariance / spread) if spread > 0 else 0.0


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation: how well a straight line describes one by the other."""
    x, y = (_centered(values) for values in (truth, predicted))
    spread = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / spread, -1, 1)) if spread > 0 else 0.0


def spearman(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman's correlation: Pearson's, of the ranks. Equal values share the mean of their ranks."""
    return pearson(_ranks(truth), _ranks(predicted))


def mean_squared_error(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The mean of the squared differences."""
    return float(np.mean((np.asarray(truth, np.float64) - np.asarray(predicted, np.float64)) ** 2))


def mean_and_spread(scores: Sequence[float]) -> tuple[float, float]:
    """The mean, and the sample standard deviation (0 for a single score)."""
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0


def confidence_interval(
    scores: Sequence[float], lowest: float = -math.inf, highest: float = math.inf
) -> tuple[float, float] | None:
    """In which the mean over all seeds there could be lies with 95 % confidence, by Student's t; None for fewer than two.

    It ends at the `lowest` and the `highest` score there can be: with three seeds it would often go beyond.
    """
    if len(scores) < 2:
        return None
    mean, spread = mean_and_spread(scores)
    freedom = len(scores) - 1
    around = _STUDENT[min(freedom, len(_STUDENT)) - 1] * spread / len(scores) ** 0.5
    return max(mean - around, lowest), min(mean + around, highest)


# Two-sided 95 % quantiles of Student's t for 1, 2 ... degrees of freedom; beyond the table its last value is on the safe side.
_STUDENT = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
)


def _centered(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    centered = array - array.mean()
    # A mean is rounded, so equal values may leave dust behind, which would correlate with anything.
    return np.zeros_like(array) if np.ptp(array) == 0 else centered


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
