import pytest
import torch

from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Example, pack, pad
from bertsmith.errors import ConfigError
from bertsmith.nn import (
    ClsPooling,
    LastTokenPooling,
    MaxPooling,
    MeanPooling,
    Output,
    PoolerPooling,
    Pooling,
    RootMeanPooling,
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


@pytest.mark.parametrize("pooling", [*POOLINGS, PoolerPooling()])
def test_round_trip(pooling: Pooling) -> None:
    assert from_dict(Pooling, to_dict(pooling)) == pooling
