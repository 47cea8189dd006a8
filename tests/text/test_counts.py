from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.errors import DataError, UsageError
from bertsmith.text import count_words

TEXTS = ["The cat, the CAT.", "", "Café cafe\u0301 中国", "x\x0by [MASK]"] * 3


def test_counts_normalized_words_and_signs():
    words = dict.fromkeys(["the", "cat", "cafe"], 6)
    assert count_words(TEXTS) == words | dict.fromkeys([",", ".", "中", "国", "xy", "[", "mask", "]"], 3)


def test_rules_can_be_chosen():
    counts = count_words(["The Café 中国"], lower_case=False, split_chinese=False)
    assert counts == {"The": 1, "Café": 1, "中国": 1}
    assert count_words(["Café"], strip_accents=False) == {"café": 1}


@settings(max_examples=100)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("aA .,中"), max_size=30)))
def test_equals_the_original_text_by_text(google, texts):
    expected = Counter(token for text in texts for token in google.BasicTokenizer().tokenize(text))
    assert count_words(texts) == expected


def test_any_number_of_processes_and_any_chunks_count_the_same(monkeypatch):
    texts = [f"{text} word{number % 50}" for number, text in enumerate(TEXTS * 20)]
    alone = count_words(iter(texts))
    monkeypatch.setattr("bertsmith.text.counts._CHUNK_CHARACTERS", 100)
    monkeypatch.setattr("bertsmith.text.counts._MAX_WAITING", 5)
    assert count_words(iter(texts)) == alone
    assert list(count_words(iter(texts), processes=2).items()) == list(count_words(iter(texts)).items())


def test_memory_holds_a_few_chunks_only(monkeypatch):
    monkeypatch.setattr("bertsmith.text.counts._CHUNK_CHARACTERS", 10)
    heard = []
    read = 0

    def texts():
        nonlocal read
        for _ in range(100):
            read += 1
            yield "0123456789"

    def listen(phase, done, total):
        heard.append((phase, done, total))
        assert read <= done / 10 + 1

    count_words(texts(), progress=listen)
    assert heard[0] == ("counting words", 10, None)
    assert heard[-1] == ("counting words", 1000, 1000)


def test_errors():
    with pytest.raises(DataError, match="expected text"):
        count_words(["a", None])  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="processes is 0"):
        count_words([], processes=0)
