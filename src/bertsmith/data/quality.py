"""Quality: plain figures of a document, summed up for a report. Nothing is thrown away because of them."""

import unicodedata
from functools import lru_cache

import numpy as np

FIGURES = ("characters", "letters", "digits", "marks", "lines", "repeated_lines")
"""Of a document: characters without white space, of which letters (with their accents), digits and all others; lines
with text, and how many of those stood in it before."""

SHORT = 10
"""Words below which a document is called very short."""

_SPACE, _LETTER, _DIGIT, _MARK = range(4)
_PLANES = 0x30000  # beyond stand a few thousand rare Chinese characters


def figures(text: str) -> tuple[int, ...]:
    """The `FIGURES` of one document."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    kinds = np.bincount(_kinds()[np.minimum(codes, _PLANES - 1)], minlength=4)
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    return (
        len(text) - int(kinds[_SPACE]),
        int(kinds[_LETTER]),
        int(kinds[_DIGIT]),
        int(kinds[_MARK]),
        len(lines),
        len(lines) - len(set(lines)),
    )


@lru_cache(maxsize=1)
def _kinds() -> np.ndarray:
    """uint8 `(code points,)`: space, letter, digit or mark."""
    by_category = {"L": _LETTER, "M": _LETTER, "N": _DIGIT, "Z": _SPACE}
    kinds = np.array([by_category.get(unicodedata.category(chr(code))[0], _MARK) for code in range(_PLANES)], np.uint8)
    kinds[[9, 10, 11, 12, 13]] = _SPACE
    kinds[_PLANES - 1] = _LETTER
    return kinds
