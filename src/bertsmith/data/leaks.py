"""Leaks: held-out text that stands in the training text too, so that figures measured on it are too good.

Text is compared in passages of 13 words, as GPT-3's authors did (Brown et al., 2020, appendix C), but a document is
judged by how many of its passages one training document holds, because single ones are shared by innocent texts.
"""

from dataclasses import dataclass, field

import numpy as np

PASSAGE = 13
"""Words in a passage. A held-out document with fewer can leak as an exact copy only."""

OVERLAP = 0.5
"""Share of a held-out document's passages in one training document from which it leaks."""

NEAR = 0.8
"""Share from which it is called nearly the same."""

_MOST = 1 << 22  # passages held in memory
_BOILERPLATE = 20  # held-out documents that share a passage which therefore says nothing about any of them
_FILTER_BITS = 24


@dataclass
class HeldoutPassages:
    """The passages of the held-out documents, and what of them was met in training text.

    Memory does not grow with the text beyond 300 MB: past 4 million passages, only every second one by its hash is looked
    at, then every fourth and so on (`one_in`), on both sides alike.

    Call `add` for every piece of held-out documents, then `freeze`, then `met_in` for every piece of training text.
    """

    one_in: int = 1
    documents: int = 0
    _hashes: list[np.ndarray] = field(default_factory=list)
    _owners: list[np.ndarray] = field(default_factory=list)
    _held: int = 0

    def add(self, hashes: np.ndarray, bounds: np.ndarray) -> None:
        """Take in the next documents' passages: uint64 `(passages,)` and int64 `(documents + 1,)`."""
        owners = np.repeat(np.arange(self.documents, self.documents + len(bounds) - 1), np.diff(bounds))
        self.documents += len(bounds) - 1
        self._keep(hashes, owners)
        while self._held > _MOST:
            self.one_in *= 2
            before, self._hashes, self._owners, self._held = (self._hashes, self._owners), [], [], 0
            for some, of in zip(*before, strict=True):
                self._keep(some, of)

    def freeze(self) -> None:
        """Sort, once all held-out documents are in."""
        hashes = np.concatenate([np.empty(0, np.uint64), *self._hashes])
        owners = np.concatenate([np.empty(0, np.int64), *self._owners])
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        repeated = np.zeros(len(hashes), bool)  # within one document
        repeated[1:] = (hashes[1:] == hashes[:-1]) & (owners[1:] == owners[:-1])
        hashes, owners = hashes[~repeated], owners[~repeated]
        new = np.concatenate(([True], hashes[1:] != hashes[:-1]))[: len(hashes)]
        sharers = np.diff(np.append(np.flatnonzero(new), len(hashes)))
        telling = np.repeat(sharers <= _BOILERPLATE, sharers)
        self._sorted, self._owner = hashes[telling], owners[telling]
        self._hashes, self._owners = [], []
        self._passages_of = np.bincount(self._owner, minlength=self.documents)
        self._seen = np.zeros(len(self._sorted), bool)
        self._best = np.zeros(self.documents)
        self._filter = np.zeros(1 << _FILTER_BITS, bool)
        self._filter[_slot(self._sorted)] = True

    def met_in(self, hashes: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look for held-out passages in training documents, given as to `add`.

        Returns:
            For each training document the share `(documents,)` it holds of the held-out document that it holds most of,
            and that document's number `(documents,)`.
        """
        share, most = np.zeros(len(bounds) - 1), np.zeros(len(bounds) - 1, np.int64)
        places = np.flatnonzero(self._filter[_slot(hashes)]) if len(self._sorted) else np.empty(0, np.int64)
        left = np.searchsorted(self._sorted, hashes[places], "left")
        counts = np.searchsorted(self._sorted, hashes[places], "right") - left
        if not counts.sum():
            return share, most
        # One entry for each held-out document that holds the passage.
        entries = np.repeat(left - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) + np.arange(counts.sum())
        training = np.repeat(np.searchsorted(bounds, places, "right") - 1, counts)
        self._seen[entries] = True
        once = np.unique(training * len(self._sorted) + entries)
        training, entries = once // len(self._sorted), once % len(self._sorted)
        pairs, matched = np.unique(training * self.documents + self._owner[entries], return_counts=True)
        training, owners = pairs // self.documents, pairs % self.documents
        shares = matched / self._passages_of[owners]
        np.maximum.at(self._best, owners, shares)
        order = np.lexsort(
            (-owners, shares)
        )  # the largest share comes last and stays; of equal ones the first document's
        share[training[order]], most[training[order]] = shares[order], owners[order]
        return share, most

    @property
    def best(self) -> np.ndarray:
        """For each held-out document the largest share of it that one training document holds `(documents,)`."""
        return self._best

    @property
    def touched(self) -> np.ndarray:
        """Bool `(documents,)`: whether any passage was met in training text."""
        return np.bincount(self._owner[self._seen], minlength=self.documents) > 0

    @property
    def passages(self) -> int:
        """How many passages were looked for, each counted once for each held-out document it stands in."""
        return len(self._sorted)

    @property
    def passages_met(self) -> int:
        """How many of them were met."""
        return int(self._seen.sum())

    def _keep(self, hashes: np.ndarray, owners: np.ndarray) -> None:
        # The low bits choose; the filter goes by the high ones.
        chosen = (hashes & np.uint64(self.one_in - 1)) == 0
        self._hashes.append(hashes[chosen])
        self._owners.append(owners[chosen])
        self._held += len(self._hashes[-1])


def _slot(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)
