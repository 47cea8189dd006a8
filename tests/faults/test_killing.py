"""Processes that are killed: whatever the moment, a run goes on from what it has acknowledged, to the same weights."""

import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bertsmith.train import Pretraining
from bertsmith.train.record import read_record
from bertsmith.train.state import KEEP, clear_litter, newest_state, prune, saved_states

Job = Callable[..., BaseProcess]
KILLED = 137  # what a shell says of SIGKILL; job.py ends itself with it


def acknowledged(file: Path) -> int:
    return max(map(int, file.read_text(encoding="utf-8").split()), default=0) if file.exists() else 0


def test_a_death_at_every_call_of_a_save(job: Job, tmp_path: Path) -> None:
    """Four saves, ended before each call that changes the disk: the acknowledged checkpoint is there, or a newer one."""
    sweeping = job("sweep", out=str(tmp_path))
    sweeping.join()
    assert sweeping.exitcode == 0
    deaths = len(list(tmp_path.glob("run-*")))
    assert deaths > 80
    out = tmp_path
    for number in range(1, deaths + 1):
        out = tmp_path / f"run-{number}"
        found = newest_state(out)
        clear_litter(out)  # as the next start does
        again = newest_state(out)
        told = acknowledged(tmp_path / f"announced-{number}")
        assert (again[1].step if again else 0) >= max(told, found[1].step if found else 0)
        if again:
            folder, state = again
            assert {float(t.min()) for t in load_file(folder / "model.safetensors").values()} == {float(state.step)}
            prune(out, state.step, every=2)
            assert len(saved_states(out)) <= KEEP + 1
            assert not [entry.name for entry in folder.parent.iterdir() if entry.name.startswith(".")]
    assert [path.name[-1] for path in saved_states(out)] == ["2", "3", "5"]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again(
    job: Job, straight: Path, outcome: Callable, tmp_path: Path, soon: Callable
) -> None:
    """At five calls and at seven random moments, on one folder: nothing acknowledged is lost."""
    out, announced = tmp_path / "run", tmp_path / "announced"
    chance = random.Random(7)

    def check() -> None:
        told = acknowledged(announced)
        clear_litter(out)  # as the next start does
        found = newest_state(out)
        assert (found[1].step if found else 0) >= told

    for number in (3, 16, 34, 58, 70):
        died = job("train", out=str(out), announced=str(announced), die_at=number)
        died.join()
        assert died.exitcode == KILLED
        check()
    for _ in range(7):
        before = announced.stat().st_size
        victim = job("train", out=str(out), announced=str(announced))
        if chance.random() < 0.7:
            soon(lambda before=before, it=victim: announced.stat().st_size > before or not it.is_alive())
        time.sleep(chance.uniform(0, 0.1))
        victim.kill()
        victim.join()
        check()
    last = job("train", out=str(out), announced=str(announced))
    last.join()
    assert last.exitcode == 0
    assert outcome(out) == outcome(straight)
    assert len(saved_states(out)) <= KEEP + 1
    assert not [entry for entry in (*out.iterdir(), *(out / "checkpoints").iterdir()) if entry.name.startswith(".")]


class Disk:
    """What a power loss leaves of a folder: file contents as of their last fsync, names as of the last one of their folder.

    Nothing that was not asked for is granted, which is more than any real file system would lose.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._removed: dict[int, int] = {}  # how often an inode's number has become free for another file
        self._contents: dict[tuple[int, int], bytes] = {}
        self._names: dict[tuple[int, int], dict[str, tuple[int, int, bool]]] = {}
        self.lost: Callable[[], None] = lambda: None
        for name in ("rename", "unlink", "rmdir", "fsync"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, call: Callable) -> Callable:
        def watched(*given: Any, **named: Any) -> None:
            if call.__name__ in ("unlink", "rmdir"):
                number = os.stat(given[0], **named, follow_symlinks=False).st_ino  # noqa: PTH116 - knows of dir_fd
                self._removed[number] = self._removed.get(number, 0) + 1
            call(*given, **named)
            if call.__name__ == "fsync":
                path = Path(f"/proc/self/fd/{given[0]}").readlink()
                if path.is_dir():
                    self._names[self._key(path)] = {e.name: (*self._key(e), e.is_dir()) for e in path.iterdir()}
                else:
                    self._contents[self._key(path)] = path.read_bytes()
            self.lost()

        return watched

    def _key(self, path: Path) -> tuple[int, int]:
        number = path.stat().st_ino
        return number, self._removed.get(number, 0)

    def after_power_loss(self, to: Path) -> None:
        """Write what would be there."""

        def write(key: tuple[int, int], folder: Path) -> None:
            folder.mkdir()
            for name, (number, removed, is_folder) in self._names.get(key, {}).items():
                if is_folder:
                    write((number, removed), folder / name)
                else:
                    (folder / name).write_bytes(self._contents.get((number, removed), b""))

        write(self._key(self.root), to)


@pytest.mark.skipif(sys.platform != "linux", reason="it looks up open files in /proc")
def test_power_loss_at_any_moment(
    run_in: Callable[..., Pretraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case after each call: the run folder that is left goes on from what was acknowledged."""
    disk = Disk(tmp_path, monkeypatch)
    told, looks = 0, 0

    def lose() -> None:
        nonlocal looks
        looks += 1
        left = tmp_path.with_name(f"{tmp_path.name}-{looks}")
        with monkeypatch.context() as unwatched:
            unwatched.setattr(disk, "lost", lambda: None)
            disk.after_power_loss(left)
            clear_litter(left / "run")
            found = newest_state(left / "run")
            assert (found[1].step if found else 0) >= told
            if found:
                assert read_record(left / "run") is not None
            shutil.rmtree(left)

    disk.lost = lose
    for report in run_in(tmp_path / "run", save_every=2).run():
        told = report.saved or 0
        if report.step == 9:
            break
    assert told == 8 and looks > 50
