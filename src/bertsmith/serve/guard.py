"""Who may ask, and in what form: all that a request's headers decide, before anything of it is read or done."""

import re
from hashlib import sha256
from hmac import compare_digest

from bertsmith.serve.errors import Misdirected, Unauthorized, WrongMedia
from bertsmith.serve.options import LOOPBACK_NAMES, ServeOptions
from bertsmith.serve.route import Route

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, and values."""


class Guard:
    """Looks at the headers of requests to one server."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._keys = [sha256(key.encode()).digest() for key in options.keys]

    def check(self, route: Route, headers: Headers) -> None:
        """Let it pass.

        Raises:
            Misdirected, Unauthorized, WrongMedia: in this order.
        """
        self._check_host(headers)
        if not route.open:
            self._check_key(headers)
        if route.body is not None:
            _check_media(headers)

    def _check_key(self, headers: Headers) -> None:
        if not self._keys:
            return
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        digest = sha256(key.strip()).digest()
        known = [compare_digest(digest, one) for one in self._keys]
        if scheme.lower() != b"bearer" or not any(known):
            raise Unauthorized("This needs a key: send it as Authorization: Bearer KEY.")

    def _check_host(self, headers: Headers) -> None:
        """Without a key, a server that listens on this machine only answers to this machine's names: else any web page
        could reach it through a name of its own that points here."""
        if self._keys or not self._options.is_local:
            return
        for value in (value for name, value in headers if name == b"host"):
            host = re.sub(r":\d+$", "", value.decode("latin-1")).strip("[]").lower()
            if host not in (*LOOPBACK_NAMES, self._options.host):
                raise Misdirected("Without a key, only requests to this machine's own names are answered.")


def said_length(headers: Headers) -> float | None:
    """The bytes that the body is said to have; None if nothing is said, infinity if it is no number."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else float("inf")
    return None


def _check_media(headers: Headers) -> None:
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise WrongMedia("Compressed bodies are not read.")
    kinds = [value for name, value in headers if name == b"content-type"]
    if len(kinds) != 1 or kinds[0].split(b";")[0].strip().lower() != b"application/json":
        raise WrongMedia("The body must be JSON: send Content-Type: application/json.")
