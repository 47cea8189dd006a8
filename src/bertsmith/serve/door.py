"""Refusing at the door. While the queue is full, a request is answered by its headers alone, in bytes that are ready: no task,
no body, no line of its own in the log. So a flood leaves the processor to those who were let in.

Whether the queue is full is the Batcher's to say. Whatever else may be wrong with a request is not looked at here: it goes the
way of all others and is refused there, so errors have the same order with and without a flood.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from bertsmith.serve.endpoint import HIDDEN, refuse
from bertsmith.serve.errors import Overloaded, Refusal
from bertsmith.serve.guard import Guard, Headers, said_length
from bertsmith.serve.house import House
from bertsmith.serve.route import Route

PERIOD = 1.0  # seconds of refusals that are one line in the log


class Door:
    """Stands before the routes whose requests wait in the queue. Belongs to the event loop."""

    def __init__(self, house: House, routes: Sequence[Route]) -> None:
        self._house, self._guard = house, Guard(house.options)
        self._routes = {route.path.encode(): route for route in routes if route.body is not None}
        self._answers: dict[tuple[str, int], bytes] = {}
        self._refused: Counter[str] = Counter()

    def refusal(self, method: bytes, path: bytes, headers: Headers) -> bytes | None:
        """The headers and body of the answer, if the request is one that the full queue refuses; the status is `STATUS`.

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
        if (overload := house.batcher.overload()) is None:
            return None
        house.metrics.request(route.path, overload.status, 0.0)
        if not self._refused:
            asyncio.get_running_loop().call_later(PERIOD, self._tell)
        self._refused[route.path] += 1
        return self._answer(overload, route)

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
