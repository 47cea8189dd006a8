"""Texts longer than the model reads: one layer for vectors and for all tasks, in training and in prediction.

A text that fits is one window. A longer one is read in several of full length, spread evenly from its first token to its
last, so that no window is a scrap; of a pair, the longer text is, and the other stands in every window. Each task says
what it makes of the windows' scores: the mean for a whole text, or for each token the window that shows most of what is
around it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertsmith.config import require
from bertsmith.text.encoding import Encoding
from bertsmith.text.tokenizer import Tokenizer

FEWEST_TOKENS = 8
"""The shortest window that can be asked for, special tokens included."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the model reads at once.

    `encoding.ids[begin : begin + count]` is a stretch of the text that is cut, whose first token is number `first` of that
    text. `part` tells apart the inputs of an example that has several, such as the options of a choice.
    """

    encoding: Encoding
    begin: int
    count: int
    first: int = 0
    part: int = 0

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Start and end of each token of the stretch in its text, in characters."""
        return self.encoding.offsets[self.begin : self.begin + self.count]


@dataclass(frozen=True)
class Cutter:
    """Encodes texts as windows of at most `max_length` tokens, special ones included.

    `stride` is how many tokens at most lie between the beginnings of two neighbouring windows; None is half of what a
    window shows of the text. The other text of a pair is kept to three quarters of the room: that is the only thing that is
    ever cut, and `Encoding.truncated` counts it.
    """

    tokenizer: Tokenizer
    max_length: int
    stride: int | None = None

    def __post_init__(self) -> None:
        require(self.stride is None or self.stride > 0, "stride", f"expected at least 1, got {self.stride}")

    def text(self, text: str, *, part: int = 0) -> tuple[Window, ...]:
        """[CLS] text [SEP]."""
        return self._windows(self.tokenizer.encode(text, special_tokens=True), 0, part)

    def pair(
        self, first: str, second: str, *, cut: Literal["longer", "second"] = "longer", part: int = 0
    ) -> tuple[Window, ...]:
        """[CLS] first [SEP] second [SEP], where `cut` says which text is read in windows if they do not fit."""
        full = self.tokenizer.encode(first, second, special_tokens=True)
        counts = [full.type_ids.count(0) - 2, full.type_ids.count(1) - 1]
        return self._windows(full, 1 if cut == "second" or counts[1] >= counts[0] else 0, part)

    def words(self, words: Sequence[str], spans: Sequence[tuple[int, int]]) -> tuple[Window, ...]:
        """[CLS] words [SEP], where `word_ids` number the words as given and offsets are in the text that `spans` are in.

        Each word is encoded by itself; one of which nothing is left, such as a control character, is an [UNK].
        """
        vocabulary = self.tokenizer.vocabulary
        full = Encoding([vocabulary.cls_id], [], [(0, 0)], [None], [0])
        known: dict[str, Encoding] = {}
        for number, (word, (start, end)) in enumerate(zip(words, spans, strict=True)):
            found = known.get(word) or known.setdefault(word, self.tokenizer.encode(word))
            full.ids.extend(found.ids or [vocabulary.unk_id])
            offsets = [(start + a, start + b) for a, b in found.offsets]
            full.offsets.extend(offsets or [(start, end)])
            full.word_ids.extend([number] * len(found.ids or [0]))
        full.ids.append(vocabulary.sep_id)
        full.offsets.append((0, 0))
        full.word_ids.append(None)
        full.type_ids.extend([0] * (len(full.ids) - 1))
        full.tokens.extend(map(vocabulary.tokens.__getitem__, full.ids))
        return self._windows(full, 0, 0)

    def _windows(self, full: Encoding, kind: int, part: int) -> tuple[Window, ...]:
        """Windows over the text of type `kind`; the other one, if there is one, stays."""
        middle = full.type_ids.count(0) - 1  # the first [SEP]
        texts = [(1, middle), (middle + 1, len(full) - 1)] if len(full) - 1 > middle else [(1, middle)]
        (begin, end), others = texts[kind], [text for number, text in enumerate(texts) if number != kind]
        if len(full) <= self.max_length:
            return (Window(full, begin, end - begin, part=part),)
        room = self.max_length - 1 - len(texts)
        kept = min(sum(b - a for a, b in others), room - room // 4)
        truncated = sum(b - a for a, b in others) - kept
        room -= kept
        stride = min(self.stride or max(room // 2, 1), room)
        count = max(end - begin, 1)
        number = math.ceil(max(count - room, 0) / stride) + 1
        windows: list[Window] = []
        for first in np.linspace(0, max(count - room, 0), number).round().astype(int).tolist():
            shown = [(a, min(b, a + kept)) for a, b in others]
            shown.insert(kind, (begin + first, min(begin + first + room, end)))
            places = [0, *(place for a, b in zip(shown, texts, strict=True) for place in (*range(*a), b[1]))]
            start, stop = shown[kind]
            windows.append(Window(_take(full, places, truncated), places.index(start), stop - start, first, part))
        return tuple(windows)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is of one example.

    `tokens` with special ones and before any cut, of several parts those of the longest; `windows` that it is read in;
    whether there are more of these than parts (`is_long`), and whether a part is not read at all (`is_cut`).
    """

    tokens: int
    windows: int
    is_long: bool
    is_cut: bool

    @classmethod
    def of(cls, windows: Sequence[Window]) -> "Extent":
        """From all windows of an example."""
        return cls(
            tokens=max(w.first + len(w.encoding) + w.encoding.truncated for w in windows),
            windows=len(windows),
            is_long=len(windows) > windows[-1].part + 1,
            is_cut=any(w.encoding.truncated for w in windows),
        )


def most_context(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """For each token of the text that is cut, the window to judge it by: (window, place in its encoding).

    It is the one in which the shorter side of what is around the token is longest (run_squad.py,
    `_check_is_max_context`); the first of several.
    """
    total = max(w.first + w.count for w in windows)
    best, found = np.full(total, -1), np.zeros((total, 2), np.int64)
    for number, window in enumerate(windows):
        place = np.arange(window.count)
        score = np.minimum(place, window.count - 1 - place)
        there = slice(window.first, window.first + window.count)
        better = score > best[there]
        best[there][better] = score[better]
        found[there][better] = np.stack([np.full(window.count, number), window.begin + place], axis=1)[better]
    return [(window, place) for window, place in found.tolist()]


def _take(full: Encoding, places: Sequence[int], truncated: int) -> Encoding:
    """The tokens at `places`."""
    return Encoding(
        ids=[full.ids[i] for i in places],
        tokens=[full.tokens[i] for i in places],
        offsets=[full.offsets[i] for i in places],
        word_ids=[full.word_ids[i] for i in places],
        type_ids=[full.type_ids[i] for i in places],
        truncated=truncated,
    )
