import pytest

from bertsmith.text import SPECIAL_TOKENS, TextStatistics, Tokenizer, Vocabulary, measure


@pytest.mark.parametrize("behaviour", ["google", "hf"])
def test_counts_by_hand(behaviour):
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "##b", ","))
    tokenizer = Tokenizer(vocabulary, behaviour=behaviour, max_length=7)
    statistics = measure(tokenizer, iter(["abb, x", "", "a a a a a a"]))
    assert statistics == TextStatistics(
        texts=3, characters=17, words=9, tokens=11, unknown_words=1, longest=6, too_long=1
    )
    assert statistics.fertility == 11 / 9
    assert statistics.unknown_rate == 1 / 9
    assert statistics.characters_per_token == 17 / 11


def test_no_text_has_no_rates():
    statistics = measure(Tokenizer(Vocabulary(SPECIAL_TOKENS)), [])
    assert (statistics.texts, statistics.fertility, statistics.unknown_rate) == (0, 0.0, 0.0)
    assert statistics.characters_per_token == 0.0
