"""The queue before the model: what is let in, in which order it is worked on, and what shares a batch.

The model runs in one thread. A batch is packed without padding, so it costs what its tokens cost; its budget is so many of
them as are expected to take `Limits.batch_seconds`, by what the batches before took.

A text is due when it would be worked on if its request were alone. So a request of two thousand texts lets a single query
through between its own, and two large ones share the model. Texts are taken in the order of being due; among those that have
waited for less than `Limits.age`, others of like length are taken along first, because a packed row is as long as its
longest text.

A burst may fill the queue up to `Limits.wait`. Once somebody is refused it is no burst but a flood, in which a long queue would
only make everybody late: so it is kept as short as the model can do with, until nobody has been refused for a while. For as
long as the model had nothing to do just before, a flood that comes in bursts may fill it too.
"""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from bertsmith.serve.errors import ModelFailed, Overloaded, Refusal, Unavailable
from bertsmith.serve.options import Limits

SHARE = 2048  # tokens of a request that those behind it may have to wait for; the rest of it is due later
LEAST = 256  # tokens a batch, even if they are expected to take long
LOOKED_AT = 256  # texts that are looked at for a batch
FADING = 0.9  # how much of what earlier batches took still counts after one more


class Service(Protocol):
    """One thing that the model does with texts. Only texts of one service share a batch."""

    name: str

    def run(self, values: Sequence[Any]) -> Sequence[Any]:
        """A result for each value, or in its place the Refusal that it gets."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as a service reads it: `value` for `Service.run`, what it costs, and how many tokens of it were cut."""

    value: Any
    tokens: int
    truncated: int = 0


@dataclass(frozen=True)
class Batch:
    """What a batch was, for whoever counts."""

    service: str
    texts: int
    tokens: int
    seconds: float


@dataclass
class Done:
    """Results of a request's texts, in their order, and how long they waited and were worked on, in seconds."""

    results: list[Any]
    queued: float
    computed: float


@dataclass(eq=False)
class _Job:
    service: Service
    future: asyncio.Future[Done]
    place: "Place"
    results: list[Any]
    left: int
    arrived: float
    deadline: float
    started: float = 0.0
    computed: float = 0.0

    @property
    def is_wanted(self) -> bool:
        return not self.future.done() and time.monotonic() < self.deadline


@dataclass(order=True, slots=True)
class _Item:
    due: float
    number: int
    job: _Job = field(compare=False)
    index: int = field(compare=False)
    reading: Reading = field(compare=False)


class Place:
    """A request's place in the queue, from its admission to its end; a context. `tokens` is what is left to do of it."""

    def __init__(self, batcher: "Batcher", tokens: int) -> None:
        self._batcher = batcher
        self._tokens = tokens

    @property
    def tokens(self) -> int:
        return self._tokens

    @tokens.setter
    def tokens(self, tokens: int) -> None:
        if self in self._batcher.places:
            self._batcher.load.add(self._tokens, -1)
            self._batcher.load.add(tokens, 1)
        self._tokens = tokens

    def __enter__(self) -> "Place":
        if not self._batcher.places:
            self._batcher.rest.end()
        self._batcher.places.add(self)
        self._batcher.load.add(self._tokens, 1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._batcher.places.discard(self)
        self._batcher.load.add(self._tokens, -1)
        if not self._batcher.places:
            self._batcher.rest.begin()


class Rest:
    """How long the model had nothing to do: so much of its time may a burst in a flood take. `left` goes down as it passes."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._since = time.monotonic()
        self._until = float("-inf")

    def begin(self) -> None:
        """Nobody is in any more."""
        self._since = time.monotonic()

    def end(self) -> None:
        """Somebody comes in."""
        now = time.monotonic()
        self._until = now + min(self._most, now - self._since)

    @property
    def left(self) -> float:
        """In seconds."""
        return max(self._until - time.monotonic(), 0.0)


@dataclass
class Load:
    """What all requests that are in have left to do, kept as a sum because a flood asks for it thousands of times a second.

    `tokens` of all, `small` of those that have no more than `SHARE`, `large` how many the others are.
    """

    tokens: int = 0
    small: int = 0
    large: int = 0

    def add(self, tokens: int, times: int) -> None:
        """Count a request of so many tokens (1), or no longer (-1)."""
        self.tokens += times * tokens
        if tokens > SHARE:
            self.large += times
        else:
            self.small += times * tokens


class Batcher:
    """The queue and the thread behind it. All but the thread belongs to one event loop.

    Attributes:
        places: the requests that are in.
        load: what they have left to do.
        rest: how long there was nothing to do.
        draining: whether no request is let in any more.
    """

    def __init__(self, limits: Limits, on_batch: Callable[[Batch], None] = lambda batch: None) -> None:
        self.limits = limits
        self.places: set[Place] = set()
        self.load = Load()
        self.rest = Rest(limits.wait)
        self.draining = False
        self._on_batch = on_batch
        self._waiting: dict[Service, list[_Item]] = {}
        self._numbers = itertools.count()
        self._change = threading.Condition()
        self._stopping = False
        self._tokens, self._seconds = 500.0, 0.1  # a guess, until there have been batches
        self._refused = float("-inf")  # when somebody was last
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    @property
    def rate(self) -> float:
        """Tokens a second, by the latest batches."""
        return self._tokens / self._seconds

    @property
    def tokens(self) -> int:
        """Of all requests that are in."""
        return self.load.tokens

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread is running."""
        return self._thread.is_alive() and not self._stopping

    def is_flooded(self) -> bool:
        """Whether somebody has been refused a short while ago."""
        return time.monotonic() - self._refused < self.limits.calm

    def start(self) -> None:
        """Begin to work; call it in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread once its batch is done. What still waits gets an error."""
        with self._change:
            self._stopping = True
            self._change.notify()

    def admit(self, tokens: int) -> Place:
        """A place for a request of about so many tokens.

        Raises:
            Unavailable: the server is on its way out.
            Overloaded: the queue is full, by requests, tokens, or the time that it would take.
        """
        if self.draining:
            raise Unavailable("The server is stopping. Ask again, and another will answer.", retry_after=1)
        if overload := self.overload(tokens):
            raise overload
        return Place(self, tokens)

    def overload(self, tokens: int = 0) -> Overloaded | None:
        """Why a request of about so many tokens cannot be let in now; None if it can. Whoever asks has to refuse it then."""
        limits, load, rate = self.limits, self.load, self.rate
        wait = (load.small + SHARE * load.large) / rate
        full = wait > limits.wait or len(self.places) >= limits.queue_requests
        full = full or (bool(self.places) and load.tokens + tokens > limits.queue_tokens)
        if not full and self.is_flooded():  # enough for the model is one batch that runs and one that waits
            full = len(self.places) > 1 and load.small > max((limits.flood + self.rest.left) * rate, LEAST)
        if not full:
            return None
        self._refused = time.monotonic()
        return Overloaded("There are too many requests. Ask again later.", retry_after=max(wait, 1))

    async def run(self, service: Service, readings: Sequence[Reading], place: Place, *, urgent: bool = False) -> Done:
        """Have the model work on these texts. If the caller is cancelled, they are dropped. What is urgent goes first.

        Raises:
            Refusal: one of the texts got it, or there was no answer within `Limits.timeout`.
        """
        assert self._loop is not None, "start comes first"
        now = time.monotonic()
        job = _Job(
            service,
            self._loop.create_future(),
            place,
            [None] * len(readings),
            len(readings),
            now,
            now + self.limits.timeout,
        )
        place.tokens = sum(reading.tokens for reading in readings)
        before = itertools.accumulate((reading.tokens for reading in readings), initial=0)
        rate, begin = self.rate, 0.0 if urgent else now
        items = [
            _Item(begin + ahead / rate, next(self._numbers), job, index, reading)
            for index, (reading, ahead) in enumerate(zip(readings, before, strict=False))
        ]
        with self._change:
            if not self.is_alive:
                raise Unavailable("The model does not answer.")
            heap = self._waiting.setdefault(service, [])
            for item in items:
                heapq.heappush(heap, item)
            self._change.notify()
        try:
            async with asyncio.timeout(self.limits.timeout):
                return await job.future
        except TimeoutError:
            raise Unavailable("The model did not answer in time. Ask again later.", retry_after=1) from None

    def _work(self) -> None:
        """The thread."""
        batch: list[_Item] = []
        try:
            while batch := self._next():
                self._run(batch)
        finally:
            with self._change:
                self._stopping = True
                left = [*batch, *(item for heap in self._waiting.values() for item in heap)]
                self._waiting.clear()
            if left:
                gone = Unavailable("The server is stopping. Ask again, and another will answer.", retry_after=1)
                self._tell(left, [gone] * len(left), 0.0, 0.0)

    def _next(self) -> list[_Item]:
        """The next batch; waits until there is one. Nothing at the end."""
        with self._change:
            while True:
                if self._stopping:
                    return []
                for service in [service for service, heap in self._waiting.items() if not heap]:
                    del self._waiting[service]
                if not self._waiting:
                    self._change.wait()
                elif batch := self._take(min(self._waiting.values(), key=lambda heap: heap[0])):
                    return batch

    def _take(self, heap: list[_Item]) -> list[_Item]:
        """A batch off one service's heap; nothing if nobody waits for what was there."""
        seen: list[_Item] = []
        while heap and len(seen) < LOOKED_AT:
            item = heapq.heappop(heap)
            if item.job.is_wanted:
                seen.append(item)
        if not seen:
            return []
        oldest, aged = seen[0], time.monotonic() - self.limits.age
        order = sorted(
            seen, key=lambda item: 0 if item.due <= aged else 1 + abs(item.reading.tokens - oldest.reading.tokens)
        )
        # In a flood, half of what is let in: the next batch is there when this one ends.
        seconds = self.limits.flood / 2 if self.is_flooded() else self.limits.batch_seconds
        budget = min(self.limits.batch_tokens, max(LEAST, self.rate * min(seconds, self.limits.batch_seconds)))
        batch = [oldest]
        taken = oldest.reading.tokens
        for item in order:
            if item is oldest:
                continue
            if taken + item.reading.tokens <= budget:
                batch.append(item)
                taken += item.reading.tokens
            else:
                heapq.heappush(heap, item)
        return batch

    def _run(self, batch: list[_Item]) -> None:
        started = time.monotonic()
        results = _results(batch[0].job.service, [item.reading.value for item in batch])
        seconds = time.monotonic() - started
        tokens = sum(item.reading.tokens for item in batch)
        self._tokens = self._tokens * FADING + tokens
        self._seconds = self._seconds * FADING + max(seconds, 1e-6)
        self._on_batch(Batch(batch[0].job.service.name, len(batch), tokens, seconds))
        self._tell(batch, results, started, seconds)

    def _tell(self, items: list[_Item], results: Sequence[Any], started: float, seconds: float) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, items, results, started, seconds)


def _results(service: Service, values: Sequence[Any]) -> Sequence[Any]:
    """The service's results. If a batch fails, each text is tried alone, so that only the guilty one gets an error."""
    try:
        return service.run(values)
    except Exception as error:  # whatever it is, the thread goes on
        if len(values) > 1:
            return [_results(service, [value])[0] for value in values]
        if isinstance(error, Refusal):
            return [error]
        failed = ModelFailed("The model failed on this text.")
        failed.__cause__ = error
        return [failed]


def _deliver(items: Sequence[_Item], results: Sequence[Any], started: float, seconds: float) -> None:
    """In the event loop: give each request what is its own."""
    for item, result in zip(items, results, strict=True):
        job = item.job
        if job.future.done():
            continue
        job.started = job.started or started
        if isinstance(result, Exception):
            job.future.set_exception(result)
            continue
        job.results[item.index] = result
        job.place.tokens -= item.reading.tokens
        job.left -= 1
        job.computed += seconds * item.reading.tokens / max(sum(one.reading.tokens for one in items), 1)
        if not job.left:
            job.future.set_result(Done(job.results, max(job.started - job.arrived, 0.0), job.computed))
