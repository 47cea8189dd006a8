"""The log of a run: one JSON object a line, in `log.jsonl`, that any tool can read."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bertsmith.errors import DataError
from bertsmith.folders import cannot_write, fsync
from bertsmith.train.loop import Measure


class Log:
    """Appends records to a run's `log.jsonl`, each before the next step begins.

    Lines that a full disk refuses wait in memory and are written, whole and in order, when there is room again.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "log.jsonl"
        self._waiting = b""

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        line = {**record, "clock": datetime.now(UTC).isoformat(timespec="seconds")}
        self._waiting += (json.dumps(_finite(line)) + "\n").encode()
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError:
            return
        try:
            before = os.fstat(file).st_size
            try:
                left = self._waiting
                while left:
                    left = left[os.write(file, left) :]
                self._waiting = b""
            except OSError:
                os.ftruncate(file, before)  # no half line
        finally:
            os.close(file)

    def event(self, step: int, event: str, message: str) -> None:
        """Say that something happened that a reader of the losses should know of."""
        self.write({"step": step, "event": event, "message": message})

    def sync(self) -> None:
        """Make what has been written durable."""
        try:
            fsync(self.path)
        except FileNotFoundError:
            return  # nothing has been
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def cut(self, step: int) -> None:
        """Forget everything after `step`, because it will be said again, and a last line without an end."""
        if not self.path.exists():
            return
        kept = 0
        with self.path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n") or _parse(line).get("step", 0) > step:
                    break
                kept += len(line)
            file.truncate(kept)

    def has_heldout(self, step: int) -> bool:
        """Whether the held-out figures of that step have been written."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            return any(b'"heldout"' in line and _parse(line).get("step") == step for line in file)


class NoLog(Log):
    """The log of a process that is not the one to write it."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Write nothing."""

    def sync(self) -> None:
        """There is nothing to make durable."""

    def cut(self, step: int) -> None:
        """Whose log it is will cut it."""


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, oldest first. A last line that was cut short by a crash is passed over.

    Raises:
        DataError: there is no log, or a line of it is damaged.
    """
    path = run / "log.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: no such file. A run folder is what `bertsmith pretrain -o` or `finetune -o` wrote.")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(
                        f"{path}: line {number} is damaged ({error}). Remove it to read the rest."
                    ) from None


def plain(measures: Mapping[str, Measure]) -> dict[str, dict[str, float | int | None]]:
    """Measures as JSON values."""
    return {name: {"loss": m.loss, "accuracy": m.accuracy, "count": m.count} for name, m in measures.items()}


def _finite(value: Any) -> Any:
    """JSON knows no infinity and no NaN; they become null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: bytes) -> dict[str, Any]:
    """A line as an object; an empty one if it is damaged. Whoever only tidies up must not stumble over it."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
