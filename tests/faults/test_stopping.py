"""Runs that are asked to stop: whatever they are doing, they save and end, and go on to the same weights."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from bertsmith.data import Batch, Drawn, Loader, Shards
from bertsmith.folders import sha256_of
from bertsmith.objectives import Loss, Losses
from bertsmith.train import Pretraining, Recipe, loop
from bertsmith.train.state import newest_state

Job = Callable[..., BaseProcess]
Argv = Callable[..., list[str]]
SECONDS = 10.0  # far more than it takes, far less than what a cluster grants


def ids(drawn: Drawn) -> list[list[int]]:
    return [batch["input_ids"].flatten().tolist() for batch in drawn.batches]


def test_stopped_after_every_step(
    run_in: Callable[..., Pretraining],
    recipe: Recipe,
    shard_folder: Path,
    straight: Path,
    outcome: Callable,
    tmp_path: Path,
) -> None:
    """Thirty resumes of one run: the batches that come next are the straight run's, and so are weights and log."""
    run, shards = run_in(tmp_path / "run"), Shards.load(shard_folder)
    expected: list[list[list[int]]] = []
    position = None
    for stage in recipe.stages:
        loader = Loader(shards, stage.instances, length=stage.length, seed=recipe.seed)
        position = replace(position, epoch=position.epoch + 1, index=0) if position else None
        drawn = list(islice(loader.steps(stage.draws, *([position] if position else [])), stage.steps))
        expected += [ids(one) for one in drawn]
        position = drawn[-1].position
    for step in range(1, 31):
        steps = run.run(resume=True)
        assert next(steps).step == step
        steps.close()
        found = newest_state(run.out)
        assert found is not None and found[1].step == step
        state, stage = found[1], recipe.stages[found[1].stage]
        loader = Loader(shards, stage.instances, length=stage.length, seed=recipe.seed)
        coming = islice(loader.steps(stage.draws, state.position, first=state.draws), 2)
        left_of_stage = stage.steps - state.stage_step
        assert [ids(one) for one in coming][:left_of_stage] == expected[step : step + 2][:left_of_stage]
    for _ in run.run(resume=True):
        pytest.fail("all steps have been made")
    assert outcome(run.out) == outcome(straight)


@pytest.mark.parametrize("workers", [1, 4])
def test_stopped_with_workers(
    run_in: Callable[..., Pretraining], straight: Path, outcome: Callable, tmp_path: Path, workers: int
) -> None:
    """First, second and third resume, with other numbers of workers each time."""
    for stop, number in ((3, workers), (12, 0), (25, workers), (None, workers)):
        steps = run_in(tmp_path / "run", workers=number).run(resume=True)
        for report in steps:
            if report.step == stop:
                steps.close()
                break
    assert outcome(tmp_path / "run") == outcome(straight)


# Where in the work a signal comes, which one, and for which time the work gets there.
PHASES = (
    ("hashing", signal.SIGTERM, 1),
    ("building", signal.SIGINT, 1),
    ("reference losses", signal.SIGUSR1, 1),
    ("pass", signal.SIGTERM, 1),
    ("pass", signal.SIGINT, 8),
    ("evaluating", signal.SIGTERM, 1),
    ("hashing", signal.SIGUSR1, 1),
    ("saving", signal.SIGUSR1, 2),
    ("evaluating", signal.SIGINT, 1),
    ("saving", signal.SIGTERM, 1),
    ("pass", signal.SIGUSR1, 6),
)


@pytest.mark.slow
def test_signals_in_every_phase(job: Job, argv: Argv, straight: Path, tmp_path: Path) -> None:
    """On one run, one after another; it goes on each time, and ends with the straight run's weights."""
    out, step = tmp_path / "run", 0
    for point, number, nth in PHASES:
        began = time.monotonic()
        stopped = job(
            "command",
            argv=argv(out, "--resume"),
            stderr=str(tmp_path / "said"),
            point=point,
            signal=int(number),
            nth=nth,
        )
        stopped.join()
        said = (tmp_path / "said").read_text(encoding="utf-8")
        assert stopped.exitcode == 128 + number, (point, said)
        assert number.name in said and "Traceback" not in said
        assert time.monotonic() - began < SECONDS
        found = newest_state(out)
        assert (found[1].step if found else 0) >= step
        step = found[1].step if found else 0
        assert not (out / "model").exists()
    assert step == 30, "the last of them came in the look at held-out text that ends the run"
    ended = job(
        "command",
        argv=argv(out, "--resume"),
        stderr=str(tmp_path / "said"),
        point="model",
        signal=int(signal.SIGTERM),
        nth=1,
    )
    ended.join()
    assert ended.exitcode == 0, "asked to stop when there was nothing left but to write the model, it wrote the model"
    assert sha256_of(out / "model" / "model.safetensors") == sha256_of(straight / "model" / "model.safetensors")


@pytest.mark.parametrize("phase", ["measuring a budget", "a dry run"])
def test_signals_while_measuring(job: Job, argv: Argv, tmp_path: Path, phase: str) -> None:
    more = ["--dry-run"] if phase == "a dry run" else ["--budget", "10m"]
    stopped = job(
        "command",
        argv=argv(tmp_path / "run", *more),
        stderr=str(tmp_path / "said"),
        point="pass",
        signal=int(signal.SIGTERM),
        nth=30,
    )
    stopped.join()
    assert stopped.exitcode == 128 + signal.SIGTERM
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_signals_while_an_epoch_is_planned(job: Job, argv: Argv, soon: Callable, tmp_path: Path, workers: str) -> None:
    begun = tmp_path / "begun"
    slow = f'stages.0.instances={{"kind": "slow_pairs", "begun": "{begun}"}}'
    planning = job(
        "command",
        argv=argv(tmp_path / "run", "--set", slow, "--workers", workers),
        stderr=str(tmp_path / "said"),
    )
    soon(begun.exists)
    began = time.monotonic()
    os.kill(planning.pid or 0, signal.SIGTERM)
    planning.join()
    assert planning.exitcode == 128 + signal.SIGTERM, (tmp_path / "said").read_text(encoding="utf-8")
    assert time.monotonic() - began < SECONDS


def test_a_second_signal_ends_it_on_the_spot(job: Job, argv: Argv, soon: Callable, tmp_path: Path) -> None:
    """In the middle of a pass through the model that never ends."""
    held, out = tmp_path / "hold", tmp_path / "run"
    held.touch()
    begun = tmp_path / "begun"
    asked = {"point": "pass", "nth": 1, "hold": str(held), "reached": str(begun)}
    holding = job("command", argv=argv(out), stderr=str(tmp_path / "said"), **asked)
    soon(begun.exists)
    for _ in range(2):
        os.kill(holding.pid or 0, signal.SIGTERM)
        time.sleep(0.1)
    holding.join(SECONDS)
    assert holding.exitcode == 128 + signal.SIGTERM


def test_a_step_of_many_passes_is_left_between_two(
    run_in: Callable[..., Pretraining],
    straight: Path,
    outcome: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked to stop in the third of many passes of a step, a run ends before the fourth; the step is made again later."""
    run = run_in(tmp_path / "run", tokens_at_once=1)
    passes: list[Batch] = []
    forward = loop.Losses.forward

    def counting(self: Losses, inputs: Batch) -> dict[str, Loss]:
        if self.model.training:
            passes.append(inputs)
        return forward(self, inputs)

    with monkeypatch.context() as counted:
        counted.setattr(loop.Losses, "forward", counting)
        reports = list(run.run(stop=lambda: len(passes) >= 3))
    assert len(passes) == 3 and len(reports) == 1, "the first step has two passes"
    for _ in run.run(resume=True):
        pass
    for _ in run_in(tmp_path / "whole", tokens_at_once=1).run():
        pass
    assert outcome(run.out) == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_the_real_command(argv: Argv, straight: Path, tmp_path: Path) -> None:
    """`python -m bertsmith pretrain`, stopped at random moments from its very start on."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "bertsmith", *argv(out, "--resume")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for delay, number in ((0.1, signal.SIGTERM), (2.5, signal.SIGINT), (4.0, signal.SIGTERM)):
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as run:
            time.sleep(delay)
            run.send_signal(number)
            _, said = run.communicate(timeout=60)
        # In its first moments Python itself answers, as it does for any program.
        assert run.returncode in (128 + number, -number, 0), said
        assert "Traceback" not in said or delay < 1
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sha256_of(out / "model" / "model.safetensors") == sha256_of(straight / "model" / "model.safetensors")
