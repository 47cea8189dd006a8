"""BM25: what any search by vectors owes the reader as a comparison."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class BM25:
    """Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", §3.4: a text's score is the sum
    over the query's words of idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)).

    Words are runs of letters and digits in lower case, without stemming or stop words. idf is ln(1 + (N - n + 1/2) /
    (n + 1/2)), which is never negative. All texts are held in memory as counts.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        found: dict[str, tuple[list[int], list[int]]] = {}
        lengths = np.zeros(len(texts))
        for number, text in enumerate(texts):
            counts = Counter(_words(text))
            lengths[number] = counts.total()
            for word, count in counts.items():
                places, frequencies = found.setdefault(word, ([], []))
                places.append(number)
                frequencies.append(count)
        mean = lengths.mean() if lengths.any() else 1.0
        damping = k1 * (1 - b + b * lengths / mean)
        self._size = len(texts)
        self._weights: dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
        for word, (places, frequencies) in found.items():
            where, tf = np.array(places, np.intp), np.array(frequencies, np.float64)
            idf = np.log1p((len(texts) - len(where) + 0.5) / (len(where) + 0.5))
            self._weights[word] = where, idf * tf * (k1 + 1) / (tf + damping[where])

    def scores(self, query: str) -> NDArray[np.float64]:
        """The score of every text, 0 for those without any of the query's words. A word that is asked twice counts twice."""
        total = np.zeros(self._size)
        for word in _words(query):
            if word in self._weights:
                where, weights = self._weights[word]
                total[where] += weights
        return total

    def best(self, query: str, k: int) -> list[int]:
        """The numbers of the `k` best texts that have a word of the query, best first, equal ones in their order."""
        scores = self.scores(query)
        return [int(number) for number in np.argsort(-scores, kind="stable")[:k] if scores[number] > 0]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
