"""Words as white space parts them: the unit in which text is cached, counted and cut.

All of BERT's rules, Google's and Hugging Face's, look no further than the surrounding white space. So the tokens of a
text are the tokens of its words, one after the other, and the tokens of a word may be remembered.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Generic, TypeVar

from bertsmith.errors import DataError

T = TypeVar("T")

# What ends a word: tab, line feed, carriage return and category Zs, by rule 2 of the original; and U+2028 and U+2029,
# which it leaves in the text for `str.split` to split at.
WHITESPACE = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

# What `str.split` splits at, but the original drops as control characters before it splits.
_DROPPED = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"

# Characters that are words of their own. Only the ranges on which both behaviours agree, and only to keep words short:
# the rules themselves are applied later, to each word.
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df"

_ANY_CHINESE = re.compile(f"[{_CHINESE}]")

# ASCII punctuation, which both behaviours make a token of its own; without the brackets of "[MASK]", which is one to one
# of them. Splitting at it keeps hostile words (a million exclamation marks) small.
_SIGNS = r"!-/:-@\\^-`{-~"

# The one letter whose lower case depends on its neighbours, punctuation included: final sigma.
_SIGMA = "\u03a3"

# A longer word is worth splitting at signs before it is looked up.
_LONG_WORD = 1_000


def find_words(text: str, *, split_chinese: bool) -> list[str]:
    """The words of `text` as they stand in it; every Chinese character is one where `split_chinese`.

    A word may hold punctuation marks, or be one.
    """
    chinese = split_chinese and not text.isascii() and _ANY_CHINESE.search(text)
    if not chinese and not any(control in text for control in _DROPPED):
        words = text.split()  # five times faster
        if len(text) < _LONG_WORD or max(map(len, words), default=0) < _LONG_WORD:
            return words
    return _finder(text, split_chinese=split_chinese).findall(text)


def find_spans(text: str, *, split_chinese: bool) -> Iterator[tuple[int, int]]:
    """Start and end, in characters, of each word of `text`; punctuation marks are words of their own where they can."""
    for match in _finder(text, split_chinese=split_chinese).finditer(text):
        yield match.span()


def _finder(text: str, *, split_chinese: bool) -> re.Pattern[str]:
    return _compiled((_CHINESE if split_chinese else "") + ("" if _SIGMA in text else _SIGNS))


@cache
def _compiled(alone: str) -> re.Pattern[str]:
    """What finds words, and characters out of `alone` as words of their own."""
    return re.compile(f"[{alone}]|[^{WHITESPACE}{alone}]+" if alone else f"[^{WHITESPACE}]+")


def check_text(text: object) -> str:
    """`text` itself if it is text that can be tokenized.

    Raises:
        DataError: not a string, or it holds half of a surrogate pair, which is no character.
    """
    if not isinstance(text, str):
        raise DataError(f"expected text (str), got {type(text).__name__}: {text!r:.60}")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"character {error.start} of the text is U+{ord(text[error.start]):04X}, half of a surrogate pair and "
                "no character. Read the text as UTF-8, or pass it through "
                "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
            ) from None
    return text


class WordCache(dict[str, T], Generic[T]):
    """What was computed for a word, remembered: `cache[word]` computes at the first time.

    Memory is bounded: a full cache is emptied, and a very long word is not kept.
    """

    def __init__(self, compute: Callable[[str], T], max_words: int = 200_000, max_word_length: int = 64) -> None:
        super().__init__()
        self._compute = compute
        self._max_words = max_words
        self._max_word_length = max_word_length

    def __missing__(self, word: str) -> T:
        value = self._compute(word)
        if len(word) <= self._max_word_length:
            if len(self) >= self._max_words:
                self.clear()
            self[word] = value
        return value
