import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertsmith import nn
from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Example, pack, pad
from bertsmith.errors import ConfigError
from bertsmith.nn import AppliedMask, Attention, Both, Causal, Full, SameSequence, Sizes


@pytest.fixture
def attention() -> Attention:
    module = Attention.Config(num_attention_heads=2, dropout=0.5).build(Sizes(hidden_size=12, vocab_size=37))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return module.eval()


def by_the_book(
    attention: Attention, x: np.ndarray, context: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One query, one head, one key at a time: output (query, hidden) and weights (head, query, key)."""
    weight = attention.query_key_value.weight.detach().double().numpy()
    bias = attention.query_key_value.bias.detach().double().numpy()
    query = x @ weight[:12].T + bias[:12]
    key = context @ weight[12:24].T + bias[12:24]
    value = context @ weight[24:].T + bias[24:]
    mixed = np.zeros((len(x), 12))
    weights = np.zeros((2, len(x), len(context)))
    for head in range(2):
        part = slice(6 * head, 6 * head + 6)
        for i in range(len(x)):
            scores = [
                math.exp(query[i, part] @ key[j, part] / math.sqrt(6)) if allowed[i, j] else 0.0
                for j in range(len(context))
            ]
            for j in range(len(context)):
                weights[head, i, j] = scores[j] / sum(scores)
                mixed[i, part] += weights[head, i, j] * value[j, part]
    out_weight = attention.output.weight.detach().double().numpy()
    return mixed @ out_weight.T + attention.output.bias.detach().double().numpy(), weights


@pytest.mark.parametrize("mask", [Full(), Causal(), SameSequence(), Both(left=Causal(), right=SameSequence())])
def test_attention_is_the_formula(
    attention: Attention, hidden: torch.Tensor, examples: list[Example], mask: nn.AttentionMask
) -> None:
    batch = pad(examples, pad_id=0)
    applied = AppliedMask(mask, batch)
    output = attention(hidden, hidden, applied)
    probabilities = attention.probabilities(hidden, hidden, applied)
    for row in range(3):
        x = hidden[row].double().numpy()
        expected, weights = by_the_book(attention, x, x, mask.allowed(batch)[row].numpy())
        np.testing.assert_allclose(output[row].detach().numpy(), expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(probabilities[row].detach().numpy(), weights, atol=2e-6)


def test_queries_may_come_from_another_stream(
    attention: Attention, hidden: torch.Tensor, examples: list[Example]
) -> None:
    batch = pad(examples, pad_id=0)
    mask = AppliedMask(Full(), batch)
    queries = hidden.flip(0) * 2
    output = attention(queries, hidden, mask)
    for row in range(3):
        expected, _ = by_the_book(
            attention, queries[row].double().numpy(), hidden[row].double().numpy(), np.ones((7, 7), bool)
        )
        np.testing.assert_allclose(output[row].detach().numpy(), expected, atol=1e-5, rtol=1e-5)
    same = attention(hidden, hidden.clone(), mask)  # the same values, but not known to be the same tensor
    torch.testing.assert_close(same, attention(hidden, hidden, mask), atol=1e-6, rtol=0)


@pytest.mark.parametrize("mask", [Full(), Causal(), SameSequence()])
def test_bfloat16_is_the_same_formula_rounded(
    attention: Attention, hidden: torch.Tensor, examples: list[Example], mask: nn.AttentionMask
) -> None:
    """It takes another path on a CPU; gradients and dropout come with it."""
    batch = pad(examples, pad_id=0)
    exact, rounded = (hidden.clone().requires_grad_() for _ in range(2))
    first = attention(exact, exact, AppliedMask(mask, batch))
    second = attention(*[rounded.bfloat16()] * 2, AppliedMask(mask, batch))
    assert second.dtype == torch.bfloat16
    assert (first - second).norm() < 0.02 * first.norm()
    first.square().sum().backward()
    second.float().square().sum().backward()
    assert exact.grad is not None and rounded.grad is not None
    assert (exact.grad - rounded.grad).norm() < 0.02 * exact.grad.norm()
    attention.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = hidden.bfloat16()
        assert not torch.equal(attention(x, x, AppliedMask(mask, batch)), attention(x, x, AppliedMask(mask, batch)))


def test_dropout_is_for_training_only(attention: Attention, hidden: torch.Tensor, examples: list[Example]) -> None:
    mask = AppliedMask(Full(), pad(examples, pad_id=0))
    assert torch.equal(attention(hidden, hidden, mask), attention(hidden, hidden, mask))
    attention.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.allclose(attention(hidden, hidden, mask), attention(hidden, hidden, mask))


def test_hidden_size_must_be_a_multiple_of_the_heads() -> None:
    with pytest.raises(ConfigError, match="num_attention_heads: hidden_size 12 is not a multiple of 5 heads"):
        Attention.Config(num_attention_heads=5).build(Sizes(hidden_size=12, vocab_size=37))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads: expected at least 1"),
        ({"num_attention_heads": 2, "dropout": 1.0}, r"dropout: expected 0 <= dropout < 1, got 1\.0"),
        ({"num_attention_heads": 2, "dropuot": 0.1}, "dropuot: there is no such key. Did you mean 'dropout'"),
        ({}, "num_attention_heads: this key is required"),
    ],
)
def test_wrong_configurations_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Attention.Config, values)


def test_block_shows_what_it_computed_with(
    model: nn.Model, examples: list[Example], encoder_config: Callable[..., nn.Encoder.Config]
) -> None:
    """The probabilities, applied by hand to the block's own values, give back the block's output."""
    batch = pack(examples, length=11, pad_id=0)
    masks = model.encoder.apply_masks(batch)
    *before, _ = model.encoder.layers(batch, masks)
    for block, streams in zip(model.encoder.blocks, before, strict=True):
        probabilities = block.attention_probabilities(streams, masks)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]))
        assert (probabilities * ~SameSequence().allowed(batch)[:, None] == 0).all()
        x = streams["tokens"]
        value = block.attention.query_key_value(x).chunk(3, -1)[2].unflatten(-1, (2, 6)).transpose(1, 2)
        mixed = block.attention.output((probabilities @ value).transpose(1, 2).flatten(2))
        x = block.attention_residual.norm(x + mixed)
        x = block.feed_forward_residual.norm(x + block.feed_forward(x))
        torch.testing.assert_close(x, block(streams, masks, batch)["tokens"], atol=1e-5, rtol=0)


def test_configuration_round_trip(encoder_config: Callable[..., nn.Encoder.Config]) -> None:
    config = encoder_config().layers[0].block
    assert from_dict(nn.Block.Config, to_dict(config)) == config


def test_a_batch_without_a_mask_takes_the_fast_path(examples: list[Example]) -> None:
    batch: Batch = pad(examples[:1], pad_id=0)
    assert AppliedMask(Full() & SameSequence(), batch).bias(torch.float32) is None
