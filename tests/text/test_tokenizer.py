import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.errors import DataError, UsageError, VocabularyError
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

BOTH = pytest.mark.parametrize("behaviour", ["google", "hf"])
SMALL = Vocabulary((*SPECIAL_TOKENS, *"abcdef", "##b", "##c", "ab", "é", "[", "]", "mask"))


@pytest.fixture(scope="module")
def public(uncased):
    return {name: Tokenizer(uncased, behaviour=name) for name in ("google", "hf")}


def test_special_tokens_only_when_asked():
    tokenizer = Tokenizer(SMALL)
    assert tokenizer.encode("a b").tokens == ["a", "b"]
    encoding = tokenizer.encode("abc", "b", special_tokens=True)
    assert encoding.tokens == ["[CLS]", "ab", "##c", "[SEP]", "b", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1]
    assert encoding.word_ids == [None, 0, 0, None, 0, None]
    assert encoding.offsets == [(0, 0), (0, 2), (2, 3), (0, 0), (0, 1), (0, 0)]
    assert encoding.word_offsets() == [(0, 3)]
    assert encoding.word_offsets(type_id=1) == [(0, 1)]
    assert len(encoding) == 6


@BOTH
@pytest.mark.parametrize(
    ("first", "second", "max_length", "kept_first", "kept_second"),
    [
        ("a b c d e", None, 4, "a b", None),
        ("a b c d e", None, 7, "a b c d e", None),
        ("a b c d e", "f", 7, "a b c", "f"),
        ("a", "b c d e f", 7, "a", "b c d"),
        ("a b c", "d e f", 8, "a b c", "d e"),  # a tie cuts the second text
        ("a b c", "d e f", 7, "a b", "d e"),
        ("a b", "c d e", 6, "a b", "c"),
        ("a b c", "d e f", 3, "", ""),
    ],
)
def test_truncation_is_longest_first_and_counted(behaviour, first, second, max_length, kept_first, kept_second):
    tokenizer = Tokenizer(SMALL, behaviour=behaviour)
    encoding = tokenizer.encode(first, second, special_tokens=True, max_length=max_length)
    whole = tokenizer.encode(first, second, special_tokens=True)
    expected = ["[CLS]", *kept_first.split(), "[SEP]", *([*kept_second.split(), "[SEP]"] if second else [])]
    assert encoding.tokens == expected
    assert encoding.truncated == len(whole) - len(encoding)
    assert whole.truncated == 0
    assert {len(values) for values in (encoding.offsets, encoding.word_ids, encoding.type_ids)} == {len(expected)}


@settings(max_examples=200)
@given(first=st.integers(0, 30), second=st.integers(0, 30), room=st.integers(0, 40))
def test_pairs_are_cut_as_google_cuts_them(first, second, room):
    kept_first, kept_second = first, second
    while kept_first + kept_second > room:  # run_classifier.py, _truncate_seq_pair
        if kept_first > kept_second:
            kept_first -= 1
        else:
            kept_second -= 1
    encoding = Tokenizer(SMALL).encode("a " * first, "b " * second, special_tokens=True, max_length=room + 3)
    assert encoding.tokens.count("a") == kept_first
    assert encoding.tokens.count("b") == kept_second
    assert encoding.truncated == first + second - kept_first - kept_second


@BOTH
def test_a_long_text_is_cut_before_it_costs_memory_and_gives_the_same(behaviour, uncased, monkeypatch):
    tokenizer = Tokenizer(uncased, behaviour=behaviour)
    text = "Unaffable \u200b 中国 \u0301 don't [MASK]! " * 900
    quick = tokenizer.encode(text, "short", special_tokens=True, max_length=50)
    monkeypatch.setattr("bertsmith.text.tokenizer._LONG_TEXT", 10**9)
    assert quick == tokenizer.encode(text, "short", special_tokens=True, max_length=50)
    assert quick.truncated > 5000


def test_too_short_a_length_is_refused():
    tokenizer = Tokenizer(SMALL)
    with pytest.raises(UsageError, match="max_length is 2: too short for the 3 special tokens"):
        tokenizer.encode("a", "b", special_tokens=True, max_length=2)
    with pytest.raises(UsageError, match="max_length is 0"):
        tokenizer.encode("a", max_length=0)
    with pytest.raises(UsageError, match="max_length is 0"):
        Tokenizer(SMALL, max_length=0)


@BOTH
def test_a_typed_mask_is_honoured_where_asked_for(behaviour):
    tokenizer = Tokenizer(SMALL, behaviour=behaviour)
    encoding = tokenizer.encode_masked("[MASK]ab [MASK][MASK]\nc")
    assert encoding.tokens == ["[CLS]", "[MASK]", "ab", "[MASK]", "[MASK]", "c", "[SEP]"]
    assert encoding.offsets == [(0, 0), (0, 6), (6, 8), (9, 15), (15, 21), (22, 23), (0, 0)]
    assert encoding.word_ids == [None, 0, 1, 2, 3, 4, None]
    assert encoding.truncated == 0
    short = tokenizer.encode_masked("a [MASK] b [MASK]", max_length=4)
    assert (short.tokens, short.truncated) == (["[CLS]", "a", "[MASK]", "[SEP]"], 2)
    assert tokenizer.encode_masked("").tokens == ["[CLS]", "[SEP]"]


@BOTH
@settings(max_examples=200)
@given(text=st.lists(st.sampled_from(["[MASK]", "ab", "é", " ", ",", "\u0301", "中", "\u200b"])).map("".join))
def test_encode_masked_equals_hf(behaviour, text):
    expected = Tokenizer(SMALL).encode(text, special_tokens=True)
    found = Tokenizer(SMALL, behaviour=behaviour).encode_masked(text)
    assert (found.ids, found.offsets) == (expected.ids, expected.offsets)


@BOTH
def test_batches_equal_single_texts(behaviour, uncased):
    tokenizer = Tokenizer(uncased, behaviour=behaviour)
    texts = ["The cat sat.", "", ("On the mat", "[MASK] é")]
    assert tokenizer.encode_batch(texts, special_tokens=True, max_length=6) == [
        tokenizer.encode("The cat sat.", special_tokens=True, max_length=6),
        tokenizer.encode("", special_tokens=True, max_length=6),
        tokenizer.encode("On the mat", "[MASK] é", special_tokens=True, max_length=6),
    ]
    ids = tokenizer.ids_batch(["The cat sat.", "", "mat"])
    assert [array.dtype for array in ids] == [np.int32] * 3
    assert [array.tolist() for array in ids] == [tokenizer.encode(text).ids for text in ("The cat sat.", "", "mat")]


@BOTH
def test_remembered_words_are_bounded_and_stay_right(behaviour, uncased):
    tokenizer = Tokenizer(uncased, behaviour=behaviour)
    tokenizer._ids._max_words = 7
    texts = [f"word{number} the {'x' * number}" for number in range(120)]
    for _ in range(2):
        assert [ids.tolist() for ids in tokenizer.ids_batch(texts)] == [tokenizer.encode(text).ids for text in texts]
    assert len(tokenizer._ids) <= 7


@BOTH
@pytest.mark.parametrize("text", ["a\ud800", "\udfff", None, 3, b"a"])
def test_what_is_no_text_is_one_error(behaviour, text):
    tokenizer = Tokenizer(SMALL, behaviour=behaviour)
    message = "half of a surrogate pair" if isinstance(text, str) else "expected text"
    for call in (tokenizer.encode, tokenizer.encode_masked, lambda text: tokenizer.ids_batch([text])):
        with pytest.raises(DataError, match=message):
            call(text)
    with pytest.raises(DataError, match=message):
        tokenizer.encode_batch([text])
    if text is not None:
        with pytest.raises(DataError, match=message):
            tokenizer.encode("a", text)


def test_decode():
    tokenizer = Tokenizer(SMALL)
    encoding = tokenizer.encode("abc [MASK] x b", "a", special_tokens=True)
    assert tokenizer.decode([*encoding.ids, SMALL.pad_id]) == "abc [MASK] [UNK] b a"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([SMALL.ids["##b"], SMALL.ids["##c"]]) == "##bc"
    for wrong in (-1, len(SMALL)):
        with pytest.raises(VocabularyError, match=f"no token has the id {wrong}: .* 0 to 17"):
            tokenizer.decode([wrong])


@BOTH
@settings(max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.text("abcdefé ,.-"))
def test_decoding_and_encoding_again_is_stable(public, uncased, behaviour, text):
    tokenizer = public[behaviour]
    ids = tokenizer.encode(text).ids
    if uncased.unk_id not in ids:
        assert tokenizer.encode(tokenizer.decode(ids)).ids == ids


def test_casing_and_accents():
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "e", "E", "é", "É"))

    def tokens(**options):
        both = [Tokenizer(vocabulary, behaviour=name, **options).encode("É").tokens for name in ("google", "hf")]
        assert both[0] == both[1]
        return both[0]

    assert tokens() == ["e"]
    assert tokens(lower_case=False) == ["É"]
    assert tokens(strip_accents=False) == ["é"]
    assert tokens(lower_case=False, strip_accents=True) == ["E"]


@BOTH
def test_chinese_may_stay_in_words(behaviour):
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "中国", "中", "国"))
    assert Tokenizer(vocabulary, behaviour=behaviour).encode("中国").tokens == ["中", "国"]
    whole = Tokenizer(vocabulary, behaviour=behaviour, split_chinese=False)
    assert whole.encode("中国").tokens == ["中国"]
    assert whole.ids_batch(["中国"])[0].tolist() == [5]


def test_unknown_behaviour():
    with pytest.raises(UsageError, match=r"'googel'\. Did you mean 'google'\? Allowed: google, hf"):
        Tokenizer(SMALL, behaviour="googel")  # pyright: ignore[reportArgumentType]


def test_fingerprint_covers_all_that_decides_ids():
    prints = {
        Tokenizer(vocabulary, **options).sha256
        for vocabulary in (SMALL, Vocabulary((*SMALL.tokens[:-1], "masks")))
        for options in (
            {},
            {"behaviour": "google"},
            {"lower_case": False},
            {"strip_accents": False},
            {"split_chinese": False},
        )
    }
    assert len(prints) == 10
    assert Tokenizer(SMALL, strip_accents=True, max_length=7).sha256 == Tokenizer(SMALL).sha256


def test_pickles_for_worker_processes():
    tokenizer = Tokenizer(SMALL, lower_case=False, behaviour="google", max_length=9)
    tokenizer.encode("ab")
    again = pickle.loads(pickle.dumps(tokenizer))
    assert (again.sha256, again.max_length, again.rules) == (tokenizer.sha256, 9, tokenizer.rules)
    assert repr(again) == "<Tokenizer: 18 tokens, cased, google>"
