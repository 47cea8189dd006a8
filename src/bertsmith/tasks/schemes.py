"""What tags of words say of entities: B-PER I-PER O (plug point: scheme).

A scheme says which tag may follow which, so that only legal rows of tags are predicted, and which entities a row of tags
holds, as seqeval 1.2.2 finds them: in its strict mode for `bio` and `bioes`, in its default mode, which is conlleval's,
for `loose`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bertsmith.config import Part

OUTSIDE = "O"
_ALIASES = {"L": "E", "U": "S"}  # BILOU is BIOES under other letters

Span: TypeAlias = tuple[str, int, int]
"""An entity: its label, its first word and its last."""


class Scheme(Part):
    """How tags make entities. Here: not at all, each tag is of its own word."""

    def follows(self, one: str, other: str) -> bool:
        """Whether `other` may stand right behind `one`; `O` stands before and behind each row."""
        return True

    def entities(self, tags: Sequence[str]) -> list[Span]:
        """The entities in a row of tags, which need not be legal."""
        return []

    def closed(self, tags: Iterable[str]) -> set[str]:
        """These tags and those that a word of the same entity may have."""
        return set(tags)


@dataclass(frozen=True)
class Words(Scheme, kind="words"):
    """Tags of words, such as parts of speech."""


@dataclass(frozen=True)
class Bio(Scheme, kind="bio"):
    """B begins an entity and I goes on with it (IOB2)."""

    def follows(self, one: str, other: str) -> bool:
        (before, label), (prefix, same) = parse(one), parse(other)
        return prefix != "I" or (before in "BI" and label == same)

    def entities(self, tags: Sequence[str]) -> list[Span]:
        return _strict(tags, begins="B", goes_on="I", ends="BI")

    def closed(self, tags: Iterable[str]) -> set[str]:
        return _with_prefixes(tags, "BI")


@dataclass(frozen=True)
class Bioes(Scheme, kind="bioes"):
    """B begins an entity, I goes on with it, E ends it, S is one by itself. In BILOU these are B, I, L and U."""

    def follows(self, one: str, other: str) -> bool:
        (before, label), (prefix, same) = parse(one), parse(other)
        return label == same and prefix in "IE" if before in "BI" else prefix in "OBS"

    def entities(self, tags: Sequence[str]) -> list[Span]:
        return _strict(tags, begins="BS", goes_on="IE", ends="ES")

    def closed(self, tags: Iterable[str]) -> set[str]:
        tags = set(tags)
        return _with_prefixes(tags, "BILU" if any(tag[0] in "LU" for tag in tags) else "BIES")


@dataclass(frozen=True)
class Loose(Scheme, kind="loose"):
    """Anything that begins with a prefix: an entity goes on until another begins or none is there (IOB1, mixtures)."""

    def entities(self, tags: Sequence[str]) -> list[Span]:
        found: list[Span] = []
        start, last, last_label = 0, "O", ""
        for place, tag in enumerate([*tags, OUTSIDE]):
            prefix, label = parse(tag)
            changed = last != "O" and last_label != label
            if last in "ES" or (last in "BI" and prefix in "BSO") or changed:
                found.append((last_label, start, place - 1))
            if prefix in "BS" or (last in "ESO" and prefix in "EI") or (prefix != "O" and last_label != label):
                start = place
            last, last_label = prefix, label
        return found


def scheme_of(rows: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that rows of tags are written in."""
    rows = list(rows)
    tags = {tag for row in rows for tag in row}
    prefixes = {tag[0] for tag in tags if tag != OUTSIDE}
    if not prefixes <= set("BIESLU") or not prefixes or any(tag[1:2] != "-" or not tag[2:] for tag in tags - {OUTSIDE}):
        return Words()
    scheme = Bio() if prefixes <= set("BI") else Bioes()
    legal = all(
        scheme.follows(one, other) for row in rows for one, other in zip([OUTSIDE, *row], [*row, OUTSIDE], strict=True)
    )
    return scheme if legal else Loose()


def scheme_of_labels(labels: Sequence[str]) -> Scheme:
    """The scheme that a model's labels are of, where nothing else is known."""
    prefixes = {label[0] for label in labels if label != OUTSIDE and label[1:2] == "-"}
    if OUTSIDE not in labels or not prefixes <= set("BIESLU") or any(x[1:2] != "-" for x in labels if x != OUTSIDE):
        return Words()
    return Bioes() if prefixes - set("BI") else Bio() if "B" in prefixes else Loose()


def best_path(scores: np.ndarray, allowed: np.ndarray, first: np.ndarray, last: np.ndarray) -> list[int]:
    """The legal row of labels with the highest sum of `scores` (words, labels) (Viterbi 1967).

    `allowed[i, j]`: whether j may follow i; `first` and `last`: what a row may begin and end with.
    """
    if not len(scores):
        return []
    never = np.float64(-1e30)
    links = np.where(allowed, 0.0, never)
    total = np.where(first, scores[0].astype(np.float64), never)
    back: list[np.ndarray] = []
    for row in scores[1:]:
        ways = total[:, None] + links
        back.append(ways.argmax(0))
        total = ways.max(0) + row
    path = [int((total + np.where(last, 0.0, never)).argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return path[::-1]


def parse(tag: str) -> tuple[str, str]:
    """Prefix, B, I, E, S or O, and label of a tag."""
    prefix, _, label = tag.partition("-")
    return _ALIASES.get(prefix, prefix), label


def _strict(tags: Sequence[str], *, begins: str, goes_on: str, ends: str) -> list[Span]:
    """Entities that begin with one of `begins`, go on after B or I without a break, and end with one of `ends`."""
    found: list[Span] = []
    place, parsed = 0, [parse(tag) for tag in tags]
    while place < len(parsed):
        start, (prefix, label) = place, parsed[place]
        place += 1
        if prefix not in begins:
            continue
        while prefix in "BI" and place < len(parsed) and parsed[place][0] in goes_on and parsed[place][1] == label:
            prefix = parsed[place][0]
            place += 1
        if prefix in ends:
            found.append((label, start, place - 1))
    return found


def _with_prefixes(tags: Iterable[str], prefixes: str) -> set[str]:
    labels = {tag.partition("-")[2] for tag in tags if tag != OUTSIDE}
    return {OUTSIDE} | {f"{prefix}-{label}" for prefix in prefixes for label in labels}
