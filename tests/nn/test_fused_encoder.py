"""A whole encoder as one call: what its parts say one after the other, and for every batch."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bertsmith import nn
from bertsmith.data import Batch, Run
from bertsmith.nn.kernels import FusedBlock, FusedEncoder, can_fuse_whole, missing
from bertsmith.recipes import bert, modern

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no kernels here, because {missing()}")

SIZE, HIDDEN = 7, 12
CONFIGS = {"bert": bert.encoder(HIDDEN, 2, 2), "modern": modern.encoder(HIDDEN, 3, 2)}


def make(name: str) -> nn.Encoder:
    encoder = replace(CONFIGS[name], vocab_size=SIZE, embedding_dropout=0.0).build()
    for number, parameter in enumerate(encoder.parameters()):
        torch.nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(number))
    return encoder.eval()


def fused(encoder: nn.Encoder, dtype: torch.dtype = torch.float32) -> FusedEncoder:
    """The encoder is left as it is, and shares its parameters."""
    other = encoder.config.build().eval()
    other.channels, other.norms, other.ends = encoder.channels, encoder.norms, encoder.ends
    other.blocks = torch.nn.ModuleList(FusedBlock(block, dtype) for block in encoder.blocks)  # type: ignore[arg-type]
    return FusedEncoder(other)


def fields(lengths: list[int]) -> dict[str, np.ndarray]:
    """Ids of texts in a row, in order of length."""
    generator = np.random.default_rng(1)
    tokens = sum(lengths)
    return {
        "input_ids": generator.integers(0, SIZE, tokens),
        "token_type_ids": generator.integers(0, 2, tokens),
        "position_ids": np.concatenate([np.arange(length) for length in lengths]),
        "sequence_ids": np.repeat(np.arange(1, len(lengths) + 1), lengths),
    }


def runs_of(lengths: list[int]) -> list[Run]:
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    return [Run(start, 1, length) for start, length in zip(starts, lengths, strict=True)]


def batch(lengths: list[int], padding: int = 0) -> Batch:
    rows = {name: np.pad(row, (0, padding))[None] for name, row in fields(lengths).items()}
    runs = runs_of(lengths)
    return Batch(
        fields={name: torch.from_numpy(row) for name, row in rows.items()},
        starts=torch.tensor([run.start for run in runs]),
        lengths=torch.tensor(lengths),
        label_positions=torch.empty(0, dtype=torch.int64),
        has_padding=padding > 0,
        num_tokens=sum(lengths),
        runs=tuple(runs),
    )


@pytest.fixture(params=CONFIGS)
def encoder(request: pytest.FixtureRequest) -> nn.Encoder:
    return make(request.param)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("lengths", [[1], [11], [3, 5], [1, 1, 2, 40, 41, 200, 260], [2] * 300], ids=len)
@torch.inference_mode()
def test_it_is_what_its_parts_are(encoder: nn.Encoder, lengths: list[int], threads: int) -> None:
    """Embedding, blocks and the normalization at the end; few texts that threads share, and groups of many."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = batch(lengths, padding=5)
        whole = fused(encoder)
        expected, found = encoder(inputs)["tokens"], whole(inputs)["tokens"]
        torch.testing.assert_close(found[:, :-5], expected[:, :-5], atol=5e-5, rtol=5e-5)
        assert not found[:, -5:].any()
        *_, last = whole.layers(inputs, whole.apply_masks(inputs))
        torch.testing.assert_close(last["tokens"][:, :-5], expected[:, :-5], atol=5e-5, rtol=5e-5)
        numbers = np.stack([fields(lengths)[field] for field in whole.fields])
        for pooling in (nn.MeanPooling(), nn.ClsPooling()):
            assert whole.can_pool(pooling)
            vectors = whole.vectors(numbers, np.array(runs_of(lengths), np.int32), pooling)
            np.testing.assert_allclose(vectors, pooling(expected, inputs).numpy(), atol=5e-5, rtol=5e-5)
            again = whole.vectors(numbers, np.array(runs_of(lengths), np.int32), pooling)
            assert vectors.tobytes() == again.tobytes()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8], ids=str)
@torch.inference_mode()
def test_other_numbers_go_the_same_way(encoder: nn.Encoder, dtype: torch.dtype) -> None:
    if reason := missing(dtype):
        pytest.skip(f"no kernels here, because {reason}")
    inputs, whole = batch([3, 9]), fused(encoder, dtype)
    *_, last = whole.layers(inputs, whole.apply_masks(inputs))
    torch.testing.assert_close(whole(inputs)["tokens"], last["tokens"], atol=2e-5, rtol=2e-5)


def in_place(encoder: Any) -> None:
    encoder.channels["tokens"][0].table.weight[:, 0].add_(3)


def replaced(encoder: Any) -> None:
    table = encoder.channels["tokens"][0].table
    table.weight = torch.nn.Parameter(table.weight.flip(0))


def normalized_otherwise(encoder: Any) -> None:
    encoder.norms["tokens"].weight = torch.nn.Parameter(encoder.norms["tokens"].weight * 3)


def in_a_block(encoder: Any) -> None:
    encoder.blocks[1].attention.output.weight.mul_(3)


@pytest.mark.parametrize("change", [in_place, replaced, normalized_otherwise, in_a_block])
@torch.no_grad()
def test_weights_that_change_are_seen(encoder: nn.Encoder, change: Callable[[Any], None]) -> None:
    inputs, whole = batch([3, 5]), fused(encoder)
    before = whole(inputs)["tokens"]
    change(encoder)
    after = whole(inputs)["tokens"]
    assert (before - after).abs().max() > 0.05
    torch.testing.assert_close(after, encoder(inputs)["tokens"], atol=5e-5, rtol=5e-5)


@torch.no_grad()
def test_copies_have_memory_of_their_own(encoder: nn.Encoder) -> None:
    inputs, whole = batch([3, 5]), fused(encoder)
    expected = whole(inputs)["tokens"]
    copied = copy.deepcopy(whole)
    assert torch.equal(copied(inputs)["tokens"], expected)
    in_place(copied)
    assert not torch.equal(copied(inputs)["tokens"], expected)
    assert torch.equal(whole(inputs)["tokens"], expected)


@pytest.mark.parametrize(("field", "number"), [("input_ids", SIZE), ("token_type_ids", -1)])
def test_numbers_that_a_table_does_not_have(field: str, number: int) -> None:
    """Nothing outside a table is read."""
    whole, given = fused(make("bert")), fields([3, 5])
    given[field][4] = number
    with pytest.raises(IndexError, match=r"channel \d of the embedding has no vector for a number that is looked up"):
        whole.vectors(
            np.stack([given[name] for name in whole.fields]), np.array(runs_of([3, 5]), np.int32), nn.MeanPooling()
        )


def test_what_it_does_not_know_is_left_to_torch(encoder: nn.Encoder) -> None:
    whole = fused(encoder)
    assert not whole.can_pool(nn.MaxPooling())
    assert not can_fuse_whole(encoder)  # its blocks are not
    inputs = batch([3, 5])
    with torch.no_grad():
        expected = whole(inputs)["tokens"]
        other = replace(inputs, fields={name: row.int() for name, row in inputs.fields.items()})
        torch.testing.assert_close(whole(other)["tokens"], expected, atol=5e-5, rtol=5e-5)
    with pytest.raises(ValueError, match="texts that lie in one row"):
        whole(replace(inputs, runs=()))
    handle = whole.norms["tokens"].register_forward_hook(lambda *_: None)
    assert not can_fuse_whole(whole)
    with pytest.raises(ValueError, match="do not know such an encoder"):
        FusedEncoder(whole)
    handle.remove()
    assert can_fuse_whole(whole)
