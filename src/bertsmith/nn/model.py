"""A model: one encoder, perhaps a pooler, and the heads that sit on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from bertsmith.data import Batch
from bertsmith.nn.blocks import Streams
from bertsmith.nn.encoder import Encoder
from bertsmith.nn.heads import Head
from bertsmith.nn.initialization import initialize
from bertsmith.nn.masks import AttentionMask
from bertsmith.nn.pooling import Pooler
from bertsmith.nn.scalar_mix import ScalarMix


@dataclass(frozen=True)
class Output:
    """What one pass of the encoder gives to the heads.

    `streams` are the last layer's hidden states, or the mix of all, by stream name, (rows, length, hidden). `pooled` is one
    vector a sequence, (sequences, hidden): what the pooler makes of [CLS]'s state, or without a pooler that state itself, if
    a head transforms it; else None. A causal encoder's is of the last token, which alone has seen all the others.
    """

    streams: Streams
    pooled: Tensor | None

    def at(self, positions: Tensor, stream: str = "tokens") -> Tensor:
        """Hidden states at flat positions (row * length + column): (positions, hidden)."""
        return self.streams[stream].flatten(0, 1).index_select(0, positions)


class Model(nn.Module):
    """An encoder with its pooler and heads, by name: what is trained, saved and loaded together."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A whole model. Heads are named by what they were trained for: masked_lm, next_sentence, sequence_label ...

        With a `mix`, pooler and heads read a mix of all layers of an encoder that is not trained.
        """

        encoder: Encoder.Config
        pooler: bool = True
        heads: dict[str, Head.Config] = field(default_factory=dict)
        mix: ScalarMix.Config | None = None

        def build(self) -> "Model":
            """The model with weights that are not yet set."""
            return Model(self)

        def initialized(self, seed: int) -> "Model":
            """The model with its starting weights, a pure function of the configuration and `seed`."""
            model = self.build()
            initialize(
                model,
                self.encoder.initializer_range,
                torch.Generator().manual_seed(seed),
                output=self.encoder.output_initializer_range,
            )
            return model

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = config.encoder.build()
        self.mix = None if config.mix is None else config.mix.build(config.encoder.num_hidden_layers)
        self.pooler = Pooler(config.encoder.hidden_size) if config.pooler else None
        self.heads = nn.ModuleDict({name: head.build(config.encoder) for name, head in config.heads.items()})

    def forward(self, inputs: Batch, masks: Mapping[str, AttentionMask] | None = None) -> Output:
        streams = self.streams(inputs, masks)
        return Output(streams, self._pooled(streams["tokens"], inputs))

    def streams(self, inputs: Batch, masks: Mapping[str, AttentionMask] | None = None) -> Streams:
        """`Output.streams` alone, without the work of the pooler."""
        if self.mix is None:
            return self.encoder(inputs, masks)
        layers = self.encoder.layers(inputs, self.encoder.apply_masks(inputs, masks))
        return {"tokens": self.mix([streams["tokens"] for streams in layers])}

    def _pooled(self, hidden: Tensor, inputs: Batch) -> Tensor | None:
        if self.pooler is None and not any(getattr(head, "transform", None) for head in self.config.heads.values()):
            return None
        sees_later = self.config.encoder.masks["tokens"].sees_later
        places = inputs.starts if sees_later else inputs.starts + inputs.lengths - 1
        states = hidden.flatten(0, 1).index_select(0, places)
        return states if self.pooler is None else self.pooler(states)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002
        """As usual; an encoder whose layers are mixed stays as it predicts."""
        super().train(mode)
        if self.mix is not None:
            self.encoder.eval()
        return self
