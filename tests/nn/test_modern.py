"""The newer parts against plain formulas that share no code with them."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from bertsmith import nn
from bertsmith.config import from_dict
from bertsmith.data import Batch, Example, pack, pad
from bertsmith.errors import ConfigError


def plain_encoder(w: Mapping[str, Tensor], ids: Tensor, layers: int) -> Tensor:
    """One sequence through the encoder of `modern_config`, from its weights alone: (seq, hidden).

    Two heads of six, one query and one key at a time, rotations as multiplications of complex numbers.
    """

    def normed(x: Tensor, name: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        return centered / (centered.square().mean(-1, keepdim=True) + 1e-12).sqrt() * w[name]

    def turned(head: Tensor, gain: Tensor) -> Tensor:
        head = head / (head.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain
        planes = torch.complex(head[:, :3], head[:, 3:])
        angles = torch.tensor([[p / 10_000 ** (i / 3) for i in range(3)] for p in range(len(head))], dtype=head.dtype)
        return planes * torch.polar(torch.ones_like(angles), angles)

    x = normed(w["channels.tokens.0.table.weight"][ids], "norms.tokens.weight")
    for layer in range(layers):
        here = f"blocks.{layer}."
        y = normed(x, here + "attention_residual.norm.weight") if layer else x
        projected = y @ w[here + "attention.query_key_value.weight"].T
        opening = 2 / (1 + torch.exp(-(y @ w[here + "attention.gate.opening.weight"].T)))
        found = []
        for head in range(2):
            query, key, value = (projected[:, 12 * part + 6 * head : 12 * part + 6 * head + 6] for part in range(3))
            query = turned(query, w[here + "attention.query_key.0.query.weight"])
            key = turned(key, w[here + "attention.query_key.0.key.weight"])
            # The real part of a product with a conjugate is the inner product of two planes.
            scores = (query[:, None] * key[None].conj()).real.sum(-1) / math.sqrt(6)
            shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
            found.append(shares @ value * opening[:, head, None])
        x = x + torch.cat(found, -1) @ w[here + "attention.output.weight"].T
        y = normed(x, here + "feed_forward_residual.norm.weight")
        gate, value = (y @ w[here + "feed_forward.up.weight"].T).split(11, -1)
        x = x + (gate / (1 + torch.exp(-gate)) * value) @ w[here + "feed_forward.down.weight"].T
    return normed(x, "ends.tokens.weight")


@pytest.fixture
def encoder(modern_config: Callable[..., nn.Encoder.Config]) -> nn.Encoder:
    """In float64, with gains that are not 1."""
    encoder = nn.Model.Config(encoder=modern_config()).initialized(seed=3).encoder.double()
    encoder.stream_dtype = torch.float64
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return encoder


def test_outputs_and_gradients_are_those_of_the_formula(encoder: nn.Encoder, examples: list[Example]) -> None:
    batch = pack(examples, length=11, pad_id=0)
    wanted = torch.randn(15, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    flat = encoder(batch)["tokens"].flatten(0, 1)
    ours = torch.cat([flat[start : start + len(e)] for start, e in zip(batch.starts.tolist(), examples, strict=True)])
    weights = {name: p.detach().clone().requires_grad_() for name, p in encoder.named_parameters()}
    plain = torch.cat([plain_encoder(weights, torch.from_numpy(e.tokens["input_ids"]), 3) for e in examples])
    # The angles of the positions are float32 in the encoder, whatever the stream.
    torch.testing.assert_close(ours, plain, atol=2e-6, rtol=0)
    (ours * wanted).sum().backward()
    (plain * wanted).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and weights[name].grad is not None
        torch.testing.assert_close(parameter.grad, weights[name].grad, atol=1e-5, rtol=1e-5, msg=name)


def test_the_probabilities_that_are_shown_are_those_of_the_formula(
    encoder: nn.Encoder, examples: list[Example]
) -> None:
    """Through positions, norms and the residual's own norm: shown times values is what the heads found."""
    batch = pad(examples[:1], pad_id=0)
    masks = encoder.apply_masks(batch)
    streams = next(encoder.layers(batch, masks))
    block = encoder.blocks[0]
    assert isinstance(block, nn.AttentionBlock)
    shares = block.attention_probabilities(streams, masks).double()
    seen: list[Tensor] = []
    block.attention_residual(streams["tokens"], lambda x: seen.append(x) or x)
    value = block.attention.query_key_value(seen[0]).chunk(3, -1)[2].unflatten(-1, (2, 6)).transpose(1, 2)
    assert block.attention.gate is not None
    mixed = (shares @ value * block.attention.gate(seen[0])).transpose(1, 2).flatten(2)
    expected = block.attention(seen[0], seen[0], masks["tokens"])
    torch.testing.assert_close(block.attention.output(mixed), expected, atol=1e-6, rtol=0)


def test_queries_from_another_stream_need_no_bias(encoder: nn.Encoder, examples: list[Example]) -> None:
    batch = pad(examples, pad_id=0)
    mask = nn.AppliedMask(nn.Full(), batch)
    attention = nn.Attention.Config(num_attention_heads=2, bias=False, query_key=(nn.Rotary.Config(),)).build(
        nn.Sizes(hidden_size=12, vocab_size=37)
    )
    nn.initialize(attention, 0.3, torch.Generator().manual_seed(1))
    x = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(3))
    attention.eval()
    torch.testing.assert_close(attention(x, x.clone(), mask), attention(x, x, mask), atol=1e-6, rtol=0)


def test_only_distance_counts(examples: list[Example]) -> None:
    """Moving a sequence along shifts every position by the same, and no score changes (Su et al. 2021, eq. 16)."""
    rotary = nn.Rotary.Config().build(6)
    batch = pad(examples[:1], pad_id=0)
    moved = Batch(
        {**batch.fields, "position_ids": batch["position_ids"] + 41}, batch.starts, batch.lengths, batch.label_positions
    )
    generator = torch.Generator().manual_seed(4)
    query, key = (torch.randn(1, 2, 7, 6, generator=generator) for _ in range(2))

    def scores(inputs: Batch) -> Tensor:
        q, k = rotary(query, key, nn.AppliedMask(nn.Full(), inputs))
        torch.testing.assert_close(q.norm(dim=-1), query.norm(dim=-1))  # a turn changes no length
        return q @ k.transpose(-1, -2)

    torch.testing.assert_close(scores(batch), scores(moved), atol=2e-5, rtol=0)
    assert not torch.allclose(scores(batch), query @ key.transpose(-1, -2), atol=0.1)


def test_all_layers_share_the_angles(encoder: nn.Encoder, examples: list[Example]) -> None:
    batch = pad(examples, pad_id=0)
    mask = nn.AppliedMask(nn.Full(), batch)
    made: list[int] = []
    assert mask.once("a", lambda inputs: made.append(inputs.num_sequences) or 7) == 7
    assert mask.once("a", lambda inputs: made.append(inputs.num_sequences) or 8) == 7
    assert mask.once("b", lambda inputs: made.append(inputs.num_sequences) or 8) == 8
    assert made == [3, 3]


def test_pre_norm_adds_to_an_untouched_stream(hidden: Tensor) -> None:
    config = from_dict(nn.Residual.Config, {"kind": "pre_norm", "dropout": 0.5})
    residual = config.build(nn.Sizes(hidden_size=12, vocab_size=37))
    nn.initialize(residual, 0.02, torch.Generator())
    residual.eval()
    assert torch.equal(residual(hidden, torch.zeros_like), hidden)
    expected = hidden + 2 * torch.nn.functional.layer_norm(hidden, (12,), eps=1e-12)
    torch.testing.assert_close(residual(hidden, lambda x: 2 * x), expected)
    residual.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped = residual(hidden, lambda x: 2 * x) - hidden
    assert 0.3 < (dropped == 0).float().mean() < 0.7


def test_bfloat16_is_close(modern_config: Callable[..., nn.Encoder.Config], examples: list[Example]) -> None:
    encoder = nn.Model.Config(encoder=modern_config()).initialized(seed=3).encoder.eval()
    batch = pack(examples, length=11, pad_id=0)
    exact = encoder(batch)["tokens"]
    encoder.stream_dtype = torch.bfloat16
    rough = encoder(batch)["tokens"]
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact)[batch.attention_mask].abs().mean() < 0.03
    rough.float().square().sum().backward()
    assert {p.grad.dtype for p in encoder.parameters() if p.grad is not None} == {torch.float32}


def test_heads_for_rotary_positions_have_an_even_size() -> None:
    config = nn.Attention.Config(num_attention_heads=4, query_key=(nn.Rotary.Config(),))
    with pytest.raises(ConfigError, match="query_key: rotary positions need an even head size, got 3"):
        config.build(nn.Sizes(hidden_size=12, vocab_size=37))
    with pytest.raises(ConfigError, match=r"query_key\.0\.theta: expected more than 1, got 0\.5"):
        from_dict(nn.Attention.Config, {"num_attention_heads": 2, "query_key": [{"kind": "rotary", "theta": 0.5}]})
