"""A route over HTTP: what may not come in stays out, errors have their shape, and everything is timed."""

import asyncio
import re
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bertsmith.serve.batching import Place
from bertsmith.serve.call import Call
from bertsmith.serve.errors import (
    Invalid,
    Malformed,
    ModelFailed,
    Refusal,
    TooLarge,
    TooSlow,
)
from bertsmith.serve.guard import Guard, said_length
from bertsmith.serve.house import House
from bertsmith.serve.route import Route

BYTES_A_TOKEN = 5  # of a body, to guess how many tokens are in it before it is read

HIDDEN = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


class Gone(Exception):
    """The client has left."""


class Endpoint:
    """An ASGI application for one route."""

    def __init__(self, route: Route, house: House) -> None:
        self.route, self.house, self.guard = route, house, Guard(house.options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        call = Call(self.house, Place(self.house.batcher, 0), scope.get("path_params", {}))
        reason: str | None = None
        try:
            response = await self._answer(call, scope, receive)
            response.headers.update(_counts(call, time.perf_counter() - started))
        except Gone:
            self.house.metrics.dropped()
            self._log(call, 499, started, "Gone")
            return
        except Refusal as refusal:
            response, reason = refuse(refusal, self.route.family), type(refusal).__name__
            if refusal.__cause__ is not None:
                reason += f": {type(refusal.__cause__).__name__}"
        except Exception as error:  # nothing may end in a broken connection
            response, reason = refuse(ModelFailed("This failed here."), self.route.family), type(error).__name__
        response.headers.update(HIDDEN)
        self.house.metrics.request(self.route.path, response.status_code, time.perf_counter() - started)
        if call.tokens:
            self.house.metrics.worked(self.route.path, call.tokens, sum(map(bool, call.truncated)), call.queued)
        self._log(call, response.status_code, started, reason)
        await response(scope, receive, send)

    async def _answer(self, call: Call, scope: Scope, receive: Receive) -> Response:
        headers = scope["headers"]
        self.guard.check(self.route, headers)
        if self.route.body is None:
            return self._response(await self.route.handle(call, None))
        raw = await self._read(headers, receive)
        with self.house.batcher.admit(len(raw) // BYTES_A_TOKEN) as call.place:
            body = decode(raw, self.route.body)
            del raw
            return self._response(await _unless_gone(self.route.handle(call, body), receive))

    def _response(self, answer: Any) -> Response:
        if answer is None or isinstance(answer, bytes):
            return Response(answer or b"", media_type=self.route.media if answer else None)
        return Response(msgspec.json.encode(answer, enc_hook=_numbers), media_type=self.route.media)

    async def _read(self, headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
        """The body. What is too long is refused as soon as that is known."""
        limits = self.house.options.limits
        too_large = TooLarge(f"A request's body has {limits.body_bytes} bytes at most.")
        if (said_length(headers) or 0) > limits.body_bytes:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.receive):
                while True:
                    message: Message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limits.body_bytes:
                        raise too_large
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise TooSlow(f"The body did not arrive within {limits.receive:g} seconds.") from None

    def _log(self, call: Call, status: int, started: float, reason: str | None) -> None:
        fields: dict[str, Any] = {"route": self.route.path, "status": status}
        fields["ms"] = round(1000 * (time.perf_counter() - started), 1)
        if call.texts:
            fields |= {"texts": call.texts, "tokens": call.tokens, "truncated": sum(map(bool, call.truncated))}
            fields |= {"queue_ms": round(1000 * call.queued, 1), "model_ms": round(1000 * call.computed, 1)}
        self.house.log("request", **fields, **({"reason": reason} if reason else {}))


def refuse(refusal: Refusal, family: Any) -> Response:
    """The refusal in the shape that the route's clients know."""
    headers = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.seconds)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.closes:
        headers["connection"] = "close"
    return Response(refusal.body_for(family), refusal.status_for(family), headers, "application/json")


def decode(raw: bytes, kind: type) -> Any:
    """JSON as a typed value.

    Raises:
        Malformed: it is not JSON.
        Invalid: it is of another type; the message names the place.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        param = place.strip("`").removeprefix("$").removeprefix(".") or None
        said = re.sub(r"(?s)(unknown field|Invalid enum value).*", r"\1", message)
        raise Invalid(f"{param or 'body'}: {said}.", param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not JSON in UTF-8.") from None


async def _unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """What comes of the work; it is cancelled if the client leaves."""
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for one in (task, left):
            one.cancel()
        if not task.done():
            with suppress(asyncio.CancelledError, Refusal):
                await task


def _counts(call: Call, seconds: float) -> dict[str, str]:
    """Headers that say what was done: those of text-embeddings-inference, in milliseconds, and what was cut."""
    if not call.texts:
        return {}
    times = {"total": seconds, "tokenization": call.reading, "queue": call.queued, "inference": call.computed}
    return {
        "x-compute-type": "cpu",
        "x-compute-time": str(round(1000 * seconds)),
        "x-compute-characters": str(call.characters),
        "x-compute-tokens": str(call.tokens),
        **{f"x-{name}-time": str(round(1000 * value)) for name, value in times.items()},
        "x-truncated-texts": str(sum(map(bool, call.truncated))),
        "x-truncated-tokens": str(sum(call.truncated)),
    }


def _numbers(value: Any) -> msgspec.Raw:
    """Arrays as the shortest decimals that give the same float32 again."""
    if not isinstance(value, np.ndarray | np.generic):
        raise NotImplementedError
    return msgspec.Raw(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
