"""Passages: runs of neighbouring words as 64-bit numbers, so that repeated text is found by comparing integers.

Words are those of the tokenizer (lower case in an uncased one), without punctuation marks. A passage with an unknown
word is left out: different words are the same [UNK].
"""

from functools import lru_cache

import numpy as np

from bertsmith.text import Vocabulary
from bertsmith.text.normalization import is_punctuation

_ODD = np.uint64(0x9E3779B97F4A7C15)


def passages(
    tokens: np.ndarray, token_bounds: np.ndarray, vocabulary: Vocabulary, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The passages of `length` words of each document, as they occur, in order.

    Args:
        tokens: ids `(tokens,)` of all documents.
        token_bounds: int64 `(documents + 1,)`, where each document starts in `tokens`; the end.
        vocabulary: of the ids.
        length: words in a passage. A document with fewer words has no passage.

    Returns:
        Hashes, uint64 `(passages,)`, and where each document starts in them, int64 `(documents + 1,)`.
    """
    words, known, bounds = _words(tokens, token_bounds, vocabulary)
    count = len(words) - length + 1
    if count < 1:
        return np.empty(0, np.uint64), np.zeros(len(bounds), np.int64)
    hashes = np.zeros(count, np.uint64)
    for place in range(length):
        hashes = hashes * _ODD + words[place : place + count]
    unknown = np.concatenate(([0], np.cumsum(~known)))
    first = np.arange(count)
    own_end = np.repeat(bounds[1:], np.diff(bounds))[:count]
    whole = (first + length <= own_end) & (unknown[length:] == unknown[:count])
    before = np.concatenate(([0], np.cumsum(whole)))
    return _mix(hashes[whole]), before[np.minimum(bounds, count)]


def _words(
    tokens: np.ndarray, token_bounds: np.ndarray, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hash of each word, whether it is known, and where each document's words start."""
    if not len(tokens):
        return np.empty(0, np.uint64), np.empty(0, bool), np.zeros(len(token_bounds), np.int64)
    starts = ~vocabulary.is_continuation[tokens]
    starts[token_bounds[:-1][token_bounds[:-1] < len(tokens)]] = True
    first = np.flatnonzero(starts)
    place = np.arange(len(tokens)) - first[np.cumsum(starts) - 1]
    hashes = np.add.reduceat(_mix(tokens.astype(np.uint64) + _ODD * (place.astype(np.uint64) + np.uint64(1))), first)
    counted = ~_is_mark(vocabulary)[tokens[first]]
    before = np.concatenate(([0], np.cumsum(counted)))
    bounds = before[np.searchsorted(first, token_bounds)]
    return hashes[counted], (tokens[first] != vocabulary.unk_id)[counted], bounds


def _mix(values: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of the value (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=2)
def _is_mark(vocabulary: Vocabulary) -> np.ndarray:
    return np.array([len(token) == 1 and is_punctuation(token) for token in vocabulary.tokens])
