"""Learning rates over the steps of a stage."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

from bertsmith.config import Part, require


class Schedule(Part):
    """The learning rate as a pure function of the step."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of a stage of `steps` steps."""
        raise NotImplementedError

    def scaled(self, factor: float) -> "Schedule":
        """The same shape for a stage that is made `factor` times as long. What is said in shares scales by itself."""
        return self


@dataclass(frozen=True, kw_only=True)
class WarmupLinear(Schedule, kind="warmup_linear"):
    """Linear warm-up from 0 to `peak`, then a straight line to `final` at the end (Devlin et al. 2018, §A.2)."""

    peak: float
    warmup_steps: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        require(self.warmup_steps >= 0, "warmup_steps", f"expected 0 or more, got {self.warmup_steps}")

    def rate(self, step: int, steps: int) -> float:
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        left = (steps - step) / max(1, steps - self.warmup_steps)
        return self.final + (self.peak - self.final) * left

    def scaled(self, factor: float) -> "WarmupLinear":
        """A stage that is warmed up stays so, for one step at least."""
        return replace(self, warmup_steps=max(1, round(self.warmup_steps * factor)) if self.warmup_steps else 0)


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay(Schedule, kind="warmup_stable_decay"):
    """Linear warm-up to `peak`, `peak` for most of the stage, then down to `final` (Hägele et al. 2024, arXiv 2405.18392).

    `warmup` and `decay` are shares of the stage's steps, so a stage of any length has the same shape. The way down is a
    straight line, or `final + (peak - final) · (1 - √x)` for x from 0 to 1, which falls fast at first.
    Without `decay` a stage ends at its peak: a next one may go on from there.
    """

    peak: float
    warmup: float = 0.05
    decay: float = 0.2
    shape: Literal["linear", "one_minus_sqrt"] = "one_minus_sqrt"
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        require(0 <= self.warmup <= 1, "warmup", f"expected a share of the steps, got {self.warmup}")
        left = 1 - self.warmup
        require(0 <= self.decay <= left + 1e-9, "decay", f"expected 0 to 1 - warmup = {left:.4g}, got {self.decay}")

    def rate(self, step: int, steps: int) -> float:
        warmup, decay = round(self.warmup * steps), round(self.decay * steps)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        gone = (step - (steps - decay)) / max(1, decay)
        if gone <= 0:
            return self.peak
        left = 1 - (gone if self.shape == "linear" else sqrt(gone))
        return self.final + (self.peak - self.final) * left


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule, kind="constant"):
    """The same learning rate at every step."""

    peak: float

    def __post_init__(self) -> None:
        require(self.peak > 0, "peak", f"expected more than 0, got {self.peak}")

    def rate(self, step: int, steps: int) -> float:
        return self.peak


def _check(config: WarmupLinear | WarmupStableDecay) -> None:
    require(config.peak > 0, "peak", f"expected more than 0, got {config.peak}")
    require(0 <= config.final <= config.peak, "final", f"expected 0 to peak ({config.peak}), got {config.final}")
