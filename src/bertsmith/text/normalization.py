"""Google's `BasicTokenizer`, rule by rule (google-research/bert, tokenization.py), with offsets into the text."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_CHINESE_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class BasicToken(NamedTuple):
    """A word or a punctuation mark, normalized.

    Attributes:
        text: its characters after normalization, one at least.
        origins: for each of them the position of the character in the text as written from which it came.
    """

    text: str
    origins: Sequence[int]


@dataclass(frozen=True)
class BasicTokenizer:
    """Splits text into words and punctuation marks, and normalizes them.

    1. Drop U+0000, U+FFFD and characters of the categories Cc and Cf; split at white space.
    2. Make every Chinese character a word, where `split_chinese`. Hangul and Kana stay in their words.
    3. Lower-case each word, where `lower_case`; Python's rules, final sigma included.
    4. Decompose it (NFD) and drop marks (category Mn), where `strip_accents`.
    5. Make every punctuation mark a token: all ASCII that is no letter, digit or space, and the categories P*.
    """

    lower_case: bool = True
    strip_accents: bool = True
    split_chinese: bool = True

    def tokens(self, text: str) -> list[BasicToken]:
        """The basic tokens of `text`, in order. Time is linear in its length, whatever it holds."""
        if text.isascii() and text.isalnum():  # most words: nothing to drop, to split or to strip
            return [BasicToken(text.lower() if self.lower_case else text, range(len(text)))]
        found: list[BasicToken] = []
        for word in self._words(text):
            if self.lower_case:
                word = _lower(word)
            if self.strip_accents:
                word = _strip_accents(word)
            found.extend(_split_punctuation(word))
        return found

    def _words(self, text: str) -> Iterator[BasicToken]:
        """Rules 1 and 2: the words, cleaned, not yet normalized."""
        characters: list[str] = []
        origins: list[int] = []
        for position, character in enumerate(text):
            if _is_dropped(character):
                continue
            alone = self.split_chinese and is_chinese(character)
            if alone or _is_whitespace(character):
                if characters:
                    yield BasicToken("".join(characters), origins)
                    characters, origins = [], []
                if alone:
                    yield BasicToken(character, [position])
                continue
            characters.append(character)
            origins.append(position)
        if characters:
            yield BasicToken("".join(characters), origins)


def is_chinese(character: str) -> bool:
    """Whether the original treats it as a CJK ideograph; later extensions of Unicode are not in its list."""
    point = ord(character)
    return point >= 0x3400 and any(first <= point <= last for first, last in _CHINESE_RANGES)


@lru_cache(maxsize=1 << 16)
def is_punctuation(character: str) -> bool:
    """ASCII signs, which Unicode does not all call punctuation ($, ^, `), and the categories P*."""
    if character.isascii():
        return not (character.isalnum() or character <= " " or character == "\x7f")
    return unicodedata.category(character).startswith("P")


@lru_cache(maxsize=1 << 16)
def _is_dropped(character: str) -> bool:
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf")


def _is_whitespace(character: str) -> bool:
    # The controls that Python also calls white space were dropped before.
    return character.isspace()


def _lower(word: BasicToken) -> BasicToken:
    if word.text.isascii():
        return BasicToken(word.text.lower(), word.origins)
    # The word is lowered as a whole, for the final sigma; the lengths are those of its characters, one by one.
    origins = [origin for character, origin in zip(*word, strict=True) for _ in character.lower()]
    return BasicToken(word.text.lower(), origins)


def _strip_accents(word: BasicToken) -> BasicToken:
    """NFD without category Mn.

    The canonical order of marks is made by a stable sort of each run of marks, not by `unicodedata.normalize` over the
    word: that one takes quadratic time on a long run, and tells no origins.
    """
    if word.text.isascii():
        return word
    characters: list[str] = []
    origins: list[int] = []
    run: list[str] = []
    for character, origin in zip(*word, strict=True):
        for part in _decompose(character):
            if unicodedata.combining(part) == 0:
                characters.extend(_ordered(run))
                run = []
            # A mark that stays keeps the place it was written at, even if a sort moves it: offsets never run backwards.
            if unicodedata.category(part) != "Mn":
                origins.append(origin)
            if unicodedata.combining(part):
                run.append(part)
            elif unicodedata.category(part) != "Mn":
                characters.append(part)
    characters.extend(_ordered(run))
    return BasicToken("".join(characters), origins)


def _ordered(run: list[str]) -> list[str]:
    """The marks of a run that are kept, in canonical order."""
    return sorted((mark for mark in run if unicodedata.category(mark) != "Mn"), key=unicodedata.combining)


@lru_cache(maxsize=1 << 16)
def _decompose(character: str) -> str:
    return unicodedata.normalize("NFD", character)


def _split_punctuation(word: BasicToken) -> Iterator[BasicToken]:
    start = 0
    for index, character in enumerate(word.text):
        if is_punctuation(character):
            if start < index:
                yield BasicToken(word.text[start:index], word.origins[start:index])
            yield BasicToken(character, word.origins[index : index + 1])
            start = index + 1
    if start < len(word.text):
        yield BasicToken(word.text[start:], word.origins[start:])
