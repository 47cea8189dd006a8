"""Fine-tuning: a pretrained model and labelled files in, a model that does the job out (Devlin et al. 2018, §3.2, §4).

RUN/
  run.json       what was asked for, what is in the files, versions
  log.jsonl      one line a step or so, the dev scores of each epoch, the result
  model/         the best epoch of the best seed: everybody's folder
"""

import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import require
from bertsmith.data.columns import Columns
from bertsmith.data.corpora import STDIN
from bertsmith.errors import UsageError
from bertsmith.folders import make_folder, sha256_of
from bertsmith.nn import Model
from bertsmith.progress import Progress, silent
from bertsmith.tasks.material import Material, gather
from bertsmith.tasks.prediction import Evaluation
from bertsmith.tasks.result import Finetuned, SeedRun
from bertsmith.tasks.survey import Survey
from bertsmith.tasks.task import Task, find_task, task_dict
from bertsmith.tasks.trainee import Trainee
from bertsmith.train import AdamW, Loop, Optimizer, Step, WarmupLinear, find_device, precision_dtype
from bertsmith.train.log import Log, plain

LOG_EVERY = 10
_MANY_EXAMPLES = 10_000
_SEEDS = (0, 1, 2)
_FROZEN_RATE = 1e-3
_EPOCHS, _MOST_EPOCHS, _ENOUGH_STEPS = 3, 20, 200


@dataclass(frozen=True)
class Report:
    """One optimizer step. `step` of `steps` counts over all seeds, `epoch` from 1 for each seed.

    `seconds` since training began. `dev` is set at the end of each epoch, `result` on the last step of all, when the model
    is saved.
    """

    step: int
    steps: int
    seed: int
    epoch: int
    update: Step
    seconds: float
    dev: Evaluation | None = None
    result: Finetuned | None = None

    @property
    def seconds_left(self) -> float:
        """At the rate so far."""
        return self.seconds / self.step * (self.steps - self.step)

    def note(self) -> str:
        """Where training stands, in a few words for a progress bar."""
        (measure,) = self.update.measures.values()
        dev = ", ".join(f"dev {name} {value:.3f}" for name, value in (self.dev.metrics if self.dev else {}).items())
        return f"seed {self.seed}, epoch {self.epoch}, {dev or f'loss {measure.loss:.3f}'}"


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """A fine-tuning run. Look at `survey`, then iterate `run()`; or call `finish()`.

    Attributes:
        task: classify, pair, regress, multilabel, tag, span or choice.
        model: a model folder, or a loaded model, such as a `random_twin`.
        train, dev: labelled files: csv, tsv, JSON lines, JSON, Parquet, CoNLL. The best epoch on `dev` is kept.
        out: the run folder, which must not hold anything yet; None keeps the result in memory only.
        columns: which columns of the files hold texts and label; guessed where it does not say.
        epochs: passes over the training examples; the paper's grid is 2 to 4. None is 3, or so many more, up to 20, that a
            small file makes 200 steps: with fewer, much is left unlearned (Zhang et al. 2021, Mosbach et al. 2021).
        batch_size: texts, pairs or choices a step; of tags and spans windows, which are as many where texts are short.
        learning_rate: its peak; None is `default_learning_rate`.
        warmup: the share of all steps in which the learning rate rises, before it falls to 0 in a straight line.
        max_length: tokens a text or pair at most; None is the model's limit. Longer ones are read in windows.
        stride: how many tokens lie between the beginnings of two windows, at most; None is half of one.
        seeds: one run for each, 0 to 2**32 - 1; a seed decides the new head, the order of examples, and dropout. None is 0,
            1 and 2 for fewer than 10,000 training examples, where scores depend much on it (Dodge et al. 2020), else 0.
        freeze: leave the encoder as it is, and train a mix of its layers, the pooler and the head alone (Peters et al. 2018,
            eq. 1; Devlin et al. 2018, §5.3): quicker, mostly worse, and a folder for bertsmith only.
        patience: a run ends after so many epochs without a better score on dev; None trains all epochs.
        most: how many training examples to use at most, always the same ones in the same order; None is all.
        device: where to train: cpu, or cuda where there is one.
    """

    task: str
    model: str | Path | Checkpoint
    train: str | Path
    dev: str | Path
    out: str | Path | None = None
    columns: Columns = Columns()
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    warmup: float = 0.1
    max_length: int | None = None
    stride: int | None = None
    seeds: tuple[int, ...] | None = None
    freeze: bool = False
    patience: int | None = None
    most: int | None = None
    optimizer: Optimizer = AdamW()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        find_task(self.task)
        require(self.batch_size > 0, "batch_size", f"expected at least 1, got {self.batch_size}")
        rate = self.learning_rate
        require(rate is None or rate > 0, "learning_rate", f"expected more than 0, got {rate}")
        require(0 <= self.warmup < 1, "warmup", f"expected 0 <= warmup < 1, got {self.warmup}")
        require(self.stride is None or self.stride > 0, "stride", f"expected at least 1, got {self.stride}")
        for name in ("epochs", "patience", "most"):
            value = getattr(self, name)
            require(value is None or value > 0, name, f"expected at least 1, got {value}")
        seeds = (0,) if self.seeds is None else self.seeds
        require(bool(seeds), "seeds", "expected at least one")
        require(len(set(seeds)) == len(seeds), "seeds", "each must be there once")
        wrong = [seed for seed in seeds if not 0 <= seed < 2**32]
        require(not wrong, "seeds", f"expected 0 <= seed < {2**32}, got {', '.join(map(str, wrong))}")
        find_device(self.device)

    @property
    def survey(self) -> Survey:
        """What is in the files. Reads them, and the model.

        Raises:
            UsageError: `out` is not empty.
            DataError: for whatever is wrong in a file, with the line.
        """
        self._check_out()
        return self._material.survey

    @property
    def plan(self) -> str:
        """For people: what will be done, with whatever was chosen for them."""
        runs = f"{len(self._seeds)} runs" if len(self._seeds) > 1 else "1 run"
        return f"training: {runs} of {self._epochs} epochs, {self._steps:,} steps, learning rate {self._rate:.1e}"

    def run(self) -> Iterator[Report]:
        """Train, and save the best epoch of the best seed. The last report has the result.

        Raises:
            UsageError: `out` is not empty.
            DataError: something in the files cannot be learned from; nothing was written.
            TrainingError: a loss is not finite.
        """
        self._check_out()
        material = self._material
        log = self._open(material)
        seeds = self._seeds
        steps = self._steps * len(seeds)
        runs: list[SeedRun] = []
        best: tuple[SeedRun, Model, Task] | None = None
        started = time.perf_counter()
        for number, seed in enumerate(seeds):
            trainee = Trainee(material, seed, patience=self.patience, freeze=self.freeze)
            for epoch, update, dev in trainee.train(self._loop(trainee), self.batch_size):
                step = number * self._steps + update.step
                report = Report(step, steps, seed, epoch, update, time.perf_counter() - started, dev)
                _log(log, report)
                if trainee.has_finished:
                    runs.append(trainee.outcome())
                    if best is None or _is_better(runs[-1], best[0], material.task):
                        best = runs[-1], *trainee.best_model()
                    if seed == seeds[-1]:
                        report = replace(report, result=self._finish(tuple(runs), *best, log))
                yield report

    def finish(self, progress: Progress = silent) -> Finetuned:
        """`run()` to its end."""
        result = None
        for report in self.run():
            progress("fine-tuning", report.step, report.steps)
            result = report.result
        assert result is not None
        return result

    @cached_property
    def start(self) -> Checkpoint:
        """The model that training starts from."""
        return self.model if isinstance(self.model, Checkpoint) else load_model(self.model)

    @property
    def default_rate(self) -> float:
        """The learning rate for a model of this size; for a head alone, 1e-3."""
        if self.freeze:
            return _FROZEN_RATE
        return default_learning_rate(self.start.model.config.encoder.hidden_size)

    @cached_property
    def _material(self) -> Material:
        cutting = (self.max_length, self.stride)
        return gather(self.start, find_task(self.task), self.train, self.dev, self.columns, cutting, self.most)

    @property
    def _seeds(self) -> tuple[int, ...]:
        small = len(self._material.train.examples) < _MANY_EXAMPLES
        return self.seeds or (_SEEDS if small else _SEEDS[:1])

    @property
    def _steps_an_epoch(self) -> int:
        return math.ceil(len(self._material.lessons) / self.batch_size)

    @property
    def _epochs(self) -> int:
        return self.epochs or min(_MOST_EPOCHS, max(_EPOCHS, math.ceil(_ENOUGH_STEPS / self._steps_an_epoch)))

    @property
    def _steps(self) -> int:
        """Of one seed."""
        return self._steps_an_epoch * self._epochs

    @property
    def _rate(self) -> float:
        return self.learning_rate or self.default_rate

    def _loop(self, trainee: Trainee) -> Loop:
        device = find_device(self.device)
        trainee.model.to(device).encoder.stream_dtype = precision_dtype(self.precision, device)
        return Loop(
            model=trainee.model,
            objectives=(self._material.task.objective(),),
            optimizer=self.optimizer.build(trainee.model),
            schedule=WarmupLinear(peak=self._rate, warmup_steps=int(self._steps * self.warmup)),
            steps=self._steps,
            seed=trainee.seed,
        )

    def _check_out(self) -> None:
        """Before any work is done for it."""
        out = None if self.out is None else Path(self.out)
        if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} exists and is not empty. Choose another folder with -o.")

    def _open(self, material: Material) -> Log | None:
        """Make the run folder."""
        if self.out is None:
            return None
        out = Path(self.out)
        record = {
            "kind": "finetuning",
            "task": task_dict(material.task),
            "model": str(material.start.path),
            "settings": self._settings,
            "files": {name: _fingerprint(path) for name, path in (("train", self.train), ("dev", self.dev))},
            "survey": material.survey.as_dict(),
            "versions": {
                "bertsmith": version("bertsmith"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        make_folder(out)  # last of all: whatever is wrong with what was asked for has been found by now
        (out / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")
        return Log(out)

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "epochs": self._epochs,
            "batch_size": self.batch_size,
            "learning_rate": self._rate,
            "warmup": self.warmup,
            "max_length": self._material.cutter.max_length,
            "stride": self.stride,
            "seeds": list(self._seeds),
            "patience": self.patience,
            "freeze": self.freeze,
            "optimizer": self.optimizer.kind,
            "precision": str(precision_dtype(self.precision, find_device(self.device))).removeprefix("torch."),
        }

    def _finish(self, runs: tuple[SeedRun, ...], best: SeedRun, model: Model, task: Task, log: Log | None) -> Finetuned:
        """Fold, describe and save the best model."""
        material = self._material
        start = material.start
        task = task.finish(model)
        data = task_dict(task) | {
            "columns": asdict(material.train.layout.columns),
            "max_length": material.cutter.max_length,
            "stride": self.stride,
            "metric": task.metric,
            "dev": {"count": best.dev.count, "metrics": best.dev.metrics},
        }
        lineage = {
            "finetuned_from": {"path": str(start.path), "lineage": dict(start.lineage)},
            "train": _fingerprint(self.train),
            "dev": _fingerprint(self.dev),
            "settings": self._settings | {"seed": best.seed, "epoch": best.epoch},
        }
        path = None if self.out is None else Path(self.out) / "model"
        checkpoint = replace(start, model=model.eval(), task=data, lineage=lineage, path=path)
        if path is not None:
            save_model(path, checkpoint)
        result = Finetuned(checkpoint=checkpoint, metric=task.metric, runs=runs, best=best, survey=material.survey)
        if log is not None:
            log.write({"step": self._steps * len(runs), "result": result.as_dict()})
        return result


def default_learning_rate(hidden_size: int) -> float:
    """5e-5 at BERT-base's 768, more for smaller models in proportion, at most 5e-4.

    The published small models were fine-tuned with up to 3e-4 (google-research/bert README), which is this rule at 128.
    """
    return min(5e-4, 5e-5 * 768 / hidden_size)


def _is_better(one: SeedRun, other: SeedRun, task: Task) -> bool:
    metric = task.metric
    return (not one.collapsed, one.dev.metrics[metric]) > (not other.collapsed, other.dev.metrics[metric])


def _fingerprint(path: str | Path) -> dict[str, Any]:
    path = Path(path)
    return {"path": str(path), "sha256": None if path == STDIN else sha256_of(path)}


def _log(log: Log | None, report: Report) -> None:
    if log is None:
        return
    where = {"step": report.step, "seed": report.seed, "epoch": report.epoch}
    if report.update.step % LOG_EVERY == 0 or report.step in (1, report.steps) or report.dev:
        log.write(
            where
            | {
                "train": plain(report.update.measures),
                "learning_rate": report.update.learning_rate,
                "gradient_norm": report.update.gradient_norm,
                "tokens": report.update.tokens,
                "seconds": round(report.update.seconds, 4),
            }
        )
    if report.dev is not None:
        log.write(where | {"dev": report.dev.metrics})
