"""Why a request is refused, and how each client's shape says it. No message repeats what was sent."""

from typing import ClassVar, Literal

import msgspec

Family = Literal["openai", "tei"]
"""Whose shape an error has. Routes of neither use OpenAI's."""


class Refusal(Exception):
    """A request that gets an error: status, OpenAI's `type` and `code`, TEI's `error_type`.

    `param` names the field that is wrong; `retry_after` is in seconds; `closes` the connection with the answer.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    tei_type: ClassVar[str] = "Backend"
    tei_status: ClassVar[int | None] = None
    closes: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.param, self.retry_after = param, retry_after

    @property
    def seconds(self) -> int:
        """What Retry-After says: whole ones, of which 0 would be no wait."""
        return max(1, round((self.retry_after or 0) + 0.5))

    def status_for(self, family: Family) -> int:
        """TEI has other numbers for some."""
        return self.tei_status if family == "tei" and self.tei_status else self.status

    def body_for(self, family: Family) -> bytes:
        """JSON."""
        if family == "tei":
            return msgspec.json.encode(TeiError(str(self), self.tei_type))
        return msgspec.json.encode(OpenAIError(OpenAIDetail(str(self), self.type, self.param, self.code)))


class OpenAIDetail(msgspec.Struct, frozen=True):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct, frozen=True):
    """An error as OpenAI's clients know it."""

    error: OpenAIDetail


class TeiError(msgspec.Struct, frozen=True):
    """An error as clients of text-embeddings-inference know it."""

    error: str
    error_type: str


class Invalid(Refusal):
    """The request says something that it cannot say."""

    status, type, tei_type, tei_status = 400, "invalid_request_error", "Validation", 422


class Malformed(Refusal):
    """The body is not JSON."""

    status, type, code, tei_type = 400, "invalid_request_error", "malformed_json", "Validation"


class Empty(Refusal):
    """There is no text."""

    status, type, tei_type = 400, "invalid_request_error", "Empty"


class Unauthorized(Refusal):
    """No key, or a wrong one."""

    status, type, code, tei_type = 401, "authentication_error", "invalid_api_key", "Unauthorized"


class NotFound(Refusal):
    """There is no such route, or no such model."""

    status, type, code, tei_type = 404, "invalid_request_error", "not_found", "NotFound"


class WrongMethod(Refusal):
    """The route is there for another method."""

    status, type, code, tei_type = 405, "invalid_request_error", "method_not_allowed", "Validation"


class TooSlow(Refusal):
    """The request did not arrive in time."""

    status, type, code, tei_type, closes = 408, "invalid_request_error", "timeout", "Validation", True


class TooLarge(Refusal):
    """The body has more bytes than are read."""

    status, type, code, tei_type, closes = 413, "invalid_request_error", "too_large", "Validation", True


class WrongMedia(Refusal):
    """The body is compressed, or not said to be JSON."""

    status, type, code, tei_type, closes = 415, "invalid_request_error", "unsupported_media_type", "Validation", True


class Misdirected(Refusal):
    """The request was meant for another host."""

    status, type, code, tei_type = 421, "invalid_request_error", "misdirected", "Validation"


class CannotDo(Refusal):
    """None of the models that are served can do this."""

    status, type, code, tei_type = 424, "invalid_request_error", "no_such_model", "Backend"


class Overloaded(Refusal):
    """The queue is full, or there are too many connections."""

    status, type, code, tei_type = 429, "rate_limit_error", "overloaded", "Overloaded"


class ModelFailed(Refusal):
    """The model could not make an answer of this request."""

    status, type, code, tei_type, tei_status = 500, "server_error", "model_failed", "Backend", 424


class Unavailable(Refusal):
    """The server is on its way out, or the model does not answer in time."""

    status, type, code, tei_type = 503, "server_error", "unavailable", "Unhealthy"
