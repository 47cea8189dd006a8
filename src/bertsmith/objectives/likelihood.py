"""The negative log-likelihood that every objective with labels to choose from minimizes."""

from typing import Any

import torch
from torch import Tensor

from bertsmith.objectives.objective import Loss

_SCORES_AT_ONCE = {"cpu": 1 << 18}  # float32 copies of this many scores stay in a CPU's cache
_SCORES_AT_ONCE_ELSEWHERE = 1 << 26


def negative_log_likelihood(scores: Tensor, labels: Tensor) -> Loss:
    """-log softmax(scores)[label], summed over rows, and how often the highest score was the label's.

    `scores` (rows, classes) in any floating type, `labels` (rows,). The arithmetic is float32. The gradient, softmax minus
    one at the label, is made in the same pass over a few rows at a time, so that no float32 copy of all the scores is ever
    kept: with a vocabulary of classes, those copies cost more time than the matrix product that made the scores.
    """
    total, correct = _NegativeLogLikelihood.apply(scores, labels)
    return Loss(total, len(labels), correct)


class _NegativeLogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros((), device=scores.device)
        correct = torch.zeros((), dtype=torch.long, device=scores.device)
        gradient = torch.empty_like(scores) if ctx.needs_input_grad[0] else None
        rows = max(1, _SCORES_AT_ONCE.get(scores.device.type, _SCORES_AT_ONCE_ELSEWHERE) // scores.shape[1])
        for start in range(0, len(labels), rows):
            part, label = scores[start : start + rows], labels[start : start + rows, None]
            highest, best = part.max(-1, keepdim=True)
            correct += (best == label).sum()
            shares = (part.float() - highest).exp_()
            normalizer = shares.sum(-1, keepdim=True)
            total += (normalizer.log() + highest - part.gather(1, label)).sum()
            if gradient is not None:
                shares.div_(normalizer).scatter_add_(1, label, -torch.ones_like(normalizer))
                gradient[start : start + rows] = shares
        ctx.gradient = gradient
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None  # scaled in place, so it serves once
        if gradient is None:
            raise RuntimeError("the gradient of this loss was used already; measure the loss again")
        return gradient.mul_(grads[0]), None
