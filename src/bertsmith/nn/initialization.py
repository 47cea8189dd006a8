"""Starting weights."""

import torch
from torch import Tensor, nn

from bertsmith.nn.linear import LayerNorm, Linear, RMSNorm


def initialize(
    module: nn.Module, standard_deviation: float, generator: torch.Generator, *, output: float | None = None
) -> None:
    """Fill every parameter below `module`: weights truncated normal, biases 0, normalization gains 1.

    The normal is cut at two standard deviations, as in google-research/bert `create_initializer`. `output` is the standard
    deviation of the matrices that write into the stream (`Linear.role`), if it is another. Parameters are visited in the
    order of `named_modules`, so one generator state gives one set of weights.
    """
    output = standard_deviation if output is None else output
    for _, part in module.named_modules():
        if isinstance(part, LayerNorm | RMSNorm):
            nn.init.ones_(part.weight)
        elif isinstance(part, Linear):
            _truncated_normal(part.weight, output if part.role == "output" else standard_deviation, generator)
        elif isinstance(part, nn.Embedding):
            _truncated_normal(part.weight, standard_deviation, generator)
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)


@torch.no_grad()
def _truncated_normal(weight: Tensor, standard_deviation: float, generator: torch.Generator) -> None:
    """Draw a normal, and draw again what lies beyond two standard deviations, as TensorFlow's initializer does.

    `torch.nn.init.trunc_normal_` gives the same distribution through an inverse error function, many times slower.
    """
    weight.normal_(0.0, standard_deviation, generator=generator)
    flat = weight.view(-1)
    beyond = (flat.abs() > 2 * standard_deviation).nonzero()[:, 0]
    while len(beyond):
        again = weight.new_empty(len(beyond)).normal_(0.0, standard_deviation, generator=generator)
        flat[beyond] = again
        beyond = beyond[again.abs() > 2 * standard_deviation]
