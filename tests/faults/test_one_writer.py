"""One folder, one writer; and clocks that cannot be trusted."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest

from bertsmith import ownership
from bertsmith.train import Pretraining, log
from bertsmith.train.state import newest_state, saved_states

Job = Callable[..., BaseProcess]


@pytest.mark.slow
def test_eight_that_start_together(
    job: Job, argv: Callable[..., list[str]], soon: Callable, straight: Path, outcome: Callable, tmp_path: Path
) -> None:
    """Several times on one folder: one trains, seven end at once and name it; killed, it is no hindrance to the next."""
    out, held = tmp_path / "run", tmp_path / "hold"
    held.touch()
    waiting = {"hold": str(held), "reached": str(tmp_path / "reached")}
    for turn in range(4):
        files = [str(tmp_path / f"said-{turn}-{number}") for number in range(8)]
        racing = [
            job("command", argv=argv(out, "--resume"), stderr=file, point="pass", nth=1, **waiting) for file in files
        ]
        soon(lambda racing=racing: sum(process.is_alive() for process in racing) == 1)
        time.sleep(0.02)
        (owner,) = [process for process in racing if process.is_alive()]
        for process, file in zip(racing, files, strict=True):
            if process is not owner:
                said = Path(file).read_text(encoding="utf-8")
                assert process.exitcode == 2, said
                assert f"{out} is in use by process {owner.pid} on " in said.replace("\n", " ")
        assert json.loads((out / "owner.json").read_text(encoding="utf-8"))["pid"] == owner.pid
        owner.kill()
        owner.join()
    held.unlink()
    last = job("command", argv=argv(out, "--resume"), stderr=str(tmp_path / "said"))
    last.join()
    assert last.exitcode == 0
    assert outcome(out)[0] == outcome(straight)[0]


def test_a_dead_owner_is_not_named_for_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its lock and its name, the new owner's file still has the name of the last one, who was killed."""
    from bertsmith.errors import UsageError

    dead = subprocess.Popen(["true"])
    dead.wait()
    with ownership.owned(tmp_path / "run"):
        owner = tmp_path / "run" / "owner.json"
        mine = owner.read_text(encoding="utf-8")
        owner.write_text(mine.replace(str(os.getpid()), str(dead.pid)), encoding="utf-8")
        woken = SimpleNamespace(sleep=lambda seconds: owner.write_text(mine, encoding="utf-8"))
        monkeypatch.setattr(ownership, "time", woken)
        with (
            pytest.raises(UsageError, match=f"in use by process {os.getpid()} on "),
            ownership.owned(tmp_path / "run"),
        ):
            pass


def test_a_new_run_finds_somebody_at_work(run_in: Callable[..., Pretraining], tmp_path: Path) -> None:
    """Without --resume too, and while the other one is still about to begin."""
    from bertsmith.errors import UsageError

    with ownership.owned(tmp_path / "run"), pytest.raises(UsageError, match=f"in use by process {os.getpid()} on "):
        next(run_in(tmp_path / "run").run())
    assert not (tmp_path / "run").exists()
    steps = run_in(tmp_path / "run").run()
    next(steps)
    for resume in (False, True):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on "):
            next(run_in(tmp_path / "run").run(resume=resume))
    steps.close()


class Clock:
    """What `datetime.now` says, whatever the time is."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def now(self, zone: tzinfo | None = None) -> datetime:
        return self._now().astimezone(zone)


@pytest.mark.parametrize("jump", ["an hour", "ten years", "none at all"])
def test_clocks_that_jump(
    run_in: Callable[..., Pretraining],
    straight: Path,
    outcome: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jump: str,
) -> None:
    """Back and forth at each look, or standing still with all other clocks; and files as old as chance has it."""
    chance, start = random.Random(3), datetime.now(UTC)
    far = timedelta(hours=1) if jump == "an hour" else timedelta(days=3652)
    jumping = Clock(lambda: start + (timedelta() if jump == "none at all" else chance.choice((-1, 0, 1)) * far))
    for module in (log, ownership):
        monkeypatch.setattr(module, "datetime", jumping)
    clocks = SimpleNamespace(**vars(time))
    clocks.time = lambda: jumping.now(UTC).timestamp()
    if jump == "none at all":
        clocks.monotonic = clocks.perf_counter = lambda: 1.0
    # Only for us: another test's server may be at work in this process, and would sleep until the end of days.
    ours = [module for name, module in sys.modules.items() if name.startswith("bertsmith.")]
    with_clocks = [module for module in ours if getattr(module, "time", None) is time]
    assert len(with_clocks) > 3
    for module in with_clocks:
        monkeypatch.setattr(module, "time", clocks)
    run = run_in(tmp_path / "run")
    for stop in (9, 21, None):
        steps = run.run(resume=True)
        for report in steps:
            assert report.note().endswith("tokens/s")
            if report.step == stop:
                steps.close()
                break
        for folder in saved_states(run.out):
            then = chance.uniform(0, 4e9)
            os.utime(folder, (then, then))
        found = newest_state(run.out)
        assert found is not None and found[1].step == (stop or 30)
    assert outcome(run.out) == outcome(straight)
