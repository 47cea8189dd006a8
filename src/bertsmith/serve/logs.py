"""One JSON line for each thing that happens, on stderr: no texts, no keys, nothing that a client wrote."""

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

Log = Callable[..., None]
"""`log(event, **fields)`"""


def json_log(event: str, **fields: Any) -> None:
    """Write one line."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03}Z"
    sys.stderr.write(json.dumps({"time": stamp, "event": event} | fields) + "\n")


def silent_log(event: str, **fields: Any) -> None:
    """For those who do not want one."""


class JsonHandler(logging.Handler):
    """What the HTTP library has to say, as such lines. Its messages hold no requests; what they are about is left out."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        self._log("http", level=record.levelname.lower(), message=str(record.msg)[:200], error=error)
