"""One process's time at a run: from where the run stands to its end, or to where it is stopped."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bertsmith.config import require
from bertsmith.data import Batch, Drawn, Loader, Position, Shards, prefetched, read_manifest
from bertsmith.data.workers import drawn_by_workers
from bertsmith.errors import CheckpointError, DataError, TrainingError, UsageError
from bertsmith.nn import Model
from bertsmith.train.log import Log, plain
from bertsmith.train.loop import Loop, Measure, NotFinite, OutOfMemory, Step, Stop, evaluate, never
from bertsmith.train.samples import sample_guesses
from bertsmith.train.stage import Recipe, Stage
from bertsmith.train.state import (
    Spoiled,
    State,
    forget_after,
    load_moments,
    load_weights,
    newest_state,
    prune,
    save_state,
    saved_states,
    state_before,
    step_of,
)
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

    `saved` is the step of the newest checkpoint, None before there is one.
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
    """Trains a model from where the run in `log`'s folder stands, and keeps that folder up to date."""

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
        self.out = log.path.parent
        found = newest_state(self.out)
        self.state = State(without=shards.without) if found is None else found[1]
        if self.state.without != shards.without:  # another text has other epochs: this one begins
            anew = Position(self.state.position.epoch + 1, 0)
            self.state = replace(self.state, without=shards.without, position=anew)
        self._on_disk = self.state
        self._saved_at = time.monotonic()
        self.optimizer = self._stage.optimizer.build(model)
        self._has_heldout = read_manifest(shards.path)["splits"]["heldout"]["documents"] > 0
        self._heldout: list[Batch] = []
        log.cut(self.state.step)
        # Told to stop in the middle of a look at held-out text, a run owes it when it goes on.
        owes = self._looks_at(self.state.step) and not log.has_heldout(self.state.step)
        self._owes_heldout = team.sum([float(owes and team.rank == 0)])[0] > 0
        if found is not None:
            self._load(found[0])
            self._say_where_it_stands()
            if team.rank == 0:
                prune(self.out, self.state.step, every=execution.save_every)

    @property
    def finished(self) -> bool:
        """Whether everything has been done."""
        return self.state.step == self.recipe.steps and not self._owes_heldout

    @property
    def saved(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return None if self._on_disk == State(without=self.shards.without) else self._on_disk.step

    @property
    def tokens_at_once(self) -> int | None:
        """The most that one pass works on."""
        limits = [limit for limit in (self.execution.tokens_at_once, self.state.tokens_at_once) if limit]
        return min(limits, default=None)

    @property
    def _stage(self) -> Stage:
        return self.recipe.stages[self.state.stage]

    def run(self) -> Iterator[Report]:
        """Every step that is left. Told to stop, no longer iterated, or without any more data, it saves and ends."""
        try:
            if self._owes_heldout:
                self._heldout = self._heldout_batches(self._stage)
                self._look_at_heldout()
            while self.state.step < self.recipe.steps and not self._owes_heldout:
                if self.state.stage_step == self._stage.steps:
                    self._next_stage()
                yield from self._train()
                if self.state.stage_step < self._stage.steps:
                    break
        except (GeneratorExit, DataError):
            self.save()
            raise
        self.save()
        if not self.finished:
            self.log.event(self.state.step, "stopped", f"Stopped at step {self.state.step:,}, as asked.")

    def save(self) -> None:
        """Write a checkpoint, if there is anything new to write; it is durable when this returns.

        Raises:
            CheckpointError: the disk is full.
            Spoiled: a weight is not finite.
        """
        if self._on_disk != self.state:
            if self.team.rank == 0:
                self.log.sync()
            save_state(
                self.out, self.state, self.model, self.optimizer, every=self.execution.save_every, team=self.team
            )
        self._on_disk, self._saved_at = self.state, time.monotonic()

    def _say_where_it_stands(self) -> None:
        passed_over = [folder.name for folder in saved_states(self.out) if step_of(folder) > self.state.step]
        damaged = f" {', '.join(passed_over)} cannot be read and was passed over." if passed_over else ""
        self.log.event(self.state.step, "resumed", f"Resumed at step {self.state.step:,}.{damaged}")

    def _next_stage(self) -> None:
        before = self._stage
        after = Position(self.state.position.epoch + 1, 0)
        self.state = replace(self.state, stage=self.state.stage + 1, stage_step=0, draws=0, position=after)
        if self._stage.optimizer != before.optimizer:
            self.optimizer = self._stage.optimizer.build(self.model)

    def _train(self) -> Iterator[Report]:
        """The current stage, to its end or until told to stop."""
        stage = self._stage
        loop = Loop(
            model=self.model,
            objectives=stage.objectives,
            optimizer=self.optimizer,
            schedule=stage.schedule,
            steps=stage.steps,
            clip_norm=stage.clip_norm,
            seed=self.recipe.seed,
            steps_before=self.state.step - self.state.stage_step,
            team=self.team,
            stop=self.stop,
        )
        self._heldout = self._heldout_batches(stage)
        ended = False
        while not ended:
            with closing(self._drawn(stage)) as drawn:
                try:
                    yield from self._steps(loop, drawn)
                    ended = True
                except OutOfMemory as error:
                    self._work_on_less(error)

    def _steps(self, loop: Loop, drawn: Iterator[Drawn]) -> Iterator[Report]:
        """The steps of `loop`, as many as `drawn` gives and stop allows, without those that must not be taken."""
        while True:
            try:
                for update in loop.run(drawn, first=self.state.stage_step):
                    yield self._after(update)
                return
            except NotFinite as error:
                self._skip(error)
            except Spoiled as error:
                self._roll_back(error)

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

    def _after(self, update: Step) -> Report:
        """Everything that is due after a step."""
        state = self.state
        self.state = replace(
            state,
            step=state.step + 1,
            stage_step=update.step,
            position=update.position,
            draws=state.draws + 1,
            skipped=0,
        )
        self._log_step(update)
        measures = self._look_at_heldout() if self._looks_at(self.state.step) else None
        if self._save_is_due():
            self._try_to_save()
        return Report(self.state.step, self.recipe.steps, self.state.stage, update, measures, self.saved)

    def _looks_at(self, step: int) -> bool:
        """Whether a look at held-out text is due after that step."""
        return (
            self._has_heldout
            and step > 0
            and (step % self.execution.evaluate_every == 0 or step in (1, self.recipe.steps))
        )

    def _look_at_heldout(self) -> dict[str, Measure] | None:
        """Evaluate and log it; None, and still owed, where told to stop on the way."""
        while True:
            try:
                measures = evaluate(self.model, self._stage.objectives, self._heldout, stop=self._everybody_stops)
                break
            except OutOfMemory as error:
                self._work_on_less(error)
                self._heldout = self._heldout_batches(self._stage)
        self._owes_heldout = measures is None
        if measures is not None:
            samples = sample_guesses(
                self.model, self._stage.objectives, self._heldout[0], self.shards.tokenizer, SAMPLES
            )
            line = {"step": self.state.step, "stage": self.state.stage, "heldout": plain(measures)}
            self.log.write(line | ({"samples": samples} if samples else {}))
        self.team.at_rest(self.model)
        return measures

    def _everybody_stops(self) -> bool:
        return self.team.sum([float(self.stop())])[0] > 0

    def _save_is_due(self) -> bool:
        if self.state.step % self.execution.save_every == 0 or self.state.step == self.recipe.steps:
            return True
        gone = time.monotonic() - self._saved_at > 60 * self.execution.save_minutes
        return self.team.sum([float(gone and self.team.rank == 0)])[0] > 0

    def _try_to_save(self) -> None:
        """Save, and train on where it cannot be done: the older checkpoints are there, and there will be another time."""
        try:
            self.save()
        except (CheckpointError, UsageError) as error:
            self._saved_at = time.monotonic()
            self.log.event(self.state.step, "not_saved", str(error))

    def _skip(self, error: NotFinite) -> None:
        """Go on as if the batch had not been there; after too many in a row, from a checkpoint without them all."""
        state = self.state
        self.state = replace(state, position=error.position, draws=state.draws + 1, skipped=state.skipped + 1)
        if self.state.skipped % SKIPS:
            self.log.event(state.step, "skipped", f"{error} The batch was skipped.")
        else:
            self._roll_back(TrainingError(f"{error} So were {self.state.skipped} batches in a row."))

    def _roll_back(self, error: TrainingError) -> None:
        """Go on from an older checkpoint with the batches that come now; from the same one if it was of no use yet."""
        at = self.state
        if at.rollbacks == ROLLBACKS:
            raise TrainingError(f"{error} Going back to a checkpoint has not helped {ROLLBACKS} times.")
        found = state_before(self.out, at.step + (at.skipped > SKIPS), every=self.execution.save_every)
        if found is None or found[1].stage != at.stage:
            raise TrainingError(f"{error} There is no older checkpoint of this stage to go back to.")
        folder, then = found
        self.state = replace(
            at,
            step=then.step,
            stage_step=then.stage_step,
            rollbacks=at.rollbacks + 1,
            skipped=max(at.skipped, SKIPS),
        )
        self._load(folder)
        with self.team.leader_first() as leads:
            if leads:
                forget_after(self.out, then.step)
        self._on_disk = then
        self.log.cut(then.step)
        self.log.event(then.step, "rolled_back", f"{error} Back to step {then.step:,}, and on with the next batches.")

    def _work_on_less(self, error: OutOfMemory) -> None:
        """Half as many tokens at once: the same steps in smaller pieces."""
        if error.sequences == 1:
            raise TrainingError(
                f"{error} It was a single sequence: train a smaller model, or shorter sequences."
            ) from error
        if self.team.world > 1:
            raise TrainingError(f"{error} Start again with --resume and fewer --tokens-at-once.") from error
        less = max(1, min(error.tokens, self.tokens_at_once or error.tokens) // 2)
        self.state = replace(self.state, tokens_at_once=less)
        self.log.event(self.state.step, "out_of_memory", f"{error} From here on about {less:,} tokens at once.")

    def _load(self, folder: Path) -> None:
        """The weights and moments of a checkpoint."""
        load_weights(folder, self.model)
        self.optimizer.state.clear()
        load_moments(folder, self.optimizer)

    def _heldout_batches(self, stage: Stage) -> list[Batch]:
        """The held-out batches of a stage: the same sequences every time."""
        if not self._has_heldout:
            return []
        loader = Loader(self.shards.beside("heldout"), stage.instances, length=stage.length, seed=HELDOUT_SEED)
        masking = None if stage.masking is None else replace(stage.masking, rate=HELDOUT_RATE, final_rate=None)
        size = min(HELDOUT_BATCH, max(1, (self.tokens_at_once or HELDOUT_BATCH * stage.length) // stage.length))
        return list(loader.one_epoch(size, masking, most=self.execution.heldout_sequences))

    def _log_step(self, update: Step) -> None:
        step, length = self.state.step, self._stage.length
        if step % self.execution.log_every and step not in (1, self.recipe.steps):
            return
        edges = list(range(0, length + 16, 16))
        counts = self.team.sum([float(count) for count in np.histogram(update.lengths, edges)[0]])
        self.log.write(
            {
                "step": step,
                "stage": self.state.stage,
                "train": plain(update.measures),
                "learning_rate": update.learning_rate,
                "gradient_norm": update.gradient_norm,
                "tokens": update.tokens,
                "seconds": round(update.seconds, 4),
                "masking": update.statistics.rates(),
                "fill": round(update.tokens / update.positions, 4),
                "lengths": {"edges": edges, "counts": [int(count) for count in counts]},
            }
        )
