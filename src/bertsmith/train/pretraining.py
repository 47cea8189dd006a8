"""Pretraining: a recipe and shards in, a run folder out.

RUN/
  run.json       the recipe in full, the data's fingerprint, versions, precision
  log.jsonl      one line a step or so: losses, rates, tokens, seconds, mask statistics; held-out figures
  checkpoints/   what a resume needs
  model/         the finished model: everybody's folder
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import differences, require, to_dict
from bertsmith.data import Batch, Loader, Position, Shards, prefetched, read_manifest
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.nn import Model
from bertsmith.train.log import Log, plain
from bertsmith.train.loop import Loop, Measure, Step, evaluate
from bertsmith.train.record import RunRecord, read_record
from bertsmith.train.stage import Recipe, Stage, find_device, precision_dtype
from bertsmith.train.state import State, load_moments, load_weights, newest_state, save_state

# One fixed draw of held-out masks at BERT's rate, whatever a stage trains with, so that the figures of runs compare.
HELDOUT_SEED = 0x5EED
HELDOUT_RATE = 0.15


@dataclass(frozen=True)
class Report:
    """One step of a run: `step` counts over all stages; `heldout` is set where the run looked at held-out text."""

    step: int
    steps: int
    stage: int
    update: Step
    heldout: dict[str, Measure] | None

    def note(self) -> str:
        """The losses and the speed of this step, in a few words for a progress bar."""
        losses = "  ".join(f"{name.replace('_', ' ')} {m.loss:.3f}" for name, m in self.update.measures.items())
        return f"{losses}  {self.update.tokens / self.update.seconds:,.0f} tokens/s"


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A pretraining run. Iterate `run()` to make it go; stop iterating and it saves itself, to be resumed later.

    `data` is a folder of shards, `out` the run folder. `start` is a model folder to continue from (its weights, not its
    optimizer). Every `log_every` steps a line is logged, every `evaluate_every` the held-out loss is measured on
    `heldout_sequences` sequences, every `save_every` a checkpoint is written.
    """

    recipe: Recipe
    data: Path
    out: Path
    start: Path | None = None
    device: str = "cpu"
    log_every: int = 10
    evaluate_every: int = 500
    save_every: int = 500
    heldout_sequences: int = 512

    def __post_init__(self) -> None:
        for name in ("log_every", "evaluate_every", "save_every", "heldout_sequences"):
            require(getattr(self, name) > 0, name, f"expected at least 1, got {getattr(self, name)}")

    def run(self, *, resume: bool = False) -> Generator[Report, None, None]:
        """Train to the end of the last stage and write `out/model`.

        Raises:
            UsageError: `out` holds a run and `resume` is not set, or `resume` finds another recipe, other data or another
                start there; or there is no such device.
            CheckpointError: `start` has another shape or tokenizer, or the run's files are damaged.
            TrainingError: a loss is not finite.
        """
        shards = Shards.load(self.data)
        record, model, found = self._begin(shards, resume=resume)
        if not (self.out / "run.json").is_file():
            record.write(self.out)
        log = Log(self.out)
        state = State(step=0, stage=0, stage_step=0, position=Position(0, 0))
        if found:
            state = found[1]
            load_weights(found[0], model)
        log.cut(state.step)
        optimizer = self.recipe.stages[state.stage].optimizer.build(model)
        if found:
            load_moments(found[0], optimizer)
        for index, stage in enumerate(self.recipe.stages[state.stage :], start=state.stage):
            if index > state.stage:
                state = State(state.step, index, 0, Position(state.position.epoch + 1, 0))
                if stage.optimizer != self.recipe.stages[index - 1].optimizer:
                    optimizer = stage.optimizer.build(model)
            for report, reached in self._stage(stage, state, model, optimizer, shards):
                state = reached
                self._log(log, report)
                if report.step % self.save_every == 0 and report.step < self.recipe.steps:
                    save_state(self.out, state, model, optimizer)
                try:
                    yield report
                except GeneratorExit:
                    save_state(self.out, state, model, optimizer)
                    raise
        save_state(self.out, state, model, optimizer)
        self._save_model(model, shards, record)

    def plan(self, *, resume: bool = False) -> dict[str, str]:
        """What `run(resume=...)` would train, on what, and how; it raises what that would, and nothing is written."""
        shards = Shards.load(self.data, thorough=False)
        record, model, found = self._begin(shards, resume=resume)
        stages = [f"{s.steps:,} x {s.batch_size} sequences of up to {s.length} tokens" for s in self.recipe.stages]
        tokens = sum(stage.steps * stage.batch_size * stage.length for stage in self.recipe.stages)
        return {
            "recipe": self.recipe.name,
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "vocabulary": f"{len(shards.vocabulary):,} tokens",
            "data": f"{shards.documents:,} documents, {shards.tokens:,} tokens",
            "steps": ", then ".join(stages),
            "at most": f"{tokens:,} tokens, {tokens / max(1, shards.tokens):,.1f} times the text",
            "precision": record.precision,
            "begins": "anew" if record.start is None else f"from {record.start['path']}",
            "stands at": f"step {found[1].step if found else 0:,} of {self.recipe.steps:,}",
        }

    def _begin(self, shards: Shards, *, resume: bool) -> tuple[RunRecord, Model, tuple[Path, State] | None]:
        """Everything that can go wrong before a run, before anything is written; and the checkpoint to go on from."""
        device, before = find_device(self.device), read_record(self.out)
        found = None
        if before is not None:
            self._check_same(before, shards, resume=resume)
            found = newest_state(self.out)
        start = self.start if before is None or before.start is None else before.start["path"]
        started = None if start is None or found else load_model(start)
        model = self._model(shards, started)
        record = before or RunRecord(
            recipe=self.recipe,
            data=shards.sha256,
            start=None if started is None else {"path": str(start), "lineage": dict(started.lineage)},
            precision="float32" if precision_dtype(self.recipe.precision, device) == torch.float32 else "bfloat16",
        )
        model.encoder.stream_dtype = precision_dtype(record.precision, device)
        return record, model.to(device), found

    def _check_same(self, before: RunRecord, shards: Shards, *, resume: bool) -> None:
        if not resume:
            raise UsageError(f"{self.out} already holds a run. Go on with --resume, or choose another folder with -o.")
        start = None if before.start is None else before.start["path"]
        changed = ", ".join(
            f"{path} was {old}, now {new}" for path, old, new in differences(before.recipe, self.recipe)
        )
        for what, same in (
            (f"another recipe ({changed})", not changed),
            (f"other data than {self.data}", shards.sha256 == before.data),
            (f"another start ({start}) than {self.start}", self.start is None or str(self.start) == start),
        ):
            if not same:
                raise UsageError(
                    f"{self.out} was begun with {what} (see {self.out / 'run.json'}). A resumed run cannot change it."
                )

    def _model(self, shards: Shards, started: Checkpoint | None) -> Model:
        wanted = self.recipe.model(len(shards.vocabulary))
        model = wanted.initialized(self.recipe.seed)
        if started is not None:
            if started.tokenizer.sha256 != shards.tokenizer.sha256:
                raise CheckpointError(
                    f"{started.path} and {self.data} have different tokenizers. Prepare the text with the model's."
                )
            if started.model.config.encoder != wanted.encoder:
                raise CheckpointError(
                    f"{started.path} is not shaped like {self.recipe.name}. Compare `bertsmith models show`."
                )
            weights = model.state_dict()
            weights.update({name: tensor for name, tensor in started.model.state_dict().items() if name in weights})
            model.load_state_dict(weights)
        return model

    def _stage(
        self, stage: Stage, state: State, model: Model, optimizer: torch.optim.Optimizer, shards: Shards
    ) -> Iterator[tuple[Report, State]]:
        """One stage from where `state` stands, with the state after each step."""
        loader = _loader(shards, stage, self.recipe.seed)
        heldout = self._heldout(stage)
        loop = Loop(
            model=model,
            objectives=stage.objectives,
            optimizer=optimizer,
            schedule=stage.schedule,
            steps=stage.steps,
            accumulation=stage.accumulation,
            clip_norm=stage.clip_norm,
            seed=self.recipe.seed,
            steps_before=state.step - state.stage_step,
        )
        before = state.step - state.stage_step
        for update in loop.run(prefetched(loader.batches(state.position), depth=4), first=state.stage_step):
            step = before + update.step
            due = step % self.evaluate_every == 0 or step in (1, self.recipe.steps)
            measures = evaluate(model, stage.objectives, heldout) if heldout and due else None
            report = Report(step, self.recipe.steps, state.stage, update, measures)
            yield report, State(step, state.stage, update.step, update.position)

    def _heldout(self, stage: Stage) -> list[Batch]:
        """The held-out batches of a stage: the same ones every time."""
        if not read_manifest(self.data)["splits"]["heldout"]["documents"]:
            return []
        shards = Shards.load(self.data, split="heldout", thorough=False)
        masking = None if stage.masking is None else replace(stage.masking, rate=HELDOUT_RATE)
        stage = replace(stage, batch_size=64, accumulation=1, masking=masking)
        batches = _loader(shards, stage, HELDOUT_SEED).one_epoch()
        return list(islice(batches, -(-self.heldout_sequences // 64)))

    def _log(self, log: Log, report: Report) -> None:
        update = report.update
        if report.step % self.log_every == 0 or report.step in (1, report.steps):
            log.write(
                {
                    "step": report.step,
                    "stage": report.stage,
                    "train": plain(update.measures),
                    "learning_rate": update.learning_rate,
                    "gradient_norm": update.gradient_norm,
                    "tokens": update.tokens,
                    "seconds": round(update.seconds, 4),
                    "masking": update.statistics.rates(),
                }
            )
        if report.heldout is not None:
            log.write({"step": report.step, "stage": report.stage, "heldout": plain(report.heldout)})

    def _save_model(self, model: Model, shards: Shards, record: RunRecord) -> None:
        lineage = {"recipe": to_dict(self.recipe), "shards": shards.sha256, "tokenizer": shards.tokenizer.sha256}
        if record.start is not None:
            lineage["continued_from"] = record.start
        checkpoint = Checkpoint(model=model.to("cpu"), tokenizer=shards.tokenizer, lineage=lineage)
        save_model(self.out / "model", checkpoint, replace=True)


def _loader(shards: Shards, stage: Stage, seed: int) -> Loader:
    micro_batch = stage.batch_size // stage.accumulation
    return Loader(shards, stage.instances, stage.masking, length=stage.length, batch_size=micro_batch, seed=seed)
