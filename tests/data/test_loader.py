import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch

from bertsmith.data import (
    IGNORE_INDEX,
    Batch,
    Draws,
    Loader,
    Masking,
    MaskStatistics,
    Position,
    Segments,
    SentencePairs,
    Shards,
    WholeWords,
)

DOCUMENTS = [[5, 9, 3, 8], [7], [6, 6, 6, 6, 6], [20, 2], [4, 11, 4]] * 3


def loader(shards: Shards, **changes) -> Loader:
    options = {"length": 24, "seed": 11, "instances": SentencePairs()} | changes
    return Loader(shards, options.pop("instances"), **options)


def batches(
    one: Loader, start: Position = Position(), *, batch_size: int = 7, masking: Masking | None = Masking()
) -> Iterator[tuple[Batch, Position]]:
    """One batch a step."""
    for drawn in one.steps(Draws(batch_size=batch_size, masking=masking), start):
        yield drawn.batches[0], drawn.position


def examples_of(batch: Batch) -> list[tuple]:
    """All that a batch says of each of its examples, in their order and without the layout."""
    found = []
    for number, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
        span = slice(start, start + length)
        per_token = {n: t.reshape(-1)[span].tolist() for n, t in batch.fields.items() if n != "sequence_ids"}
        found.append((per_token, {name: tensor[number].item() for name, tensor in batch.targets.items()}))
    return found


def same(one: Batch, two: Batch) -> bool:
    return (
        one.fields.keys() == two.fields.keys()
        and all(torch.equal(one[name], two[name]) for name in one.fields)
        and all(torch.equal(one.targets[name], two.targets[name]) for name in one.targets)
        and torch.equal(one.starts, two.starts)
        and one.statistics == two.statistics
    )


def test_a_run_resumes_at_any_batch(make_shards) -> None:
    """Stop after every batch of three epochs, go on with a new loader: the next batches are the straight run's."""
    shards = make_shards(DOCUMENTS)
    straight = list(islice(batches(loader(shards)), 14))
    assert straight[-1][1].epoch >= 3
    for number, (_, position) in enumerate(straight[:-2]):
        resumed = list(islice(batches(loader(shards), position), 2))
        for (batch, after), (expected, expected_after) in zip(resumed, straight[number + 1 :], strict=False):
            assert same(batch, expected)
            assert after == expected_after


def test_the_order_of_examples_does_not_depend_on_the_batch_size(make_shards) -> None:
    shards = make_shards(DOCUMENTS)

    def first(count: int, batch_size: int) -> list[tuple]:
        drawn = islice(batches(loader(shards), batch_size=batch_size), -(-count // batch_size))
        return [example for batch, _ in drawn for example in examples_of(batch)][:count]

    assert first(90, 7) == first(90, 30) == first(90, 1)


def test_an_epoch_has_every_example_once(make_shards) -> None:
    shards = make_shards(DOCUMENTS)
    one = loader(shards)
    plan = SentencePairs().plan(shards, 24, 11, 0)
    expected = Counter(str(plan.example(i).tokens["input_ids"].tolist()) for i in range(len(plan)))
    assert one.epoch_size(0) == len(plan)
    assert len(plan) % 4  # so that the last batch is a smaller one, and the endless ones straddle epochs
    seen = [example for batch in one.one_epoch(4, None) for example in examples_of(batch)]
    assert Counter(str(tokens["input_ids"]) for tokens, _ in seen) == expected
    endless = [
        example
        for batch, _ in islice(batches(one, batch_size=4, masking=None), -(-len(plan) // 4))
        for example in examples_of(batch)
    ]
    assert endless[: len(plan)] == seen
    in_order = [str(plan.example(i).tokens["input_ids"].tolist()) for i in range(len(plan))]
    assert [str(tokens["input_ids"]) for tokens, _ in seen] != in_order


def test_all_batches_have_the_same_number_of_examples(make_shards) -> None:
    drawn = islice(batches(loader(make_shards([[5, 9], [7]])), batch_size=5), 20)
    assert {batch.num_sequences for batch, _ in drawn} == {5}  # though an epoch has only two or three


def test_epochs_hide_other_tokens(make_shards) -> None:
    shards = make_shards([[9]])  # one segment: the same in each epoch
    one = batches(loader(shards, instances=Segments()), batch_size=1, masking=Masking(rate=0.5))
    hidden = {tuple(batch.label_positions.tolist()) for batch, _ in islice(one, 20)}
    assert len(hidden) > 5


def test_seeds_give_other_batches(make_shards) -> None:
    shards = make_shards(DOCUMENTS)
    one, two = (next(batches(loader(shards, seed=seed)))[0] for seed in (1, 2))
    assert examples_of(one) != examples_of(two)


def test_without_masking_there_are_no_labels(make_shards) -> None:
    batch, _ = next(batches(loader(make_shards(DOCUMENTS)), masking=None))
    assert "labels" not in batch.fields
    assert batch.statistics.chosen == 0
    assert batch.statistics.pairs == 7


def test_rows_may_be_longer_than_sequences(make_shards) -> None:
    batch, _ = next(batches(loader(make_shards(DOCUMENTS), row_length=96)))
    assert 24 < batch["input_ids"].shape[1] <= 96
    assert batch.lengths.max() <= 24
    assert not batch.one_sequence_per_row


def test_a_position_at_the_end_of_an_epoch_is_the_start_of_the_next(make_shards) -> None:
    one = loader(make_shards(DOCUMENTS))
    ended = next(batches(one, Position(0, one.epoch_size(0))))
    fresh = next(batches(one, Position(1, 0)))
    assert same(ended[0], fresh[0])
    assert ended[1] == fresh[1]


def test_statistics_add_up_and_have_rates() -> None:
    one = MaskStatistics(2, 100, 20, 15, 3, 2, 2, 1)
    two = one + one
    assert two == MaskStatistics(4, 200, 40, 30, 6, 4, 4, 2)
    assert two.rates() == {"chosen": 0.2, "masked": 0.75, "random": 0.15, "kept": 0.1, "random_next": 0.5}
    assert set(MaskStatistics().rates().values()) == {0.0}


def check_a_million_tokens(one: Loader, masking: Masking) -> None:
    """15 +- 0.2 % chosen, 80/10/10 +- 0.5, next sentence 50 +- 0.5, no special token, by counting the batches anew."""
    vocabulary = one.shards.vocabulary
    told, chosen, tokens, masked, kept, random_next, pairs = MaskStatistics(), 0, 0, 0, 0, 0, 0
    for batch, _ in batches(one, batch_size=64, masking=masking):
        real = batch.attention_mask.numpy()
        seen, labels = batch["input_ids"].numpy()[real], batch["labels"].numpy()[real]
        picked = labels != IGNORE_INDEX
        assert not vocabulary.is_special[labels[picked]].any()
        assert not vocabulary.is_special[seen[picked & (seen != vocabulary.mask_id)]].any()
        chosen += int(picked.sum())
        tokens += len(labels)
        masked += int((seen[picked] == vocabulary.mask_id).sum())
        kept += int((seen[picked] == labels[picked]).sum())
        random_next += int(batch.targets["next_sentence_label"].sum())
        pairs += batch.num_sequences
        told += batch.statistics
        if tokens >= 1_000_000:
            break
    assert told == MaskStatistics(pairs, tokens, chosen, masked, chosen - masked - kept, kept, pairs, random_next)
    assert abs(chosen / tokens - 0.15) < 0.002
    assert abs(masked / chosen - 0.8) < 0.005
    assert abs(kept / chosen - 0.1) < 0.005
    assert abs(1 - (masked + kept) / chosen - 0.1) < 0.005
    assert abs(random_next / pairs - 0.5) < 0.005


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("choice", ["single_tokens", "whole_words"])
def test_a_million_made_up_tokens_have_the_rates_of_bert(made_up_shards: Shards, choice: str, seed: int) -> None:
    masking = Masking(WholeWords()) if choice == "whole_words" else Masking()
    check_a_million_tokens(Loader(made_up_shards, SentencePairs(), length=128, seed=seed), masking)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_million_real_tokens_have_the_rates_of_bert(real_shards: Shards, seed: int) -> None:
    check_a_million_tokens(Loader(real_shards, SentencePairs(), length=128, seed=seed), Masking())


def test_drawing_batches_is_quick(made_up_shards: Shards) -> None:
    """About 2 M tokens a second on one core; a tenth of that still feeds a small model on the same machine."""
    drawn = batches(Loader(made_up_shards, SentencePairs(), length=128, seed=0), batch_size=64)
    next(drawn)
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        tokens = sum(batch.num_tokens for batch, _ in islice(drawn, 10))
        rates.append(tokens / (time.perf_counter() - start))
    assert max(rates) > 200_000


def test_positions_are_ordered() -> None:
    assert Position(0, 9) < Position(1, 0) < Position(1, 1)
    assert np.all(Position() == Position(0, 0))
