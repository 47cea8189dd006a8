"""The score by which WordPiece chooses what to merge: the gain in log-likelihood of the corpus.

The corpus is a sequence of N tokens, token t occurring n(t) times. Under a unigram model with its maximum-likelihood
probabilities n(t)/N its log-likelihood is, with f(x) = x log x,

    L = sum_t n(t) log(n(t)/N) = sum_t f(n(t)) - f(N).

Writing c occurrences of the pair (a, b) as one new token takes c from n(a), from n(b) and from N, and makes
n(ab) = c. With h(n, c) = f(n) - f(n - c) the likelihood grows by

    gain = f(c) - h(n(a), c) - h(n(b), c) + h(N, c),          a != b
    gain = f(c) - h(n(a), 2c)             + h(N, c),          a == b

The token is new indeed: no other pair spelled it before. Where no merge reached over the ends of a stretch of text, its
cutting depended on nothing but its characters, so all stretches that spell ab were cut the same way, into a and b.

No term is left out or approximated. "The new word unit out of all possible ones that increases the likelihood on the
training data the most when added to the model": Schuster & Nakajima 2012, section 4; Wu et al. 2016, section 4.1.

For c far below the other counts the gain is near c * (log(c * N / (n(a) * n(b))) - 1): how often times how surprising.
The ratio c / (n(a) * n(b)) that many descriptions give drops the factor in front, and so prefers pairs of two rare
tokens that were seen together twice; byte pair encoding keeps only c.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Gains = NDArray[np.float64]


def gains(pairs: Counts, left: Counts, right: Counts, total: int, doubled: NDArray[np.bool_]) -> Gains:
    """The gain in log-likelihood, in nats, of merging each of some pairs.

    Args:
        pairs: (pairs,) c, occurrences that would be merged; overlapping ones, as in "aaa", count once.
        left: (pairs,) n(a).
        right: (pairs,) n(b).
        total: N.
        doubled: (pairs,) True where a is b.
    """
    from_parts = np.where(doubled, _lost(left, 2 * pairs), _lost(left, pairs) + _lost(right, pairs))
    # h(N, c) only shrinks while N does: the gain of a pair whose counts stay is never more than it was.
    return pairs * np.log(pairs) - from_parts + _lost(np.full_like(pairs, total), pairs)


def _lost(count: Counts, taken: Counts) -> Gains:
    """h(n, c) = f(n) - f(n - c), written so that no large terms cancel: c log n - (n - c) log(1 - c/n)."""
    rest = count - taken
    # log(1 - 1) is never taken: where nothing is left, the second term is 0.
    fraction = np.divide(taken, count, out=np.zeros(len(count)), where=rest > 0)
    return np.asarray(taken * np.log(count) - rest * np.log1p(-fraction), dtype=np.float64)
