"""Starting weights."""

import torch
from torch import nn

from bertsmith.nn.linear import LayerNorm, Linear


def initialize(module: nn.Module, standard_deviation: float, generator: torch.Generator) -> None:
    """Fill every parameter below `module`: weights truncated normal, biases 0, normalization gains 1.

    The normal is cut at two standard deviations, as in google-research/bert `create_initializer`. Parameters are visited
    in the order of `named_modules`, so one generator state gives one set of weights.
    """
    for _, part in module.named_modules():
        if isinstance(part, LayerNorm):
            nn.init.ones_(part.weight)
        elif isinstance(part, Linear | nn.Embedding):
            limit = 2 * standard_deviation
            nn.init.trunc_normal_(part.weight, 0.0, standard_deviation, -limit, limit, generator=generator)
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
