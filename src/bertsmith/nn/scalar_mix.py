"""All layers at once, for an encoder that is not trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class ScalarMix(nn.Module):
    """γ Σ s_j h_j over the embedding and all layers, with s = softmax(w) (Peters et al. 2018, eq. 1). It begins as their mean.

    A model with a mix reads its encoder as a fixed function: the encoder draws no dropout, also in training.
    """

    @dataclass(frozen=True)
    class Config:
        def build(self, num_hidden_layers: int) -> "ScalarMix":
            return ScalarMix(num_hidden_layers)

    def __init__(self, num_hidden_layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_hidden_layers + 1))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """`layers` num_hidden_layers + 1 times (rows, length, hidden) -> (rows, length, hidden), float32."""
        shares = self.weights.softmax(0)
        total = shares[0] * layers[0].float()
        for share, hidden in zip(shares[1:], layers[1:], strict=True):
            total = total + share * hidden.float()
        return self.scale * total
