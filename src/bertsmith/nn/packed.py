"""Linear layers for reading only, on a CPU, by oneDNN's kernels. They have no parameters and are not for training.

They stand where a `Linear` stood. An activation behind the layer is computed by the same kernel. oneDNN compiles
a kernel for each new number of rows, in milliseconds and megabytes if it is an odd one, so callers fill up to a round one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bertsmith.nn.feed_forward import Activation
from bertsmith.nn.linear import Linear

_ROWS = 512  # the number of rows that weights are laid out for; others work too, and hardly slower


class Kernel(NamedTuple):
    """oneDNN's name of an activation, and the formula it is computed by."""

    name: str
    formula: str = ""


KERNELS: dict[Activation | None, Kernel] = {
    None: Kernel("none"),
    "gelu": Kernel("gelu", "none"),
    "gelu_tanh": Kernel("gelu", "tanh"),
    "relu": Kernel("relu"),
    "silu": Kernel("swish"),
}
"""The activations that the kernels know."""


class DirectLinear(nn.Module):
    """`activation(x Wᵀ + b)` in float32, from the layer's own weights, be they changed in the meantime or not.

    torch multiplies float32 by MKL, which does not use all of an AMD processor; oneDNN's kernels took half the time there.
    """

    def __init__(self, linear: Linear, activation: Activation | None = None) -> None:
        super().__init__()
        self._linear = (linear,)  # in a tuple, or it would be a submodule
        self._kernel = KERNELS[activation]

    def forward(self, x: Tensor) -> Tensor:
        (linear,), (name, formula) = self._linear, self._kernel
        return torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, name, [], formula)


class PackedLinear(nn.Module):
    """The same in bfloat16, from weights that are rounded and laid out once; sums are float32.

    It takes any floating type and gives bfloat16, so a stream with its normalizations and residuals may stay float32.
    """

    def __init__(self, linear: Linear, activation: Activation | None = None) -> None:
        super().__init__()
        weight = linear.weight.detach().bfloat16()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach().bfloat16()
        self._kernel = KERNELS[activation]

    def forward(self, x: Tensor) -> Tensor:
        name, formula = self._kernel
        return torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self._weight, self._bias, name, [], formula)
