import random
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.errors import UsageError, VocabularyError
from bertsmith.text import (
    SPECIAL_TOKENS,
    Tokenizer,
    Vocabulary,
    count_words,
    extend_vocabulary,
    learn_vocabulary,
)
from bertsmith.text.wordpiece import WordPiece

LETTERS = "abcd"
OLD = Vocabulary(
    (*SPECIAL_TOKENS[:1], "[unused0]", *SPECIAL_TOKENS[1:], "[unused1]", *LETTERS, *(f"##{c}" for c in LETTERS), "ab")
)


def saved_by(words, vocabulary, tokens):
    """What `tokens` save in `words`, by the definition: cut everything before and after."""

    def cost(vocabulary):
        cut = WordPiece(vocabulary, 100)
        total = 0
        for word, count in words.items():
            pieces = cut.pieces(word)
            total += count * (2 * len(word) if pieces[0].id == vocabulary.unk_id else len(pieces))
        return total

    return cost(vocabulary) - cost(Vocabulary((*vocabulary.tokens, *tokens)))


def test_new_pieces_take_unused_places_first_and_move_nothing():
    extension = extend_vocabulary({"abcd": 5, "cdcd": 3, "dddd": 2}, OLD, 3)
    new = extension.vocabulary
    assert [new.tokens[i] for i in (1, 6)] == ["abcd", "cdcd"]
    assert new.tokens[-1] == "dddd" and len(new) == len(OLD) + 1
    kept = [i for i in range(len(OLD)) if i not in (1, 6)]
    assert all(new.tokens[i] == OLD.tokens[i] for i in kept)
    assert extension.tokens == ["abcd", "cdcd", "dddd"]
    assert extension.pieces == {
        1: (OLD.ids["ab"], OLD.ids["##c"], OLD.ids["##d"]),
        6: tuple(OLD.ids[token] for token in ("c", "##d", "##c", "##d")),
        len(OLD): tuple(OLD.ids[token] for token in ("d", "##d", "##d", "##d")),
    }
    assert extension.saved == 5 * 2 + 3 * 3 + 2 * 3


def test_a_shared_part_is_worth_more_than_the_words():
    """Each word saves 2 * 2 tokens, what the four have in common 4 * 2."""
    words = {first + "cd": 2 for first in LETTERS}
    assert extend_vocabulary(words, OLD, 1).tokens == ["##cd"]


def test_words_that_cannot_be_spelled():
    words = {"axb": 4, "axc": 4, "x": 9, "axd": 2}
    extension = extend_vocabulary(words, OLD, 2)
    assert extension.tokens == ["##x", "x"]  # one missing character mends three words
    assert set(extension.pieces.values()) == {(OLD.unk_id,)}
    new = WordPiece(extension.vocabulary, 100)
    assert all(new.pieces(word)[0].id != OLD.unk_id for word in words)
    assert extend_vocabulary({"yyyyyyyyyyyy": 9, "xyz": 2}, OLD, 1).tokens == ["yyyyyyyyyyyy"]


@pytest.mark.parametrize("seed", range(4))
def test_each_choice_is_the_best_one_by_brute_force(seed):
    """While the heap's bounds hold, the choice is that of trying every run of pieces of every word."""
    chance = random.Random(seed)
    words = {"".join(chance.choices(LETTERS, k=chance.randint(2, 6))): chance.randint(2, 30) for _ in range(12)}
    extension = extend_vocabulary(words, OLD, 4)
    known, total = OLD, 0
    for token in extension.tokens:
        cut = WordPiece(OLD, 100)
        runs = {
            ("##" if a.start else "") + word[a.start : b.end]
            for word in words
            for a, b in combinations(cut.pieces(word), 2)
        } - known.ids.keys()
        best = max(saved_by(words, known, [run]) for run in runs)
        gained = saved_by(words, known, [token])
        assert gained > 0 and gained >= 0.8 * best  # a piece that also helps by chance is not looked for
        known = Vocabulary((*known.tokens, token))
        total += gained
    assert total == saved_by(words, OLD, extension.tokens)


def test_the_result_depends_on_the_counts_alone():
    words = {
        f"{a}{b}{c}{d}": 2 + (ord(a) * ord(c)) % 5 for a in LETTERS for b in LETTERS for c in LETTERS for d in "ab"
    }
    other = dict(reversed(words.items()))
    assert extend_vocabulary(words, OLD, 9) == extend_vocabulary(other, OLD, 9)


def test_what_cannot_be_done():
    with pytest.raises(UsageError, match="add is 0"):
        extend_vocabulary({"abcd": 3}, OLD, 0)
    with pytest.raises(VocabularyError, match="only 1 of them would save"):
        extend_vocabulary({"cd": 3, "a": 9, "abcd": 1}, OLD, 2)
    with pytest.raises(VocabularyError, match="Ask for 0 at most"):
        extend_vocabulary({}, OLD, 2)


TEXTS = [
    "the miller grinds barley and wheat, the millers grind barleycorn",
    "a windmill and a watermill; grinding, milling, wheaten loaves",
    "cholesterol and hypercholesterolemia in cholesteric liquids",
]


@pytest.mark.parametrize("behaviour", ["hf", "google"])
@settings(max_examples=60)
@given(
    text=st.lists(
        st.one_of(st.sampled_from(" ".join(TEXTS).split()), st.text("aehilmrstw ", max_size=9), st.text(max_size=4)),
        max_size=8,
    ).map(" ".join)
)
def test_texts_without_new_pieces_are_encoded_as_before(behaviour, text):
    old, new, added = extended(behaviour)
    before, after = old.encode(text), new.encode(text)
    if not added & set(after.ids):
        assert (before.ids, before.offsets) == (after.ids, after.offsets)
    # What could be spelled still can be.
    assert after.ids.count(new.vocabulary.unk_id) <= before.ids.count(old.vocabulary.unk_id)


def extended(behaviour, _made={}):  # noqa: B006 - made once
    if behaviour not in _made:
        general = learn_vocabulary(count_words(["the weather is there, and we are at sea"] * 3 + TEXTS), 70, unused=3)
        extension = extend_vocabulary(Counter(count_words(TEXTS * 2)), general, 12)
        old = Tokenizer(general, behaviour=behaviour, max_length=29)
        _made[behaviour] = (old, old.with_vocabulary(extension.vocabulary), set(extension.pieces))
        assert _made[behaviour][1].max_length == 29
    return _made[behaviour]


def test_the_public_vocabulary_spells_biomedical_words(uncased):
    words = count_words(
        ["hypercholesterolemia osteoarthritis placebo the of", "osteoarthritis hypercholesterolemia", "osteoarthritis"]
        * 2
    )
    extension = extend_vocabulary(words, uncased, 3)
    assert extension.tokens == ["osteoarthritis", "hypercholesterolemia", "placebo"]
    assert min(extension.pieces) == uncased.ids["[unused0]"] and len(extension.vocabulary) == len(uncased)
    old = Tokenizer(uncased)
    for index, pieces in extension.pieces.items():
        assert old.encode(extension.vocabulary.tokens[index]).ids == list(pieces)
