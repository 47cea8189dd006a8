import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertsmith import nn
from bertsmith.config import from_dict, override, to_dict
from bertsmith.data import Example, pack, pad
from bertsmith.errors import ConfigError

EncoderConfig = Callable[..., nn.Encoder.Config]


def test_initial_weights_have_the_statistics_of_the_original(encoder_config: EncoderConfig) -> None:
    block = nn.AttentionBlock.Config(
        attention=nn.Attention.Config(num_attention_heads=2),
        feed_forward=nn.FeedForward.Config(intermediate_size=301),
    )
    config = encoder_config(hidden_size=200, initializer_range=0.02, layers=(nn.Layers(count=2, block=block),))
    model = nn.Model.Config(encoder=config, heads={"masked_lm": nn.MaskedLMHead.Config()}).initialized(seed=7)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            # A normal cut at two standard deviations keeps 0.8796 of its own.
            assert parameter.abs().max() <= 0.04, name
            assert parameter.mean().abs() < 4 * 0.0176 / parameter.numel() ** 0.5, name
            assert abs(parameter.std().item() / (0.02 * 0.8796) - 1) < 4 / parameter.numel() ** 0.5, name


def test_initial_weights_are_a_function_of_the_seed(encoder_config: EncoderConfig) -> None:
    config = nn.Model.Config(encoder=encoder_config())
    state = torch.get_rng_state()
    first = config.initialized(seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are touched
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = config.initialized(seed=1).state_dict()
    other = config.initialized(seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pooler.dense.weight"], other["pooler.dense.weight"])


def test_embedding_is_normed_sum_of_channels(model: nn.Model, examples: list[Example]) -> None:
    batch = pad(examples[:1], pad_id=0)
    tokens, positions, segments = (channel.table.weight for channel in model.encoder.channels["tokens"])
    summed = tokens[batch["input_ids"]] + positions[torch.arange(7)] + segments[batch["token_type_ids"]]
    centered = summed - summed.mean(-1, keepdim=True)
    expected = centered / (centered.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
    first = next(model.encoder.layers(batch, model.encoder.apply_masks(batch)))["tokens"]
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)


def test_layers_gives_the_embedding_and_every_block(model: nn.Model, examples: list[Example]) -> None:
    batch = pack(examples, length=11, pad_id=0)
    states = [streams["tokens"] for streams in model.encoder.layers(batch, model.encoder.apply_masks(batch))]
    assert len(states) == model.config.encoder.num_hidden_layers + 1 == 4
    assert torch.equal(states[-1], model(batch).streams["tokens"])


def test_bfloat16_stream_is_close(model: nn.Model, examples: list[Example]) -> None:
    batch = pack(examples, length=11, pad_id=0)
    exact = model(batch)
    model.encoder.stream_dtype = torch.bfloat16
    rough = model(batch)
    assert rough.streams["tokens"].dtype == torch.bfloat16
    real = batch.attention_mask
    error = (rough.streams["tokens"].float() - exact.streams["tokens"])[real].abs()
    assert error.mean() < 0.02
    assert error.max() < 0.15
    assert exact.pooled is not None and rough.pooled is not None
    rough.pooled.float().sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_pooler_reads_the_first_token(model: nn.Model, examples: list[Example]) -> None:
    batch = pack(examples, length=15, pad_id=0)
    output = model(batch)
    assert model.pooler is not None and output.pooled is not None
    for i, start in enumerate(batch.starts.tolist()):
        first = output.streams["tokens"].flatten(0, 1)[start]
        dense = model.pooler.dense
        expected = torch.tanh(dense.weight @ first + dense.bias)
        torch.testing.assert_close(output.pooled[i], expected, atol=1e-6, rtol=0)


def test_masked_lm_head_is_the_formula(model: nn.Model, examples: list[Example]) -> None:
    batch = pad(examples, pad_id=0)
    head = model.heads["masked_lm"]
    with torch.no_grad():
        head.bias.copy_(torch.linspace(-1, 1, 37))
    positions = torch.tensor([1, 8, 15])
    hidden = model(batch).at(positions)
    table = model.encoder.token_table.weight
    assert table.shape == (37, 12)
    x = torch.nn.functional.gelu(hidden @ head.dense.weight.T + head.dense.bias)
    x = torch.nn.functional.layer_norm(x, (12,), head.norm.weight, head.norm.bias, 1e-12)
    torch.testing.assert_close(head(hidden, table), x @ table.T + head.bias)


def test_sequence_head_drops_out_in_training_only() -> None:
    encoder = nn.Encoder.Config(
        hidden_size=12,
        vocab_size=37,
        channels={"tokens": (nn.Lookup.Config(field="input_ids"),)},
        layers=(
            nn.Layers(
                count=1,
                block=nn.AttentionBlock.Config(
                    attention=nn.Attention.Config(num_attention_heads=2),
                    feed_forward=nn.FeedForward.Config(intermediate_size=17),
                ),
            ),
        ),
        masks={"tokens": nn.Full()},
    )
    head = nn.SequenceHead.Config(num_labels=5, dropout=0.5).build(encoder)
    nn.initialize(head, 0.5, torch.Generator().manual_seed(0))
    pooled = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    head.eval()
    torch.testing.assert_close(head(pooled), pooled @ head.classifier.weight.T + head.classifier.bias)
    head.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.allclose(head(pooled), head(pooled))


def test_configuration_round_trip(encoder_config: EncoderConfig) -> None:
    config = nn.Model.Config(
        encoder=encoder_config(nn.Causal() & nn.SameSequence()),
        pooler=False,
        heads={"masked_lm": nn.MaskedLMHead.Config(activation="relu"), "x": nn.SequenceHead.Config(num_labels=3)},
    )
    assert from_dict(nn.Model.Config, to_dict(config)) == config
    assert from_dict(nn.Model.Config, to_dict(nn.Model.Config(encoder=config.encoder))).pooler is True


@pytest.mark.parametrize("output", [None, 0.01, 0.0])
def test_matrices_that_write_into_the_stream_may_start_smaller(
    modern_config: EncoderConfig, output: float | None
) -> None:
    config = modern_config(hidden_size=200, initializer_range=0.05, output_initializer_range=output)
    model = nn.Model.Config(encoder=config).initialized(seed=7)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
            expected = 0.8796 * (0.05 if output is None or not writes else output)
            assert parameter.std().item() == pytest.approx(expected, rel=4 * parameter.numel() ** -0.5), name
    if output == 0:  # then every block starts as the identity
        inputs = pad([Example({"input_ids": np.arange(7), "token_type_ids": np.zeros(7, np.int64)})], pad_id=0)
        first, *_, last = model.encoder.layers(inputs, model.encoder.apply_masks(inputs))
        torch.testing.assert_close(last["tokens"], first["tokens"], atol=1e-5, rtol=0)


def test_the_longest_input_is_what_positions_allow(encoder_config: EncoderConfig, modern_config: EncoderConfig) -> None:
    assert encoder_config().max_length == modern_config().max_length == 19
    longer = override(modern_config(), ["layers.*.block.attention.query_key.1.max_position_embeddings=23"])
    assert longer.max_length == 23
    assert override(longer, ["layers.*.block.attention.query_key=[]"]).max_length == sys.maxsize


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("encoder.hidden_size=0", r"encoder\.hidden_size: expected at least 1"),
        ("encoder.hidden_size=13", "hidden_size 13 is not a multiple of 2 heads"),
        ("encoder.layers=[]", r"encoder\.layers: expected at least one"),
        ('encoder.masks={"queries": {"kind": "full"}}', r"encoder\.masks\.queries: there are no channels"),
        ("encoder.layers.0.count=0", r"encoder\.layers\.0\.count: expected 1 to 1000"),
        ("encoder.initializer_range=0", r"encoder\.initializer_range: expected more than 0"),
        ("encoder.output_initializer_range=-1", r"encoder\.output_initializer_range: expected 0 or more"),
        ("encoder.vocab_size=null", "vocab_size: it must be known before the encoder is built"),
        ("heads.masked_lm.activation=gleu", r"heads\.masked_lm\.activation: 'gleu' is not allowed"),
        ("encoder.layers.0.block.attention.heads=3", "has no 'heads'"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(encoder_config: EncoderConfig, assignment: str, message: str) -> None:
    config = nn.Model.Config(encoder=encoder_config(), heads={"masked_lm": nn.MaskedLMHead.Config()})
    with pytest.raises(ConfigError, match=message):
        override(config, [assignment]).build()


def test_an_encoder_without_token_table_says_so(encoder_config: EncoderConfig, examples: list[Example]) -> None:
    config = encoder_config(channels={"tokens": (nn.Position.Config(max_position_embeddings=19),)})
    encoder = replace(config).build()
    with pytest.raises(ConfigError, match="no lookup channel of input_ids"):
        _ = encoder.token_table


def test_the_pooler_reads_the_token_that_has_seen_the_others(
    encoder_config: EncoderConfig, examples: list[Example]
) -> None:
    """The first of a bidirectional encoder, the last of a causal one, also where sequences share a row."""
    batch = pack(examples, length=11, pad_id=0)
    for mask, place in ((nn.Full(), 0), (nn.Causal(), -1), (nn.Causal() & nn.Full(), -1)):
        config = encoder_config(masks={"tokens": mask})
        model = nn.Model.Config(encoder=config).initialized(1).eval()
        pooler = model.pooler
        assert pooler is not None
        output = model(batch)
        for number, example in enumerate(examples):
            alone = model(pad([example], pad_id=0)).streams["tokens"][0, place]
            torch.testing.assert_close(output.pooled[number], pooler(alone), atol=1e-5, rtol=0)
