import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.config import from_dict, to_dict
from bertsmith.data import IGNORE_INDEX, Choice, Example, Masking, SingleTokens, WholeWords, generator
from bertsmith.errors import ConfigError
from bertsmith.text import Vocabulary

# 37 tokens: 5 special, 16 that begin a word (5 to 20), 16 that continue one (21 to 36).
VOCABULARY = Vocabulary(
    (
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *(chr(ord("a") + i) for i in range(16)),
        *("##" + chr(ord("a") + i) for i in range(16)),
    )
)
CLS, SEP, MASK = VOCABULARY.cls_id, VOCABULARY.sep_id, VOCABULARY.mask_id
CHOICES = [SingleTokens(), WholeWords()]


def sequence(ids: list[int]) -> Example:
    return Example({"input_ids": np.array(ids), "token_type_ids": np.zeros(len(ids), np.int64)}, {"score": 0.5})


def words_of(ids: np.ndarray) -> list[list[int]]:
    """Positions of each word, by the plainest code: `##` joins what is before it, unless that is special."""
    words: list[list[int]] = []
    joinable = False
    for position, token in enumerate(ids.tolist()):
        if VOCABULARY.is_special[token]:
            joinable = False
            continue
        if VOCABULARY.is_continuation[token] and joinable:
            words[-1].append(position)
        else:
            words.append([position])
        joinable = True
    return words


any_ids = st.lists(st.integers(0, 36), min_size=1, max_size=80)


@pytest.mark.parametrize("choice", CHOICES)
@given(ids=any_ids, rate=st.floats(0.01, 1.0), index=st.integers(0, 1000))
def test_labels_and_inputs_agree(choice: Choice, ids: list[int], rate: float, index: int) -> None:
    before = sequence(ids)
    after = Masking(choice, rate=rate)(before, VOCABULARY, generator(0, "test", 0, index))
    assert before.tokens["input_ids"].tolist() == ids  # the one given is left alone
    assert after.targets == before.targets
    labels, seen, truth = after.tokens["labels"], after.tokens["input_ids"], np.array(ids)
    chosen = np.flatnonzero(labels != IGNORE_INDEX)
    assert (labels[chosen] == truth[chosen]).all()
    assert not VOCABULARY.is_special[truth[chosen]].any()
    untouched = np.setdiff1d(np.arange(len(ids)), chosen)
    assert (seen[untouched] == truth[untouched]).all()
    changed = seen[chosen][(seen[chosen] != truth[chosen]) & (seen[chosen] != MASK)]
    assert not VOCABULARY.is_special[changed].any()  # a random token is never [PAD] or [SEP]
    assert after.tokens["token_type_ids"] is before.tokens["token_type_ids"]


@given(ids=any_ids, rate=st.floats(0.01, 1.0), index=st.integers(0, 1000))
def test_single_tokens_choose_the_full_number(ids: list[int], rate: float, index: int) -> None:
    labels = Masking(rate=rate)(sequence(ids), VOCABULARY, generator(0, "test", 0, index)).tokens["labels"]
    candidates = int((~VOCABULARY.is_special[ids]).sum())
    assert (labels != IGNORE_INDEX).sum() == min(candidates, max(1, round(len(ids) * rate)))


@given(ids=any_ids, rate=st.floats(0.01, 1.0), index=st.integers(0, 1000))
def test_whole_words_are_whole(ids: list[int], rate: float, index: int) -> None:
    masking = Masking(WholeWords(), rate=rate)
    chosen = set(
        np.flatnonzero(masking(sequence(ids), VOCABULARY, generator(0, "t", 0, index)).tokens["labels"] >= 0).tolist()
    )
    budget = max(1, round(len(ids) * rate))
    assert len(chosen) <= budget
    left_out = []
    for word in words_of(np.array(ids)):
        assert chosen.issuperset(word) or chosen.isdisjoint(word)
        if chosen.isdisjoint(word):
            left_out.append(len(word))
    # A word is passed over only because it would overflow the budget.
    assert all(len(chosen) + size > budget for size in left_out)


@pytest.mark.parametrize(("length", "expected"), [(3, 1), (10, 2), (30, 4), (50, 8), (128, 19), (512, 77)])
def test_how_many_are_chosen(length: int, expected: int) -> None:
    """round(length x 0.15) with the special tokens counted, halves to the even side (1.5 -> 2, 4.5 -> 4, 7.5 -> 8)."""
    ids = [CLS, *[7] * (length - 2), SEP]
    labels = Masking()(sequence(ids), VOCABULARY, generator(0, "test", 0, 0)).tokens["labels"]
    assert (labels != IGNORE_INDEX).sum() == expected


def test_a_continuation_behind_a_special_token_is_a_word() -> None:
    """[CLS] ##a ##b [SEP] ##c c: the pieces after [CLS] and after [SEP] do not belong together."""
    ids = np.array([CLS, 21, 22, SEP, 23, 7])
    chosen = {
        tuple(sorted(WholeWords().choose(ids, VOCABULARY, 2, generator(0, "test", 0, i)).tolist())) for i in range(60)
    }
    assert chosen == {(1, 2), (4, 5)}


@pytest.mark.parametrize("choice", CHOICES)
def test_nothing_but_special_tokens_gives_no_label(choice: Choice) -> None:
    ids = [CLS, VOCABULARY.unk_id, SEP, SEP]
    after = Masking(choice, rate=1.0)(sequence(ids), VOCABULARY, generator(0, "test", 0, 0))
    assert after.tokens["input_ids"].tolist() == ids
    assert (after.tokens["labels"] == IGNORE_INDEX).all()


@pytest.mark.parametrize("choice", CHOICES)
def test_every_position_is_chosen_equally_often(choice: Choice) -> None:
    ids = np.array([CLS, *range(5, 17), SEP])  # twelve words of one token
    counts = np.zeros(len(ids))
    for index in range(6000):
        counts[choice.choose(ids, VOCABULARY, 2, generator(0, "test", 0, index))] += 1
    assert counts[0] == counts[-1] == 0
    assert np.abs(counts[1:-1] - 1000).max() < 5 * np.sqrt(1000)


def test_random_tokens_are_uniform_over_all_but_the_special_ones() -> None:
    ids = [CLS, *[5] * 100, SEP]
    always_random = Masking(rate=1.0, mask_rate=0.0, random_rate=1.0)
    seen = np.concatenate(
        [
            always_random(sequence(ids), VOCABULARY, generator(0, "test", 0, i)).tokens["input_ids"][1:-1]
            for i in range(320)
        ]
    )
    counts = np.bincount(seen, minlength=37)
    assert not counts[:5].any()
    assert np.abs(counts[5:] - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize(
    ("masking", "expected"),
    [(Masking(rate=1.0, mask_rate=1.0, random_rate=0.0), MASK), (Masking(rate=1.0, mask_rate=0.0, random_rate=0.0), 7)],
)
def test_rates_of_one_and_zero_are_exact(masking: Masking, expected: int) -> None:
    after = masking(sequence([CLS, 7, 7, 7, SEP]), VOCABULARY, generator(0, "test", 0, 0))
    assert after.tokens["input_ids"].tolist() == [CLS, expected, expected, expected, SEP]
    assert after.tokens["labels"].tolist() == [IGNORE_INDEX, 7, 7, 7, IGNORE_INDEX]


@settings(max_examples=20)
@given(index=st.integers(0, 10**9))
def test_the_same_generator_gives_the_same_mask(index: int) -> None:
    one, two = (
        Masking(WholeWords())(sequence([CLS, *range(5, 37), SEP]), VOCABULARY, generator(1, "masking", 0, index))
        for _ in range(2)
    )
    assert one.tokens["input_ids"].tolist() == two.tokens["input_ids"].tolist()
    assert one.tokens["labels"].tolist() == two.tokens["labels"].tolist()


def test_a_policy_is_a_configuration() -> None:
    policy = Masking(WholeWords(), rate=0.3)
    written = {"choice": {"kind": "whole_words"}, "rate": 0.3, "mask_rate": 0.8, "random_rate": 0.1}
    assert to_dict(policy) == written
    assert from_dict(Masking, written) == policy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate: expected a share above 0"),
        ({"rate": 1.1}, "rate: expected a share above 0"),
        ({"mask_rate": -0.1}, "mask_rate: expected a share from 0 to 1"),
        ({"random_rate": 0.3}, r"random_rate: expected a share from 0 to 1 - mask_rate = 0.2, got 0.3"),
    ],
)
def test_rates_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Masking(**options)
