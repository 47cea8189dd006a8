"""What a run folder says about the run in it: `run.json`, written once, before the first step."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from bertsmith.config import from_dict, to_dict
from bertsmith.errors import CheckpointError, ConfigError, UsageError
from bertsmith.folders import cannot_write, fsync, make_folder
from bertsmith.ownership import OWNER
from bertsmith.train.stage import Recipe


def _versions() -> dict[str, str]:
    return {
        "bertsmith": version("bertsmith"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What decides a run. A resumed run takes all of it from here, and refuses to be given anything else.

    `data` is the fingerprint of the shards, `tokenizer` that of the tokenizer in them, `start` the path and the lineage of
    the model that the run continues from. `precision` is what "auto" came to when the run began: on a machine where it
    would come to something else, the run goes on as it was. `tokens_at_once` is the most that one pass works on; another
    number changes nothing but the last digits. `reference` holds losses to compare with, in nats: `uniform`, a blind guess,
    and `unigram`, who knows the frequencies.
    """

    recipe: Recipe
    data: str
    start: dict[str, Any] | None
    precision: Literal["float32", "bfloat16"]
    tokenizer: str | None = None
    tokens_at_once: int | None = None
    reference: dict[str, float] = field(default_factory=dict, compare=False)
    versions: dict[str, str] = field(default_factory=_versions, compare=False)

    def write(self, run: Path) -> None:
        """Make the run folder. The file is there in full or not at all."""
        make_folder(run)
        values = {"kind": "pretraining", **asdict(self), "recipe": to_dict(self.recipe)}
        replace_file(run / "run.json", json.dumps(values, indent=2) + "\n")


def read_record(run: Path) -> RunRecord | None:
    """The record of the run in that folder; None where a new one may begin.

    Raises:
        UsageError: the folder holds something else.
        CheckpointError: `run.json` cannot be read.
    """
    path = run / "run.json"
    if not path.is_file():
        is_free = not run.exists() or (
            # run.json itself may appear just now: who writes it holds the lock that comes next.
            run.is_dir() and {e.name for e in run.iterdir()} <= {_unfinished(path).name, path.name, OWNER}
        )
        if not is_free:
            raise UsageError(f"{run} is not empty and not a run. Choose another folder with -o.")
        return None
    try:
        values = _as_today(json.loads(path.read_text(encoding="utf-8")))
        return RunRecord(
            recipe=from_dict(Recipe, values["recipe"]),
            **{name: values[name] for name in ("data", "start", "precision", "versions")},
            **{name: values[name] for name in ("tokenizer", "tokens_at_once", "reference") if name in values},
        )
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged, or not a pretraining run's: {error}") from error


def _as_today(values: dict[str, Any]) -> dict[str, Any]:
    """Stages of bertsmith 0.1 said in how many passes their batch went; a run says how much goes into one."""
    at_once = []
    for stage in values["recipe"]["stages"]:
        if (passes := stage.pop("accumulation", 1)) > 1:
            at_once.append(stage["batch_size"] * stage["length"] // passes)
    return values | {"tokens_at_once": min(at_once)} if at_once else values


def _unfinished(path: Path) -> Path:
    """Where a file is written before it takes its name; a crash may leave it behind."""
    return path.with_name(f".{path.name}.new")


def replace_file(path: Path, text: str) -> None:
    """Write a text file, durably and so that a crash leaves the old one or the new one."""
    temporary = _unfinished(path)
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
