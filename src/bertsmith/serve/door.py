"""Refusing at the door. While the queue is full, a request is answered by its headers alone, in bytes that are ready: no task,
no body, no line of its own in the log. Whoever asks again at once, on the same connection, is not read until it is its turn, so
many a second, however many knock; and is refused then, for it has waited already. So a flood leaves the processor to those
who were let in.

Whether the queue is full is the Batcher's to say. Whatever else may be wrong with a request is not looked at here: it goes the
way of all others and is refused there, so errors have the same order with and without a flood.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from bertsmith.serve.endpoint import HIDDEN, refuse
from bertsmith.serve.errors import Overloaded, Refusal
from bertsmith.serve.guard import Guard, Headers, said_length
from bertsmith.serve.house import House
from bertsmith.serve.route import Route

PERIOD = 1.0  # seconds of refusals that are one line in the log
TURN = 0.01  # seconds between turns
TURNS = 10  # connections that are read again at each


class Held(Protocol):
    """A connection that waits for its turn. `is_early`: what it reads now was sent before."""

    transport: asyncio.Transport
    is_early: bool


class Door:
    """Stands before the routes whose requests wait in the queue. Belongs to the event loop."""

    def __init__(self, house: House, routes: Sequence[Route]) -> None:
        self._house, self._guard = house, Guard(house.options)
        self._routes = {route.path.encode(): route for route in routes if route.body is not None}
        self._answers: dict[tuple[str, int], bytes] = {}
        self._refused: Counter[str] = Counter()
        self._held: deque[Held] = deque()

    def refusal(self, method: bytes, path: bytes, headers: Headers, *, early: bool = False) -> bytes | None:
        """The headers and body of the answer, if the request is one that the full queue refuses; its status is 429.

        So is one that was sent too early and has waited for its connection's turn: it would be answered late.
        It is counted here. The connection can be kept: of the body it is known how long it is, and that it is not too long.
        """
        house = self._house
        if house.batcher.draining or method != b"POST" or (route := self._routes.get(path)) is None:
            return None
        if (said := said_length(headers)) is None or said > house.options.limits.body_bytes:
            return None
        try:
            self._guard.check(route, headers)
        except Refusal:
            return None
        overload = house.batcher.overload()
        if overload is None and early:
            overload = Overloaded("This was asked too early. Ask again later.", retry_after=1)
        if overload is None:
            return None
        house.metrics.request(route.path, overload.status, 0.0)
        if not self._refused:
            asyncio.get_running_loop().call_later(PERIOD, self._tell)
        self._refused[route.path] += 1
        return self._answer(overload, route)

    def hold(self, connection: Held) -> None:
        """Do not read from a connection that was refused, until it is its turn."""
        if not connection.transport.is_reading():
            return  # several requests came at once
        connection.transport.pause_reading()
        if not self._held:
            asyncio.get_running_loop().call_later(TURN, self._turn)
        self._held.append(connection)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        number = TURNS if self._house.batcher.is_flooded() else len(self._held)
        turned = [self._held.popleft() for _ in range(min(number, len(self._held)))]
        for connection in turned:
            if not connection.transport.is_closing():
                connection.is_early = True
                connection.transport.resume_reading()
        # What has arrived by now is read in the loop's next round, and the round after that is late enough.
        loop.call_soon(loop.call_soon, _in_time, turned)
        if self._held:
            loop.call_later(TURN, self._turn)

    def _answer(self, overload: Overloaded, route: Route) -> bytes:
        key = route.family, overload.seconds
        if (made := self._answers.get(key)) is None:
            response = refuse(overload, route.family)
            response.headers.update(HIDDEN)
            head = b"".join(b"%s: %s\r\n" % pair for pair in response.raw_headers)
            made = self._answers[key] = b"%s\r\n%s" % (head, bytes(response.body))
        return made

    def _tell(self) -> None:
        for path, count in self._refused.items():
            self._house.log("refused", route=path, status=Overloaded.status, requests=count)
        self._refused.clear()


def _in_time(connections: Sequence[Held]) -> None:
    for connection in connections:
        connection.is_early = False
