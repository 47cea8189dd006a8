"""Input channels: what is summed into the embedding of each position (plug point 1).

BERT's input is the sum of three channels: the token's vector, the position's and the segment's (Devlin et al. 2018, §3,
figure 2). A channel is a module `forward(inputs) -> (batch, seq, hidden)`; its `Config` is the part that recipes name.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.data import Batch


@dataclass(frozen=True)
class Sizes:
    """The numbers that all parts of one encoder agree on, given once by the encoder."""

    hidden_size: int
    vocab_size: int


class Channel(nn.Module):
    """One summand of the input embedding."""

    @dataclass(frozen=True)
    class Config(Part):
        def build(self, sizes: Sizes) -> "Channel":
            raise NotImplementedError

    def forward(self, inputs: Batch) -> Tensor:
        """The channel's share of each position's vector, (batch, seq, hidden)."""
        raise NotImplementedError


class Lookup(Channel):
    """A trained vector for each value of one integer field: tokens, segments, and later languages, roles or tasks."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Channel.Config, kind="lookup"):
        field: str
        size: int | None = None  # None: as many as the vocabulary has tokens

        def __post_init__(self) -> None:
            require(self.size is None or self.size > 0, "size", f"expected at least 1, got {self.size}")

        def build(self, sizes: Sizes) -> "Lookup":
            return Lookup(self.field, self.size or sizes.vocab_size, sizes.hidden_size)

    def __init__(self, field: str, size: int, hidden_size: int) -> None:
        super().__init__()
        self.field = field
        self.table = _table(size, hidden_size)

    def forward(self, inputs: Batch) -> Tensor:
        return self.table(inputs[self.field])


class Position(Channel):
    """A trained vector for each position, counted from the start of each sequence."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Channel.Config, kind="position"):
        max_position_embeddings: int

        def __post_init__(self) -> None:
            require(self.max_position_embeddings > 0, "max_position_embeddings", "expected at least 1")

        def build(self, sizes: Sizes) -> "Position":
            return Position(self.max_position_embeddings, sizes.hidden_size)

    def __init__(self, max_position_embeddings: int, hidden_size: int) -> None:
        super().__init__()
        self.table = _table(max_position_embeddings, hidden_size)

    def forward(self, inputs: Batch) -> Tensor:
        return self.table(inputs["position_ids"])


def _table(size: int, hidden_size: int) -> nn.Embedding:
    """A table whose vectors are not yet set. The constructor of `nn.Embedding` would draw from the global generator."""
    return nn.Embedding.from_pretrained(torch.empty(size, hidden_size), freeze=False)
