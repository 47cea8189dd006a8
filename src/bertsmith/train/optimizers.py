"""Optimizers, as parts that a stage picks from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bertsmith.config import Part, require
from bertsmith.train.muon import MuonAdamW, hidden_matrices
from bertsmith.train.precision import native_dtype


class Optimizer(Part):
    """Builds a torch optimizer for a model's parameters. Learning rates come from the stage's schedule."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        raise NotImplementedError


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups in which matrices decay, and biases and normalization gains (all vectors) do not.

    The same split as google-research/bert `exclude_from_weight_decay`: every name with LayerNorm, layer_norm or bias.
    """
    trained = [p for p in parameters if p.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
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
        groups = decay_groups(model.parameters(), self.weight_decay)
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
        groups = decay_groups(model.parameters(), self.weight_decay)
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


@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer, kind="muon"):
    """Muon for the matrices in the model's blocks, `adamw` for embeddings, heads and vectors: see `MuonAdamW`.

    The schedule's rate is that of `adamw`; matrices learn at `rate_factor` times that, in units in which AdamW's rate would
    fit them. Jordan et al. 2024 for the momentum, Liu et al. 2025 (arXiv 2502.16982, §2.2) for scale and weight decay.
    """

    momentum: float = 0.95
    weight_decay: float = 0.1
    rate_factor: float = 1.0
    adamw: AdamW = field(default_factory=AdamW)

    def __post_init__(self) -> None:
        _check_matrices(self)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return _muon(self, model, beta2=None)


@dataclass(frozen=True, kw_only=True)
class NorMuon(Optimizer, kind="normuon"):
    """`Muon` with updates evened out over the neurons of each matrix (Li et al. 2025, arXiv 2510.05491)."""

    momentum: float = 0.95
    beta2: float = 0.95  # of the running mean square of each neuron's update
    weight_decay: float = 0.1
    rate_factor: float = 1.0
    adamw: AdamW = field(default_factory=AdamW)

    def __post_init__(self) -> None:
        _check_matrices(self)
        require(0 <= self.beta2 < 1, "beta2", f"expected 0 <= beta2 < 1, got {self.beta2}")

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return _muon(self, model, beta2=self.beta2)


def _muon(config: Muon | NorMuon, model: nn.Module, beta2: float | None) -> torch.optim.Optimizer:
    hidden = hidden_matrices(model)
    ours = {id(p) for p, _ in hidden}
    matrices = {
        "params": [p for p, _ in hidden],
        "stacked": [stacked for _, stacked in hidden],
        "momentum": config.momentum,
        "beta2": beta2,
        "weight_decay": config.weight_decay,
        "rate_factor": config.rate_factor,
    }
    others = decay_groups((p for p in model.parameters() if id(p) not in ours), config.adamw.weight_decay)
    adamw = {"beta1": config.adamw.beta1, "beta2": config.adamw.beta2, "eps": config.adamw.eps}
    return MuonAdamW(
        [*([matrices] if hidden else []), *(group | adamw for group in others)],
        dtype=native_dtype(next(model.parameters()).device),
    )


def _check_matrices(config: Muon | NorMuon) -> None:
    require(0 <= config.momentum < 1, "momentum", f"expected 0 <= momentum < 1, got {config.momentum}")
    require(config.weight_decay >= 0, "weight_decay", f"expected 0 or more, got {config.weight_decay}")
    require(isinstance(config.adamw, AdamW), "adamw.kind", f"expected adamw, got {config.adamw.kind}")
    require(config.rate_factor > 0, "rate_factor", f"expected more than 0, got {config.rate_factor}")


def _check(config: AdamW | BertAdamW) -> None:
    require(0 <= config.beta1 < 1, "beta1", f"expected 0 <= beta1 < 1, got {config.beta1}")
    require(0 <= config.beta2 < 1, "beta2", f"expected 0 <= beta2 < 1, got {config.beta2}")
    require(config.eps > 0, "eps", f"expected more than 0, got {config.eps}")
    require(config.weight_decay >= 0, "weight_decay", f"expected 0 or more, got {config.weight_decay}")
