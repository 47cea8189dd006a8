"""One request on its way: its texts are read, queued and worked on, and what became of them is counted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from bertsmith.errors import DataError, UsageError
from bertsmith.serve.batching import Place, Reading, Service
from bertsmith.serve.errors import Empty, Invalid
from bertsmith.serve.house import House

INLINE = 4000  # characters that are tokenized at once; more go to a thread, so that others are not held up

Value = TypeVar("Value")


class ReadingService(Service, Protocol):
    """A service with its reading half."""

    def read(self, text: Any, /) -> Reading: ...


@dataclass(eq=False)
class Call:
    """What a route works with, and what it leaves behind for headers, metrics and the log. Times are in seconds.

    `path` has the parts of the address that vary, `truncated` the tokens that were cut from each text.
    """

    house: House
    place: Place
    path: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    characters: int = 0
    tokens: int = 0
    truncated: list[int] = field(default_factory=list)
    reading: float = 0.0
    queued: float = 0.0
    computed: float = 0.0

    async def run(self, service: ReadingService, texts: Sequence[Any], *, cut: bool = True) -> list[Any]:
        """The service's result for each text. Without `cut`, a text that is longer than the model reads is refused.

        Raises:
            Refusal: there are no texts, or too many; one cannot be read; or the queue's reasons.
        """
        limits = self.house.options.limits
        if not texts:
            raise Empty("There is no text: the list is empty.")
        if len(texts) > limits.texts:
            raise Invalid(f"There are {len(texts)} texts, and a request has {limits.texts} at most.")
        characters = sum(map(_size, texts))
        started = time.perf_counter()
        readings = await self._elsewhere(characters, lambda: [_read(service, text) for text in texts])
        self.reading += time.perf_counter() - started
        tokens = sum(reading.tokens for reading in readings)
        if tokens > limits.request_tokens:
            raise Invalid(f"There are {tokens} tokens, and a request has {limits.request_tokens} at most.")
        if not cut and (long := next((r for r in readings if r.truncated), None)):
            raise Invalid(
                f"A text has {long.truncated} tokens more than the model reads, and was not to be cut at its end."
            )
        done = await self.house.batcher.run(service, readings, self.place)
        self.texts += len(texts)
        self.characters += characters
        self.tokens += tokens
        self.truncated += [reading.truncated for reading in readings]
        self.queued += done.queued
        self.computed += done.computed
        return done.results

    async def tokenized(self, texts: Sequence[str], make: Callable[[str], list[Value]]) -> list[list[Value]]:
        """The tokens of each text, for who wants nothing else.

        Raises:
            Invalid: there are too many texts or tokens, or one is no text.
        """
        limits = self.house.options.limits
        if len(texts) > limits.texts:
            raise Invalid(f"There are {len(texts)} texts, and a request has {limits.texts} at most.")
        self.texts, self.characters = len(texts), sum(map(len, texts))
        started = time.perf_counter()
        try:
            made = await self._elsewhere(self.characters, lambda: [make(text) for text in texts])
        except DataError as error:
            raise Invalid("A text cannot be read.") from error
        self.reading, self.tokens = time.perf_counter() - started, sum(map(len, made))
        return made

    def _elsewhere(self, characters: int, work: Callable[[], Value]) -> Awaitable[Value]:
        loop = asyncio.get_running_loop()
        if characters > INLINE:
            return loop.run_in_executor(self.house.reader, work)
        future: asyncio.Future[Value] = loop.create_future()
        future.set_result(work())
        return future


def _read(service: ReadingService, text: Any) -> Reading:
    try:
        return service.read(text)
    except (DataError, UsageError) as error:
        # Messages of the library quote the text for the person who gave it; here it is not sent back.
        raise Invalid(_UNQUOTED.get(type(service).__name__, "A text cannot be read.")) from error


_UNQUOTED = {
    "Masks": "There is no [MASK] in the text, or none in the part that the model reads. Write one where a word is to be.",
    "Predictions": "The model takes other texts: see /info for its task.",
}


def _size(text: Any) -> int:
    return len(text) if isinstance(text, str) else sum(_size(one) if isinstance(one, str) else 1 for one in text)
