"""Minimal pairs: two sentences that differ in one point of grammar. Does a model find the right one likelier?

The files are BLiMP's (Warstadt et al. 2020, arXiv 1912.00582): JSON lines with `sentence_good` and `sentence_bad`, and
perhaps `field` and `linguistics_term`; a file holds one paradigm. What gives likelihoods may be any model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bertsmith.data import generator
from bertsmith.data.corpora import files_of
from bertsmith.data.records import read_records
from bertsmith.errors import DataError, UsageError, nearest

Scorer = Callable[[Sequence[str]], np.ndarray]
"""Log-likelihoods, (texts,), of texts; what counts is their order."""

_SENTENCES = ("sentence_good", "sentence_bad")
_GROUPS = ("field", "linguistics_term")
_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True)
class Paradigm:
    """The pairs of one file: `pairs` holds (good, bad), `groups` the `field` and the `linguistics_term` it belongs to."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    groups: Mapping[str, str]

    def sample(self, limit: int) -> "Paradigm":
        """At most `limit` pairs: the same ones each time, in their order."""
        order = generator(0, "minimal pairs", 0, 0).permutation(len(self.pairs))[:limit]
        return Paradigm(self.name, tuple(self.pairs[i] for i in sorted(order.tolist())), self.groups)


@dataclass(frozen=True)
class Accuracy:
    """How often the good sentence was the likelier one; of several paradigms, the mean of theirs.

    `low` and `high` bound it at 95 % over other pairs of the same kind: Wilson's interval for one paradigm, the normal one
    of a stratified sample for several. Equal likelihoods are not right; `ties` counts them.
    """

    accuracy: float
    low: float
    high: float
    pairs: int
    ties: int


@dataclass(frozen=True)
class PairScores:
    """Accuracy of each paradigm by name, of each group (`field`, `linguistics_term`) by the group's name, and of all."""

    paradigms: Mapping[str, Accuracy]
    groups: Mapping[str, Mapping[str, Accuracy]]
    overall: Accuracy

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""

        def plain(accuracies: Mapping[str, Accuracy]) -> dict[str, Any]:
            return {name: vars(accuracy) for name, accuracy in accuracies.items()}

        groups = {group: plain(members) for group, members in self.groups.items()}
        return {"overall": vars(self.overall), **groups, "paradigms": plain(self.paradigms)}


def holds_minimal_pairs(path: str | Path) -> bool:
    """Whether a file, or the first file of a folder, is JSON lines with a good and a bad sentence."""
    file = files_of(path)[0]
    records = read_records(file, plain="lines")
    if records.format != "jsonl":
        return False
    return all(_SENTENCES[0] in row.cells for row in islice(records.rows, 1))


def read_minimal_pairs(path: str | Path) -> list[Paradigm]:
    """The pairs of a file, or of all files of a folder.

    Raises:
        DataError: with the line, where a sentence is missing or is no text; there is no pair.
    """
    return [_read(file) for file in files_of(path)]


def score_minimal_pairs(paradigms: Sequence[Paradigm], scorer: Scorer, *, limit: int | None = None) -> PairScores:
    """How often `scorer` finds the good sentence likelier; all sentences are given to it at once.

    Args:
        paradigms: from `read_minimal_pairs`.
        scorer: gives each text a log-likelihood, (texts,).
        limit: pairs to take of each paradigm at most, the same ones each time.
    """
    if limit is not None:
        if limit < 1:
            raise UsageError(f"limit: expected at least 1 pair of each file, got {limit}")
        paradigms = [paradigm.sample(limit) for paradigm in paradigms]
    scores = scorer([sentence for paradigm in paradigms for pair in paradigm.pairs for sentence in pair])
    margins = scores[::2] - scores[1::2]
    ends = np.cumsum([len(paradigm.pairs) for paradigm in paradigms])
    parts = np.split(margins, ends[:-1])
    found = {paradigm.name: _one(part) for paradigm, part in zip(paradigms, parts, strict=True)}
    groups = {}
    for group in _GROUPS:
        names: dict[str, list[Accuracy]] = {}
        for paradigm in paradigms:
            if group in paradigm.groups:
                names.setdefault(paradigm.groups[group], []).append(found[paradigm.name])
        if names:
            groups[group] = {name: _mean(names[name]) for name in sorted(names)}
    return PairScores(found, groups, _mean(list(found.values())))


def _read(file: Path) -> Paradigm:
    pairs: list[tuple[str, str]] = []
    groups: dict[str, str] = {}
    records = read_records(file, "jsonl")
    for row in records.rows:
        assert not isinstance(row.cells, list)
        sentences = []
        for name in _SENTENCES:
            if name not in row.cells:
                raise DataError(f"{records.at(row.line)}: there is no {name!r}.{nearest(name, row.cells)}")
            if not isinstance(row.cells[name], str):
                raise DataError(f"{records.at(row.line)}: {name!r} holds {row.cells[name]!r:.60}, which is not text.")
            sentences.append(row.cells[name])
        pairs.append((sentences[0], sentences[1]))
        # One of BLiMP's files writes syntax/semantics where the others write syntax_semantics.
        groups = groups or {n: str(row.cells[n]).replace("/", "_") for n in _GROUPS if n in row.cells}
    if not pairs:
        raise DataError(f"{file}: there is no pair in this file.")
    return Paradigm(file.name.partition(".")[0], tuple(pairs), groups)


def _one(margins: np.ndarray) -> Accuracy:
    """The accuracy of one paradigm, with Wilson's interval (Wilson 1927)."""
    n, share = len(margins), float((margins > 0).mean())
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Accuracy(share, middle - half, middle + half, n, int((margins == 0).sum()))


def _mean(parts: Sequence[Accuracy]) -> Accuracy:
    """The mean over paradigms; each counts the same, as in BLiMP, where all are of one size."""
    if len(parts) == 1:
        return parts[0]
    share = fmean(part.accuracy for part in parts)
    variance = sum(part.accuracy * (1 - part.accuracy) / part.pairs for part in parts) / len(parts) ** 2
    half = _Z * sqrt(variance)
    pairs, ties = sum(part.pairs for part in parts), sum(part.ties for part in parts)
    return Accuracy(share, max(0.0, share - half), min(1.0, share + half), pairs, ties)
