"""Randomness as a pure function: the same (seed, purpose, epoch, index) always gives the same numbers.

There is no state to save and none to share. So a resumed run needs one position and nothing else, and any number of
workers or processes draws the same masks for the same example (DESIGN 4.1). Two tools are enough:

- `generator`: a counter-based generator (Philox; Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")
  that starts at a counter made of epoch and index;
- `KeyedPermutation`: an order of 0 .. size-1 computed index by index, without a table of the order in memory.
"""

import hashlib
from functools import lru_cache

import numpy as np

_WORD = (1 << 64) - 1


def generator(seed: int, purpose: str, epoch: int, index: int) -> np.random.Generator:
    """A generator whose numbers depend on the four arguments alone.

    `purpose` ("masking", "sentence pairs") keeps draws for different ends independent of each other. Key and counter of
    Philox are (seed, purpose) and (0, index, epoch, 0): the lowest word counts the numbers drawn, so that 2^64 blocks
    may be drawn before one index runs into the next.
    """
    key = np.array([seed & _WORD, _purpose_key(purpose)], dtype=np.uint64)
    counter = np.array([0, index, epoch, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class KeyedPermutation:
    """A permutation of `range(size)` chosen by (seed, epoch), in constant memory for any size.

    The rounds of a Feistel network are invertible whatever the round function is (Luby and Rackoff 1988), so they
    permute the smallest power of two that holds `size`; an index that lands outside is sent through again until it
    lands inside ("cycle walking", Black and Rogaway 2002), which takes fewer than two passes on average.
    """

    rounds = 8

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs a size of at least 1, got {size}")
        self.size = size
        bits = max(2, (size - 1).bit_length())
        # Two words of nearly equal width; rounds change them in turn, so that unequal widths need no care.
        self._low_bits = np.uint64(bits // 2)
        self._low_mask = np.uint64((1 << (bits // 2)) - 1)
        self._high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
        self._keys = generator(seed, "permutation", epoch, 0).integers(0, _WORD, self.rounds, np.uint64, endpoint=True)

    def __call__(self, index: np.ndarray | int) -> np.ndarray:
        """The places that the numbers in `index` (integers of any shape, each in 0 .. size-1) are sent to, as int64."""
        wanted = np.asarray(index, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.size):
            raise IndexError(f"an index lies outside 0 .. {self.size - 1}")
        flat = self._scramble(wanted.astype(np.uint64).ravel())
        while (outside := np.flatnonzero(flat >= self.size)).size:
            flat[outside] = self._scramble(flat[outside])
        return flat.astype(np.int64).reshape(wanted.shape)

    def _scramble(self, values: np.ndarray) -> np.ndarray:
        low, high = values & self._low_mask, values >> self._low_bits
        for number, key in enumerate(self._keys):
            if number % 2:
                low ^= _mix(high ^ key) & self._low_mask
            else:
                high ^= _mix(low ^ key) & self._high_mask
        return high << self._low_bits | low


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread every input bit over all output bits (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


@lru_cache(maxsize=64)
def _purpose_key(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode("utf-8")).digest()[:8], "little")
