import pytest
import torch

from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Example, pack, pad
from bertsmith.errors import ConfigError
from bertsmith.nn import AppliedMask, AttentionMask, Both, Causal, Full, SameSequence

MASKS = [
    Full(),
    Causal(),
    SameSequence(),
    Both(left=Full(), right=SameSequence()),
    Both(left=Causal(), right=SameSequence()),
    Both(left=Full(), right=Full()),
    Both(left=SameSequence(), right=Both(left=Full(), right=Causal())),
]


def batches(examples: list[Example]) -> dict[str, Batch]:
    return {
        "padded": pad(examples, pad_id=0),
        "packed": pack(examples, length=13, pad_id=0),
        "packed without padding": pack(examples, length=15, pad_id=0),
        "alone": pad(examples[:1], pad_id=0),
        "equally long": pad([examples[0], examples[0]], pad_id=0),
    }


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("layout", ["padded", "packed", "packed without padding", "alone", "equally long"])
def test_what_the_kernel_receives_is_what_is_allowed(examples: list[Example], mask: AttentionMask, layout: str) -> None:
    batch = batches(examples)[layout]
    rows, length = batch["input_ids"].shape
    allowed = mask.allowed(batch)
    assert allowed.shape == (rows, length, length)
    assert allowed.dtype == torch.bool
    lowered = mask.lower(batch)
    assert torch.equal(torch.ones_like(allowed) if lowered is None else lowered, allowed)
    for dtype in (torch.float32, torch.bfloat16):
        bias = AppliedMask(mask, batch).bias(dtype)
        if bias is None:
            assert allowed.all()
        else:
            assert bias.dtype == dtype
            assert torch.equal(bias[:, 0] == 0, allowed)
            assert (bias[:, 0][~allowed] == float("-inf")).all()


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_no_query_is_left_without_a_key(examples: list[Example], mask: AttentionMask) -> None:
    for batch in batches(examples).values():
        assert mask.allowed(batch).any(-1).all()  # an empty row of a softmax is NaN


def test_definitions(examples: list[Example]) -> None:
    batch = pack(examples, length=13, pad_id=0)
    sequences = batch["sequence_ids"]
    for row in range(len(sequences)):
        for query in range(sequences.shape[1]):
            for key in range(sequences.shape[1]):
                assert Full().allowed(batch)[row, query, key]
                assert Causal().allowed(batch)[row, query, key] == (key <= query)
                assert SameSequence().allowed(batch)[row, query, key] == (sequences[row, query] == sequences[row, key])
                both = (Causal() & SameSequence()).allowed(batch)[row, query, key]
                assert both == (key <= query and sequences[row, query] == sequences[row, key])


def test_fast_path_only_where_nothing_is_forbidden(examples: list[Example]) -> None:
    lowered = {name: SameSequence().lower(batch) for name, batch in batches(examples).items()}
    assert lowered["alone"] is None
    assert lowered["equally long"] is None
    assert lowered["padded"] is not None
    assert lowered["packed without padding"] is not None


def test_round_trip_and_unknown_kind() -> None:
    mask = Both(left=Causal(), right=Both(left=Full(), right=SameSequence()))
    assert to_dict(mask)["left"] == {"kind": "causal"}
    assert from_dict(AttentionMask, to_dict(mask)) == mask
    with pytest.raises(ConfigError, match=r"left\.kind: no part is called 'casual'\. Did you mean 'causal'\?"):
        from_dict(AttentionMask, {"kind": "both", "left": {"kind": "casual"}, "right": {"kind": "full"}})
