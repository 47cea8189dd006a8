"""The negative log-likelihood that every objective with labels to choose from minimizes."""

from typing import Any

import torch
from torch import Tensor

from bertsmith.objectives.objective import Loss


def negative_log_likelihood(scores: Tensor, labels: Tensor) -> Loss:
    """-log softmax(scores)[label], summed over rows, and how often the highest score was the label's.

    `scores` (rows, classes) in any floating type, `labels` (rows,); rows of scores behind those of the labels count for
    nothing. The total is float32. The gradient, softmax minus one
    at the label, is made in the same pass and in the type of the scores: where the classes are a vocabulary, the float32
    copies of the usual cross-entropy take longer than the matrix product that made the scores. In bfloat16 a share is known
    to 0.4 %; give few classes as float32, where it costs nothing.
    """
    total, correct = _NegativeLogLikelihood.apply(scores, labels)
    return Loss(total, len(labels), correct)


class _NegativeLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        gradient = scores.softmax(-1)
        shares, scores, label = gradient[: len(labels)], scores[: len(labels)], labels[:, None]
        highest, best = scores.max(-1, keepdim=True)
        # log Σ exp(scores) through the largest share, which is at least 1 / classes and so has a logarithm.
        normalizer = highest.float() - shares.gather(1, best).float().log()
        losses = normalizer - scores.gather(1, label)
        correct = (best == label).sum()
        ctx.mark_non_differentiable(correct)
        shares.scatter_(1, label, torch.expm1(-losses).to(shares.dtype))
        gradient[len(labels) :] = 0
        ctx.gradient = gradient
        return losses.sum(), correct

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None  # scaled in place, so it serves once
        if gradient is None:
            raise RuntimeError("the gradient of this loss was used already; measure the loss again")
        return gradient.mul_(grads[0]), None
