"""What a server allows."""

from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path

from bertsmith.config import require
from bertsmith.embed import Float32, Lane
from bertsmith.errors import UsageError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
KEY_VARIABLE = "BERTSMITH_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused, and when. Times are in seconds.

    Attributes:
        body_bytes: of a request's body.
        texts: in a request.
        request_tokens: in a request, after texts were cut to the model's length.
        queue_requests, queue_tokens: that wait or are worked on, of all requests.
        wait: a request is refused if those before it are expected to take longer.
        flood: the same once somebody was refused, until nobody has been for `calm`; of large requests it counts none.
        batch_tokens, batch_seconds: the largest batch, by its tokens and by how long it is expected to take.
        age: texts that have waited for this long are no longer overtaken by others of a better length.
        receive: until headers and body are there, and until what was sent has been taken.
        timeout: until an answer.
        connections: at once.
        drain: how long requests are still taken after a SIGTERM, while /ready says 503 already.
        grace: how long, after that, what is under way may take.
    """

    body_bytes: int = 2_000_000
    texts: int = 2048
    request_tokens: int = 300_000
    queue_requests: int = 512
    queue_tokens: int = 1_000_000
    wait: float = 0.5
    flood: float = 0.02
    calm: float = 0.5
    batch_tokens: int = 16_384
    batch_seconds: float = 0.1
    age: float = 0.05
    receive: float = 10.0
    timeout: float = 60.0
    connections: int = 1000
    drain: float = 2.0
    grace: float = 30.0

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            least = name in ("drain", "grace", "age")
            require(getattr(self, name) >= (0 if least else 1e-9), name, f"expected more, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where to listen, and who may ask.

    `keys` are bearer keys, any of which opens the server; none: whoever reaches it may ask, which beyond this machine must be
    said by `open_to_all`. Vectors are computed in the numbers of `lane`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(), repr=False)
    open_to_all: bool = False
    lane: Lane = Float32()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not (self.is_local or self.keys or self.open_to_all):
            raise UsageError(
                f"{self.host} can be reached from other machines, and there is no key. Set {KEY_VARIABLE}, or give a file of "
                "keys with --api-key-file; or say --open-to-all if everybody who can reach it may use it."
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host in LOOPBACK_NAMES:
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_keys(path: Path) -> tuple[str, ...]:
    """The bearer keys in a file, one a line.

    Raises:
        UsageError: it cannot be read, or there is none in it, or one cannot be sent in a header.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the file of keys cannot be read ({type(error).__name__}).") from None
    keys = tuple(key for line in lines if (key := line.strip()))
    if not keys:
        raise UsageError(f"{path}: there is no key in this file; it has one a line.")
    return check_keys(keys, str(path))


def check_keys(keys: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The keys themselves, if they can be sent in a header.

    Raises:
        UsageError: one has white space or other than ASCII in it.
    """
    for number, key in enumerate(keys, start=1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(f"{where}: key {number} cannot be sent in a header: take ASCII letters, digits and signs.")
    return keys
