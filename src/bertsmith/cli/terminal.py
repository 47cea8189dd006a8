"""Talking to a person at a terminal. Data goes to stdout, talk goes to stderr."""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

talk = Console(stderr=True, highlight=False)

_QUIET_SECONDS = 10.0  # between two lines of progress where there is no terminal to draw a bar on


class Bars:
    """Live progress for any number of phases: bars on a terminal, a plain line every ten seconds elsewhere.

    An instance is a `bertsmith.progress.Progress`, so it can be handed to any library call.
    """

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]:>10}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._rich = Progress(*columns, console=talk, transient=False, refresh_per_second=4)
        self._tasks: dict[str, Any] = {}
        self._spoke = 0.0

    def __enter__(self) -> "Bars":
        if talk.is_terminal:
            self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if talk.is_terminal:  # elsewhere it was never started, and would end with an empty line
            self._rich.stop()

    def __call__(self, phase: str, done: int, total: int | None, note: str = "") -> None:
        """Show that `done` of `total` of a phase is done."""
        if phase not in self._tasks:
            self._tasks[phase] = self._rich.add_task(phase, total=total, rate="", note="")
        key = self._tasks[phase]
        task = next(t for t in self._rich.tasks if t.id == key)
        ended = total is not None and done >= total
        ends_now = ended and task.finished_time is None
        self._rich.update(key, completed=done, total=total, note=note, rate=_rate(task))
        if not talk.is_terminal and (ends_now or time.monotonic() - self._spoke > _QUIET_SECONDS):
            self._spoke = time.monotonic()
            share = f"{done / total:4.0%}  ({done:,} of {total:,})" if total else f"{done:,}"
            left = "" if ended or task.time_remaining is None else f"  {task.time_remaining:.0f} s left"
            talk.print(f"{phase}: {share}{left}  {note}".rstrip(), soft_wrap=True, markup=False)


def _rate(task: Task) -> str:
    speed = task.finished_speed or task.speed
    if speed is None:
        return ""
    if speed >= 10_000:
        return f"{speed / 1000:,.0f} k/s"
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout, for people."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        shown.add_column(header, overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        shown.add_row(*(str(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(shown)


def facts(pairs: Mapping[str, object]) -> None:
    """Names and values on stdout, one a line, for people."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def json_line(value: Any) -> None:
    """One JSON object on one line of stdout, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
