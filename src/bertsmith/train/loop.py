"""The training loop, as a generator: it trains one step, says what happened, and waits to be asked again.

Whoever iterates decides what to log, when to evaluate and when to save; the loop knows no logger and no objective.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bertsmith.data import Batch, MaskStatistics, Position
from bertsmith.errors import TrainingError
from bertsmith.nn import Model
from bertsmith.objectives import Objective, measure
from bertsmith.train.memory import keep_freed_memory
from bertsmith.train.schedules import Schedule


@dataclass(frozen=True)
class Measure:
    """A mean loss over `count` predictions, and the share that was right (None where that means nothing)."""

    loss: float
    count: int
    accuracy: float | None


@dataclass(frozen=True)
class Step:
    """What one optimizer update did. `step` counts from 1; `position` is where the data goes on after it."""

    step: int
    measures: dict[str, Measure]
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    statistics: MaskStatistics
    position: Position


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
    accumulation: int = 1
    clip_norm: float = 1.0
    seed: int = 0
    steps_before: int = 0

    def run(self, batches: Iterator[tuple[Batch, Position]], *, first: int = 0) -> Iterator[Step]:
        """Train steps `first` to `steps`, yielding after each. `batches` must stand at the data of step `first`.

        Raises:
            TrainingError: the loss or a gradient is not finite; the parameters are those before the step.
        """
        keep_freed_memory()
        device = next(self.model.parameters()).device
        for index in range(first, self.steps):
            started = time.perf_counter()
            drawn = [next(batches) for _ in range(self.accumulation)]
            micro_batches = [batch.to(device) for batch, _ in drawn]
            rate = self.schedule.rate(index, self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            # Dropout draws from a generator that is set anew for each step, so a resumed run needs no random state.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed((self.seed << 32) + self.steps_before + index)
                measures = self._accumulate(micro_batches)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm).item()
            broken = [name for name, m in measures.items() if not m.loss < float("inf")]
            if broken or not norm < float("inf"):
                what = f"the loss of {', '.join(broken)}" if broken else "the gradient"
                raise TrainingError(
                    f"Step {index + 1}: {what} is not finite. Lower the learning rate or the precision."
                )
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield Step(
                step=index + 1,
                measures=measures,
                learning_rate=rate,
                gradient_norm=norm,
                tokens=sum(batch.num_tokens for batch in micro_batches),
                seconds=time.perf_counter() - started,
                statistics=sum((batch.statistics for batch in micro_batches), MaskStatistics()),
                position=drawn[-1][1],
            )

    def _accumulate(self, micro_batches: Sequence[Batch]) -> dict[str, Measure]:
        """Gradients of the loss over all micro-batches together, exactly as if they were one batch.

        Each objective's loss is a mean over its predictions; the number of predictions is known beforehand from the data
        side, so every micro-batch contributes its sum divided by the number of all.
        """
        self.model.train()
        counts = {o.kind: max(1, sum(o.count(batch) for batch in micro_batches)) for o in self.objectives}
        totals = dict.fromkeys(counts, 0.0)
        correct: dict[str, float | None] = dict.fromkeys(counts)
        for batch in micro_batches:
            losses = measure(self.model, self.objectives, batch)
            torch.stack([o.weight * losses[o.kind].total / counts[o.kind] for o in self.objectives]).sum().backward()
            for name, loss in losses.items():
                totals[name] += loss.total.item()
                if loss.correct is not None:
                    correct[name] = (correct[name] or 0) + loss.correct.item()
        return summarize(totals, counts, correct)


def summarize(totals: dict[str, float], counts: dict[str, int], correct: dict[str, float | None]) -> dict[str, Measure]:
    """Sums over predictions as means."""
    return {
        name: Measure(totals[name] / count, count, None if (right := correct[name]) is None else right / count)
        for name, count in counts.items()
    }


@torch.no_grad()
def evaluate(model: Model, objectives: Sequence[Objective], batches: Sequence[Batch]) -> dict[str, Measure]:
    """Every objective's loss and accuracy over `batches`, without dropout."""
    model.eval()
    device = next(model.parameters()).device
    counts = {o.kind: max(1, sum(o.count(batch) for batch in batches)) for o in objectives}
    totals = dict.fromkeys(counts, 0.0)
    correct: dict[str, float | None] = dict.fromkeys(counts)
    for batch in batches:
        for name, loss in measure(model, objectives, batch.to(device)).items():
            totals[name] += loss.total.item()
            if loss.correct is not None:
                correct[name] = (correct[name] or 0) + loss.correct.item()
    return summarize(totals, counts, correct)
