"""A recipe: an encoder and the stages it is trained in. Frozen, complete, and written down with every run."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from bertsmith.config import require
from bertsmith.data import Draws, Instances, Masking
from bertsmith.errors import UsageError
from bertsmith.nn import Encoder, Model
from bertsmith.objectives import Objective
from bertsmith.train.optimizers import Optimizer
from bertsmith.train.precision import native_dtype
from bertsmith.train.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training in which nothing changes but the learning rate.

    `length` is in tokens, `batch_size` in sequences a step (of all processes together), `steps` in optimizer updates. With
    `initial_batch_size`, the first `ramp` of the steps goes from that many sequences to `batch_size` in a straight line.
    """

    steps: int
    length: int
    batch_size: int
    instances: Instances
    objectives: tuple[Objective, ...]
    optimizer: Optimizer
    schedule: Schedule
    masking: Masking | None = None
    initial_batch_size: int | None = None
    ramp: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        require(self.steps > 0, "steps", f"expected at least 1, got {self.steps}")
        require(self.length >= 8, "length", f"expected at least 8 tokens, got {self.length}")
        require(0 < self.batch_size < 2**31, "batch_size", f"expected 1 to 2147483647, got {self.batch_size}")
        require(bool(self.objectives), "objectives", "expected at least one")
        given = {*self.instances.gives, *(() if self.masking is None else ("labels",))}
        for objective in self.objectives:
            missing = " and ".join(name for name in objective.needs if name not in given)
            problem = f"{objective.kind} needs {missing}, and neither the instances nor the masking give it"
            require(not missing, "objectives", problem)
        kinds = [objective.kind for objective in self.objectives]
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        require(twice is None, "objectives", f"{twice} is there twice; give one of them the weight of both")
        require(self.clip_norm > 0, "clip_norm", f"expected more than 0, got {self.clip_norm}")
        first = self.initial_batch_size
        require(
            first is None or 0 < first <= self.batch_size,
            "initial_batch_size",
            f"expected 1 to batch_size, got {first}",
        )
        require(0 <= self.ramp <= 1, "ramp", f"expected a share of the steps, got {self.ramp}")

    @property
    def draws(self) -> Draws:
        """What its steps take from the text."""
        return Draws(
            batch_size=self.batch_size,
            masking=self.masking,
            steps=self.steps,
            initial_batch_size=self.initial_batch_size,
            ramp=self.ramp,
        )

    @property
    def examples(self) -> int:
        """How many examples its steps take in all."""
        return self.draws.examples

    def lasting(self, steps: int) -> "Stage":
        """The same stage in another number of steps, its schedule stretched or shortened with it."""
        return replace(self, steps=steps, schedule=self.schedule.scaled(steps / self.steps))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a pretrained model, apart from the text."""

    name: str
    encoder: Encoder.Config
    stages: tuple[Stage, ...]
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        require(bool(self.stages), "stages", "expected at least one")
        require(0 <= self.seed < 2**32, "seed", f"expected 0 to 2**32 - 1, got {self.seed}")
        longest, limit = max(stage.length for stage in self.stages), self.encoder.max_length
        require(longest <= limit, "stages", f"length {longest} exceeds max_position_embeddings {limit}")

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def lasting(self, factor: float) -> "Recipe":
        """The same recipe with every stage `factor` times as long, at least one step each."""
        return replace(self, stages=tuple(s.lasting(max(1, round(s.steps * factor))) for s in self.stages))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Every objective of any stage, once."""
        return tuple({o.kind: o for stage in self.stages for o in stage.objectives}.values())

    def model(self, vocab_size: int) -> Model.Config:
        """The model this recipe trains, for a vocabulary of `vocab_size` tokens."""
        return Model.Config(
            encoder=replace(self.encoder, vocab_size=vocab_size),
            pooler=any(objective.needs_pooler for objective in self.objectives),
            heads={o.kind: head for o in self.objectives if (head := o.head()) is not None},
        )


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: there is no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        found = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise UsageError(f"There is no device {name!r} here. There is: {found}.") from error
    return device


def precision_dtype(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """The type of the hidden states. "auto" is bfloat16 where the hardware multiplies it natively, else float32."""
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    return native_dtype(device)
