"""One route: how it is asked for, what answers, and in whose shape."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bertsmith.serve.call import Call
from bertsmith.serve.errors import Empty, Family, Invalid


@dataclass(frozen=True, kw_only=True)
class Route:
    """`handle(call, body)` gives the answer: a value of the type `answer`, bytes of `media`, or None for nothing.

    `body` is the type of what is asked, None for a GET. Routes that are `open` need no key.
    """

    path: str
    handle: Callable[[Call, Any], Awaitable[Any]]
    summary: str
    body: type | None = None
    answer: Any = None
    family: Family = "openai"
    group: str
    media: str = "application/json"
    open: bool = False

    @property
    def method(self) -> str:
        """POST for what has a body."""
        return "GET" if self.body is None else "POST"


def texts_of(given: Any, param: str) -> list[str | tuple[int, ...]]:
    """The texts, or lists of ids, of an `Input`; an empty text is refused.

    Raises:
        Empty: there is nothing.
        Invalid: texts and ids are mixed.
    """
    if isinstance(given, list) and given and all(isinstance(one, int) for one in given):
        given = [given]
    texts = [given] if isinstance(given, str) else [tuple(one) if isinstance(one, list) else one for one in given]
    if not texts or not all(isinstance(one, int) or one for one in texts):
        raise Empty(f"{param}: there is an empty text, or none at all.", param=param)
    if any(isinstance(one, int) for one in texts) or len({type(one) for one in texts}) > 1:
        raise Invalid(f"{param}: texts and ids of tokens cannot be mixed.", param=param)
    return texts  # pyright: ignore[reportReturnType]
