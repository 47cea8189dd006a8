import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.data import IGNORE_INDEX, Batch, Example, pack, pad
from bertsmith.errors import DataError, UsageError

PAD = 9


def example(number: int, length: int) -> Example:
    """Tokens that tell their sequence and place, a label on every third place, an own field, a float target."""
    place = np.arange(length)
    return Example(
        {
            "input_ids": 1000 * (number + 1) + place,
            "token_type_ids": (place >= length // 2).astype(np.int64),
            "labels": np.where(place % 3 == 1, 1000 * (number + 1) + place, IGNORE_INDEX),
            "entity_ids": place + 1,
        },
        {"next_sentence_label": number % 2, "score": number / 4},
    )


def check_whole(batch: Batch, examples: list[Example]) -> None:
    """Every example is found at its start, whole; everything else is padding."""
    flat = {name: tensor.reshape(-1) for name, tensor in batch.fields.items()}
    covered = torch.zeros_like(flat["input_ids"], dtype=torch.bool)
    for number, one in enumerate(examples):
        start, length = int(batch.starts[number]), int(batch.lengths[number])
        assert length == len(one)
        assert start // batch["input_ids"].shape[1] == (start + length - 1) // batch["input_ids"].shape[1]
        span = slice(start, start + length)
        assert not covered[span].any()
        covered[span] = True
        for name, array in one.tokens.items():
            assert flat[name][span].tolist() == array.tolist()
        assert flat["position_ids"][span].tolist() == list(range(length))
        assert len(set(flat["sequence_ids"][span].tolist())) == 1
    assert torch.equal(batch.attention_mask.reshape(-1), covered)
    for name, padding in {"input_ids": PAD, "labels": IGNORE_INDEX}.items():
        assert (flat[name][~covered] == padding).all()
    for name in flat.keys() - {"input_ids", "labels"}:
        assert not flat[name][~covered].any()
    assert torch.equal(batch.label_positions, torch.nonzero(flat["labels"] != IGNORE_INDEX)[:, 0])
    assert batch.num_tokens == int(covered.sum()) == sum(map(len, examples))
    assert batch.has_padding == (not covered.all())
    assert batch.num_sequences == len(examples)


@given(st.lists(st.integers(1, 23), min_size=1, max_size=30), st.integers(23, 60))
def test_packing_loses_nothing(lengths: list[int], room: int) -> None:
    examples = [example(number, length) for number, length in enumerate(lengths)]
    batch = pack(examples, length=room, pad_id=PAD)
    check_whole(batch, examples)
    rows, width = batch["input_ids"].shape
    assert width <= room
    assert width == max(int(row.sum()) for row in batch.attention_mask)  # no column is padding alone
    assert batch.one_sequence_per_row == (rows == len(examples))
    assert batch.targets["next_sentence_label"].tolist() == [n % 2 for n in range(len(lengths))]
    # Inside a row, sequences are numbered 1, 2, ... from the left.
    for row in batch["sequence_ids"]:
        seen = [int(i) for i in torch.unique_consecutive(row) if i > 0]
        assert seen == list(range(1, len(seen) + 1))


@given(st.lists(st.integers(1, 23), min_size=1, max_size=9))
def test_padding_gives_each_sequence_its_row(lengths: list[int]) -> None:
    examples = [example(number, length) for number, length in enumerate(lengths)]
    batch = pad(examples, pad_id=PAD)
    check_whole(batch, examples)
    assert batch["input_ids"].shape == (len(lengths), max(lengths))
    assert batch.one_sequence_per_row
    assert batch.starts.tolist() == [number * max(lengths) for number in range(len(lengths))]


def test_best_fit_on_a_case_by_hand() -> None:
    """Into rows of 10: 7 and 3, then 6 and 4, then 5; first fit in the order given would need four rows."""
    batch = pack([example(n, length) for n, length in enumerate([4, 5, 7, 6, 3])], length=10, pad_id=PAD)
    assert batch["sequence_ids"].tolist() == [
        [1, 1, 1, 1, 1, 1, 1, 2, 2, 2],
        [1, 1, 1, 1, 1, 1, 2, 2, 2, 2],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    ]
    assert batch.starts.tolist() == [16, 20, 0, 10, 7]
    assert not batch.one_sequence_per_row
    assert batch.targets["score"].dtype == torch.float32
    assert batch.targets["score"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_rows_are_cut_to_the_longest() -> None:
    assert pack([example(0, 3), example(1, 5)], length=7, pad_id=PAD)["input_ids"].shape == (2, 5)


def test_what_cannot_be_packed_is_named() -> None:
    with pytest.raises(DataError, match="Example 1 has 8 tokens and a row holds 7"):
        pack([example(0, 3), example(1, 8)], length=7, pad_id=PAD)
    with pytest.raises(DataError, match="at least one example"):
        pack([], length=7, pad_id=PAD)
    with pytest.raises(DataError, match="at least one example"):
        pad([], pad_id=PAD)
    unlabelled = Example({name: example(1, 3).tokens[name] for name in ("input_ids", "token_type_ids")})
    with pytest.raises(DataError, match="Example 1 has the fields"):
        pack([example(0, 3), unlabelled], length=7, pad_id=PAD)


def test_a_batch_without_labels_predicts_nothing() -> None:
    ids = np.arange(3)
    batch = pack([Example({"input_ids": ids, "token_type_ids": ids * 0})], length=4, pad_id=PAD)
    assert batch.label_positions.shape == (0,)
    assert not batch.has_padding
    with pytest.raises(UsageError, match=r"no field 'labels'. Allowed: input_ids, position_ids"):
        batch["labels"]


def test_a_batch_moves_as_a_whole() -> None:
    batch = pack([example(0, 3), example(1, 4)], length=7, pad_id=PAD).to("meta")
    tensors = [*batch.fields.values(), *batch.targets.values(), batch.starts, batch.lengths, batch.label_positions]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.num_tokens == 7


def test_packing_is_quick() -> None:
    """64 x 128 takes about 0.5 ms; ten times that fails, so that a busy machine does not."""
    rng = np.random.default_rng(0)
    examples = [example(n, int(length)) for n, length in enumerate(rng.integers(20, 129, 64))]
    times = []
    for _ in range(20):
        start = time.perf_counter()
        pack(examples, length=128, pad_id=PAD)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005
