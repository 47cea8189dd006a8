"""Every metric against scikit-learn or SciPy."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.tasks import metrics


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_classification_metrics_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = map(list, zip(*pairs, strict=True))
    confusion = metrics.confusion_matrix(truth, predicted, 5)
    labels = sorted({*truth, *predicted})
    assert confusion.tolist() == sklearn.metrics.confusion_matrix(truth, predicted, labels=range(5)).tolist()
    assert metrics.accuracy(confusion) == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    expected = sklearn.metrics.f1_score(truth, predicted, labels=labels, average="macro", zero_division=0)
    assert metrics.macro_f1(confusion) == pytest.approx(expected)
    if len(labels) > 1:
        assert metrics.matthews_correlation(confusion) == pytest.approx(
            sklearn.metrics.matthews_corrcoef(truth, predicted), abs=1e-12
        )
    scores = sklearn.metrics.precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0)
    assert pytest.approx(np.array(scores[:3])) == metrics.label_scores(confusion).T


numbers = st.integers(-20, 20).map(lambda value: value / 4)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
def test_correlations_equal_scipy(pairs: list[tuple[float, float]]) -> None:
    truth, predicted = map(list, zip(*pairs, strict=True))
    if len(set(truth)) == 1 or len(set(predicted)) == 1:
        assert metrics.pearson(truth, predicted) == metrics.spearman(truth, predicted) == 0
        return
    assert metrics.pearson(truth, predicted) == pytest.approx(scipy.stats.pearsonr(truth, predicted)[0], abs=1e-9)
    assert metrics.spearman(truth, predicted) == pytest.approx(scipy.stats.spearmanr(truth, predicted)[0], abs=1e-9)


def test_equal_values_correlate_with_nothing_even_if_their_mean_is_rounded() -> None:
    assert metrics.pearson([0.1] * 3, [1, 2, 3]) == 0


def test_matthews_of_a_model_that_always_says_the_same_is_0() -> None:
    assert metrics.matthews_correlation(metrics.confusion_matrix([0, 1, 1], [1, 1, 1], 2)) == 0


def test_mean_and_spread() -> None:
    assert metrics.mean_and_spread([1, 3]) == (2, pytest.approx(np.sqrt(2)))
    assert metrics.mean_and_spread([5]) == (5, 0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=21))
def test_confidence_is_students(scores: list[float]) -> None:
    low, high = metrics.confidence_interval(scores, -100, 100) or (0, 0)
    around = scipy.stats.t.ppf(0.975, len(scores) - 1) * np.std(scores, ddof=1) / len(scores) ** 0.5
    assert (low, high) == pytest.approx((np.mean(scores) - around, np.mean(scores) + around), abs=1e-4)
    assert metrics.confidence_interval(scores, 0, 1) == (max(low, 0), min(high, 1))
    assert metrics.confidence_interval(scores[:1], 0, 1) is None
