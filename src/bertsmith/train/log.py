"""The log of a run: one JSON object a line, in `log.jsonl`, that any tool can read."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bertsmith.errors import DataError
from bertsmith.train.loop import Measure
from bertsmith.train.record import replace_file


class Log:
    """Appends records to a run's `log.jsonl`, each before the next step begins.

    Lines that a full disk refuses wait in memory and are written when there is room again.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "log.jsonl"
        self._waiting = ""

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        self._waiting += json.dumps({**record, "clock": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n"
        try:
            with self.path.open("ab") as file:
                before = file.tell()
                try:
                    file.write(self._waiting.encode())
                    file.flush()
                except OSError:
                    file.truncate(before)  # no half line, and no line twice
                    raise
        except OSError:
            return
        self._waiting = ""

    def event(self, step: int, event: str, message: str) -> None:
        """Say that something happened that a reader of the losses should know of."""
        self.write({"step": step, "event": event, "message": message})

    def cut(self, step: int) -> None:
        """Forget everything after `step`, because a resumed run will say it again."""
        if not self.path.exists():
            return
        kept = [record for record in read_log(self.path.parent) if record["step"] <= step]
        replace_file(self.path, "".join(json.dumps(record) + "\n" for record in kept))


class NoLog(Log):
    """The log of a process that is not the one to write it."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Write nothing."""


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, oldest first. A last line that was cut short by a crash is passed over."""
    path = run / "log.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: no such file. A run folder is what `bertsmith pretrain -o` or `finetune -o` wrote.")
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def plain(measures: Mapping[str, Measure]) -> dict[str, dict[str, float | int | None]]:
    """Measures as JSON values."""
    return {name: {"loss": m.loss, "accuracy": m.accuracy, "count": m.count} for name, m in measures.items()}
