"""What was acknowledged is there, whole, whatever happens to the process that writes; and damage is found and named."""

import json
import multiprocessing
import os
import random
import runpy
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertsmith.config import to_dict
from bertsmith.errors import BertsmithError, CheckpointError, UsageError
from bertsmith.search import Description, Entry, Index, Place, seal, writer, writing

VICTIM = Path(__file__).with_name("victim.py")


class Death(BaseException):
    """The end of a process, as far as the code that runs in it can tell."""


def state_after(turns: int) -> dict[str, str]:
    """Text by id, when the turns of victim.py below this number were done."""
    state: dict[str, str] = {}
    for now in range(turns):
        of = now - 1 if now % 4 == 2 else now - 1 - now % 2 if now % 4 == 3 else now
        for n in range(9):
            if now % 4 == 3:
                state.pop(f"{of}-{n}", None)
            else:
                state[f"{of}-{n}"] = f"text of turn {now}"
    return state


def killed_again_and_again(path: Path, log: Path, description: Description, kills: int) -> int:
    """Kill writers of one index at random moments, and compare after each. Returns how many turns were done in the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lancedb", "bertsmith.search"])
    chance = random.Random(kills)
    turn = 0
    for _ in range(kills):
        asked = {"path": str(path), "log": str(log), "description": to_dict(description), "turn": turn}
        process = context.Process(target=partial(runpy.run_path, str(VICTIM), init_globals={"asked": asked}))
        lines = log.read_text(encoding="utf-8").count("\n") if log.exists() else 0
        process.start()
        while not (log.exists() and log.read_text(encoding="utf-8").count("\n") > lines):
            assert process.exitcode is None, process.exitcode
            time.sleep(0.002)
        time.sleep(chance.random() ** 2)
        read = dict(Index(path).texts()) if path.joinpath(seal.SEAL).exists() else {}  # while it is written
        process.kill()
        process.join()
        said = log.read_text(encoding="utf-8").split("\n")
        done = max((int(line.split()[1]) for line in said if line.startswith("done")), default=-1) + 1
        done = max(done, turn)  # one before may have been killed after its last change, and before it wrote that down
        begun = max(int(line.split()[1]) for line in said if line.startswith("begin")) + 1
        if done or path.joinpath(seal.SEAL).exists():
            index = Index(path)
            index.verify()
            found = dict(index.texts())
            possible = [turns for turns in (done, begun) if found == state_after(turns)]
            assert possible, f"{done} done, {begun} begun, {len(found)} texts"
            assert len(index) == len(found)
            assert read in map(state_after, range(turn, begun + 1)), "a reader saw something between two versions"
            turn = possible[-1]
    return turn


def test_killed_at_random_moments(tmp_path: Path, description: Description) -> None:
    assert killed_again_and_again(tmp_path / "index", tmp_path / "log", description, kills=3) > 0


@pytest.mark.slow
def test_killed_many_times(tmp_path: Path, description: Description) -> None:
    assert killed_again_and_again(tmp_path / "index", tmp_path / "log", description, kills=40) > 15


@pytest.mark.parametrize("point", ["write_seal", "without_missing"])
def test_a_death_between_any_two_steps(
    point: str,
    tmp_path: Path,
    description: Description,
    entry: Callable[..., Entry],
    vectors: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before each call of a step, in adding, deleting and putting in order: what was acknowledged is there, nothing else."""
    real = getattr(writer, point)
    told: list[set[int]] = [set()]

    def whole(path: Path, last: int) -> bool:
        left = last

        def step(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Death
            return real(*arguments)

        told[:] = [set()]
        monkeypatch.setattr(writer, point, step)
        try:
            with writing(path, description) as writing_now:
                for part in (range(3), range(3, 6)):
                    writing_now.add([entry(n) for n in part], vectors(*part))
                    told.append(told[-1] | set(part))
                writing_now.delete([entry(1).id])
                told.append(told[-1] - {1})
                writing_now.optimize(approximate_from=5)
                writing_now.add([entry(7)], vectors(7))
                told.append(told[-1] | {7})
        except Death:
            return False
        finally:
            monkeypatch.setattr(writer, point, real)
        return True

    deaths = 0
    while not whole(tmp_path / f"index-{deaths}", deaths):
        path = tmp_path / f"index-{deaths}"
        there = {entry(n).id for n in told[-1]}
        if there:
            index = Index(path)
            index.verify()
            assert {id for id, _ in index.texts()} == there
        with writing(path, description) as again:
            again.add([entry(9)], vectors(9))
            again.optimize(approximate_from=5)
        index = Index(path)
        index.verify()
        assert {id for id, _ in index.texts()} == there | {entry(9).id}
        deaths += 1
    assert deaths >= (1 if point == "without_missing" else 5)


def test_one_writer(mill: Path, description: Description) -> None:
    with writing(mill, description):
        message = f"in use by process {os.getpid()} on "
        with pytest.raises(UsageError, match=message), writing(mill, description):
            pass
        assert len(Index(mill)) == 37, "readers are not kept out"
    with writing(mill, description):
        pass


def test_every_file_that_is_cut_or_missing_is_named(mill: Path, description: Description) -> None:
    files = [mill / seal.TABLE / name for name in seal.read_seal(Place(mill)).files]
    assert len(files) > 8
    for file in files:
        whole = file.read_bytes()
        for damage in (lambda file=file, whole=whole: file.write_bytes(whole[:-1]), file.unlink):
            damage()
            with pytest.raises(CheckpointError, match=f"^{file}: "):
                Index(mill)
            with pytest.raises(CheckpointError, match=f"^{file}: "), writing(mill, description):
                pass
            file.write_bytes(whole)
    Index(mill).verify()


def test_flipped_bits_are_found(mill: Path) -> None:
    chance = random.Random(3)
    files = [mill / seal.TABLE / name for name in seal.read_seal(Place(mill)).files] + [mill / seal.SEAL]
    for file in files:
        whole = file.read_bytes()
        for place in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(2))}:
            changed = bytearray(whole)
            changed[place] ^= 1 << chance.randrange(8)
            file.write_bytes(changed)
            with pytest.raises(BertsmithError):
                Index(mill).verify()
        file.write_bytes(whole)
    Index(mill).verify()


def test_what_a_machine_that_stopped_leaves_behind(
    mill: Path, description: Description, entry: Callable[..., Entry], vectors: Callable[..., np.ndarray]
) -> None:
    """Files without content under the names of a commit that was never sealed, as without fsync."""
    sealed = (mill / seal.SEAL).read_bytes()
    with writing(mill, description) as writer:
        writer.add([entry(40)], vectors(40))
    (mill / seal.SEAL).write_bytes(sealed)
    newest = min((mill / seal.TABLE / "_versions").glob("*.manifest"))
    newest.write_bytes(b"")
    with pytest.raises(CheckpointError, match="add to it once more"):
        Index(mill)
    with writing(mill, description) as writer:
        writer.add([entry(41)], vectors(41))
    index = Index(mill)
    index.verify()
    assert len(index) == 38 and index.get([entry(40).id]) == []


def test_places_that_are_no_index(tmp_path: Path, description: Description) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear reader", encoding="utf-8")
    with (
        pytest.raises(UsageError, match=r"no index, and there is letter\.txt in it"),
        writing(tmp_path / "mine", description),
    ):
        pass
    with pytest.raises(UsageError, match="this is a file"), writing(tmp_path / "mine" / "letter.txt", description):
        pass
    with writing(tmp_path / "new", description):
        pass
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["letter.txt", "mine", "owner.json"]


def test_a_seal_of_another_time(mill: Path) -> None:
    stored = json.loads((mill / seal.SEAL).read_bytes())
    stored["seal"]["format"] = 2
    stored["sha256"] = seal._digest(stored["seal"])
    (mill / seal.SEAL).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(CheckpointError, match="of format 2, and this bertsmith reads 1"):
        Index(mill)
    shutil.rmtree(mill / seal.TABLE)
    (mill / seal.SEAL).write_text("[1]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        Index(mill)
