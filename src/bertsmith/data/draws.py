"""What each step of a stage takes from the text: how many examples, and how they are hidden."""

from dataclasses import dataclass

import numpy as np

from bertsmith.data.masking import Masking


@dataclass(frozen=True, slots=True)
class Draw:
    """What one step takes: `size` examples, hidden by `masking`."""

    size: int
    masking: Masking | None = None


@dataclass(frozen=True, kw_only=True)
class Draws:
    """A stage's draws, a pure function of their number.

    `batch_size` examples each, after a ramp that goes in a straight line from `initial_batch_size` over the first `ramp` of
    the `steps`. `masking` may change with the stage's progress.
    """

    batch_size: int
    masking: Masking | None = None
    steps: int = 1
    initial_batch_size: int | None = None
    ramp: float = 0.0

    def at(self, number: int) -> Draw:
        """Draw `number`, from 0. A stage that skipped a batch makes more draws than steps; these are as the last."""
        progress = min(number, self.steps - 1) / self.steps
        masking = None if self.masking is None else self.masking.at(progress)
        return Draw(int(self._sizes(np.array([progress]))[0]), masking)

    @property
    def examples(self) -> int:
        """How many examples all steps take, none of them skipped."""
        return int(self._sizes(np.arange(self.steps) / self.steps).sum())

    def _sizes(self, progress: np.ndarray) -> np.ndarray:
        """The batch size at each of some points of the stage."""
        first = self.batch_size if self.initial_batch_size is None else self.initial_batch_size
        share = np.minimum(progress / self.ramp, 1.0) if self.ramp else np.ones(len(progress))
        return first + np.rint((self.batch_size - first) * share).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of each step's examples that one process works on, and how much of it at once.

    Of `world` processes, process `rank` takes a contiguous part; it goes into as few batches as hold at most about
    `tokens_at_once` tokens each. The examples of a step, and what hides them, are the same for every share.
    """

    rank: int = 0
    world: int = 1
    tokens_at_once: int | None = None
