"""What the tests that break things share: a run of thirty steps with everything in it, and processes that may die."""

import json
import multiprocessing
import runpy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from bertsmith.config import override, to_dict
from bertsmith.data import Masking
from bertsmith.folders import sha256_of
from bertsmith.recipes import bert
from bertsmith.train import Pretraining, Recipe, read_log

JOB = Path(__file__).with_name("job.py")
SETTINGS = {"log_every": 1, "evaluate_every": 10, "save_every": 4, "heldout_sequences": 6, "tokens_at_once": 120}


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Thirty steps in two stages, with dropout, a ramp of the batch and a masking rate that falls."""
    thirty = replace(bert.tiny(), name="thirty", encoder=bert.encoder(12, 2, 2), precision="float32")
    thirty = override(
        thirty,
        [
            "stages.0.steps=24",
            "stages.0.length=24",
            "stages.0.batch_size=5",
            "stages.0.initial_batch_size=2",
            "stages.0.ramp=0.5",
            "stages.0.schedule.warmup_steps=4",
            "stages.0.schedule.peak=0.01",
            "stages.1.steps=6",
            "stages.1.length=40",
            "stages.1.batch_size=3",
            "stages.1.schedule.peak=0.001",
        ],
    )
    falling = replace(thirty.stages[0], masking=Masking(rate=0.3, final_rate=0.15))
    return replace(thirty, stages=(falling, thirty.stages[1]))


@pytest.fixture(scope="session")
def run_in(recipe: Recipe, shard_folder: Path) -> Callable[..., Pretraining]:
    """`run_in(folder, **changes)`: that run, in a folder, with other settings."""

    def make(out: Path, **changes: Any) -> Pretraining:
        given: dict[str, Any] = {"recipe": recipe, "data": shard_folder, "out": out} | SETTINGS | changes
        return Pretraining(**given)

    return make


@pytest.fixture(scope="session")
def straight(run_in: Callable[..., Pretraining], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The thirty steps in one go."""
    out = tmp_path_factory.mktemp("straight") / "run"
    for _ in run_in(out).run():
        pass
    return out


@pytest.fixture(scope="session")
def outcome() -> Callable[[Path], tuple[str, list[dict]]]:
    """`outcome(folder)`: the hash of a run's weights, and its log without times and without events."""

    def look(out: Path) -> tuple[str, list[dict]]:
        told = [
            {key: value for key, value in record.items() if key not in ("seconds", "clock")}
            for record in read_log(out)
            if "event" not in record
        ]
        return sha256_of(out / "model" / "model.safetensors"), told

    return look


@pytest.fixture
def job(recipe: Recipe, shard_folder: Path) -> Iterator[Callable[..., BaseProcess]]:
    """`job(task, **arguments)`: another process that does one of the tasks of job.py. A server forks it in a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bertsmith.cli", "bertsmith.train", "bertsmith.recipes", "torch._dynamo"])
    begun: list[BaseProcess] = []
    common = {"recipe": to_dict(recipe), "data": str(shard_folder)}

    def begin(task: str, **arguments: Any) -> BaseProcess:
        arguments["settings"] = SETTINGS | arguments.get("settings", {})
        asked = {"task": task, "arguments": common | arguments}
        process = context.Process(target=partial(runpy.run_path, str(JOB), init_globals=asked))
        process.start()
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def soon() -> Callable[..., None]:
    """`soon(condition)`: wait until it holds."""

    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def argv(recipe: Recipe, shard_folder: Path) -> Callable[..., list[str]]:
    """`argv(folder, *more)`: what to type for that run."""
    given = to_dict(recipe)
    sets = [f"{key}={json.dumps(given[key])}" for key in ("encoder", "stages", "precision")]

    def make(out: Path, *more: str) -> list[str]:
        typed = ["pretrain", "bert:tiny", "--data", str(shard_folder), "-o", str(out)]
        for assignment in sets:
            typed += ["--set", assignment]
        return [*typed, "--save-every", "4", "--evaluate-every", "10", "--tokens-at-once", "120", *more]

    return make
