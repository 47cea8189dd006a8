import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.text.normalization import BasicTokenizer
from bertsmith.text.words import find_spans, find_words

# What differs between scripts, categories and tables: controls, every kind of space, marks, final sigma, dotted I, CJK
# in and out of the listed ranges, compatibility forms, Hangul, Kana, private use, signs that become punctuation.
ODD = (
    "\x00\x01\t\n\x0b\x0c\r\x1c\x1f \x7f\x85\xa0\xad\u0300\u0301\u0327\u0344ΑΣςσΣ'’İıßẞÅéÉﬁ$^`~¿«―\u0591\u0660\u0903"
    "\u0f71\u0f72\u180e\u200b\u200d\u2028\u2029\u202f\u302e\u3000\ufeff\ufffd中㐀豈\U00020000\U0002b820\U0002b91f"
    "\U0002b920\U0002ceb0\U0002f800あ한\u1100\u1161\u11a8\ue000\U000f0000\u037e\u1fef\U0001d165\U0001d16d\u0338≠😀"
)
TEXTS = st.lists(
    st.sampled_from([*ODD, "a", "Ab1", "straße", "[MASK]", "##ing", "##"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.text("abcXYZ .,'é\u0301", max_size=6)
).map("".join)


def texts_of(tokens):
    return [token.text for token in tokens]


@pytest.mark.parametrize("lower_case", [True, False])
def test_every_code_point_as_google_has_it(google, lower_case):
    oracle = google.BasicTokenizer(do_lower_case=lower_case)
    ours = BasicTokenizer(lower_case, lower_case)
    # All where tables have structure; of the large uniform blocks beyond, one in 31.
    points = [*range(0x3400), *range(0xA000, 0xAC00), *range(0xD7A0, 0xD800), *range(0xE000, 0x20000)]
    points += range(0x3400, sys.maxunicode + 1, 31)
    for some in [points[start : start + 512] for start in range(0, len(points), 512)]:
        text = " ".join(f"a{chr(point)}B" for point in some if not 0xD800 <= point <= 0xDFFF)
        assert texts_of(ours.tokens(text)) == oracle.tokenize(text)


@pytest.mark.slow
def test_every_code_point_of_unicode_as_google_has_it(google):
    oracle = google.BasicTokenizer(do_lower_case=True)
    ours = BasicTokenizer()
    for start in range(0, sys.maxunicode + 1, 512):
        text = " ".join(f"a{chr(point)}B" for point in range(start, start + 512) if not 0xD800 <= point <= 0xDFFF)
        assert texts_of(ours.tokens(text)) == oracle.tokenize(text)


@settings(max_examples=400)
@given(text=TEXTS, lower_case=st.booleans())
def test_any_text_as_google_has_it(google, text, lower_case):
    ours = BasicTokenizer(lower_case, lower_case)
    expected = google.BasicTokenizer(do_lower_case=lower_case).tokenize(text)
    assert texts_of(ours.tokens(text)) == expected
    # The rules look no further than white space: word by word gives the same.
    by_word = [ours.tokens(word) for word in find_words(text, split_chinese=True)]
    assert [token.text for tokens in by_word for token in tokens] == expected


@settings(max_examples=300)
@given(text=TEXTS, split_chinese=st.booleans())
def test_words_and_spans_hold_the_same_tokens(text, split_chinese):
    tokenizer = BasicTokenizer(split_chinese=split_chinese)
    expected = texts_of(tokenizer.tokens(text))
    words = find_words(text, split_chinese=split_chinese)
    spans = [text[start:end] for start, end in find_spans(text, split_chinese=split_chinese)]
    for parts in (words, spans):
        assert [token for part in parts for token in texts_of(tokenizer.tokens(part))] == expected


def test_a_long_word_is_split_at_signs_unless_a_sigma_looks_across():
    hostile = "x" * 10 + "!" * 2_000
    assert find_words(hostile, split_chinese=True) == ["x" * 10, *"!" * 2_000]
    assert find_words("Σ" + hostile, split_chinese=True) == ["Σ" + hostile]
    assert find_words("x!", split_chinese=True) == ["x!"]
    assert [end for _, end in find_spans("a[MASK],b", split_chinese=True)] == [7, 8, 9]


@settings(max_examples=200)
@given(text=TEXTS)
def test_origins_lie_in_the_text_in_order(text):
    tokens = BasicTokenizer().tokens(text)
    origins = [origin for token in tokens for origin in token.origins]
    assert all(len(token.text) == len(token.origins) > 0 for token in tokens)
    assert origins == sorted(origins)
    assert all(0 <= origin < len(text) for origin in origins)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cafe\u0301 déjà", [("cafe", [0, 1, 2, 3]), ("deja", [6, 7, 8, 9])]),
        ("İx", [("ix", [0, 1])]),
        ("a\u200bb", [("ab", [0, 2])]),
        ("don't", [("don", [0, 1, 2]), ("'", [3]), ("t", [4])]),
        ("x中y", [("x", [0]), ("中", [1]), ("y", [2])]),
        ("한", [("\u1112\u1161\u11ab", [0, 0, 0])]),  # NFD takes syllables apart
    ],
)
def test_origins_point_at_what_was_written(text, expected):
    found = [(token.text, list(token.origins)) for token in BasicTokenizer().tokens(text)]
    assert found == expected


def test_each_rule_can_be_off():
    assert texts_of(BasicTokenizer(False, False).tokens("Été")) == ["Été"]
    assert texts_of(BasicTokenizer(False, True).tokens("Été")) == ["Ete"]
    assert texts_of(BasicTokenizer(True, False).tokens("Été")) == ["été"]
    assert texts_of(BasicTokenizer(split_chinese=False).tokens("x中国")) == ["x中国"]


def test_a_long_run_of_marks_takes_linear_time():
    # Alternating combining classes are the worst case of canonical ordering: quadratic in unicodedata.normalize.
    text = "a" + "\u0301\u0327" * 100_000
    start = time.monotonic()
    assert texts_of(BasicTokenizer().tokens(text)) == ["a"]
    assert time.monotonic() - start < 5
