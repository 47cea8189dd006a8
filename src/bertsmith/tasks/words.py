"""Text as a row of words: what a tagger reads and writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Words:
    """A text and its words; `spans` are start and end of each in `text`, in characters."""

    text: str
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def joined(cls, words: Sequence[str]) -> "Words":
        """The text of these words with one space between each two."""
        spans: list[tuple[int, int]] = []
        end = -1
        for word in words:
            spans.append((end + 1, end + 1 + len(word)))
            end = spans[-1][1]
        return cls(" ".join(words), tuple(spans))

    @classmethod
    def found(cls, text: str) -> "Words":
        """The words of a plain text: letters and digits, with hyphens and apostrophes inside; every other sign alone."""
        return cls(text, tuple(match.span() for match in _WORD.finditer(text)))

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def words(self) -> tuple[str, ...]:
        """As they stand in the text."""
        return tuple(self.text[start:end] for start, end in self.spans)
