"""Pretraining: a recipe and shards in, a run folder out.

RUN/
  run.json       the recipe in full, the data's fingerprint, versions, precision
  log.jsonl      one line a step or so: losses, rates, tokens, seconds, mask statistics; held-out figures
  checkpoints/   what a resume needs
  model/         the finished model: everybody's folder
"""

import json
import platform
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Loader, Position, Shards, prefetched, read_manifest
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.nn import Model
from bertsmith.train.log import Log, plain
from bertsmith.train.loop import Loop, Measure, Step, evaluate
from bertsmith.train.stage import Recipe, Stage, precision_dtype
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

    def run(self, *, resume: bool = False) -> Generator[Report, None, None]:
        """Train to the end of the last stage and write `out/model`.

        Raises:
            UsageError: `out` holds a run and `resume` is not set, or `resume` finds another recipe or other data there.
            TrainingError: a loss is not finite.
        """
        shards = Shards.load(self.data)
        found = self._open(shards, resume=resume)
        model = self._model(shards)
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
        self._save_model(model, shards)

    def plan(self) -> dict[str, str]:
        """What this run would train, on what, and how; nothing is written."""
        shards = Shards.load(self.data, thorough=False)
        with torch.device("meta"):
            model = self.recipe.model(len(shards.vocabulary)).build()
        stages = [f"{s.steps:,} x {s.batch_size} sequences of up to {s.length} tokens" for s in self.recipe.stages]
        tokens = sum(stage.steps * stage.batch_size * stage.length for stage in self.recipe.stages)
        precision = precision_dtype(self.recipe.precision, torch.device(self.device))
        return {
            "recipe": self.recipe.name,
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "vocabulary": f"{len(shards.vocabulary):,} tokens",
            "data": f"{shards.documents:,} documents, {shards.tokens:,} tokens",
            "steps": ", then ".join(stages),
            "at most": f"{tokens:,} tokens, {tokens / max(1, shards.tokens):,.1f} times the text",
            "precision": str(precision).removeprefix("torch."),
        }

    def _open(self, shards: Shards, *, resume: bool) -> tuple[Path, State] | None:
        """Make the run folder, or find the checkpoint to go on from."""
        described = {
            "recipe": to_dict(self.recipe),
            "data": shards.sha256,
            "start": None if self.start is None else str(self.start),
        }
        path = self.out / "run.json"
        if not path.is_file():
            if self.out.exists() and any(self.out.iterdir()):
                raise UsageError(f"{self.out} is not empty and not a run. Choose another folder with -o.")
            self.out.mkdir(parents=True, exist_ok=True)
            environment = {
                "bertsmith": version("bertsmith"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            }
            precision = str(precision_dtype(self.recipe.precision, torch.device(self.device))).removeprefix("torch.")
            record = {"kind": "pretraining", **described, "precision": precision, "versions": environment}
            path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            return None
        if not resume:
            raise UsageError(f"{self.out} already holds a run. Go on with --resume, or choose another folder with -o.")
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if from_dict(Recipe, before["recipe"]) != self.recipe:
            raise UsageError(f"{self.out} was begun with another recipe (see {path}). A resumed run cannot change it.")
        if before["data"] != described["data"]:
            raise UsageError(f"{self.out} was begun on other data than {self.data}. A resumed run cannot change it.")
        return newest_state(self.out)

    def _model(self, shards: Shards) -> Model:
        wanted = self.recipe.model(len(shards.vocabulary))
        model = wanted.initialized(self.recipe.seed)
        if self.start is not None:
            started = load_model(self.start)
            if started.tokenizer.sha256 != shards.tokenizer.sha256:
                raise CheckpointError(
                    f"{self.start} and {self.data} have different tokenizers. Prepare the text with the model's."
                )
            if started.model.config.encoder != wanted.encoder:
                raise CheckpointError(
                    f"{self.start} is not shaped like {self.recipe.name}. Compare `bertsmith models show`."
                )
            model.load_state_dict(
                {
                    **model.state_dict(),
                    **{
                        name: tensor
                        for name, tensor in started.model.state_dict().items()
                        if name in model.state_dict()
                    },
                }
            )
        device = torch.device(self.device)
        model.encoder.stream_dtype = precision_dtype(self.recipe.precision, device)
        return model.to(device)

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

    def _save_model(self, model: Model, shards: Shards) -> None:
        lineage = {"recipe": to_dict(self.recipe), "shards": shards.sha256, "tokenizer": shards.tokenizer.sha256}
        checkpoint = Checkpoint(model=model.to("cpu"), tokenizer=shards.tokenizer, lineage=lineage)
        save_model(self.out / "model", checkpoint, replace=True)


def _loader(shards: Shards, stage: Stage, seed: int) -> Loader:
    micro_batch = stage.batch_size // stage.accumulation
    return Loader(shards, stage.instances, stage.masking, length=stage.length, batch_size=micro_batch, seed=seed)
