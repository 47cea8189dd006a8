"""Disks that are full or broken: a run trains on, keeps what it has, says so, and saves again when it can."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bertsmith.errors import BertsmithError, CheckpointError
from bertsmith.train import AdamW, Log, Recipe, read_log
from bertsmith.train.state import State, clear_litter, newest_state, save_state, saved_states

Job = Callable[..., BaseProcess]


@pytest.mark.parametrize("fault", ["full", "broken"])
def test_a_disk_that_fails_for_a_while(job: Job, straight: Path, outcome: Callable, tmp_path: Path, fault: str) -> None:
    """From step 6 to step 18 nothing can be saved: no step is lost, nor a line of the log, nor the checkpoint of before."""
    out = tmp_path / "run"
    announced = tmp_path / "announced"
    training = job(
        "train_on_bad_disk",
        out=str(out),
        announced=str(announced),
        fault=fault,
        room=6000,
        **{"from": 6, "until": 18},
    )
    training.join()
    assert training.exitcode == 0
    assert outcome(out) == outcome(straight)
    events = [record for record in read_log(out) if "event" in record]
    assert [(record["step"], record["event"]) for record in events] == [
        (8, "not_saved"),
        (12, "not_saved"),
        (16, "not_saved"),
    ]
    said = "the disk is full" if fault == "full" else "cannot be written (Input/output error)"
    assert all(said in record["message"] for record in events)
    assert list(map(int, announced.read_text(encoding="utf-8").split()))[5:20] == [4] * 14 + [20]


@pytest.mark.parametrize("fault", ["full", "broken"])
def test_a_last_save_that_fails(job: Job, argv: Callable[..., list[str]], tmp_path: Path, fault: str) -> None:
    """The command fails and says why; with room again it has two steps to make."""
    out, said = tmp_path / "run", tmp_path / "said"
    the_last = {"point": "saving", "nth": 8, "fault": fault, "room": 6000}
    failing = job("command", argv=argv(out), stderr=str(said), **the_last)
    failing.join()
    assert failing.exitcode == 1, said.read_text(encoding="utf-8")
    last_line = said.read_text(encoding="utf-8").splitlines()[-1]
    assert re.match(r"Error: \S*(step-00000030|log.jsonl): .*(disk is full|Input/output error)", last_line), last_line
    assert [path.name for path in saved_states(out)] == ["step-00000024", "step-00000028"]
    going_on = job("command", argv=argv(out, "--resume"), stderr=str(said))
    going_on.join()
    assert going_on.exitcode == 0


def test_every_write_of_a_save_failing_in_turn(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each call and each fault: an error in one sentence, the checkpoints of before, and the next save succeeds."""
    model = recipe.model(37).initialized(0)
    optimizer = AdamW().build(model)
    for code in (errno.ENOSPC, errno.EIO):
        number = failures = 0
        while True:
            number += 1
            run = tmp_path / f"run-{code}-{number}"
            save_state(run, State(step=1), model, optimizer, every=1)
            with monkeypatch.context() as failing:
                reached = fail_at(number, code, failing)
                try:
                    save_state(run, State(step=2), model, optimizer, every=1)
                except BertsmithError as error:
                    failures += 1
                    assert re.search(r"step-00000002: .*(disk is full|Input/output error)|checkpoints: ", str(error))
            found = newest_state(run)
            assert found is not None and load_file(found[0] / "model.safetensors")
            save_state(run, State(step=3), model, optimizer, every=1)
            clear_litter(run)
            assert (newest_state(run) or (0, State()))[1].step == 3
            assert len(list((run / "checkpoints").iterdir())) <= 3
            if not reached():
                break
        assert failures > 8, "most of the calls matter"


def test_a_disk_is_not_filled_up(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a checkpoint has no room, nothing is written at all, and the older ones stay."""
    model = recipe.model(37).initialized(0)
    optimizer = AdamW().build(model)
    first = save_state(tmp_path, State(step=1), model, optimizer, every=1)
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    free = shutil.disk_usage(tmp_path)._replace(free=size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(CheckpointError, match=r"step-00000002: the disk is full: .* MB are needed, .* MB are free"):
        save_state(tmp_path, State(step=2), model, optimizer, every=1)
    assert list((tmp_path / "checkpoints").iterdir()) == [first]


def fail_at(number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Let call `number` of those that write fail; whether there was such a call."""
    calls = 0

    def failing(call: Callable[..., Any], *, in_words: bool = False) -> Callable[..., Any]:
        def made(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise SafetensorError(f"I/O error: (os error {code})") if in_words else OSError(code, os.strerror(code))
            return call(*given, **named)

        return made

    for name in ("mkdir", "rename", "fsync"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    for name in ("write_text", "open"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    serialize = vars(safetensors.torch)["serialize_file"]
    monkeypatch.setattr(safetensors.torch, "serialize_file", failing(serialize, in_words=True))
    return lambda: calls >= number


def test_lines_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that fail, or stop halfway, leave no torn line; all lines come in the end, in order and once."""
    log, write, left = Log(tmp_path), os.write, [0]

    def scarce(file: int, content: bytes) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(file, content[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(os, "write", scarce)
    for number in range(60):
        left[0] = number * 3 if number % 20 < 15 else 10000
        log.write({"step": number})
        if log.path.exists():
            assert log.path.read_bytes().endswith(b"\n") or not log.path.stat().st_size
            assert [record["step"] for record in read_log(tmp_path)] == list(range(len(list(read_log(tmp_path)))))
    assert [record["step"] for record in read_log(tmp_path)] == list(range(60))


def test_a_torn_log_is_mended(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for step in range(1, 6):
        log.write({"step": step})
    with log.path.open("ab") as file:
        file.write(b'{"step": 6, "tr')
    log.cut(4)
    assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3, 4]
    with log.path.open("ab") as file:
        file.write(b"\0\0\0\0")
    log.cut(9)
    log.write({"step": 5, "loss": float("nan")})
    assert [(record["step"], record.get("loss", 0)) for record in read_log(tmp_path)][-2:] == [(4, 0), (5, None)]
