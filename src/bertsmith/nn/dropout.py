"""Dropout (Srivastava et al. 2014), drawn quickly on a CPU."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


class Dropout(nn.Module):
    """In training, each number is 0 with probability `rate`, and what is left is scaled by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training else x


def dropout(x: Tensor, rate: float) -> Tensor:
    """`x` with dropout, whatever mode a module is in; the draw comes from torch's generator and nowhere else.

    On a CPU, torch draws a double for each number, one after another on one core, which takes a small model's step as long
    as a third of its matrix products. Here a draw is 15 bits (31 for float32) of a block from SFC64, seeded by torch's
    generator, and becomes the factor 0 or 1 / (1 - rate) by integer operations in place: a fifth of the time. The rate is
    right to 1 in 32,768.
    """
    if rate == 0:
        return x
    if x.device.type != "cpu" or x.dtype not in _INTEGERS:
        return F.dropout(x, rate)
    return x * _factors(x, rate)


def _factors(x: Tensor, rate: float) -> Tensor:
    """Like `x`: 0 with probability `rate`, elsewhere 1 / (1 - rate) as near as the type comes."""
    integers = _INTEGERS[x.dtype]
    bits = 8 * x.element_size() - 1
    seed = int(torch.randint(2**62, ()))
    words = np.random.SFC64(seed).random_raw(-(-x.numel() * x.element_size() // 8))
    draw = torch.from_numpy(words.view(np.int64)).view(integers)[: x.numel()].view(x.shape)
    # A draw from 0 to 2**bits - 1 is kept from `dropped` on: the difference is negative there, and its sign alone, spread
    # over all bits, lets the bits of the scale through.
    dropped = round(rate * 2**bits)
    scale = torch.tensor(1 / (1 - rate), dtype=x.dtype).view(integers).item()
    draw.bitwise_and_((1 << bits) - 1).neg_().add_(dropped - 1)
    return draw.bitwise_right_shift_(bits).bitwise_and_(scale).view(x.dtype)
