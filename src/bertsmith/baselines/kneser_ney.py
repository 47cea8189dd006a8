"""An n-gram language model with interpolated modified Kneser-Ney smoothing: what a sentence model has to beat.

Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3 and appendix.
All counts are sorted arrays and all look-ups are over whole texts at once, so tens of millions of words take seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bertsmith.errors import DataError, UsageError

# Ids of the tokens that are no words. `_START` is never predicted.
_START, _END, _UNKNOWN = 0, 1, 2
_FALLBACK = (0.5, 1.0, 1.5)  # discounts for a text too small or too regular to estimate them from


@dataclass(frozen=True, eq=False)
class _Order:
    """The n-grams of one length, sorted by `keys`: number of the context in the order below times the number of words,
    plus the last word. `probabilities` (n-grams,) are what is left of each after discounting, as a share of its context;
    `weights` (contexts,) is what each context gives to the order below. A context that nothing follows gives 1.
    """

    keys: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray


class KneserNey:
    """A model of sentences, each a sequence of words.

    Attributes:
        order: the longest n-gram, in words.
        words: the vocabulary, without the words that are read as unknown.
        discounts: for each length from 1, what n-grams seen once, twice, and three times or more are discounted by.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], *, order: int = 5, min_count: int = 2) -> None:
        """Estimate it. Words seen fewer than `min_count` times count as one unknown word.

        Raises:
            UsageError: `order` is below 1.
            DataError: there is no word.
        """
        if order < 1:
            raise UsageError(f"order {order}: an n-gram has at least 1 word")
        text, counts = _numbered(sentences)
        self.order = order
        kept = sorted(word for word, (_, count) in counts.items() if count >= min_count)
        self.words: dict[str, int] = {word: number for number, word in enumerate(kept, start=3)}
        if not self.words:
            raise DataError(f"There is no word that stands {min_count} times or more in this text.")
        table = np.full(len(counts) + 2, _UNKNOWN, np.int64)
        table[:2] = _START, _END
        for word, number in self.words.items():
            table[counts[word][0]] = number
        self._size = len(self.words) + 3
        self._orders, self.discounts = self._estimate(table[text])

    def log_likelihoods(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """log P(words and end | start) of each sentence in nats: float64 (sentences,)."""
        text = [_START]
        for sentence in sentences:
            text.extend(self.words.get(word, _UNKNOWN) for word in sentence)
            text += [_END, _START]
        ids = np.array(text[:-1], np.int64)
        found = np.zeros(len(ids))
        predicted = ids != _START
        found[predicted] = np.log(self._probabilities(ids)[predicted])
        return np.add.reduceat(found, np.flatnonzero(~predicted)) if len(sentences) else np.zeros(0)

    def _probabilities(self, ids: np.ndarray) -> np.ndarray:
        """P(word | the words before it in its sentence) at each place: float64 (places,)."""
        depths = _depths(ids)
        found = np.full(len(ids), 1 / (self._size - 1))  # all but the start
        contexts = np.zeros(len(ids), np.int64)  # the number of the context of length n - 1 that ends before each place
        numbers = np.zeros(len(ids), np.int64)  # the number of the n-gram that ends at each place, -1 for an unseen one
        for n, order in enumerate(self._orders, start=1):
            if n > 1:
                contexts = np.concatenate(([-1], numbers[:-1]))
            known = (contexts >= 0) & (depths >= n - 1)
            keys = contexts * self._size + ids
            places = np.minimum(np.searchsorted(order.keys, keys), len(order.keys) - 1)
            seen = known & (order.keys[places] == keys)
            numbers = np.where(seen, places, -1)
            found[known] *= order.weights[contexts[known]]
            found[seen] += order.probabilities[places[seen]]
        return found

    def _estimate(self, ids: np.ndarray) -> tuple[list[_Order], list[tuple[float, float, float]]]:
        depths = _depths(ids)
        keys: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        numbers = np.zeros(len(ids), np.int64)
        for n in range(1, self.order + 1):
            contexts = np.zeros(len(ids), np.int64) if n == 1 else np.concatenate(([0], numbers[:-1]))
            places = np.flatnonzero(depths >= n - 1)
            if not len(places):
                break  # no sentence is that long
            found, first, inverse, times = np.unique(
                contexts[places] * self._size + ids[places], return_index=True, return_inverse=True, return_counts=True
            )
            if counts:
                # Below the longest n-grams counts the number of different words that come before, but for what begins a
                # sentence: before that there is only its start.
                before = np.bincount(numbers[places[first]], minlength=len(keys[-1]))
                begins = self._begins(keys, n - 1)
                counts[-1] = np.where(begins, counts[-1], before)
            numbers = np.zeros(len(ids), np.int64)
            numbers[places] = inverse
            keys.append(found)
            counts.append(times)
        counts[0][keys[0] == _START] = 0
        discounts = [_discounts(times) for times in counts]
        sizes = [1, *(len(found) for found in keys)]
        return [
            _order(found, times, discount, found // self._size, size)
            for found, times, discount, size in zip(keys, counts, discounts, sizes, strict=False)
        ], discounts

    def _begins(self, keys: Sequence[np.ndarray], n: int) -> np.ndarray:
        """Which of the n-grams of length `n` begin with the start of a sentence."""
        first = keys[n - 1]
        for below in reversed(range(n - 1)):
            first = keys[below][first // self._size]
        return first == _START


def _numbered(sentences: Iterable[Sequence[str]]) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """The text as numbers, with 0 before and 1 behind each sentence; each word's number, from 2, and its count."""
    numbers: dict[str, int] = {}
    parts: list[np.ndarray] = []
    for sentence in sentences:
        ids = [0, *(numbers.setdefault(word, len(numbers) + 2) for word in sentence), 1]
        parts.append(np.array(ids, np.int32))
    text = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    counts = np.bincount(text, minlength=len(numbers) + 2).tolist()
    return text, {word: (number, counts[number]) for word, number in numbers.items()}


def _depths(ids: np.ndarray) -> np.ndarray:
    """How many tokens of its sentence, its start among them, come before each token."""
    places = np.arange(len(ids))
    return places - np.maximum.accumulate(np.where(ids == _START, places, 0))


def _discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """D1, D2 and D3+ from how many n-grams were seen once to four times (equation 26)."""
    n1, n2, n3, n4 = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= times for times, d in enumerate(found, start=1)) else _FALLBACK


def _order(
    keys: np.ndarray,
    counts: np.ndarray,
    discounts: tuple[float, float, float],
    contexts: np.ndarray,
    num_contexts: int,
) -> _Order:
    discount = np.array([0.0, *discounts])[np.minimum(counts, 3)]
    totals = np.bincount(contexts, counts, minlength=num_contexts)
    given = np.bincount(contexts, discount, minlength=num_contexts)
    occurs = totals > 0
    weights = np.divide(given, totals, out=np.ones(num_contexts), where=occurs)
    shares = np.divide(counts - discount, totals[contexts], out=np.zeros(len(counts)), where=occurs[contexts])
    return _Order(keys, shares, weights)
