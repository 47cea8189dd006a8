"""What came out of fine-tuning."""

from dataclasses import dataclass
from typing import Any

from bertsmith.checkpoints import Checkpoint
from bertsmith.tasks.metrics import confidence_interval, mean_and_spread
from bertsmith.tasks.prediction import Evaluation
from bertsmith.tasks.predictor import Predictor
from bertsmith.tasks.survey import Survey


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """The best epoch (from 1) of one seed, and its dev scores.

    `collapsed`: the model gives the same answer to everything, which happens to BERT on small data. It has learned nothing.
    """

    seed: int
    epoch: int
    dev: Evaluation
    collapsed: bool


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A fine-tuned model, and the runs it is the best of by `metric` on dev."""

    checkpoint: Checkpoint
    metric: str
    runs: tuple[SeedRun, ...]
    best: SeedRun
    survey: Survey

    @property
    def collapsed(self) -> tuple[int, ...]:
        """The seeds whose runs collapsed."""
        return tuple(run.seed for run in self.runs if run.collapsed)

    @property
    def mean(self) -> float:
        """Mean of the main metric over the runs that did not collapse; over all, if all did."""
        return mean_and_spread(self._scores)[0]

    @property
    def spread(self) -> float:
        """Sample standard deviation over the same runs; 0 for a single one."""
        return mean_and_spread(self._scores)[1]

    @property
    def confidence(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean, from the same runs; None for a single one."""
        lowest = -1.0 if self.metric == "spearman" else 0.0
        return confidence_interval(self._scores, lowest, 1.0)

    @property
    def _scores(self) -> list[float]:
        sound = [run for run in self.runs if not run.collapsed] or list(self.runs)
        return [run.dev.metrics[self.metric] for run in sound]

    def predictor(self, *, device: str = "cpu") -> Predictor:
        """The model at work."""
        return Predictor(self.checkpoint, device=device)

    def lines(self) -> list[str]:
        """For people: the score, its spread, and which runs to leave out of account."""
        said = [
            f"dev {self.metric} {self.best.dev.metrics[self.metric]:.4f} (seed {self.best.seed}, epoch {self.best.epoch})"
        ]
        if self.best.dev.majority is not None:
            said[0] += f", always the most frequent label {self.best.dev.majority:.4f}"
        if len(self.runs) > 1:
            spread = f" ± {self.spread:.4f}" if len(self._scores) > 1 else ""
            within = "" if self.confidence is None else ", 95 % confidence {:.4f} to {:.4f}".format(*self.confidence)
            said.append(f"mean {self.mean:.4f}{spread} over {len(self._scores)} of {len(self.runs)} seeds{within}")
        if self.collapsed:
            several = len(self.collapsed) > 1
            left_out = (
                f" and {'are' if several else 'is'} not in the mean" if len(self.collapsed) < len(self.runs) else ""
            )
            said.append(
                f"Warning: {'the runs with seeds' if several else 'the run with seed'} {', '.join(map(str, self.collapsed))} "
                f"{'give' if several else 'gives'} one answer to everything{left_out}. "
                "Try a lower learning rate, more epochs or more examples."
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "mean": self.mean,
            "spread": self.spread,
            "confidence": self.confidence,
            "collapsed": list(self.collapsed),
            "best": {"seed": self.best.seed, "epoch": self.best.epoch, "dev": self.best.dev.as_dict()},
            "runs": [
                {
                    "seed": r.seed,
                    "epoch": r.epoch,
                    "dev": r.dev.metrics,
                    "collapsed": r.collapsed,
                }
                for r in self.runs
            ],
        }
