"""The training loop, as a generator: it trains one step, says what happened, and waits to be asked again.

Whoever iterates decides what to log, when to evaluate and when to save; the loop knows no logger and no objective.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from bertsmith.data import Batch, Drawn, MaskStatistics, Position
from bertsmith.errors import TrainingError
from bertsmith.nn import Model
from bertsmith.objectives import Losses, Objective
from bertsmith.train.memory import is_out_of_memory, keep_freed_memory
from bertsmith.train.schedules import Schedule
from bertsmith.train.team import Team

Stop = Callable[[], bool]  # asked often; True once somebody wants an orderly end


def never() -> bool:
    """Nobody wants it to end."""
    return False


@dataclass(frozen=True)
class Measure:
    """A mean loss over `count` predictions, and the share that was right (None where that means nothing)."""

    loss: float
    count: int
    accuracy: float | None


@dataclass(frozen=True)
class Step:
    """What one optimizer update did. `step` counts from 1; `position` is where the data goes on after it.

    `tokens`, `positions` (those of the rows, with padding) and `statistics` are of the whole team, `lengths` (of each
    sequence) of this process's share.
    """

    step: int
    measures: dict[str, Measure]
    learning_rate: float
    gradient_norm: float
    tokens: int
    positions: int
    seconds: float
    statistics: MaskStatistics
    lengths: np.ndarray
    position: Position


class NotFinite(TrainingError):
    """A loss or a gradient is not a finite number. The parameters are those before the step, the data goes on at `position`."""

    def __init__(self, step: int, what: str, position: Position) -> None:
        super().__init__(f"Step {step}: {what} is not finite. Lower the learning rate or raise the precision.")
        self.position = position


class OutOfMemory(TrainingError):
    """A pass through the model does not fit into memory. The parameters are those before it.

    `sequences` and `tokens` are those of the largest of the batches, one of which it was.
    """

    def __init__(self, what: str, batches: Sequence[Batch]) -> None:
        super().__init__(f"{what} does not fit into memory.")
        self.sequences = max(batch.num_sequences for batch in batches)
        self.tokens = max(batch.num_tokens for batch in batches)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What stays the same from step to step.

    `steps_before` counts the steps of earlier stages, so that dropout is drawn anew for each step of the whole run.
    """

    model: Model
    objectives: Sequence[Objective]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    steps: int
    clip_norm: float = 1.0
    seed: int = 0
    steps_before: int = 0
    team: Team = Team()
    stop: Stop = never

    @cached_property
    def _losses(self) -> nn.Module:
        return self.team.wrap(Losses(self.model, self.objectives))

    def run(self, drawn: Iterator[Drawn], *, first: int = 0) -> Iterator[Step]:
        """Train steps `first` to `steps`, yielding after each. `drawn` must stand at the data of step `first`.

        It ends early, with the parameters as they were after the last step it yielded, when `stop` says so or when `drawn`
        has ended. After an error it may be run again from the same step: the data that led to the error has been taken.

        Raises:
            NotFinite: the loss or a gradient is not finite.
            OutOfMemory: the step's batches are too large.
        """
        keep_freed_memory()
        device = next(self.model.parameters()).device
        for index in range(first, self.steps):
            started, number = time.perf_counter(), self.steps_before + index + 1
            if (taken := next(drawn, None)) is None:
                return
            rate = self.schedule.rate(index, self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad()  # of a step that was given up
            # Dropout draws from a generator that is set anew for each step, so a resumed run needs no random state.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                keyed = ((self.seed << 32) + self.steps_before + index) * self.team.world + self.team.rank
                torch.manual_seed(keyed % (1 << 64))
                with _in_memory(f"Step {number}", taken.batches):
                    batches = [batch.to(device) for batch in taken.batches]
                    measures = self._accumulate(batches)
            if measures is None:
                return
            norm = self.team.clip(self.model, self.clip_norm)
            broken = [name for name, m in measures.items() if not abs(m.loss) < float("inf")]
            if broken or not norm < float("inf"):
                what = f"the loss of {', '.join(broken)}" if broken else "the gradient"
                raise NotFinite(number, what, taken.position)
            self._update(number)
            self.optimizer.zero_grad()
            tokens, positions, *counted = self._counted(batches)
            yield Step(
                step=index + 1,
                measures=measures,
                learning_rate=rate,
                gradient_norm=norm,
                tokens=tokens,
                positions=positions,
                seconds=max(time.perf_counter() - started, 1e-9),
                statistics=MaskStatistics(*counted),
                lengths=np.concatenate([batch.lengths.numpy() for batch in taken.batches]),
                position=taken.position,
            )

    def _counted(self, batches: Sequence[Batch]) -> list[int]:
        """Tokens, positions and mask statistics of all processes."""
        statistics = sum((batch.statistics for batch in batches), MaskStatistics())
        positions = sum(batch["input_ids"].numel() for batch in batches)
        own = [sum(batch.num_tokens for batch in batches), positions, *astuple(statistics)]
        return [int(count) for count in self.team.sum([float(count) for count in own])]

    def _update(self, number: int) -> None:
        try:
            self.optimizer.step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Some parameters may have been updated by now, so the step cannot be taken back.
            raise TrainingError(
                f"Step {number}: the optimizer's update does not fit into memory, whatever the batch. Free some memory "
                "and resume, or train a smaller model."
            ) from error

    def _accumulate(self, batches: Sequence[Batch]) -> dict[str, Measure] | None:
        """Gradients of the loss over the batches of all processes, exactly as if they were one; None if told to stop.

        Each objective's loss is a mean over its predictions; how many there are is known beforehand from the data side, so
        every batch contributes its sum divided by the number of all.
        """
        self.model.train()
        own = [float(sum(objective.count(batch) for batch in batches)) for objective in self.objectives]
        *counts, stopped = self.team.sum([*own, float(self.stop())])
        if stopped:
            return None
        scales = [o.weight * self.team.world / max(1.0, n) for o, n in zip(self.objectives, counts, strict=True)]
        totals: list[torch.Tensor] = []
        passes = self.team.passes(len(batches))
        for number in range(passes):
            if self.team.world == 1 and number and self.stop():
                return None
            # Who is through keeps the others company, with what counts for nothing.
            batch, counts_for = (batches[number], 1.0) if number < len(batches) else (batches[-1], 0.0)
            with self.team.adds_up(self._losses, last=number == passes - 1):
                losses = list(self._losses(batch).values())
                total = [counts_for * s * loss.total for s, loss in zip(scales, losses, strict=True)]
                torch.stack(total).sum().backward()
            if counts_for:
                totals.append(torch.stack([loss.figures() for loss in losses]))
        summed = self.team.sum(torch.stack(totals).double().sum(0).flatten().tolist())
        names = [objective.kind for objective in self.objectives]
        return {
            name: _mean(total, count, correct)
            for name, count, total, correct in zip(names, counts, summed[::2], summed[1::2], strict=True)
        }


@contextmanager
def _in_memory(what: str, batches: Sequence[Batch]) -> Iterator[None]:
    """Turns the many ways in which memory runs out into `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(what, batches) from error
        raise


def _mean(total: float, count: float, correct: float) -> Measure:
    """Sums over predictions as means; `correct` is NaN where right and wrong mean nothing."""
    count = max(1.0, count)
    return Measure(total / count, int(count), None if np.isnan(correct) else correct / count)


@torch.no_grad()
def evaluate(
    model: Model, objectives: Sequence[Objective], batches: Sequence[Batch], *, stop: Stop = never
) -> dict[str, Measure] | None:
    """Every objective's loss and accuracy over `batches`, without dropout; None if told to stop on the way.

    Raises:
        OutOfMemory: a batch is too large.
    """
    model.eval()
    device = next(model.parameters()).device
    losses = Losses(model, objectives)
    counts = {o.kind: sum(o.count(batch) for batch in batches) for o in objectives}
    totals = {name: np.zeros(2) for name in counts}
    for batch in batches:
        if stop():
            return None
        with _in_memory("A look at held-out text", [batch]):
            for name, loss in losses(batch.to(device)).items():
                totals[name] += loss.figures().double().cpu().numpy()
    return {name: _mean(totals[name][0], counts[name], totals[name][1]) for name in counts}
