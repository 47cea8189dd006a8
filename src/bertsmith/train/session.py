"""One process's time at a run: from where the run stands to its end, or to where it is stopped."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from bertsmith.config import require
from bertsmith.data import Batch, Drawn, Loader, Position, Shards, prefetched, read_manifest
from bertsmith.data.workers import drawn_by_workers
from bertsmith.errors import CheckpointError, TrainingError
from bertsmith.nn import Model
from bertsmith.train.log import Log, plain
from bertsmith.train.loop import Loop, Measure, NotFinite, OutOfMemory, Step, Stop, evaluate, never
from bertsmith.train.samples import sample_guesses
from bertsmith.train.stage import Recipe, Stage
from bertsmith.train.state import State, load_moments, load_weights, newest_state, save_state
from bertsmith.train.team import Team

# One fixed draw of held-out masks at BERT's rate, whatever a stage trains with, so that the figures of runs compare.
HELDOUT_SEED = 0x5EED
HELDOUT_RATE = 0.15
HELDOUT_BATCH = 64

SKIPS = 10  # batches in a row that may be skipped before the weights are to blame
ROLLBACKS = 3  # times that a run goes back to a checkpoint before it gives up
SAMPLES = 8  # held-out places whose guesses are logged at every look at held-out text


@dataclass(frozen=True)
class Report:
    """One step of a run: `step` counts over all stages; `heldout` is set where the run looked at held-out text.

    `saved` is the step of the newest checkpoint of this process, None before there is one.
    """

    step: int
    steps: int
    stage: int
    update: Step
    heldout: dict[str, Measure] | None
    saved: int | None = None

    def note(self) -> str:
        """The losses and the speed of this step, in a few words for a progress bar."""
        losses = "  ".join(f"{name.replace('_', ' ')} {m.loss:.3f}" for name, m in self.update.measures.items())
        return f"{losses}  {self.update.tokens / self.update.seconds:,.0f} tokens/s"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out, and how often it does what is not training. Nothing here changes what comes of it.

    Every `log_every` steps a line is logged, every `evaluate_every` the held-out loss is measured on `heldout_sequences`
    sequences, every `save_every` and every `save_minutes` a checkpoint is written. At most about `tokens_at_once` go
    through the model together, a step's gradients being added up over as many passes as that takes. `workers` processes
    draw the batches; 0 stands for a thread of the one that trains.
    """

    log_every: int = 10
    evaluate_every: int = 500
    save_every: int = 500
    save_minutes: float = 10.0
    heldout_sequences: int = 512
    tokens_at_once: int | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        for name in (
            "log_every",
            "evaluate_every",
            "save_every",
            "save_minutes",
            "heldout_sequences",
            "tokens_at_once",
        ):
            value = getattr(self, name)
            require(value is None or value > 0, name, f"expected more than 0, got {value}")
        require(self.workers >= 0, "workers", f"expected 0 or more, got {self.workers}")


class Session:
    """Trains a model from `state` on, and keeps the run folder of `log` up to date."""

    def __init__(
        self, recipe: Recipe, shards: Shards, model: Model, log: Log, execution: Execution, team: Team, stop: Stop
    ) -> None:
        self.recipe = recipe
        self.shards = shards
        self.model = model
        self.log = log
        self.execution = execution
        self.team = team
        self.stop = stop
        self.tokens_at_once = execution.tokens_at_once
        self.out = log.path.parent
        self.saved: int | None = None
        self._saved_at = time.monotonic()
        self._skipped = 0
        found = newest_state(self.out)
        self.state = State() if found is None else found[1]
        self.optimizer = self._stage.optimizer.build(model)
        if found is not None:
            self._load()
            log.event(self.state.step, "resumed", f"Resumed at step {self.state.step:,}.")

    @property
    def finished(self) -> bool:
        """Whether every step has been made."""
        return self.state.step == self.recipe.steps

    @property
    def _stage(self) -> Stage:
        return self.recipe.stages[self.state.stage]

    def run(self) -> Iterator[Report]:
        """Every step that is left. Told to stop, or no longer iterated, it saves and ends."""
        try:
            while not self.finished:
                if self.state.stage_step == self._stage.steps:
                    self._next_stage()
                yield from self._train()
                if self.state.stage_step < self._stage.steps:
                    break
        except GeneratorExit:
            self.save()
            raise
        self.save()
        if not self.finished:
            self.log.event(self.state.step, "stopped", f"Stopped at step {self.state.step:,}, as asked.")

    def save(self) -> None:
        """Write a checkpoint; it is durable when this returns.

        Raises:
            CheckpointError: the disk is full.
            TrainingError: a weight is not finite.
        """
        with self.team.leader_first() as leads:
            if leads and self.saved != self.state.step:
                save_state(self.out, self.state, self.model, self.optimizer)
        self.saved, self._saved_at = self.state.step, time.monotonic()

    def _next_stage(self) -> None:
        before = self._stage
        after = Position(self.state.position.epoch + 1, 0)
        self.state = replace(self.state, stage=self.state.stage + 1, stage_step=0, draws=0, position=after)
        if self._stage.optimizer != before.optimizer:
            self.optimizer = self._stage.optimizer.build(self.model)

    def _train(self) -> Iterator[Report]:
        """The current stage, to its end or until told to stop."""
        stage = self._stage
        before = self.state.step - self.state.stage_step
        loop = Loop(
            model=self.model,
            objectives=stage.objectives,
            optimizer=self.optimizer,
            schedule=stage.schedule,
            steps=stage.steps,
            clip_norm=stage.clip_norm,
            seed=self.recipe.seed,
            steps_before=before,
            team=self.team,
            stop=self.stop,
        )
        heldout = self._heldout(stage)
        while self.state.stage_step < stage.steps:
            with closing(self._drawn(stage)) as drawn:
                try:
                    for update in loop.run(drawn, first=self.state.stage_step):
                        yield self._after(stage, update, before, heldout)
                    return
                except NotFinite as error:
                    self._skip(error)
                except OutOfMemory as error:
                    self._work_on_less(stage, error)

    def _drawn(self, stage: Stage) -> Generator[Drawn, None, None]:
        loader = Loader(self.shards, stage.instances, length=stage.length, seed=self.recipe.seed)
        share = self.team.share(self.tokens_at_once)
        if self.execution.workers:
            return drawn_by_workers(
                loader,
                stage.draws,
                self.state.position,
                first=self.state.draws,
                share=share,
                workers=self.execution.workers,
                restarted=lambda message: self.log.event(self.state.step, "worker_restarted", message),
                stop=self.stop if self.team.world == 1 else never,
            )
        steps = loader.steps(stage.draws, self.state.position, first=self.state.draws, share=share)
        # In a team nobody stops on his own: they agree at the beginning of a step.
        return prefetched(steps, depth=4, stop=self.stop if self.team.world == 1 else never)

    def _after(self, stage: Stage, update: Step, before: int, heldout: list[Batch]) -> Report:
        """Everything that is due after a step."""
        step = before + update.step
        self._skipped = 0
        self.state = replace(
            self.state, step=step, stage_step=update.step, position=update.position, draws=self.state.draws + 1
        )
        due = heldout and (step % self.execution.evaluate_every == 0 or step in (1, self.recipe.steps))
        measures = evaluate(self.model, stage.objectives, heldout, stop=self._everybody_stops) if due else None
        report = Report(step, self.recipe.steps, self.state.stage, update, measures, self.saved)
        self._log(report, heldout)
        if step < self.recipe.steps and self._save_is_due():
            self._try_to_save()
        return report

    def _everybody_stops(self) -> bool:
        return self.team.sum([float(self.stop())])[0] > 0

    def _save_is_due(self) -> bool:
        if self.state.step % self.execution.save_every == 0:
            return True
        gone = time.monotonic() - self._saved_at > 60 * self.execution.save_minutes
        return self.team.sum([float(gone and self.team.rank == 0)])[0] > 0

    def _try_to_save(self) -> None:
        """Save, and train on where it cannot be done: the older checkpoints are there, and there will be another time."""
        try:
            self.save()
        except CheckpointError as error:
            self._saved_at = time.monotonic()
            self.log.event(self.state.step, "not_saved", str(error))

    def _skip(self, error: NotFinite) -> None:
        """Go on as if the batch had not been there; after too many in a row, from the last checkpoint without them all."""
        self._skipped += 1
        self.state = replace(self.state, position=error.position, draws=self.state.draws + 1)
        if self._skipped < SKIPS:
            self.log.event(self.state.step, "skipped", f"{error} The batch was skipped.")
            return
        found = newest_state(self.out)
        if found is None or self.state.rollbacks == ROLLBACKS or found[1].stage != self.state.stage:
            raise TrainingError(
                f"{error} So were {SKIPS} batches in a row, and going back to a checkpoint cannot help."
            )
        at = self.state
        self.state = replace(
            at, step=found[1].step, stage_step=found[1].stage_step, rollbacks=max(at.rollbacks, found[1].rollbacks) + 1
        )
        self._load()
        self.log.event(
            at.step, "rolled_back", f"{error} Back to step {self.state.step:,}, and on with the next batches."
        )
        self._skipped, self.saved = 0, None

    def _work_on_less(self, stage: Stage, error: OutOfMemory) -> None:
        """Half as many tokens at once: the same steps in smaller pieces."""
        now = self.tokens_at_once or stage.length * stage.batch_size
        if self.team.world > 1 or now <= stage.length:
            raise error
        self.tokens_at_once = max(stage.length, now // 2)
        message = f"{error} From here on {self.tokens_at_once:,} at once."
        self.log.event(self.state.step, "out_of_memory", message)

    def _load(self) -> None:
        """The weights and moments of the newest checkpoint."""
        found = newest_state(self.out)
        assert found is not None, "somebody has just looked"
        load_weights(found[0], self.model)
        self.optimizer.state.clear()
        load_moments(found[0], self.optimizer)

    def _heldout(self, stage: Stage) -> list[Batch]:
        """The held-out batches of a stage: the same ones every time."""
        if not read_manifest(self.shards.path)["splits"]["heldout"]["documents"]:
            return []
        shards = Shards.load(self.shards.path, split="heldout", thorough=False)
        loader = Loader(shards, stage.instances, length=stage.length, seed=HELDOUT_SEED)
        masking = None if stage.masking is None else replace(stage.masking, rate=HELDOUT_RATE, final_rate=None)
        batches = loader.one_epoch(HELDOUT_BATCH, masking)
        return list(islice(batches, -(-self.execution.heldout_sequences // HELDOUT_BATCH)))

    def _log(self, report: Report, heldout: list[Batch]) -> None:
        update = report.update
        where = {"step": report.step, "stage": report.stage}
        if report.step % self.execution.log_every == 0 or report.step in (1, report.steps):
            edges = list(range(0, self._stage.length + 16, 16))
            counts, _ = np.histogram(update.lengths, edges)
            self.log.write(
                {
                    **where,
                    "train": plain(update.measures),
                    "learning_rate": update.learning_rate,
                    "gradient_norm": update.gradient_norm,
                    "tokens": update.tokens,
                    "seconds": round(update.seconds, 4),
                    "masking": update.statistics.rates(),
                    "fill": round(update.tokens / update.positions, 4),
                    "lengths": {"edges": edges, "counts": counts.tolist()},
                }
            )
        if report.heldout is not None:
            samples = sample_guesses(self.model, self._stage.objectives, heldout[0], self.shards.tokenizer, SAMPLES)
            self.log.write({**where, "heldout": plain(report.heldout)} | ({"samples": samples} if samples else {}))
