"""Ctrl-C, SIGTERM and SIGUSR1, as a question that long work asks now and then."""

import os
import signal
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from bertsmith.cli.terminal import talk

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_ECHO = 5.0  # seconds


class Interruption:
    """Called, it says whether an orderly end has been asked for.

    A signal that comes before anybody has called it ends the process on the spot: nothing is under way that could be saved.
    So does a second signal in any case, even in the middle of a save, which leaves the one before intact. Use it as a
    context; the handlers of before come back after it.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._somebody_listens = False
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        self._somebody_listens = True
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that ended for this signal."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._asked) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None
        if again and "RANK" in os.environ and time.monotonic() - self._first < _ECHO:
            return
        self._first = time.monotonic()
        self.signal = signal.Signals(number)
        if self._somebody_listens and not again:
            _say(f"{self.signal.name}: saving. Once more to leave at once.")
            return
        _say(f"{self.signal.name}: leaving at once.")
        with suppress(RuntimeError):
            talk.show_cursor(True)  # a bar may have hidden it
        os._exit(self.exit_code)  # an exception would be lost in the middle of some imports and callbacks


def _say(message: str) -> None:
    try:
        talk.print(message)
    except RuntimeError:  # the signal came in the middle of another message
        os.write(2, f"{message}\n".encode())
