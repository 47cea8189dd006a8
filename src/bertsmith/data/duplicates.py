"""Duplicates: documents that say again what one before them said; the first of each kind is kept.

*Exact* duplicates have the same text but for white space. *Near* ones share most of their shingles (passages of five
words): MinHash signatures (Broder, 1997) estimate how many, and only documents that agree in one of 16 bands of a
signature are compared at all, which finds 19 of 20 pairs at the threshold and nearly all above it (Leskovec, Rajaraman,
Ullman, *Mining of Massive Datasets*, section 3.4). What is near to something near is one group
(docs/decisions/0011-repeated-text.md).
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from bertsmith.errors import MissingExtra

Duplicates = Literal["keep", "exact", "near"]

SHINGLE = 5
"""Words in a shingle. A document with fewer is compared exactly only."""

THRESHOLD = 0.8
"""Estimated share of common shingles (Jaccard) from which documents are near-duplicates."""

_PERMUTATIONS = 128
_BANDS = 16
_ROWS = _PERMUTATIONS // _BANDS
_SEED = 20
_BLOCK = 1 << 16


def signatures(shingles: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """MinHash signatures of documents.

    Args:
        shingles: uint64 `(shingles,)` of all documents.
        bounds: int64 `(documents + 1,)`, where each document starts; the end.

    Returns:
        uint32 `(documents, 128)`; the row of a document without shingles means nothing.

    Raises:
        MissingExtra: rensa is not installed.
    """
    sketch = _rensa().RMinHash
    if len(bounds) < 2:
        return np.empty((0, _PERMUTATIONS), np.uint32)
    matrix = sketch.digest_matrix_from_flat_token_hashes(shingles, bounds.astype(np.uint64), _PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), np.uint32)


def exact_originals(digests: np.ndarray) -> np.ndarray:
    """int64 `(documents,)`: for each document the number of the first with the same digest, which may be itself.

    Takes about 60 bytes of memory a document. `digests` is uint64 `(documents, 2)`.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal digests stay in the order of documents
    ordered = digests[order]
    first = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))[: len(order)]
    originals = np.empty(len(order), np.int64)
    originals[order] = order[np.flatnonzero(first)][np.cumsum(first) - 1]
    return originals


def near_originals(signed: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """int64 `(documents,)`: for each document the first of its group of near-duplicates, which may be itself.

    Takes about 40 bytes of memory a document: the signatures may be mapped from disk, where they take 512.

    Args:
        signed: uint32 `(documents, 128)`.
        compared: int64, the numbers of the documents that take part, ascending.
    """
    group = np.arange(len(signed))
    for band in range(_BANDS):
        keys = np.empty(len(compared), np.uint64)
        for start in range(0, len(compared), _BLOCK):
            rows = signed[compared[start : start + _BLOCK], band * _ROWS : (band + 1) * _ROWS]
            keys[start : start + _BLOCK] = _key(rows)
        order = np.argsort(keys, kind="stable")
        new = np.concatenate(([True], keys[order][1:] != keys[order][:-1]))[: len(order)]
        firsts = order[np.flatnonzero(new)][np.cumsum(new) - 1]
        previous = np.concatenate((order[:1], order[:-1]))
        # Each document of a bucket against the bucket's first and against the one before it.
        for others in (firsts, previous):
            pairs = np.flatnonzero(~new & (compared[others] != compared[order]))
            for start in range(0, len(pairs), _BLOCK):
                some = pairs[start : start + _BLOCK]
                left, right = compared[others[some]], compared[order[some]]
                apart = group[left] != group[right]
                left, right = left[apart], right[apart]
                alike = (signed[left] == signed[right]).mean(axis=1) >= THRESHOLD
                for one, other in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
                    _join(group, one, other)
    for number in compared.tolist():
        group[number] = _first(group, number)
    return group


def require_near() -> None:
    """Raise MissingExtra unless near-duplicates can be found."""
    _rensa()


def open_signatures(file: Path, documents: int) -> np.ndarray:
    """A new array of signatures on disk, uint32 `(documents, 128)`."""
    return np.lib.format.open_memmap(file, "w+", np.uint32, (documents, _PERMUTATIONS))


def _key(rows: np.ndarray) -> np.ndarray:
    key = np.zeros(len(rows), np.uint64)
    for place in range(rows.shape[1]):
        key = (key ^ rows[:, place]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


def _first(group: np.ndarray, number: int) -> int:
    while group[number] != number:
        group[number] = group[group[number]]
        number = int(group[number])
    return number


def _join(group: np.ndarray, one: int, other: int) -> None:
    one, other = _first(group, one), _first(group, other)
    group[max(one, other)] = min(one, other)


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise MissingExtra("rensa", "corpus") from None
    return rensa
