"""Listening: connections that are too many or too slow are cut, and SIGTERM ends the server in good order."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bertsmith.errors import UsageError
from bertsmith.serve.app import ROUTES, create_app
from bertsmith.serve.door import Door
from bertsmith.serve.errors import Overloaded
from bertsmith.serve.house import House
from bertsmith.serve.logs import JsonHandler, JsonLog
from bertsmith.serve.options import Limits

HEADER_BYTES = 32_768
GARBAGE = 20_000  # new objects that may be in the way before the collector looks for rings among them
KEPT = 75  # seconds that an idle connection is kept: longer than proxies do, so that it is they who close it

_BUSY_BODY = Overloaded("There are too many connections.").body_for("openai")
_BUSY = b"%scontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (
    STATUS_LINE[Overloaded.status],
    len(_BUSY_BODY),
    _BUSY_BODY,
)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with what it lacks: deadlines for headers and for clients that do not take their answers, a bound on
    headers, and the door, which answers before there is a task."""

    def __init__(self, limits: Limits, door: Door, **given: Any) -> None:
        super().__init__(**given)
        self.limits, self.door = limits, door
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self.is_early = False
        self._refused = False  # the request whose body is still to come; it is thrown away

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        # asyncio does it only for sockets that name their protocol; without it, answers to kept connections take 40 ms more.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.limits.connections:
            transport.write(_BUSY)
            transport.close()
        else:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._deadline)
        _cancel(self._stuck)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._refused:
            self._set_deadline()
        elif self._is_idle and self.timeout_keep_alive_task is None:  # a request has begun, its headers have no end yet
            self._set_deadline()
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self.transport.abort()

    def on_headers_complete(self) -> None:
        self._deadline, self._header_bytes = _cancel(self._deadline), 0
        if sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            self.transport.abort()
        elif not self._refuse():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            self._deadline, self._refused = _cancel(self._deadline), False
            self.on_response_complete()
            if self.is_early:
                self.is_early = False  # it has had its turn
            else:
                self.door.hold(self)
        else:
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.receive, self.transport.abort)

    def resume_writing(self) -> None:
        self._stuck = _cancel(self._stuck)
        super().resume_writing()

    def _refuse(self) -> bool:
        """Whether the door has answered. It is not asked where an answer cannot be sent at once, or the connection not kept."""
        parser: Any = self.parser
        if not self._is_idle or self.flow.write_paused or self.expect_100_continue:
            return False
        if parser.should_upgrade() or not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            return False
        answer = self.door.refusal(parser.get_method(), self.url, self.headers, early=self.is_early)
        if answer is None:
            return False
        always = b"".join(b"%s: %s\r\n" % pair for pair in self.server_state.default_headers)
        self.transport.write(b"%s%s%s" % (STATUS_LINE[Overloaded.status], always, answer))
        self._refused = True
        return True

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.receive, self.transport.abort)


@contextmanager
def _rare_collection() -> Iterator[None]:
    """What is there now stays; the collector need not look at it again, which would hold up everybody for a moment. Nor need it
    look at hundreds of connections after every few requests, which was an eighth of the loop's time in a flood.

    Afterwards it does as before: a program may live on after its server.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Server(uvicorn.Server):
    """A house that listens. A SIGTERM makes /ready say 503; after `Limits.drain` no more requests are taken; what is under
    way has `Limits.grace` to finish. SIGINT does not wait first, and a second signal leaves at once."""

    def __init__(self, house: House) -> None:
        limits = house.options.limits
        super().__init__(
            uvicorn.Config(
                create_app(house),
                host=house.options.host,
                port=house.options.port,
                loop="asyncio",  # the door counts its rounds
                http=partial(Connection, limits, Door(house, ROUTES)),  # pyright: ignore[reportArgumentType]
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEPT,
                timeout_graceful_shutdown=int(max(limits.grace, 1)),
            )
        )
        self.house = house
        self._loop: asyncio.AbstractEventLoop | None = None
        for name in ("uvicorn.error", "uvicorn"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [JsonHandler(house.log)], False
            logger.setLevel(logging.WARNING)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            address = self.servers[0].sockets[0].getsockname()
            models = {model.name: list(model.abilities) for model in self.house.models.models}
            self.house.log("listening", host=address[0], port=address[1], models=models)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.house.draining or self._loop is None:
            self.should_exit = self.force_exit = True
            return
        self.house.draining = True
        self.house.log("stopping", signal=signal.Signals(sig).name)
        wait = 0.0 if sig == signal.SIGINT else self.house.options.limits.drain
        self._loop.call_soon_threadsafe(self._loop.call_later, wait, self.leave)

    def leave(self) -> None:
        """Take no more requests, finish what is under way, and end."""
        self.house.draining = self.house.batcher.draining = True
        self.should_exit = True


def serve(house: House) -> None:
    """Listen until a signal says to stop.

    Raises:
        UsageError: the port is taken, or the host is not of this machine.
    """
    options = house.options
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family, backlog=1024)
    except OSError as error:
        raise UsageError(
            f"{options.host}:{options.port} cannot be listened on ({error.strerror}). Take another with --port or --host."
        ) from None
    server = Server(house)
    with listener, _rare_collection():
        server.run(sockets=[listener])
    if isinstance(house.log, JsonLog):
        house.log.close()
