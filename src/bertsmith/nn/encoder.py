"""The one encoder: named streams, each a sum of channels, through blocks, under masks.

BERT, and every relative of BERT, is a choice of these parts. This file holds no variant and no flag.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from bertsmith.config import require
from bertsmith.data import Batch
from bertsmith.errors import ConfigError
from bertsmith.nn.blocks import Block, Masks, Streams
from bertsmith.nn.channels import Channel, Lookup, Position, Sizes
from bertsmith.nn.dropout import Dropout
from bertsmith.nn.linear import LayerNorm
from bertsmith.nn.masks import AppliedMask, AttentionMask, SameSequence


@dataclass(frozen=True, kw_only=True)
class Layers:
    """`count` blocks of one kind, each with weights of its own."""

    count: int
    block: Block.Config

    def __post_init__(self) -> None:
        require(0 < self.count <= 1000, "count", f"expected 1 to 1000, got {self.count}")


class Encoder(nn.Module):
    """Token ids in, contextual vectors out."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A whole encoder. `vocab_size` None is filled in from the data before the encoder is built.

        `layer_norm_eps` and `layer_norm_bias` are for the normalization of the embedding and of the heads; blocks have
        their own. `initializer_range` is the standard deviation of the starting weights, `output_initializer_range` that
        of the matrices which write into the stream, if it is another: GPT-2 divides by √(2 · layers), so that the stream
        does not grow with depth (Radford et al. 2019, §2.3); 0 lets every block start as the identity.
        """

        hidden_size: int
        channels: dict[str, tuple[Channel.Config, ...]]  # stream -> what is summed into it
        layers: tuple[Layers, ...]
        masks: dict[str, AttentionMask]  # the streams that run, and what each may see
        vocab_size: int | None = None
        embedding_dropout: float = 0.1
        layer_norm_eps: float = 1e-12
        layer_norm_bias: bool = True
        initializer_range: float = 0.02
        output_initializer_range: float | None = None

        def __post_init__(self) -> None:
            require(self.hidden_size > 0, "hidden_size", f"expected at least 1, got {self.hidden_size}")
            require(bool(self.layers), "layers", "expected at least one")
            require(self.initializer_range > 0, "initializer_range", "expected more than 0")
            smallest = self.output_initializer_range
            require(smallest is None or smallest >= 0, "output_initializer_range", "expected 0 or more")
            require(0 <= self.embedding_dropout < 1, "embedding_dropout", "expected 0 <= dropout < 1")
            for stream in self.masks:
                require(stream in self.channels, f"masks.{stream}", "there are no channels for this stream")

        @property
        def num_hidden_layers(self) -> int:
            return sum(group.count for group in self.layers)

        @property
        def max_length(self) -> int:
            """The longest sequence it can read: as many positions as it has vectors for, or its blocks are made for."""
            channels = (channel for parts in self.channels.values() for channel in parts)
            limits = [c.max_position_embeddings for c in channels if isinstance(c, Position.Config)]
            return min(limits + [group.block.max_length for group in self.layers])

        @property
        def known_vocab_size(self) -> int:
            """`vocab_size`, which must have been filled in by now."""
            require(self.vocab_size is not None, "vocab_size", "it must be known before the encoder is built")
            return self.vocab_size or 0

        def build(self) -> "Encoder":
            """The encoder with weights that are not yet set: see `initialize`, or load a checkpoint."""
            return Encoder(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = Sizes(config.hidden_size, config.known_vocab_size)
        self.config = config
        self.stream_dtype = torch.float32
        self.channels = nn.ModuleDict(
            {stream: nn.ModuleList(c.build(sizes) for c in parts) for stream, parts in config.channels.items()}
        )
        self.norms = nn.ModuleDict(
            {
                stream: LayerNorm(config.hidden_size, config.layer_norm_eps, bias=config.layer_norm_bias)
                for stream in config.channels
            }
        )
        self.dropout = Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(g.block.build(sizes) for g in config.layers for _ in range(g.count))
        self.ends = nn.ModuleDict({stream: config.layers[-1].block.build_end(sizes) for stream in config.channels})

    def apply_masks(self, inputs: Batch, masks: Mapping[str, AttentionMask] | None = None) -> Masks:
        """The masks in effect for one batch: the encoder's own, replaced or joined by those of a view.

        Packing is the data's affair and no recipe's, so every mask is joined with `SameSequence` here.
        """
        in_effect = {**self.config.masks, **(masks or {})}
        return {stream: AppliedMask(mask & SameSequence(), inputs) for stream, mask in in_effect.items()}

    def layers(self, inputs: Batch, masks: Masks) -> Iterator[Streams]:
        """The streams after the embedding and after each block: num_hidden_layers + 1 values, one at a time.

        The last is what `forward` gives, with whatever normalization the blocks leave for the end.
        """
        streams: Streams = {stream: self._embed(stream, inputs) for stream in masks}
        for block in self.blocks:
            yield streams
            streams = block(streams, masks, inputs)
        yield {stream: self.ends[stream](hidden) for stream, hidden in streams.items()}

    def forward(self, inputs: Batch, masks: Mapping[str, AttentionMask] | None = None) -> Streams:
        """The streams after the last block, each (batch, seq, hidden)."""
        return deque(self.layers(inputs, self.apply_masks(inputs, masks)), maxlen=1).pop()

    def _embed(self, stream: str, inputs: Batch) -> Tensor:
        first, *others = cast(nn.ModuleList, self.channels[stream])
        total = first(inputs)
        for channel in others:
            total = total + channel(inputs)
        return self.dropout(self.norms[stream](total)).to(self.stream_dtype)

    @property
    def token_table(self) -> nn.Embedding:
        """The token vectors, (vocab_size, hidden_size): what a masked-LM head is tied to."""
        for channel in cast(nn.ModuleList, self.channels["tokens"]):
            if isinstance(channel, Lookup) and channel.field == "input_ids":
                return channel.table
        raise ConfigError("channels: there is no lookup channel of input_ids, which predicting tokens needs")
