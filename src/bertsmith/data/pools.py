"""Pools: who does the work when a function is mapped over pieces. Results come in the order of the pieces.

    Processes(1)          this process
    Processes(8)          eight others on this machine
    RayCluster("auto")    the machines of a Ray cluster (extra `cluster`)
    RayActors("auto")     the same, where the function is large, such as a model: each worker keeps one

A pool holds a few pieces at a time, so memory does not grow with their number. A worker that dies is replaced and its
piece given out again, up to three times.
"""

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

from bertsmith.errors import BertsmithError, MissingExtra, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
Notice = Callable[[str], None]

_ATTEMPTS = 4


class Pool(Protocol):
    """Maps a function over pieces, in order."""

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], notice: Notice
    ) -> Iterator[tuple[Item, Result]]:
        """Each item with its result. Both travel by pickle; `str(item)` names one to `notice`, which hears of deaths.

        Raises:
            BertsmithError: raised by the function, or workers died again and again over one item.
        """
        ...


def usable_cores() -> int:
    """The cores that this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool_of(processes: int, cluster: str | None) -> Pool:
    """The pool for `processes` on this machine, or for `cluster`: "ray" or "ray:ADDRESS".

    Raises:
        UsageError: no process, or another kind of cluster.
        MissingExtra: Ray is not installed.
    """
    if processes < 1:
        raise UsageError(f"processes is {processes}: at least one process must work")
    return Processes(processes) if cluster is None else RayCluster(_address(cluster))


def actors_of(cluster: str, threads: int) -> "RayActors":
    """The same for a function that is large, each worker with so many threads. Errors as those of `pool_of`."""
    return RayActors(_address(cluster), threads)


def _address(cluster: str) -> str | None:
    kind, _, address = cluster.partition(":")
    if kind != "ray":
        raise UsageError(f"cluster {cluster!r}: expected ray, or ray:ADDRESS such as ray:auto or ray:10.0.0.7:6379")
    _ray()
    return address or None


@dataclass(frozen=True)
class Processes:
    """`number` processes of this machine: new interpreters, or this one for 1 and where there is only one item."""

    number: int

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], notice: Notice
    ) -> Iterator[tuple[Item, Result]]:
        """See `Pool.map`."""
        items = iter(items)
        first = list(islice(items, 1 if self.number == 1 else 2))
        items = chain(first, items)
        if len(first) < 2:
            for item in items:
                yield item, function(item)
            return
        crew = _Crew(function, self.number, notice)
        try:
            yield from crew.map(items)
        finally:
            crew.dismiss()


@dataclass
class _Job(Generic[Item]):
    item: Item
    attempts: int = 0
    result: Any = None
    done: bool = False


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: _Job[Any] | None = None


class _Crew(Generic[Item, Result]):
    """Worker processes, each at the other end of a pipe: it ends when either side dies, so nobody waits for the dead."""

    def __init__(self, function: Callable[[Item], Result], number: int, notice: Notice) -> None:
        self._function, self._number, self._notice = function, number, notice
        # "spawn" starts from a clean interpreter: a fork would copy the locks of whatever threads the caller has.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._waiting: deque[_Job[Item]] = deque()

    def map(self, items: Iterator[Item]) -> Iterator[tuple[Item, Result]]:
        window: deque[_Job[Item]] = deque()
        exhausted = False
        while True:
            while not exhausted and len(window) < 2 * self._number:  # bounds the memory if the first takes longest
                for item in islice(items, 1):
                    window.append(_Job(item))
                    self._waiting.append(window[-1])
                    break
                else:
                    exhausted = True
                self._hand_out()
            if not window:
                return
            if window[0].done:
                job = window.popleft()
                yield job.item, job.result
            else:
                self._listen()
                self._hand_out()

    def dismiss(self) -> None:
        for worker in self._workers:
            worker.process.kill()  # it holds nothing that could be half written
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()

    def _hand_out(self) -> None:
        while self._waiting:
            worker = next((w for w in self._workers if w.job is None), None)
            if worker is None:
                if len(self._workers) == self._number:
                    return
                worker = self._hire()
            job = worker.job = self._waiting.popleft()
            job.attempts += 1
            try:
                worker.connection.send(job.item)
            except OSError:
                self._bury(worker)

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._function), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _listen(self) -> None:
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        for connection in wait(list(busy)):
            worker = busy[connection]  # pyright: ignore[reportArgumentType]
            try:
                error, result = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if error is not None:
                raise error
            job, worker.job = worker.job, None
            assert job is not None
            job.result, job.done = result, True

    def _bury(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)
        job = worker.job
        assert job is not None
        if job.attempts == _ATTEMPTS:
            raise BertsmithError(
                f"{job.item}: {_ATTEMPTS} processes died over this piece of text ({_how(worker.process)}), perhaps for "
                "lack of memory. What is finished is kept: run the same command again, with fewer processes."
            )
        self._notice(f"{job.item}: a process died over it ({_how(worker.process)}); another one does it again.")
        self._waiting.appendleft(job)


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _work(connection: Connection, function: Callable[[Any], Any]) -> None:
    """What a worker does until the other side closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent tells its workers
    try:
        while True:
            item = connection.recv()
            try:
                answer = (None, function(item))
            except BertsmithError as error:
                answer = (error, None)
            except Exception:
                answer = (RuntimeError(f"in a worker process:\n{traceback.format_exc()}"), None)
            connection.send(answer)
    except (EOFError, OSError):
        return


@dataclass(frozen=True)
class RayCluster:
    """The machines of a Ray cluster, on which this version of bertsmith must be installed; they need no common disk.

    Args:
        address: as `ray.init` takes it; None: the cluster in RAY_ADDRESS, else one that is started on this machine.
    """

    address: str | None = None

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], notice: Notice
    ) -> Iterator[tuple[Item, Result]]:
        """See `Pool.map`. Ray itself replaces dead workers, without a notice."""
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            _join_cluster(ray, self.address)
        try:
            task = ray.remote(max_retries=_ATTEMPTS - 1)(_apply)
            shared = ray.put(function)
            window: deque[tuple[Item, Any]] = deque()
            for item in items:
                window.append((item, task.remote(shared, item)))
                # Asked each time: the cluster may have grown.
                if len(window) >= 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
                    yield _fetch(ray, *window.popleft())
            while window:
                yield _fetch(ray, *window.popleft())
        finally:
            if ours:
                ray.shutdown()


@dataclass(frozen=True)
class RayActors:
    """A Ray cluster on which each worker keeps the function, with `threads` cores to itself.

    Args:
        address: as that of `RayCluster`.
        threads: cores of a worker.
    """

    address: str | None = None
    threads: int = 1

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], notice: Notice
    ) -> Iterator[tuple[Item, Result]]:
        """See `Pool.map`. Ray itself replaces dead workers, without a notice."""
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            _join_cluster(ray, self.address)
        given: dict[Any, list[Any]] = {}  # what each worker has not finished
        starting = started = None
        try:
            make = ray.remote(num_cpus=self.threads, max_restarts=-1, max_task_retries=_ATTEMPTS - 1)(_Keeper)
            shared = ray.put(function)
            window: deque[tuple[Item, Any]] = deque()
            for item in items:
                # Asked each time: the cluster may have grown. Where others fill it, a worker may never start: only the
                # first is waited for.
                if starting is None and (
                    not given or (len(given) + 1) * self.threads <= ray.cluster_resources().get("CPU", 1)
                ):
                    starting = make.remote()
                    started = starting.start.remote()
                if starting is not None and (not given or ray.wait([started], timeout=0)[0]):
                    given[starting], starting = [], None
                given = {w: ray.wait(f, num_returns=len(f), timeout=0)[1] if f else [] for w, f in given.items()}
                worker = min(given, key=lambda worker: len(given[worker]))
                window.append((item, worker.apply.remote([shared], item)))
                given[worker].append(window[-1][1])
                if len(window) >= 2 * len(given):
                    yield _fetch(ray, *window.popleft())
            while window:
                yield _fetch(ray, *window.popleft())
        finally:
            for worker in (*given, *([starting] if starting is not None else [])):
                ray.kill(worker)
            if ours:
                ray.shutdown()


class _Keeper:
    """A worker, which fetches the function once; one that was replaced fetches it again."""

    def __init__(self) -> None:
        self._function: Any = None

    def start(self) -> None:
        """Answers as soon as the worker is there."""

    def apply(self, function: list[Any], item: Any) -> Any:
        # A reference inside a list is not resolved at each call.
        if self._function is None:
            self._function = _ray().get(function)[0]
        return self._function(item)


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def _join_cluster(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BertsmithError(
            f"The Ray cluster at {address or 'RAY_ADDRESS'} cannot be joined ({reason}). "
            "Start one with: ray start --head"
        ) from error


def _fetch(ray: Any, item: Item, future: Any) -> tuple[Item, Any]:
    try:
        return item, ray.get(future)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BertsmithError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise BertsmithError(
            f"{item}: Ray could not do this piece of text ({reason}). What is finished is kept: run the same command again."
        ) from error


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use over the network
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "cluster") from None
    return ray
