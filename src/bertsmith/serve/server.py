"""Listening: connections that are too many or too slow are cut, and SIGTERM ends the server in good order."""

import asyncio
import gc
import logging
import signal
import socket
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bertsmith.errors import UsageError
from bertsmith.serve.app import create_app
from bertsmith.serve.errors import Unavailable
from bertsmith.serve.house import House
from bertsmith.serve.logs import JsonHandler, JsonLog
from bertsmith.serve.options import Limits

HEADER_BYTES = 32_768
KEPT = 75  # seconds that an idle connection is kept: longer than proxies do, so that it is they who close it

_BUSY_BODY = Unavailable("There are too many connections.").body_for("openai")
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BUSY_BODY), _BUSY_BODY)
)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with what it lacks: deadlines for headers and for clients that do not take their answers, and a
    bound on headers."""

    def __init__(self, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self.limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        # asyncio does it only for sockets that name their protocol; without it, answers to kept connections take 40 ms more.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.limits.connections:
            transport.write(_BUSY)
            transport.close()
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._deadline)
        _cancel(self._stuck)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_headers()
        if self._deadline is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._header_bytes > HEADER_BYTES:  # and there is no end yet
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._deadline = _cancel(self._deadline)
        if sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            self.transport.abort()
        else:
            super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.receive, self.transport.abort)

    def resume_writing(self) -> None:
        self._stuck = _cancel(self._stuck)
        super().resume_writing()

    def _expect_headers(self) -> None:
        self._header_bytes = 0
        self._deadline = self.loop.call_later(self.limits.receive, self.transport.abort)


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
                http=partial(Connection, limits),  # pyright: ignore[reportArgumentType]
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
    # What is there now stays; the collector need not look at it again, which would hold up everybody for a moment.
    gc.collect()
    gc.freeze()
    with listener:
        server.run(sockets=[listener])
    if isinstance(house.log, JsonLog):
        house.log.close()
