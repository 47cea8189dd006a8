"""Optimizers, as parts that a stage picks from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bertsmith.config import Part, require


class Optimizer(Part):
    """Builds a torch optimizer for a model's parameters. Learning rates come from the stage's schedule."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        raise NotImplementedError


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups in which matrices decay, and biases and normalization gains (all vectors) do not.

    The same split as google-research/bert `exclude_from_weight_decay`: every name with LayerNorm, layer_norm or bias.
    """
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer, kind="adamw"):
    """Adam with decoupled weight decay and bias correction (Loshchilov & Hutter 2017)."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check(self)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=0.0, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)


@dataclass(frozen=True, kw_only=True)
class BertAdamW(Optimizer, kind="bert_adamw"):
    """The optimizer BERT was trained with: AdamW *without* bias correction (google-research/bert optimization.py)."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check(self)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self.weight_decay)
        return UncorrectedAdamW(groups, (self.beta1, self.beta2), self.eps)


class UncorrectedAdamW(torch.optim.Optimizer):
    """`p -= lr * (m / (√v + eps) + weight_decay * p)`, with running means m and v that start at 0 and stay uncorrected.

    Early steps are therefore larger than Adam's by up to (1 - β1) / √(1 - β2), about 3.2 at the defaults, which BERT's
    warm-up absorbs.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
                    self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
                mean, square = self.state[p]["exp_avg"], self.state[p]["exp_avg_sq"]
                mean.lerp_(p.grad, 1 - beta1)
                square.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-group["lr"])


def _check(config: AdamW | BertAdamW) -> None:
    require(0 <= config.beta1 < 1, "beta1", f"expected 0 <= beta1 < 1, got {config.beta1}")
    require(0 <= config.beta2 < 1, "beta2", f"expected 0 <= beta2 < 1, got {config.beta2}")
    require(config.eps > 0, "eps", f"expected more than 0, got {config.eps}")
    require(config.weight_decay >= 0, "weight_decay", f"expected 0 or more, got {config.weight_decay}")
