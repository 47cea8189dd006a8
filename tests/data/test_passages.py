from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.data.passages import passages
from bertsmith.text import Tokenizer, Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER = Tokenizer(Vocabulary((*SPECIAL, "a", "b", "c", "##a", "##b", "ä", ".", "!")))


def hashed(length: int, *texts: str) -> list[list[int]]:
    ids = TOKENIZER.ids_batch(texts)
    bounds = np.cumsum([0, *map(len, ids)])
    hashes, starts = passages(np.concatenate(ids), bounds, TOKENIZER.vocabulary, length)
    assert len(starts) == len(texts) + 1
    return [hashes[start:end].tolist() for start, end in pairwise(starts)]


def test_a_passage_is_its_words_in_their_order() -> None:
    (one, two, three) = hashed(2, "a ba. b", "A. Ba! b!", "b ba a")
    assert one == two  # neither case nor marks matter
    assert len(one) == 2
    assert not set(one) & set(three)


def test_words_are_told_apart_by_all_of_their_tokens() -> None:
    words = ["a", "b", "ab", "ba", "aa", "aba", "baa", "aab", "abb"]
    found = [hashes[0] for hashes in hashed(1, *words)]
    assert len(set(found)) == len(words)


def test_unknown_words_take_their_passages_away() -> None:
    assert [len(hashes) for hashes in hashed(2, "a b zebra c a", "zebra", "a b", "", "a")] == [2, 0, 1, 0, 0]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "ab", "c", "zebra", "."]), max_size=12), min_size=1, max_size=5))
def test_passages_equal_their_definition(documents: list[list[str]]) -> None:
    """Two passages have one hash exactly where their words are the same; none crosses documents."""
    found = hashed(3, *(" ".join(words) for words in documents))
    meaning: dict[int, tuple[str, ...]] = {}
    for words, hashes in zip(documents, found, strict=True):
        words = [word for word in words if word != "."]
        expected = [tuple(words[i : i + 3]) for i in range(len(words) - 2) if "zebra" not in words[i : i + 3]]
        assert len(hashes) == len(expected)
        for value, passage in zip(hashes, expected, strict=True):
            assert meaning.setdefault(value, passage) == passage
    assert len(set(meaning.values())) == len(meaning)
