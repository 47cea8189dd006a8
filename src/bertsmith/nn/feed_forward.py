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

Activation = Literal["gelu", "gelu_tanh", "relu", "relu_squared", "silu"]

# "gelu" is the exact error-function form: the first release of google-research/bert and all of Hugging Face.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x).square(),  # So et al. 2021 (Primer)
    "silu": F.silu,
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
        bias: bool = True

        def __post_init__(self) -> None:
            require(self.intermediate_size > 0, "intermediate_size", "expected at least 1")

        def build(self, sizes: Sizes) -> "FeedForward":
            return FeedForward(sizes.hidden_size, self)

    def __init__(self, hidden_size: int, config: Config) -> None:
        super().__init__()
        self.up = Linear(hidden_size, config.intermediate_size, bias=config.bias)
        self.down = Linear(config.intermediate_size, hidden_size, bias=config.bias, role="output")
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(FeedForwardPart):
    """`down(activation(gate(x)) * value(x))` (Shazeer 2020): GeGLU with "gelu", SwiGLU with "silu".

    Gate and value come from one matrix product, the gate's rows first. There are three matrices of `intermediate_size`
    instead of two, so two thirds of a plain layer's size has its parameters and its cost: 8/3 of the hidden size where
    BERT has 4.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(FeedForwardPart.Config, kind="gated"):
        intermediate_size: int
        activation: Activation = "gelu"
        bias: bool = True

        def __post_init__(self) -> None:
            require(self.intermediate_size > 0, "intermediate_size", "expected at least 1")

        def build(self, sizes: Sizes) -> "GatedFeedForward":
            return GatedFeedForward(sizes.hidden_size, self)

    def __init__(self, hidden_size: int, config: Config) -> None:
        super().__init__()
        self.up = Linear(hidden_size, 2 * config.intermediate_size, bias=config.bias, stacked=2)
        self.down = Linear(config.intermediate_size, hidden_size, bias=config.bias, role="output")
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(self.activation(gate) * value)
