"""Odd small sizes that cannot be confused: 3 sequences of up to 7 tokens, hidden 12, heads 2, vocabulary 37."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertsmith import nn
from bertsmith.data import Example

VOCAB_SIZE = 37


@pytest.fixture
def examples() -> list[Example]:
    """Sequences of 7, 3 and 5 tokens, each with two segments."""
    random = np.random.default_rng(11)
    return [
        Example(
            {
                "input_ids": random.integers(0, VOCAB_SIZE, length),
                "token_type_ids": np.arange(length) // ((length + 1) // 2),
            }
        )
        for length in (7, 3, 5)
    ]


@pytest.fixture
def encoder_config() -> Callable[..., nn.Encoder.Config]:
    def make(mask: nn.AttentionMask | None = None, **changes: object) -> nn.Encoder.Config:
        block = nn.AttentionBlock.Config(
            attention=nn.Attention.Config(num_attention_heads=2),
            feed_forward=nn.FeedForward.Config(intermediate_size=17),
        )
        values: dict[str, object] = {
            "hidden_size": 12,
            "vocab_size": VOCAB_SIZE,
            "channels": {
                "tokens": (
                    nn.Lookup.Config(field="input_ids"),
                    nn.Position.Config(max_position_embeddings=19),
                    nn.Lookup.Config(field="token_type_ids", size=2),
                )
            },
            "layers": (nn.Layers(count=3, block=block),),
            "masks": {"tokens": mask or nn.Full()},
            "initializer_range": 0.3,
        }
        return nn.Encoder.Config(**{**values, **changes})

    return make


@pytest.fixture
def modern_config(encoder_config: Callable[..., nn.Encoder.Config]) -> Callable[..., nn.Encoder.Config]:
    """Every part that the 2018 encoder has not: pre-norm, rotary, gates, no biases, no vectors for positions."""

    def make(mask: nn.AttentionMask | None = None, **changes: object) -> nn.Encoder.Config:
        block = nn.AttentionBlock.Config(
            attention=nn.Attention.Config(
                num_attention_heads=2,
                dropout=0.0,
                bias=False,
                query_key=(nn.QueryKeyNorm.Config(), nn.Rotary.Config(max_position_embeddings=19)),
                gate=nn.HeadGate.Config(),
            ),
            feed_forward=nn.GatedFeedForward.Config(intermediate_size=11, activation="silu", bias=False),
            residual=nn.PreNorm.Config(dropout=0.0, bias=False),
        )
        first = replace(block, attention_residual=nn.Plain.Config(dropout=0.0))
        modern: dict[str, object] = {
            "channels": {"tokens": (nn.Lookup.Config(field="input_ids"),)},
            "layers": (nn.Layers(count=1, block=first), nn.Layers(count=2, block=block)),
            "embedding_dropout": 0.0,
            "layer_norm_bias": False,
        }
        return encoder_config(mask, **{**modern, **changes})

    return make


@pytest.fixture
def model(encoder_config: Callable[..., nn.Encoder.Config]) -> nn.Model:
    heads = {"masked_lm": nn.MaskedLMHead.Config(), "next_sentence": nn.SequenceHead.Config(num_labels=2)}
    return nn.Model.Config(encoder=encoder_config(), heads=heads).initialized(seed=5).eval()


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(3))
