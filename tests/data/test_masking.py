import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.config import from_dict, to_dict
from bertsmith.data import IGNORE_INDEX, Choice, Example, Masking, SingleTokens, Spans, WholeWords, generator
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
CHOICES = [SingleTokens(), WholeWords(), Spans()]


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


@pytest.mark.parametrize("choice", [WholeWords(), Spans(), Spans(p=0.7, longest=3)])
@given(ids=any_ids, rate=st.floats(0.01, 1.0), index=st.integers(0, 1000))
def test_whole_words_are_whole(choice: Choice, ids: list[int], rate: float, index: int) -> None:
    masking = Masking(choice, rate=rate)
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


@pytest.mark.parametrize("choice", [SingleTokens(), WholeWords(), Spans(longest=1)])
def test_every_position_is_chosen_equally_often(choice: Choice) -> None:
    ids = np.array([CLS, *range(5, 17), SEP])  # twelve words of one token
    counts = np.zeros(len(ids))
    for index in range(6000):
        counts[choice.choose(ids, VOCABULARY, 2, generator(0, "test", 0, index))] += 1
    assert counts[0] == counts[-1] == 0
    assert np.abs(counts[1:-1] - 1000).max() < 5 * np.sqrt(1000)


def test_spans_are_runs_of_geometric_length() -> None:
    """Joshi et al. 2020, figure 2: l ~ Geo(0.2) up to 10, 3.8 words on average."""
    ids = np.array([CLS, *[5, 21] * 2000, SEP])  # so many words of two tokens that runs hardly ever meet
    lengths: list[int] = []
    for index in range(60):
        chosen = np.sort(Spans().choose(ids, VOCABULARY, 160, generator(0, "test", 0, index)))
        assert len(chosen) == 160
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1)
        lengths += [len(run) // 2 for run in runs]
    assert np.mean(lengths) == pytest.approx(3.8, abs=0.3)
    shares = np.bincount(lengths, minlength=11)[1:11] / len(lengths)
    geometric = 0.2 * 0.8 ** np.arange(10)
    np.testing.assert_allclose(shares, geometric / geometric.sum(), atol=0.03)


def test_spans_do_not_cross_special_tokens() -> None:
    """[CLS] a b [SEP] c d [SEP]: with runs of any length and room for two tokens, b and c are never one run."""
    ids = np.array([CLS, 5, 6, SEP, 7, 8, SEP])
    drawn = [Spans(p=0.01).choose(ids, VOCABULARY, 2, generator(0, "test", 0, index)).tolist() for index in range(900)]
    assert {tuple(d) for d in drawn if d[1] == d[0] + 1} == {(1, 2), (4, 5)}
    # From the last word of a sentence a run does not go on: what comes next begins anywhere.
    after = [second for first, second in drawn if first == 2]
    assert 0.2 < after.count(4) / len(after) < 0.47


def test_the_rate_falls_in_a_straight_line() -> None:
    falling = Masking(WholeWords(), rate=0.3, final_rate=0.15)
    assert [falling.at(place).rate for place in (0.0, 0.5, 1.0)] == pytest.approx([0.3, 0.225, 0.15])
    assert falling.at(0.0) == Masking(WholeWords(), rate=0.3)
    assert Masking(rate=0.4).at(0.7) == Masking(rate=0.4)
    ids = [CLS, *[7] * 98, SEP]
    for place, expected in ((0.0, 30), (0.4, 24), (1.0, 15)):
        labels = falling.at(place)(sequence(ids), VOCABULARY, generator(0, "test", 0, 0)).tokens["labels"]
        assert (labels != IGNORE_INDEX).sum() == expected


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
    policy = Masking(Spans(longest=5), rate=0.3, final_rate=0.15)
    written = {"choice": {"kind": "spans", "p": 0.2, "longest": 5}, "rate": 0.3, "final_rate": 0.15}
    written |= {"mask_rate": 0.8, "random_rate": 0.1}
    assert to_dict(policy) == written
    assert from_dict(Masking, written) == policy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate: expected a share above 0"),
        ({"rate": 1.1}, "rate: expected a share above 0"),
        ({"final_rate": 0.0}, "final_rate: expected a share above 0"),
        ({"mask_rate": -0.1}, "mask_rate: expected a share from 0 to 1"),
        ({"random_rate": 0.3}, r"random_rate: expected a share from 0 to 1 - mask_rate = 0.2, got 0.3"),
    ],
)
def test_rates_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Masking(**options)


@pytest.mark.parametrize(
    ("options", "message"), [({"p": 1.0}, "p: expected a share"), ({"longest": 0}, "at least 1 word")]
)
def test_spans_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Spans(**options)  # pyright: ignore[reportArgumentType]
