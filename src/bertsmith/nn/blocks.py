"""Blocks: one layer of an encoder (plug point 3).

A block takes all named streams of hidden states and returns them changed. Almost every encoder has one stream, `tokens`;
a query stream or an entity stream is a further name, never a further argument.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from bertsmith.config import Part
from bertsmith.data import Batch
from bertsmith.nn.attention import Attention
from bertsmith.nn.channels import Sizes
from bertsmith.nn.feed_forward import FeedForwardPart
from bertsmith.nn.masks import AppliedMask
from bertsmith.nn.residuals import PostNorm, Residual

Streams = Mapping[str, Tensor]  # stream name -> (batch, seq, hidden)
Masks = Mapping[str, AppliedMask]  # stream name -> the mask its queries obey


class Block(nn.Module):
    """One layer: streams in, streams out."""

    @dataclass(frozen=True)
    class Config(Part):
        @property
        def max_length(self) -> int:
            """The longest sequence it is made for, in tokens."""
            return sys.maxsize

        def build(self, sizes: Sizes) -> "Block":
            raise NotImplementedError

        def build_end(self, sizes: Sizes) -> nn.Module:
            """What each stream goes through after the last block: (batch, seq, hidden) in and out."""
            return nn.Identity()

    def forward(self, streams: Streams, masks: Masks, inputs: Batch) -> Streams:
        raise NotImplementedError


class AttentionBlock(Block):
    """The transformer's block: self-attention, then a feed-forward layer, each inside a residual.

    `attention_residual` is that of the attention where it has another one.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Block.Config, kind="attention"):
        attention: Attention.Config
        feed_forward: FeedForwardPart.Config
        residual: Residual.Config = PostNorm.Config()
        attention_residual: Residual.Config | None = None

        @property
        def max_length(self) -> int:
            return min((part.max_length for part in self.attention.query_key), default=sys.maxsize)

        def build(self, sizes: Sizes) -> "AttentionBlock":
            return AttentionBlock(self, sizes)

        def build_end(self, sizes: Sizes) -> nn.Module:
            return self.residual.build_end(sizes)

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.attention = config.attention.build(sizes)
        self.attention_residual = (config.attention_residual or config.residual).build(sizes)
        self.feed_forward = config.feed_forward.build(sizes)
        self.feed_forward_residual = config.residual.build(sizes)

    def forward(self, streams: Streams, masks: Masks, inputs: Batch) -> Streams:
        mask = masks["tokens"]
        x = self.attention_residual(streams["tokens"], lambda x: self.attention(x, x, mask))
        return {**streams, "tokens": self.feed_forward_residual(x, self.feed_forward)}

    def attention_probabilities(self, streams: Streams, masks: Masks) -> Tensor:
        """What this block's heads look at, given the streams that enter it: (batch, heads, query, key)."""
        seen: list[Tensor] = []

        def look(x: Tensor) -> Tensor:
            seen.append(self.attention.probabilities(x, x, masks["tokens"]))
            return x

        self.attention_residual(streams["tokens"], look)  # the residual knows whether the norm comes first
        return seen[0]
