from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Example, pack, pad
from bertsmith.errors import ConfigError
from bertsmith.nn import (
    ClsPooling,
    LastTokenPooling,
    MaxPooling,
    MeanMaxPooling,
    MeanPooling,
    Output,
    PoolerPooling,
    Pooling,
    RootMeanPooling,
    TextMeanPooling,
    WeightedMeanPooling,
)

POOLINGS = (
    ClsPooling(),
    MeanPooling(),
    MaxPooling(),
    RootMeanPooling(),
    WeightedMeanPooling(),
    LastTokenPooling(),
)


@pytest.mark.parametrize("layout", ["padded", "packed", "one row"])
def test_pooling_is_the_loop(examples: list[Example], layout: str) -> None:
    batch: Batch = {
        "padded": pad(examples, pad_id=0),
        "packed": pack(examples, length=11, pad_id=0),
        "one row": pack(examples, length=15, pad_id=0),
    }[layout]
    hidden = torch.randn(*batch["input_ids"].shape, 12, generator=torch.Generator().manual_seed(4))
    hidden[~batch.attention_mask] = float("nan")  # nobody may look at padding
    found = {pooling.kind: pooling(hidden, batch) for pooling in POOLINGS}
    assert {vectors.shape for vectors in found.values()} == {(3, 12)}
    for i, example in enumerate(examples):
        row, column = divmod(int(batch.starts[i]), hidden.shape[1])
        tokens = [hidden[row, column + offset] for offset in range(len(example))]
        expected = {
            "cls": tokens[0],
            "mean": sum(tokens) / len(tokens),
            "max": torch.tensor([max(float(token[j]) for token in tokens) for j in range(12)]),
            "mean_sqrt_len_tokens": sum(tokens) / len(tokens) ** 0.5,
            "weightedmean": sum((n + 1) * t for n, t in enumerate(tokens)) / sum(n + 1 for n in range(len(tokens))),
            "lasttoken": tokens[-1],
        }
        for kind, vectors in found.items():
            torch.testing.assert_close(vectors[i], expected[kind], msg=kind)
        assert torch.equal(found["cls"][i], tokens[0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_adds_up_in_float32(examples: list[Example], pooling: Pooling) -> None:
    batch = pad(examples, pad_id=0)
    hidden = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(4)).bfloat16()
    assert pooling(hidden, batch).dtype == torch.float32
    torch.testing.assert_close(pooling(hidden, batch), pooling(hidden.float(), batch))


def test_the_pooler_pools(examples: list[Example]) -> None:
    batch = pad(examples, pad_id=0)
    streams, pooled = {"tokens": torch.zeros(3, 7, 12)}, torch.randn(3, 12).bfloat16()
    assert torch.equal(PoolerPooling().of(Output(streams, pooled), batch), pooled.float())
    assert torch.equal(ClsPooling().of(Output(streams, pooled), batch), torch.zeros(3, 12))
    with pytest.raises(ConfigError, match="the model has no pooler, whose vector is asked for"):
        PoolerPooling().of(Output(streams, None), batch)


@pytest.mark.parametrize("layout", [pad, lambda examples, pad_id: pack(examples, length=11, pad_id=pad_id)])
def test_a_mean_without_special_tokens(examples: list[Example], layout: Callable[..., Batch]) -> None:
    special = [[True, *[False] * 5, True], [True, True, True], [True, False, True, False, True]]
    marked = [Example({**e.tokens, "special_tokens": np.array(s)}) for e, s in zip(examples, special, strict=True)]
    batch = layout(marked, pad_id=0)
    hidden = torch.randn(*batch["input_ids"].shape, 12, generator=torch.Generator().manual_seed(4))
    tokens = hidden.flatten(0, 1)[batch.token_positions].split([7, 3, 5])
    found = TextMeanPooling()(hidden, batch)
    torch.testing.assert_close(found, torch.stack([tokens[0][1:6].mean(0), torch.zeros(12), tokens[2][[1, 3]].mean(0)]))


def test_mean_and_max_stand_side_by_side(examples: list[Example]) -> None:
    batch = pad(examples, pad_id=0)
    hidden = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(4))
    found = MeanMaxPooling()(hidden, batch)
    assert found.shape == (3, MeanMaxPooling().size(12)) == (3, 24)
    assert torch.equal(found, torch.cat([MeanPooling()(hidden, batch), MaxPooling()(hidden, batch)], 1))


@pytest.mark.parametrize("pooling", [*POOLINGS, PoolerPooling(), TextMeanPooling(), MeanMaxPooling()])
def test_round_trip(pooling: Pooling) -> None:
    assert from_dict(Pooling, to_dict(pooling)) == pooling
