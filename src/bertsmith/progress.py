"""How long work tells what it has done: a callable, so that a terminal, a log or a test can listen."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then during long work, at least once at its end.

    `phase` names the work ("counting words"), `done` and `total` are in one unit of that work; `total` is None where
    it is not known beforehand. `note` is a few words on how it goes, such as a loss.
    """

    def __call__(self, phase: str, done: int, total: int | None, note: str = "") -> None: ...


def silent(phase: str, done: int, total: int | None, note: str = "") -> None:
    """Listen to nothing: the default of every library call."""
