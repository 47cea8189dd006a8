import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.config import from_dict, to_dict
from bertsmith.data import Example, Instances, Segments, SentencePairs, Shards
from bertsmith.data.instances import _truncation
from bertsmith.errors import ConfigError, UsageError

FIRST = 5  # the id of the first token of the corpus; every other token has its own id, one higher than the one before


def made_up(documents: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randint(1, 30) for _ in range(rng.randint(1, 25))] for _ in range(documents)]


def halves(example: Example, shards: Shards) -> tuple[list[int], list[int]]:
    """Numbers of A's and B's tokens in the corpus. Checks the frame: [CLS] A [SEP] B [SEP], types 0 and 1."""
    vocabulary = shards.vocabulary
    ids, types = example.tokens["input_ids"].tolist(), example.tokens["token_type_ids"].tolist()
    middle = ids.index(vocabulary.sep_id)
    assert ids[0] == vocabulary.cls_id
    assert ids[-1] == vocabulary.sep_id
    assert ids.count(vocabulary.sep_id) == 2
    assert types == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
    a, b = ids[1:middle], ids[middle + 1 : -1]
    for half in (a, b):
        assert half == list(range(half[0], half[0] + len(half)))  # one unbroken piece of text
    return [i - FIRST for i in a], [i - FIRST for i in b]


def document_of(shards: Shards, token: int) -> int:
    starts = shards.sentence_bounds[shards.document_bounds]
    return int(np.searchsorted(starts, token, side="right")) - 1


@pytest.mark.parametrize("length", [5, 16, 64, 200])
def test_b_follows_a_or_comes_from_elsewhere(make_shards, length: int) -> None:
    shards = make_shards(made_up(60), shard_tokens=2000)
    plan = SentencePairs().plan(shards, length, 3, 0)
    labels = []
    for index in range(len(plan)):
        example = plan.example(index)
        assert len(example) <= length
        a, b = halves(example, shards)
        label = example.targets["next_sentence_label"]
        labels.append(label)
        gap = b[0] - a[-1] - 1
        if label == 0:
            assert document_of(shards, a[0]) == document_of(shards, b[-1])
            # Truncation may have cut A's end and B's front; where nothing had to be cut, B is the very next token.
            assert gap == 0 or (gap > 0 and len(example) == length)
        else:
            assert document_of(shards, a[0]) != document_of(shards, b[0])
    assert set(labels) == {0, 1}


def test_what_was_put_back_is_used_next(make_shards) -> None:
    """With room enough, no token of the corpus is lost: A's, and B's that follow, cover it without overlap."""
    shards = make_shards(made_up(40))
    plan = SentencePairs(short_sequence_rate=0.5).plan(shards, 2000, 0, 0)
    covered = []
    for index in range(len(plan)):
        example = plan.example(index)
        a, b = halves(example, shards)
        covered += a + (b if example.targets["next_sentence_label"] == 0 else [])
    assert covered == list(range(shards.tokens))


def test_pieces_follow_the_rules_of_the_original(make_shards) -> None:
    """Sentences of 9 tokens, target 45: pieces of five; A has one to four of them, all equally often."""
    shards = make_shards([[9] * 10] * 500, distinct=False)
    plan = SentencePairs(short_sequence_rate=0.0).plan(shards, 48, 1, 0)
    counts = np.bincount(plan.a_length[plan.a_start % 90 == 0] // 9)  # the first piece of each document
    assert counts[0] == 0
    assert len(counts) == 5
    assert abs(counts[1:] - 125).max() < 4 * np.sqrt(125 * 0.75)
    # A piece ends at 45 tokens or at the end of its document; a random half goes on to the same length.
    totals = (plan.a_length + plan.b_length)[~plan.is_random]
    assert set(totals.tolist()) == {18, 27, 36, 45}
    assert (plan.a_length + plan.b_length <= 45).all()


def reference_truncation(a: int, b: int, longest: int) -> tuple[int, int]:
    """`truncate_seq_pair` of google-research/bert, one token at a time."""
    cut_a = cut_b = 0
    while a - cut_a + b - cut_b > longest:
        if a - cut_a > b - cut_b:
            cut_a += 1
        else:
            cut_b += 1
    return cut_a, cut_b


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1), st.integers(2, 50))
def test_truncation_equals_the_original_loop(pairs: list[tuple[int, int]], longest: int) -> None:
    a, b = np.array(pairs).T
    cuts = _truncation(a, b, longest)
    assert list(zip(*map(np.ndarray.tolist, cuts), strict=True)) == [reference_truncation(*p, longest) for p in pairs]


def test_truncation_cuts_both_ends(make_shards) -> None:
    """A of 90 and B of 400 tokens for 100 places: B loses 310, then each 40, from front or back with equal chance."""
    shards = make_shards([[90, 400]] * 50, distinct=False)
    plan = SentencePairs(short_sequence_rate=0.0, random_next_rate=0.0).plan(shards, 103, 0, 0)
    assert len(plan) == 50
    assert (plan.a_length == 50).all()
    assert (plan.b_length == 50).all()
    a_fronts, b_fronts = plan.a_start % 490, plan.b_start % 490 - 90
    assert abs(a_fronts.mean() - 20) < 2  # standard deviation 3.2 over the root of 50
    assert abs(b_fronts.mean() - 175) < 6  # standard deviation 9.4 over the root of 50
    assert a_fronts.std() > 1
    assert b_fronts.std() > 3


def test_short_sequences_have_every_length(make_shards) -> None:
    shards = make_shards([[1] * 40] * 3000, distinct=False)
    plan = SentencePairs(short_sequence_rate=1.0).plan(shards, 23, 0, 0)
    first = np.flatnonzero(plan.a_start % 40 == 0)  # one per document: the targets are uniform over 2 .. 20
    counts = np.bincount((plan.a_length + plan.b_length)[first])[2:]
    assert len(counts) == 19
    assert abs(counts - 3000 / 19).max() < 5 * np.sqrt(3000 / 19)
    never = SentencePairs(short_sequence_rate=0.0).plan(shards, 23, 0, 0)
    assert (never.a_length + never.b_length == 20).mean() > 0.6


def test_one_document_draws_its_own_other_text(make_shards) -> None:
    shards = make_shards([[3] * 50])
    plan = SentencePairs().plan(shards, 20, 0, 0)
    for index in np.flatnonzero(plan.is_random).tolist():
        a, b = halves(plan.example(index), shards)
        assert b[0] != a[-1] + 1


@pytest.mark.parametrize("documents", [[[7]], [[7], [2]], [[1, 1]], [[300], [2, 2]]])
def test_tiny_corpora_give_examples(make_shards, documents: list[list[int]]) -> None:
    shards = make_shards(documents)
    for kind in (SentencePairs(), Segments()):
        plan = kind.plan(shards, 12, 0, 0)
        assert len(plan) >= len(documents)
        for index in range(len(plan)):
            assert 3 <= len(plan.example(index)) <= 12


def test_labels_are_balanced_though_single_sentences_cannot_follow(make_shards) -> None:
    """A third of the pieces is one long sentence: always random. Without paying for that, 66 % would be random."""
    rng = random.Random(1)
    shards = make_shards([[rng.choice((60, 9, 9, 9, 9, 9, 9)) for _ in range(20)] for _ in range(600)], distinct=False)
    for epoch in range(3):
        plan = SentencePairs().plan(shards, 48, 0, epoch)
        assert len(plan) > 3000
        assert abs(plan.is_random.mean() - 0.5) < 0.005
        # ... and in each quarter of the corpus too, not just in the end.
        for quarter in np.array_split(plan.is_random, 4):
            assert abs(quarter.mean() - 0.5) < 0.03


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_share_of_random_pairs_is_a_choice(make_shards, rate: float) -> None:
    shards = make_shards([[3] * 40] * 100, distinct=False)
    plan = SentencePairs(short_sequence_rate=0.0, random_next_rate=rate).plan(shards, 20, 0, 0)
    # A document's last sentence may be left alone, and then it can only be paired with random text.
    assert plan.is_random.mean() == pytest.approx(rate, abs=0.03 if rate == 0 else 0.01)


@pytest.mark.parametrize("kind", [SentencePairs(), Segments()])
def test_a_plan_depends_on_seed_and_epoch_alone(make_shards, kind: Instances) -> None:
    documents = made_up(30)
    shards, sharded = make_shards(documents), make_shards(documents, shard_tokens=300)

    def examples(shards: Shards, seed: int, epoch: int) -> list[list[int]]:
        plan = kind.plan(shards, 40, seed, epoch)
        return [plan.example(i).tokens["input_ids"].tolist() for i in range(len(plan))]

    assert examples(shards, 1, 0) == examples(shards, 1, 0) == examples(sharded, 1, 0)
    assert examples(shards, 1, 0) != examples(shards, 1, 1)
    assert examples(shards, 1, 0) != examples(shards, 2, 0)


@pytest.mark.parametrize("length", [3, 7, 30, 100])
def test_segments_cover_the_corpus_once(make_shards, length: int) -> None:
    documents = made_up(40)
    shards = make_shards(documents, shard_tokens=500)
    plan = Segments().plan(shards, length, 5, 0)
    covered: list[int] = []
    for index in range(len(plan)):
        example = plan.example(index)
        ids = example.tokens["input_ids"].tolist()
        assert ids[0] == shards.vocabulary.cls_id
        assert ids[-1] == shards.vocabulary.sep_id
        assert len(ids) <= length
        assert not example.tokens["token_type_ids"].any()
        assert not example.targets
        text = [i - FIRST for i in ids[1:-1]]
        assert document_of(shards, text[0]) == document_of(shards, text[-1])
        covered += text
    assert covered == list(range(shards.tokens))


def test_segments_keep_sentences_whole_where_they_fit(make_shards) -> None:
    shards = make_shards([[4] * 30, [4, 4], [50]])
    plan = Segments().plan(shards, 16, 0, 0)
    first = plan.starts < 120
    assert (plan.lengths[first][1:-1] == 12).all()  # three sentences; 14 tokens would fit, not a fourth
    two = (plan.starts >= 120) & (plan.starts < 128)
    assert plan.lengths[two].tolist() == [8]  # a document that fits is not cut
    assert plan.lengths[plan.starts >= 128].sum() == 50
    assert (plan.lengths[plan.starts >= 128][1:-1] == 14).all()


def test_planning_is_quick(make_shards) -> None:
    """One to two microseconds an example; ten times that fails, so that a busy machine does not."""
    shards = make_shards([[12] * 30] * 300, distinct=False)
    start = time.perf_counter()
    plan = SentencePairs().plan(shards, 40, 0, 0)
    assert (time.perf_counter() - start) / len(plan) < 20e-6


def test_instances_are_configurations() -> None:
    assert to_dict(Segments()) == {"kind": "segments"}
    written = {"kind": "sentence_pairs", "short_sequence_rate": 0.2, "random_next_rate": 0.5}
    assert from_dict(Instances, written) == SentencePairs(short_sequence_rate=0.2)
    with pytest.raises(ConfigError, match="short_sequence_rate: expected a share from 0 to 1, got 2"):
        SentencePairs(short_sequence_rate=2)


def test_lengths_without_room_are_refused(make_shards) -> None:
    shards = make_shards([[3, 3]])
    with pytest.raises(UsageError, match="at least 5 tokens"):
        SentencePairs().plan(shards, 4, 0, 0)
    with pytest.raises(UsageError, match="at least 3 tokens"):
        Segments().plan(shards, 2, 0, 0)
