"""Pretraining: a recipe and shards in, a run folder out.

RUN/
  run.json       the recipe in full, the data's fingerprint, versions, precision
  log.jsonl      one line a step or so: losses, rates, tokens, seconds, mask statistics; held-out figures
  checkpoints/   what a resume needs
  model/         the finished model: everybody's folder
"""

import json
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import torch

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import differences, require, to_dict
from bertsmith.data import Shards, damaged_shards
from bertsmith.data.shards import TOKENIZER
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.nn import Model
from bertsmith.ownership import owned
from bertsmith.text import Tokenizer
from bertsmith.train.log import Log, NoLog
from bertsmith.train.loop import Stop, never
from bertsmith.train.measuring import Measured, measure, read_budget, within
from bertsmith.train.record import RunRecord, read_record
from bertsmith.train.references import reference_losses
from bertsmith.train.session import Execution, Report, Session
from bertsmith.train.stage import Recipe, find_device, precision_dtype
from bertsmith.train.state import State, clear_litter, newest_state
from bertsmith.train.team import Team
from bertsmith.train.trial import new_model, try_stages

TOKENS_AT_ONCE = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Pretraining(Execution):
    """A pretraining run. Iterate `run()` to make it go; stop iterating and it saves itself, to be resumed later.

    `data` is a folder of shards, `out` the run folder. `start` is a model folder to continue from (its weights, not its
    optimizer). A damaged shard is an error, or with `on_bad_shard` "skip" it is left out, and that is said; where a run finds
    another one damaged than before, it begins a new epoch of what is left.
    """

    recipe: Recipe
    data: Path
    out: Path
    start: Path | None = None
    device: str = "cpu"
    on_bad_shard: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.on_bad_shard in ("stop", "skip"), "on_bad_shard", f"expected stop or skip, got {self.on_bad_shard!r}"
        )

    @property
    def vocab_size(self) -> int:
        """How many tokens the text is made of."""
        return len(Tokenizer.load(self.data / TOKENIZER).vocabulary)

    def run(self, *, resume: bool = False, stop: Stop = never, team: Team = Team()) -> Generator[Report, None, None]:
        """Train to the end of the last stage and write `out/model`.

        Where `stop` returns True, at the latest between two passes through the model, the run saves and ends.

        Raises:
            UsageError: `out` holds a run and `resume` is not set, or `resume` finds another recipe, other data or another
                start there; or another process is at work there; or there is no such device.
            CheckpointError: `start` has another shape or tokenizer, or the run's files are damaged, or at the end the disk
                is full.
            TrainingError: losses are not finite again and again, or a step does not fit into memory however it is cut.
        """
        read_record(self.out)  # what is no run's folder is not touched
        log = Log(self.out) if team.rank == 0 else NoLog(self.out)
        with ExitStack() as ownership:
            with team.leader_first() as leads:
                if leads:
                    ownership.enter_context(owned(self.out))
                    clear_litter(self.out)
            shards, damaged = self._shards()
            record, model, found = self._begin(shards, resume=resume, team=team)
            # Nobody writes before everybody has looked, and seen the same.
            team.agree(
                {
                    "recipe": json.dumps(to_dict(record.recipe)),
                    "data": record.data,
                    "precision": record.precision,
                    "settings": repr(replace(self, device="", data=Path())),
                    "the newest checkpoint": "none" if found is None else f"step {found[1].step}",
                }
            )
            with team.leader_first() as leads:
                if leads and not (self.out / "run.json").is_file():
                    replace(record, reference=reference_losses(shards)).write(self.out)
            execution = replace(self, tokens_at_once=self.tokens_at_once or record.tokens_at_once)
            session = Session(self.recipe, shards, model, log, execution, team, stop)
            for problem in damaged:
                log.event(session.state.step, "bad_shard", f"{problem} The text goes on without this shard.")
            yield from session.run()
            if session.finished:
                finished = team.whole(model)
                with team.leader_first():
                    if finished is not None:
                        self._save_model(finished, shards, record)

    def measure(self, *, seconds: float = 3.0, team: Team = Team()) -> Measured:
        """Train a model that is thrown away for a few seconds a stage, to see how fast the team does it here."""
        shards, _ = self._shards(thorough=False)
        device = find_device(self.device)
        model = new_model(self.recipe, len(shards.vocabulary))
        model.encoder.stream_dtype = precision_dtype(self.recipe.precision, device)
        return measure(
            self.recipe,
            shards,
            team.place(model, device),
            tokens_at_once=self.tokens_at_once or TOKENS_AT_ONCE,
            heldout_sequences=self.heldout_sequences,
            seconds=seconds,
            team=team,
        )

    def within(self, budget: str, *, measured: Measured | None = None) -> "Pretraining":
        """The same run made to last as long as `budget` says: "20m", "5000 steps", "300M tokens".

        Where `out` holds a run already, that one's length stands: a budget is reckoned once, before the first step.
        """
        wanted, before = read_budget(budget), read_record(self.out)
        if before is not None and len(before.recipe.stages) == len(self.recipe.stages):
            pairs = zip(self.recipe.stages, before.recipe.stages, strict=True)
            stages = tuple(replace(s, steps=begun.steps, schedule=begun.schedule) for s, begun in pairs)
            return replace(self, recipe=replace(self.recipe, stages=stages))
        recipe = within(self.recipe, wanted, measured or self.measure(), self.evaluate_every)
        return replace(self, recipe=recipe)

    def plan(self, *, resume: bool = False, measured: Measured | None = None) -> dict[str, str]:
        """What `run(resume=...)` would train, on what, and how; it raises what that would, and nothing is written.

        With what `measure()` found it also says how fast that will go and when it will be done.
        """
        shards, _ = self._shards(thorough=False)
        record, model, found = self._begin(shards, resume=resume)
        stages = [f"{s.steps:,} x {s.batch_size} sequences of up to {s.length} tokens" for s in self.recipe.stages]
        tokens = sum(stage.examples * stage.length for stage in self.recipe.stages)
        facts = {
            "recipe": self.recipe.name,
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "vocabulary": f"{len(shards.vocabulary):,} tokens",
            "data": f"{shards.documents:,} documents, {shards.tokens:,} tokens"
            + (f"; damaged and left out: {', '.join(shards.without)}" if shards.without else ""),
            "steps": ", then ".join(stages),
            "at most": f"{tokens:,} tokens, {tokens / max(1, shards.tokens):,.1f} times the text",
            "precision": record.precision,
            "begins": "anew" if record.start is None else f"from {record.start['path']}",
            "stands at": f"step {found[1].step if found else 0:,} of {self.recipe.steps:,}",
        }
        if measured is None:
            return facts
        done = found[1].step / self.recipe.steps if found else 0.0
        seconds = measured.seconds(self.recipe, self.evaluate_every) * (1 - done)
        return facts | {
            "speed": ", then ".join(f"{speed:,.0f} tokens a second" for speed in measured.speeds(self.recipe)),
            "memory": f"{measured.memory / 2**30:.1f} GiB",
            "takes": f"{_duration(seconds)}, until {_clock(seconds)}",
        }

    def _shards(self, *, thorough: bool = True) -> tuple[Shards, list[CheckpointError]]:
        """The training text, and what is wrong with the shards that are left out of it."""
        if self.on_bad_shard == "stop":
            return Shards.load(self.data, thorough=thorough), []
        damaged = damaged_shards(self.data)
        return Shards.load(self.data, thorough=thorough, without=tuple(damaged)), list(damaged.values())

    def _begin(
        self, shards: Shards, *, resume: bool, team: Team = Team()
    ) -> tuple[RunRecord, Model, tuple[Path, State] | None]:
        """Everything that can go wrong before a run, before anything is written; and the checkpoint to go on from."""
        fewest = min(stage.initial_batch_size or stage.batch_size for stage in self.recipe.stages)
        if team.world > fewest:
            raise UsageError(
                f"{team.world} processes cannot share steps of {fewest} sequences. Start fewer, or raise batch_size."
            )
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
            tokenizer=shards.tokenizer.sha256,
            start=None if started is None else {"path": str(start), "lineage": dict(started.lineage)},
            precision="float32" if precision_dtype(self.recipe.precision, device) == torch.float32 else "bfloat16",
            tokens_at_once=self.tokens_at_once or TOKENS_AT_ONCE,
        )
        model.encoder.stream_dtype = precision_dtype(record.precision, device)
        model = team.place(model, device)
        try_stages(self.recipe, shards, model)
        team.at_rest(model)
        return record, model, found

    def _check_same(self, before: RunRecord, shards: Shards, *, resume: bool) -> None:
        if not resume:
            raise UsageError(f"{self.out} already holds a run. Go on with --resume, or choose another folder with -o.")
        start = None if before.start is None else before.start["path"]
        changed = ", ".join(
            f"{path} was {old}, now {new}" for path, old, new in differences(before.recipe, self.recipe)
        )
        tokenizer = shards.tokenizer.sha256
        for what, same in (
            (f"another recipe ({changed})", not changed),
            (
                f"another tokenizer than that of {self.data} (SHA-256 was {before.tokenizer}, now {tokenizer})",
                before.tokenizer in (None, tokenizer),
            ),
            (
                f"other data than {self.data} (SHA-256 was {before.data}, now {shards.sha256})",
                shards.sha256 == before.data,
            ),
            (f"another start ({start}) than {self.start}", self.start is None or str(self.start) == start),
        ):
            if not same:
                raise UsageError(
                    f"{self.out} was begun with {what} (see {self.out / 'run.json'}). A resumed run cannot change it."
                )

    def _model(self, shards: Shards, started: Checkpoint | None) -> Model:
        model = new_model(self.recipe, len(shards.vocabulary))
        if started is not None:
            if started.tokenizer.sha256 != shards.tokenizer.sha256:
                raise CheckpointError(
                    f"{started.path} and {self.data} have different tokenizers (SHA-256 {started.tokenizer.sha256} and "
                    f"{shards.tokenizer.sha256}). Prepare the text with the model's."
                )
            if started.model.config.encoder != model.config.encoder:
                raise CheckpointError(
                    f"{started.path} is not shaped like {self.recipe.name}. Compare `bertsmith models show`."
                )
            weights = model.state_dict()
            weights.update({name: tensor for name, tensor in started.model.state_dict().items() if name in weights})
            model.load_state_dict(weights)
        return model

    def _save_model(self, model: Model, shards: Shards, record: RunRecord) -> None:
        lineage: dict[str, Any] = {
            "recipe": to_dict(self.recipe),
            "shards": shards.sha256,
            "tokenizer": shards.tokenizer.sha256,
        }
        if shards.without:
            lineage["without_shards"] = list(shards.without)
        if record.start is not None:
            lineage["continued_from"] = record.start
        checkpoint = Checkpoint(model=model, tokenizer=shards.tokenizer, lineage=lineage)
        save_model(self.out / "model", checkpoint, replace=True)


def _duration(seconds: float) -> str:
    """Two units of it, the coarsest that say something."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if minutes < 90:
        return f"{minutes} minutes"
    if minutes < 48 * 60:
        return f"{minutes // 60} hours {minutes % 60} minutes"
    days = minutes / (24 * 60)
    return f"{days:,.0f} days" if days < 730 else f"{days / 365:,.0f} years"


def _clock(seconds: float) -> str:
    try:
        end = datetime.now().astimezone() + timedelta(seconds=seconds)
    except OverflowError:
        return "the end of the calendar"
    return f"{end:%H:%M}" if seconds < 12 * 3600 else f"{end:%d %B %Y}"
