"""The two layers with weights that everything else is made of.

Parameters are float32 always. The computation runs in the type of the hidden states that come in: a float32 stream gives
float32 matrix products, a bfloat16 stream gives bfloat16 ones, and gradients arrive in float32 either way. So precision
is a property of the stream (`Encoder.stream_dtype`), not a mode that each layer has to know.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """`y = x Wᵀ + b` with weight (out_features, in_features), computed in the type of `x`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class LayerNorm(nn.Module):
    """Layer normalization over the last axis; statistics are float32 whatever the stream's type."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
