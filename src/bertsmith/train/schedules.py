"""Learning rates over the steps of a stage."""

from dataclasses import dataclass

from bertsmith.config import Part, require


class Schedule(Part):
    """The learning rate as a pure function of the step."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of a stage of `steps` steps."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WarmupLinear(Schedule, kind="warmup_linear"):
    """Linear warm-up from 0 to `peak`, then a straight line to `final` at the end (Devlin et al. 2018, §A.2)."""

    peak: float
    warmup_steps: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        require(self.peak > 0, "peak", f"expected more than 0, got {self.peak}")
        require(self.warmup_steps >= 0, "warmup_steps", f"expected 0 or more, got {self.warmup_steps}")
        require(0 <= self.final <= self.peak, "final", f"expected 0 to peak ({self.peak}), got {self.final}")

    def rate(self, step: int, steps: int) -> float:
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        left = (steps - step) / max(1, steps - self.warmup_steps)
        return self.final + (self.peak - self.final) * left


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule, kind="constant"):
    """The same learning rate at every step."""

    peak: float

    def __post_init__(self) -> None:
        require(self.peak > 0, "peak", f"expected more than 0, got {self.peak}")

    def rate(self, step: int, steps: int) -> float:
        return self.peak
