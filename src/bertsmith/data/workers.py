"""Several processes draw the batches of a run in turn; what they draw is what one would have drawn.

Worker i of n makes every n-th step. Which step holds what is a pure function, so a worker that dies is replaced by one that
begins at the very step that is wanted next.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from bertsmith.data.batch import Batch
from bertsmith.data.draws import Draws, Share
from bertsmith.data.instances import Instances
from bertsmith.data.loader import Drawn, Loader, Position
from bertsmith.data.shards import Shards
from bertsmith.errors import BertsmithError, DataError

RESTARTS = 3  # in a row, before a death is taken to be no accident
_HANGS = 120.0  # seconds without a step from a living worker
_BEGINS = 1800.0  # seconds to its first step: it plans an epoch of what may be a very large corpus


@dataclass(frozen=True)
class _Task:
    """All that a worker needs to know; small, and the same for a worker and its replacement but for where it begins."""

    data: str
    split: str
    instances: Instances
    length: int
    row_length: int
    seed: int
    draws: Draws
    share: Share
    start: Position
    first: int
    turn: tuple[int, int]


def drawn_by_workers(
    loader: Loader,
    draws: Draws,
    start: Position,
    *,
    first: int,
    share: Share,
    workers: int,
    restarted: Callable[[str], None],
    stop: Callable[[], bool],
) -> Generator[Drawn, None, None]:
    """What `loader.steps(draws, start, first=first, share=share)` yields, made by `workers` other processes.

    A worker that dies, or says nothing for two minutes, is replaced; `restarted` is told. Ends when `stop` says so.

    Raises:
        DataError: a worker died several times in a row, or what it reads cannot be used.
    """
    task = _Task(
        data=str(loader.shards.path),
        split=loader.shards.split,
        instances=loader.instances,
        length=loader.length,
        row_length=loader.row_length,
        seed=loader.seed,
        draws=draws,
        share=share,
        start=start,
        first=first,
        turn=(0, workers),
    )
    team = [_Worker(replace(task, turn=(number, workers))) for number in range(workers)]
    position, number, deaths = start, first, 0
    try:
        while not stop():
            worker = team[(number - first) % workers]
            try:
                if (drawn := worker.next()) is None:
                    continue
            except _Died as death:
                deaths += 1
                if deaths > RESTARTS:
                    raise DataError(f"A process that draws batches died {deaths} times in a row: {death}.") from None
                restarted(f"A process that draws batches {death}; another one goes on at its step.")
                worker.close()
                behind = (number - first) % workers
                team[behind] = _Worker(replace(task, start=position, first=number, turn=(0, workers)))
                continue
            deaths, position, number = 0, drawn.position, number + 1
            yield drawn
    finally:
        for worker in team:
            worker.close()


class _Died(Exception):
    pass


class _Worker:
    """One process and the pipe that its steps come through."""

    def __init__(self, task: _Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._steps, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, task), name="bertsmith-worker", daemon=True
        )
        self._process.start()
        theirs.close()
        self._deadline = time.monotonic() + _BEGINS

    def next(self) -> Drawn | None:
        """The next step, or None if there is none within a moment."""
        ready = wait([self._steps, self._process.sentinel], timeout=0.2)
        if self._steps in ready:
            self._deadline = time.monotonic() + _HANGS
            try:
                received = self._steps.recv()
            except (EOFError, OSError):
                raise _Died(self._how()) from None
            if isinstance(received, BertsmithError):
                raise received
            return _as_drawn(received)
        if ready:
            raise _Died(self._how())
        if time.monotonic() > self._deadline:
            raise _Died("has said nothing for minutes")
        return None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._steps.close()
        self._process.kill()
        self._process.join()

    def _how(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def _work(steps: Connection, task: _Task) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a run that is asked to stop ends its workers itself
    torch.set_num_threads(1)
    try:
        shards = Shards.load(task.data, task.split, thorough=False)  # pyright: ignore[reportArgumentType]
        loader = Loader(shards, task.instances, length=task.length, seed=task.seed, row_length=task.row_length)
        for drawn in loader.steps(task.draws, task.start, first=task.first, share=task.share, turn=task.turn):
            steps.send(_as_arrays(drawn))
    except BertsmithError as error:
        steps.send(error)
    except (BrokenPipeError, ConnectionResetError):
        pass  # nobody listens any more


# Through a pipe go NumPy arrays: torch would send each tensor through a file descriptor or a shared-memory file of its own.


def _as_arrays(drawn: Drawn) -> list[Any]:
    return [drawn.position, *({**vars(batch), **_each(batch, lambda t: t.numpy())} for batch in drawn.batches)]


def _as_drawn(received: list[Any]) -> Drawn:
    position, *batches = received
    return Drawn(tuple(Batch(**{**b, **_each(Batch(**b), torch.from_numpy)}) for b in batches), position)


def _each(batch: Batch, change: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "fields": {name: change(value) for name, value in batch.fields.items()},
        "targets": {name: change(value) for name, value in batch.targets.items()},
        **{name: change(getattr(batch, name)) for name in ("starts", "lengths", "label_positions")},
    }
