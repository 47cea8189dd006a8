"""The layers with weights that everything else is made of.

Parameters are float32 always. The computation runs in the type of the hidden states that come in: a float32 stream gives
float32 matrix products, a bfloat16 stream gives bfloat16 ones, and gradients arrive in float32 either way. So precision
is a property of the stream (`Encoder.stream_dtype`), not a mode that each layer has to know.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Role = Literal["inner", "output"]


class Linear(nn.Module):
    """`y = x Wᵀ + b` with weight (out_features, in_features), computed in the type of `x`.

    `stacked` says how many matrices of equal shape lie below each other in the weight, because one product is faster than
    several: queries, keys and values are 3. An optimizer that looks at matrices as matrices takes them apart. The `role` of
    a sublayer's last matrix, whose product is added to the stream, is "output": its starting weights may be smaller.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, stacked: int = 1, role: Role = "inner"
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.stacked = stacked
        self.role: Role = role

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class LayerNorm(nn.Module):
    """Layer normalization over the last axis; statistics are float32 whatever the stream's type."""

    def __init__(self, size: int, eps: float, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias, self.eps)


class RMSNorm(nn.Module):
    """Division by the root of the mean square over the last axis, times a gain (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
