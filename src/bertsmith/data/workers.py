"""Several processes draw the batches of a run in turn; what they draw is what one would have drawn.

Worker i of n makes every n-th step. Which step holds what is a pure function, so a worker that dies is replaced by one that
begins at the very step that is wanted next.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from bertsmith.data.batch import Batch
from bertsmith.data.draws import Draws, Share
from bertsmith.data.instances import Instances
from bertsmith.data.loader import Drawn, Loader, Position
from bertsmith.data.prefetch import prefetched
from bertsmith.data.shards import Shards
from bertsmith.errors import BertsmithError, DataError

RESTARTS = 3  # in a row, before a death is taken to be no accident
_BEAT = 1.0  # seconds from one sign of life to the next
_SILENCE = 30.0  # seconds without one, after which a worker is taken to hang
_STARTS = 600.0  # the same before the first one: it may have to load what it needs from a slow disk
_AHEAD = 2  # steps that wait here, of each worker


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
    without: tuple[str, ...] = ()


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

    A worker that dies, or gives no sign of life for half a minute, is replaced; `restarted` is told. Ends when `stop` says
    so.

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
        without=loader.shards.without,
    )
    team = [_Worker(replace(task, turn=(number, workers)), stop) for number in range(workers)]
    position, number, deaths = start, first, 0
    try:
        while not stop():
            turn = (number - first) % workers
            try:
                drawn = team[turn].next()
            except _Died as death:
                if stop():  # whoever wants the run to end may have told its workers too
                    return
                deaths += 1
                if deaths > RESTARTS:
                    raise DataError(f"A process that draws batches died {deaths} times in a row: it {death}.") from None
                restarted(f"A process that draws batches {death}; another one goes on at its step.")
                team[turn].close()
                team[turn] = _Worker(replace(task, start=position, first=number, turn=(0, workers)), stop)
                continue
            if drawn is None:
                return
            deaths, position, number = 0, drawn.position, number + 1
            yield drawn
    finally:
        for worker in team:
            worker.close()


class _Died(Exception):
    pass


class _Worker:
    """One process, the pipe that its steps come through, and one for its signs of life."""

    def __init__(self, task: _Task, stop: Callable[[], bool]) -> None:
        # A server that has loaded what they need forks them in a moment; macOS does not get along with forks.
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe(duplex=False)
        self._beats, their_beats = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_work, args=(theirs, their_beats, task), name="bertsmith-worker", daemon=True
        )
        self._process.start()
        theirs.close()
        their_beats.close()
        self._stop = stop
        self._silence, self._asked_at, self._patience = 0.0, time.monotonic(), _STARTS
        # A thread reads the pipe, so that a process which stops in the middle of a message holds nobody up.
        self._received = prefetched(self._messages(), _AHEAD, stop=self._give_up)

    def next(self) -> Drawn | None:
        """The next step, or None where told to stop.

        Raises:
            _Died: the process is no more, or no longer says anything.
        """
        self._silence, self._asked_at = 0.0, time.monotonic()
        for received in self._received:
            if isinstance(received, BertsmithError):
                raise received
            return _as_drawn(received)
        if self._stop():
            return None
        raise _Died(self._how())

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._received.close()
        self._pipe.close()
        self._beats.close()

    def _messages(self) -> Iterator[Any]:
        try:
            while True:
                yield self._pipe.recv()
        except (EOFError, OSError):
            return

    def _give_up(self) -> bool:
        """Asked several times a second while a step is waited for."""
        # Time goes by in small pieces here: where this process was stopped itself for a while, that is nobody's silence.
        now = time.monotonic()
        self._silence, self._asked_at = self._silence + min(now - self._asked_at, _BEAT), now
        try:
            while self._beats.poll():
                self._beats.recv_bytes()
                self._silence, self._patience = 0.0, _SILENCE
        except (EOFError, OSError):
            pass  # it has ended; the other pipe will say so
        return self._silence > self._patience or self._stop()

    def _how(self) -> str:
        if self._silence > self._patience:
            return f"gave no sign of life for {self._patience:.0f} seconds"
        self._process.join(timeout=5)
        code = self._process.exitcode
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def _work(steps: Connection, beats: Connection, task: _Task) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # a run that is asked to stop ends its workers itself
    threading.Thread(target=_beat, args=(beats,), daemon=True).start()
    torch.set_num_threads(1)
    try:
        shards = Shards.load(task.data, task.split, thorough=False, without=task.without)  # pyright: ignore[reportArgumentType]
        loader = Loader(shards, task.instances, length=task.length, seed=task.seed, row_length=task.row_length)
        for drawn in loader.steps(task.draws, task.start, first=task.first, share=task.share, turn=task.turn):
            steps.send(_as_arrays(drawn))
    except BertsmithError as error:
        steps.send(error)
    except (BrokenPipeError, ConnectionResetError):
        pass  # nobody listens any more


def _beat(beats: Connection) -> None:
    """Give signs of life for as long as there is somebody to give them to; without the run, its workers end."""
    try:
        while True:
            beats.send_bytes(b".")
            time.sleep(_BEAT)
    except OSError:
        os._exit(1)


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
