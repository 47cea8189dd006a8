"""The log of a run: one JSON object a line, in `log.jsonl`, that any tool can read."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bertsmith.errors import DataError
from bertsmith.train.loop import Measure
from bertsmith.train.record import replace_file


class Log:
    """Appends records to a run's `log.jsonl`, each before the next step begins."""

    def __init__(self, run: Path) -> None:
        self.path = run / "log.jsonl"

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(record) + "\n")

    def cut(self, step: int) -> None:
        """Forget everything after `step`, because a resumed run will say it again."""
        if not self.path.exists():
            return
        kept = [record for record in read_log(self.path.parent) if record["step"] <= step]
        replace_file(self.path, "".join(json.dumps(record) + "\n" for record in kept))


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
