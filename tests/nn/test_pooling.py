import pytest
import torch

from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Example, pack, pad
from bertsmith.nn import ClsPooling, MeanPooling, Pooling


@pytest.mark.parametrize("layout", ["padded", "packed", "one row"])
def test_pooling_is_the_loop(examples: list[Example], layout: str) -> None:
    batch: Batch = {
        "padded": pad(examples, pad_id=0),
        "packed": pack(examples, length=11, pad_id=0),
        "one row": pack(examples, length=15, pad_id=0),
    }[layout]
    hidden = torch.randn(*batch["input_ids"].shape, 12, generator=torch.Generator().manual_seed(4))
    hidden[~batch.attention_mask] = float("nan")  # nobody may look at padding
    mean, first = MeanPooling()(hidden, batch), ClsPooling()(hidden, batch)
    assert mean.shape == first.shape == (3, 12)
    for i, example in enumerate(examples):
        start = int(batch.starts[i])
        row, column = divmod(start, hidden.shape[1])
        total = torch.zeros(12)
        for offset in range(len(example)):
            total += hidden[row, column + offset]
        torch.testing.assert_close(mean[i], total / len(example))
        assert torch.equal(first[i], hidden[row, column])


def test_pooling_adds_up_in_float32(examples: list[Example]) -> None:
    batch = pad(examples, pad_id=0)
    hidden = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(4)).bfloat16()
    assert MeanPooling()(hidden, batch).dtype == torch.float32
    torch.testing.assert_close(MeanPooling()(hidden, batch), MeanPooling()(hidden.float(), batch))
    assert ClsPooling()(hidden, batch).dtype == torch.float32


@pytest.mark.parametrize("pooling", [MeanPooling(), ClsPooling()])
def test_round_trip(pooling: Pooling) -> None:
    assert from_dict(Pooling, to_dict(pooling)) == pooling
