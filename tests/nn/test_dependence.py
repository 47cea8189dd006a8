"""Which outputs move when an input moves."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertsmith import nn
from bertsmith.config import override
from bertsmith.data import Batch, Example, pack, pad


def changed(example: Example, position: int) -> Example:
    ids = example.tokens["input_ids"].copy()
    ids[position] = (ids[position] + 1) % 37
    return Example({**example.tokens, "input_ids": ids})


def outputs(model: nn.Model, batch: Batch) -> list[torch.Tensor]:
    """The last hidden states of each sequence, in the order of the examples."""
    with torch.no_grad():
        flat = model(batch).streams["tokens"].flatten(0, 1)
    lengths = batch.lengths.tolist()
    return [flat[start : start + n] for start, n in zip(batch.starts.tolist(), lengths, strict=True)]


@pytest.mark.parametrize("mask", [nn.Full(), nn.Causal()], ids=str)
@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("encoder", ["encoder_config", "modern_config"])
def test_dependence(
    encoder: str, request: pytest.FixtureRequest, examples: list[Example], mask: nn.AttentionMask, layout: str
) -> None:
    """Full: every position of the same sequence moves. Causal: those from the changed one on. Neighbours: never."""
    config = request.getfixturevalue(encoder)(mask)
    model = nn.Model.Config(encoder=config).initialized(seed=2).eval()

    def lay_out(sequences: list[Example]) -> Batch:
        return pad(sequences, pad_id=0) if layout == "padded" else pack(sequences, length=15, pad_id=0)

    before = outputs(model, lay_out(examples))
    for which, example in enumerate(examples):
        for position in range(len(example)):
            after = outputs(model, lay_out([*examples[:which], changed(example, position), *examples[which + 1 :]]))
            for other in range(len(examples)):
                moved = (before[other] != after[other]).any(-1)
                expected = torch.zeros(len(examples[other]), dtype=torch.bool)
                if other == which:
                    expected[position if isinstance(mask, nn.Causal) else 0 :] = True
                assert torch.equal(moved, expected), (which, position, other)


@pytest.mark.parametrize("pad_id", [0, 36])
def test_neighbours_and_padding_do_not_matter(model: nn.Model, examples: list[Example], pad_id: int) -> None:
    alone = [outputs(model, pad([example], pad_id=pad_id))[0] for example in examples]
    for batch in (pad(examples, pad_id=pad_id), pack(examples, length=11, pad_id=pad_id)):
        for one, together in zip(alone, outputs(model, batch), strict=True):
            torch.testing.assert_close(together, one, atol=1e-5, rtol=0)
    reversed_order = outputs(model, pack(examples[::-1], length=15, pad_id=pad_id))[::-1]
    for one, together in zip(alone, reversed_order, strict=True):
        torch.testing.assert_close(together, one, atol=1e-5, rtol=0)


def test_order_counts_without_vectors_for_positions(
    modern_config: Callable[..., nn.Encoder.Config], examples: list[Example]
) -> None:
    """Rotary positions alone tell the order of the other tokens, wherever in a row the sequence stands."""
    ids = examples[0].tokens["input_ids"].copy()
    assert ids[3] != ids[5]
    ids[[3, 5]] = ids[[5, 3]]
    swapped = Example({**examples[0].tokens, "input_ids": ids})
    for rotary in (True, False):
        config = modern_config()
        if not rotary:
            config = override(config, ["layers.*.block.attention.query_key=[]"])
        model = nn.Model.Config(encoder=config).initialized(seed=2).eval()
        before = outputs(model, pad(examples[:1], pad_id=0))[0][0]
        after = outputs(model, pad([swapped], pad_id=0))[0][0]
        assert torch.allclose(before, after, atol=1e-5) is not rotary
        behind = outputs(model, pack([examples[1], examples[0]], length=11, pad_id=0))[1][0]
        torch.testing.assert_close(behind, before, atol=1e-5, rtol=0)


def test_every_input_channel_counts(model: nn.Model, examples: list[Example]) -> None:
    before = outputs(model, pad(examples[:1], pad_id=0))[0]
    types = np.zeros_like(examples[0].tokens["token_type_ids"])
    other_segment = Example({**examples[0].tokens, "token_type_ids": types})
    assert not torch.equal(outputs(model, pad([other_segment], pad_id=0))[0], before)
    same_token = Example({"input_ids": np.full(4, 8), "token_type_ids": np.zeros(4, np.int64)})
    states = outputs(model, pad([same_token], pad_id=0))[0]
    assert not torch.allclose(states[0], states[1])  # only the position tells them apart


@pytest.mark.parametrize("encoder", ["encoder_config", "modern_config"])
def test_every_parameter_is_used(encoder: str, request: pytest.FixtureRequest, examples: list[Example]) -> None:
    heads = {"masked_lm": nn.MaskedLMHead.Config(), "next_sentence": nn.SequenceHead.Config(num_labels=2)}
    config = nn.Model.Config(encoder=request.getfixturevalue(encoder)(), heads=heads)
    model = config.initialized(seed=5).eval()
    batch = pack(examples, length=11, pad_id=0)
    output = model(batch)
    scores = model.heads["masked_lm"](output.at(batch.starts + 1), model.encoder.token_table.weight)
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
    (scores * weights).sum().add(model.heads["next_sentence"](output.pooled)[:, 0].sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
