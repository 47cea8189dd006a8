"""The event loop: in a flood it takes requests in handfuls, and rests between them.

Looking at the sockets, and taking and giving back Python's lock for it, costs as much as refusing a request. And while the loop
is busy, the model's thread waits for that lock after each step. So in a flood what was let in goes on before others are looked
at, and the loop rests for as long as it has worked, but for ten milliseconds at most: then the model has the lock to itself.
"""

import asyncio
import selectors
import time
from collections.abc import Callable

REST, LONGEST_REST = 0.002, 0.01  # seconds
ROUNDS = 8  # of callbacks that go before another look at the sockets; to read, queue and answer a request takes six


class Selector(selectors.DefaultSelector):
    """The platform's own, but for what it does while `is_flooded()`."""

    def __init__(self, is_flooded: Callable[[], bool]) -> None:
        super().__init__()
        self._is_flooded = is_flooded
        self._rounds = 0
        self._looked = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._is_flooded():
            if timeout is not None and timeout <= 0 and self._rounds < ROUNDS:
                self._rounds += 1
                return []
            timeout = self._rest(timeout)
        found = super().select(timeout)
        self._rounds, self._looked = 0, time.monotonic()
        return found

    def _rest(self, timeout: float | None) -> float | None:
        """Rest, but for no longer than the timeout; what is left of it."""
        rest = min(max(time.monotonic() - self._looked, REST), LONGEST_REST)
        if timeout is not None:
            rest = min(rest, max(timeout, 0.0))
            timeout -= rest
        time.sleep(rest)
        return timeout


def make_loop(is_flooded: Callable[[], bool]) -> asyncio.SelectorEventLoop:
    """A loop for a server whose queue knows whether it is flooded."""
    return asyncio.SelectorEventLoop(Selector(is_flooded))
