"""Choosing how to train on the dev file: the paper's grid (Devlin et al. 2018, §A.3), and how much more labels would help.

for trial in search(job): ...          one seed for each setting; then job with the best of them
for point in learning_curve(job): ...  shares of the training file
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from bertsmith.config import require
from bertsmith.progress import Progress, silent
from bertsmith.tasks.finetuning import Finetuning
from bertsmith.tasks.result import Finetuned


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination is tried. `learning_rates` are in units of the default, which at BERT-base's size is 5e-5: so 1, 0.6
    and 0.4 are the paper's 5e-5, 3e-5 and 2e-5, and for smaller models as much higher as they need it."""

    learning_rates: tuple[float, ...] = (1.0, 0.6, 0.4)
    epochs: tuple[int, ...] = (2, 3, 4)
    batch_sizes: tuple[int, ...] = (16, 32)

    def __post_init__(self) -> None:
        for name in ("learning_rates", "epochs", "batch_sizes"):
            values = getattr(self, name)
            require(bool(values) and min(values) > 0, name, f"expected numbers over 0, got {values}")

    def __len__(self) -> int:
        return len(self.learning_rates) * len(self.epochs) * len(self.batch_sizes)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting and its best score on dev with one seed."""

    learning_rate: float
    epochs: int
    batch_size: int
    metric: str
    score: float
    collapsed: bool

    def applied(self, job: Finetuning) -> Finetuning:
        """`job` with this setting."""
        return replace(job, learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    def line(self) -> str:
        """For people."""
        said = f"learning rate {self.learning_rate:.1e}, {self.epochs} epochs, batches of {self.batch_size}"
        return f"{said}: dev {self.metric} {self.score:.4f}{' (one answer to everything)' if self.collapsed else ''}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The score with the first `examples` of the training file: mean and spread over the seeds that did not collapse."""

    examples: int
    metric: str
    mean: float
    spread: float


def search(job: Finetuning, grid: Grid = Grid(), progress: Progress = silent) -> Iterator[Trial]:
    """Try every setting of `grid` with the first of the job's seeds. Nothing is saved.

    A score on the dev file that was searched on is too good by what was gained from luck: judge on a third file.
    """
    job = replace(job, model=job.start, out=None, seeds=((job.seeds or (0,))[0],))
    for number, (share, epochs, batch_size) in enumerate(product(grid.learning_rates, grid.epochs, grid.batch_sizes)):
        rate = share * job.default_rate
        trial = Trial(
            learning_rate=rate, epochs=epochs, batch_size=batch_size, metric="", score=math.nan, collapsed=False
        )
        found = trial.applied(job).finish()
        progress("searching", number + 1, len(grid))
        yield replace(
            trial, metric=found.metric, score=found.best.dev.metrics[found.metric], collapsed=found.best.collapsed
        )


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The one with the highest score among those that did not collapse; the first of several."""
    return max(trials, key=lambda trial: (not trial.collapsed, trial.score))


def learning_curve(
    job: Finetuning, shares: Sequence[float] = (0.125, 0.25, 0.5), progress: Progress = silent
) -> Iterator[CurvePoint]:
    """Train on shares of the training file, with all seeds of the job. Nothing is saved. The whole is the job itself."""
    job = replace(job, model=job.start, out=None)
    count = job.survey.train.count
    sizes = [size for share in shares if (size := round(count * share)) >= 2]
    for number, size in enumerate(sizes):
        found = replace(job, most=size).finish()
        progress("learning curve", number + 1, len(sizes))
        yield curve_point(found)


def curve_point(found: Finetuned) -> CurvePoint:
    """The point of a finished run."""
    return CurvePoint(examples=found.survey.train.count, metric=found.metric, mean=found.mean, spread=found.spread)


def twice_the_labels(points: Sequence[CurvePoint]) -> float | None:
    """What score twice the examples of the largest point would bring, for scores that are 1 at best.

    What is missing to 1 falls as a power of the number of examples (Hestness et al. 2017): a straight line through the
    logarithms of both. None for fewer than three sizes, or a score of 1 or above, or one that does not rise.
    """
    sizes = np.array([point.examples for point in points], np.float64)
    missing = 1 - np.array([point.mean for point in points])
    if len(set(sizes.tolist())) < 3 or missing.min() <= 0:
        return None
    slope = np.polyfit(np.log(sizes), np.log(missing), 1)[0]
    last = points[int(sizes.argmax())].mean
    return float(1 - (1 - last) * 2**slope) if slope < 0 else None


def curve_lines(points: Sequence[CurvePoint]) -> list[str]:
    """The curve, for people."""
    points = sorted(points, key=lambda point: point.examples)
    said = [f"{p.examples:>7,} examples: dev {p.metric} {p.mean:.4f} ± {p.spread:.4f}" for p in points]
    more = twice_the_labels(points)
    if more is None:
        return [*said, "Twice the labels: this curve does not say what they would bring."]
    gain = more - points[-1].mean
    return [*said, f"Twice the labels would bring about {gain:+.4f}, to {more:.4f}, if the curve goes on as it is."]
