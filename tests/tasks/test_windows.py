"""Windows cover everything, show as much as they can, and lose nothing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.errors import ConfigError
from bertsmith.tasks import Cutter, Window, Words
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary
from bertsmith.text.windows import Extent, most_context

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENIZER = Tokenizer(Vocabulary((*SPECIAL_TOKENS, *LETTERS, *(f"##{x}" for x in LETTERS))))


def text_of(length: int, shift: int = 0) -> str:
    return " ".join(LETTERS[(i + shift) % 26] for i in range(length))


def shown(window: Window) -> list[int]:
    return window.encoding.ids[window.begin : window.begin + window.count]


@given(st.integers(0, 90), st.integers(8, 40), st.integers(1, 30) | st.none())
def test_windows_of_a_text(length: int, limit: int, stride: int | None) -> None:
    text = text_of(length)
    windows = Cutter(TOKENIZER, limit, stride).text(text)
    full = TOKENIZER.encode(text, special_tokens=True)
    assert Extent.of(windows).tokens == len(full)
    assert all(len(w.encoding) <= limit and w.encoding.truncated == 0 for w in windows)
    assert all(w.encoding.ids[0] == full.ids[0] and w.encoding.ids[-1] == full.ids[-1] for w in windows)
    assert all(shown(w) == full.ids[1 + w.first : 1 + w.first + w.count] for w in windows)
    assert windows[0].first == 0 and windows[-1].first + windows[-1].count == length
    if len(windows) > 1:
        assert {len(w.encoding) for w in windows} == {limit}
        assert all(0 < b.first - a.first <= min(stride or (limit - 2) // 2, limit - 2) for a, b in pairwise(windows))
    else:
        assert len(full) <= limit


@given(st.integers(0, 60), st.integers(0, 60), st.integers(8, 30), st.booleans())
def test_windows_of_a_pair(one: int, two: int, limit: int, second: bool) -> None:
    windows = Cutter(TOKENIZER, limit).pair(text_of(one), text_of(two, 7), cut="second" if second else "longer")
    full = TOKENIZER.encode(text_of(one), text_of(two, 7), special_tokens=True)
    assert Extent.of(windows).tokens == len(full)
    kind = 1 if second or two >= one else 0
    for window in windows:
        encoding = window.encoding
        assert len(encoding) <= limit and encoding.ids.count(full.ids[-1]) == 2
        kept = encoding.type_ids.count(1 - kind)
        lost = full.type_ids.count(1 - kind) - kept
        assert encoding.truncated == lost
        assert lost == 0 or kept >= (limit - 3) // 2
        start = full.type_ids.index(kind) + (1 - kind) + window.first
        assert shown(window) == full.ids[start : start + window.count]
    assert windows[-1].first + windows[-1].count == (two if kind else one)


def test_each_token_is_judged_where_most_is_around_it() -> None:
    windows = Cutter(TOKENIZER, 12, 4).text(text_of(22))
    assert [w.first for w in windows] == [0, 4, 8, 12]
    judged = most_context(windows)
    assert [window for window, _ in judged] == [0] * 7 + [1] * 4 + [2] * 4 + [3] * 7
    full = TOKENIZER.encode(text_of(22)).ids
    assert [windows[window].encoding.ids[place] for window, place in judged] == full


def test_words_keep_their_numbers_and_places() -> None:
    words = Words.joined(["Ab", "\u200b", "c,d", "x"])
    assert words.text == "Ab \u200b c,d x" and words.words == ("Ab", "\u200b", "c,d", "x")
    (window,) = Cutter(TOKENIZER, 20).words(words.words, words.spans)
    encoding = window.encoding
    assert encoding.tokens == ["[CLS]", "a", "##b", "[UNK]", "c", "[UNK]", "d", "x", "[SEP]"]
    assert encoding.word_ids == [None, 0, 0, 1, 2, 2, 2, 3, None]
    assert encoding.offsets == [(0, 0), (0, 1), (1, 2), (3, 4), (5, 6), (6, 7), (7, 8), (9, 10), (0, 0)]


def test_words_of_a_plain_text() -> None:
    assert Words.found("Dr. O'Neil's e-mail: 5 mg/ml!").words == (
        *("Dr", ".", "O'Neil's", "e-mail", ":", "5", "mg", "/", "ml", "!"),
    )
    assert len(Words.found("")) == 0


def test_a_long_text_takes_no_longer_than_its_tokens() -> None:
    windows = Cutter(TOKENIZER, 40).text(text_of(50_000))
    assert sum(np.diff([w.first for w in windows]) > 19) == 0 and len(windows) == 2631


def test_a_stride_is_a_step_forward() -> None:
    with pytest.raises(ConfigError, match="stride: expected at least 1, got 0"):
        Cutter(TOKENIZER, 12, 0)
