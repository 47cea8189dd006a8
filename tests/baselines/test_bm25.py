"""BM25 against its formula, written out."""

import math

import numpy as np
import pytest

from bertsmith.baselines import BM25

TEXTS = ["The mill, the river.", "A river of stars", "", "Stars above the old mill and the old hill"]


def test_scores_are_the_formula() -> None:
    words = [["the", "mill", "the", "river"], ["a", "river", "of", "stars"], [], TEXTS[3].lower().split()]
    mean = (4 + 4 + 0 + 9) / 4
    expected = []
    for text in words:
        total = 0.0
        for word in ("old", "river", "old", "unknown"):
            holding = sum(word in other for other in words)
            idf = math.log(1 + (4 - holding + 0.5) / (holding + 0.5))
            tf = text.count(word)
            total += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(text) / mean))
        expected.append(total)
    assert BM25(TEXTS).scores("Old river, old unknown!") == pytest.approx(expected)


def test_best_first_equal_ones_in_order_and_none_without_a_word() -> None:
    bm25 = BM25(["b a", "c", "a b", "a a"])
    assert bm25.best("a", 9) == [3, 0, 2]
    assert bm25.best("a", 1) == [3]
    assert bm25.best("z", 9) == bm25.best("", 9) == []


def test_nothing_to_look_in() -> None:
    assert BM25([]).best("a", 3) == []
    assert not BM25(["", "..."]).scores("a").any()
    assert np.isfinite(BM25(["", "a"]).scores("a")).all()
