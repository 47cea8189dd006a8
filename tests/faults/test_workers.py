"""Worker processes that die, hang or are left alone: the run sees the same batches, says what happened, leaves nobody."""

import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from bertsmith.config import to_dict
from bertsmith.data import workers
from bertsmith.errors import DataError
from bertsmith.train import Pretraining, Recipe, read_log
from bertsmith.train.state import newest_state

Job = Callable[..., BaseProcess]


def living() -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.name == "bertsmith-worker"]


@pytest.fixture(scope="module")
def run_in(run_in: Callable[..., Pretraining], recipe: Recipe) -> Callable[..., Pretraining]:
    """A run whose batches are so large that no worker gets far ahead: a pipe holds 64 KiB."""
    stage = replace(recipe.stages[0], steps=40, batch_size=96, initial_batch_size=None, ramp=0.0)
    return partial(run_in, recipe=replace(recipe, stages=(stage,)), tokens_at_once=4000)


@pytest.fixture(scope="module")
def straight(run_in: Callable[..., Pretraining], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without workers, and without anything that happens to them."""
    out = tmp_path_factory.mktemp("straight") / "run"
    for _ in run_in(out).run():
        pass
    return out


@pytest.mark.parametrize("number", [1, 4])
def test_workers_that_are_killed(
    run_in: Callable[..., Pretraining], straight: Path, outcome: Callable, tmp_path: Path, number: int
) -> None:
    chance, killed = random.Random(number), 0
    for report in run_in(tmp_path / "run", workers=number).run():
        if report.step in (2, 5, 9):
            for victim in chance.sample(living(), min(1, len(living()))):
                victim.kill()
                killed += 1
    assert outcome(tmp_path / "run") == outcome(straight)
    told = [record["message"] for record in read_log(tmp_path / "run") if record.get("event") == "worker_restarted"]
    assert 0 < len(told) <= killed
    assert all("was killed by signal 9" in message for message in told)
    assert not living()


def test_a_worker_that_hangs(
    run_in: Callable[..., Pretraining],
    straight: Path,
    outcome: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in the middle of a message that it is about to send."""
    monkeypatch.setattr(workers, "_SILENCE", 3.0)
    for report in run_in(tmp_path / "run", workers=2).run():
        if report.step == 5:
            os.kill(living()[-1].pid or 0, signal.SIGSTOP)
    assert outcome(tmp_path / "run") == outcome(straight)
    told = [record["message"] for record in read_log(tmp_path / "run") if record.get("event") == "worker_restarted"]
    assert told and "gave no sign of life for 3 seconds" in told[0]
    assert not living()


def test_workers_that_die_again_and_again(run_in: Callable[..., Pretraining], tmp_path: Path) -> None:
    """One clear error; and the run goes on from where it was when somebody has found the reason."""
    over = threading.Event()

    def slay() -> None:
        while not over.is_set():
            for child in living():
                child.kill()
            time.sleep(0.001)

    run, slayer = run_in(tmp_path / "run", workers=1), threading.Thread(target=slay)
    with pytest.raises(DataError, match=r"died 4 times in a row: it was killed by signal 9\."):
        for report in run.run():
            if report.step == 4:
                slayer.start()
    over.set()
    slayer.join()
    assert not living()
    assert [r["event"] for r in read_log(run.out) if "event" in r] == ["worker_restarted"] * 3
    found = newest_state(run.out)
    assert found is not None and found[1].step == max(r["step"] for r in read_log(run.out)) > 4
    assert next(run.run(resume=True)).step == found[1].step + 1


def test_damage_that_a_worker_finds_is_the_run_s_error(
    run_in: Callable[..., Pretraining], shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shard_folder, data)
    steps = run_in(tmp_path / "run", data=data, workers=1).run()
    begin = workers._Worker.__init__

    def truncated(self: object, *given: object) -> None:
        (data / "train-00000.tokens.bin").write_bytes(b"")
        begin(self, *given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(workers._Worker, "__init__", truncated)
    with pytest.raises(Exception, match=r"train-00000\.tokens\.bin: expected \d+ bytes, found 0"):
        next(steps)


def descendants(of: int) -> set[int]:
    """All processes below one, by what the kernel says of each one's parent."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
                )
            except OSError:
                continue
    found = {of}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {of}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks up processes in /proc")
@pytest.mark.parametrize("doing", ["waiting", "planning"])
def test_nobody_is_left_when_the_run_is_killed(
    job: Job, recipe: Recipe, soon: Callable, tmp_path: Path, doing: str
) -> None:
    shared = Path("/dev/shm")
    before = set(shared.iterdir()) if shared.exists() else set()
    held, begun = tmp_path / "hold", tmp_path / "begun"
    held.touch()
    given = to_dict(recipe)
    if doing == "planning":
        given["stages"][0]["instances"] = {"kind": "slow_pairs", "begun": str(begun)}
    run = job(
        "train",
        recipe=given,
        out=str(tmp_path / "run"),
        announced=str(begun),
        hold=str(held),
        settings={"workers": 2},
    )
    soon(begun.exists)
    below = descendants(run.pid or 0)
    assert len(below) >= 3, "two workers and the server that has forked them"
    run.kill()
    run.join()
    soon(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists() and not is_gone(pid)], seconds=20)
    assert not shared.exists() or set(shared.iterdir()) <= before


def is_gone(pid: int) -> bool:
    """Whether only its name is left, for a parent that has not asked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
