"""A run for TensorBoard: its log's lines as event files, while it trains or afterwards.

    with EventFiles("runs/mine", "runs/mine/tensorboard") as events:
        events.update()      # writes what the log has gained; call it now and then, or once

The log knows nothing of this: the files are made from what it says, so a run that is over is shown as well as one that is
going on, and a resumed one has every step once. Needs the extra `tensorboard`.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bertsmith.errors import MissingExtra
from bertsmith.folders import make_folder
from bertsmith.history import Tail

_SUFFIX = ".bertsmith"


class EventFiles:
    """Event files in `folder` that say what the log of `run` says.

    Raises:
        MissingExtra: TensorBoard is not installed.
        UsageError: the folder cannot be made.
    """

    def __init__(self, run: str | Path, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._tail = Tail(run)
        self._open = _writer()
        make_folder(self.folder)
        self._writer = self._begin()

    def update(self) -> int:
        """Write what is new in the log; the number of its lines. Where the log was cut back, everything is written anew."""
        if self._tail.was_replaced():
            self._writer.close()
            self._writer = self._begin()
        lines = self._tail.new()
        for line in lines:
            self._write(line)
        self._writer.flush()
        return len(lines)

    def close(self) -> None:
        """Write what is new, and close the file."""
        self.update()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _begin(self) -> Any:
        """A new file. Ours from before go, because the new one says all they said."""
        for old in self.folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        return self._open(log_dir=str(self.folder), filename_suffix=_SUFFIX, max_queue=1000)

    def _write(self, line: Mapping[str, Any]) -> None:
        step, clock = line.get("step"), _seconds(line.get("clock"))
        if not isinstance(step, int):
            return
        for tag, value in scalars(line):
            self._writer.add_scalar(tag, value, step, walltime=clock)
        if "event" in line:
            self._writer.add_text("events", f"{line['event']}: {line.get('message', '')}", step, walltime=clock)
        for number, sample in enumerate(line.get("samples") or []):
            guesses = ", ".join(f"{token} {probability:.2f}" for token, probability in sample["guesses"])
            text = f"{sample['text']}\n\nanswer: {sample['answer']}; guesses: {guesses}"
            self._writer.add_text(f"samples/{number}", text, step, walltime=clock)


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a log line under the names TensorBoard shows them by: loss/masked_lm/train, speed/tokens_per_second ..."""
    for split in ("train", "heldout"):
        for name, measure in (line.get(split) or {}).items():
            for figure in ("loss", "accuracy"):
                if measure.get(figure) is not None:
                    yield f"{figure}/{name}/{split}", float(measure[figure])
    for name, value in (line.get("dev") or {}).items():
        yield f"dev/{name}", float(value)
    for name in ("learning_rate", "gradient_norm", "fill"):
        if isinstance(line.get(name), int | float):
            yield f"training/{name}", float(line[name])
    for name, value in (line.get("masking") or {}).items():
        yield f"masking/{name}", float(value)
    if line.get("tokens") and line.get("seconds"):
        yield "speed/tokens_per_second", line["tokens"] / line["seconds"]


def _seconds(clock: Any) -> float | None:
    """An ISO time as seconds since 1970; None, which is now, where there is none."""
    try:
        seconds = datetime.fromisoformat(clock).timestamp()
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None


def _writer() -> Any:
    try:
        import tensorboard  # noqa: F401 - torch's own message for a missing one is longer and names no extra
    except ModuleNotFoundError:
        raise MissingExtra("tensorboard", "tensorboard") from None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter
