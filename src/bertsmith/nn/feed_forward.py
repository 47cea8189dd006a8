"""The position-wise feed-forward layer (Vaswani et al. 2017, §3.3; GELU in BERT, Devlin et al. 2018, §A.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.nn.channels import Sizes
from bertsmith.nn.linear import Linear

Activation = Literal["gelu", "gelu_tanh", "relu"]

# "gelu" is the exact error-function form: the first release of google-research/bert and all of Hugging Face.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class FeedForwardPart(nn.Module):
    """What a block does to each position on its own: `forward(x) -> x`, both (batch, seq, hidden)."""

    @dataclass(frozen=True)
    class Config(Part):
        def build(self, sizes: Sizes) -> "FeedForwardPart":
            raise NotImplementedError


class FeedForward(FeedForwardPart):
    """Two linear layers with an activation between."""

    @dataclass(frozen=True, kw_only=True)
    class Config(FeedForwardPart.Config, kind="feed_forward"):
        intermediate_size: int
        activation: Activation = "gelu"

        def __post_init__(self) -> None:
            require(self.intermediate_size > 0, "intermediate_size", "expected at least 1")

        def build(self, sizes: Sizes) -> "FeedForward":
            return FeedForward(sizes.hidden_size, self.intermediate_size, self.activation)

    def __init__(self, hidden_size: int, intermediate_size: int, activation: Activation) -> None:
        super().__init__()
        self.up = Linear(hidden_size, intermediate_size)
        self.down = Linear(intermediate_size, hidden_size)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))
