"""One JSON line for each thing that happens, on stderr: no texts, no keys, nothing that a client wrote."""

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

Log = Callable[..., None]
"""`log(event, **fields)`"""

WAITING = 10_000  # lines


class JsonLog:
    """Writes lines in a thread of its own. If whoever reads them does not keep up, the server does not wait: lines are left
    out, and it is said how many."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def __call__(self, event: str, **fields: Any) -> None:
        """Have one line written."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03}Z"
        lost = {"lines_lost": self._lost} if self._lost else {}
        try:
            self._lines.put_nowait(json.dumps({"time": stamp, "event": event} | fields | lost) + "\n")
            self._lost = 0
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Write what is left, within a second."""
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(1)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more
                return


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
