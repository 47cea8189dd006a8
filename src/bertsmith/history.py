"""What a run wrote down, read back: `run.json` and the lines of `log.jsonl`, as they stand, finished or not.

A reader here never refuses a line: what cannot be read is counted, so that a report or a diagnosis can say so.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from bertsmith.errors import DataError

LOG = "log.jsonl"
RECORD = "run.json"


@dataclass(frozen=True)
class Series:
    """One figure over a run: `values` float64 at ascending or repeated `steps` int64, each `(lines,)`."""

    steps: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, first: int, last: int) -> "Series":
        """The part whose steps are `first` to `last`, both included."""
        inside = (self.steps >= first) & (self.steps <= last)
        return Series(self.steps[inside], self.values[inside])


@dataclass(frozen=True)
class History:
    """A run folder's `record` (what is in run.json) and `lines`; `damaged` has the numbers of lines that are not JSON.

    A last line without its end is still being written, or was cut by a crash: it is neither.
    """

    path: Path
    record: dict[str, Any]
    lines: tuple[dict[str, Any], ...]
    damaged: tuple[int, ...] = ()

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Read a run folder.

        Raises:
            DataError: there is no run in that folder, or its run.json cannot be read.
        """
        run = Path(run)
        try:
            record = json.loads((run / RECORD).read_text(encoding="utf-8"))
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{run}: there is no run here ({RECORD} is missing). A run folder is what `bertsmith pretrain -o` or "
                "`finetune -o` wrote."
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{run / RECORD}: cannot be read ({error}).") from None
        tail = Tail(run)
        lines = tuple(tail.new())
        return cls(run, record, lines, tuple(tail.damaged))

    @property
    def kind(self) -> str:
        """pretraining or finetuning."""
        return str(self.record.get("kind", "pretraining"))

    @cached_property
    def training(self) -> tuple[dict[str, Any], ...]:
        """The lines that tell of a training step."""
        return tuple(line for line in self.lines if "train" in line and isinstance(line.get("step"), int))

    @cached_property
    def events(self) -> tuple[dict[str, Any], ...]:
        """The lines that tell of something that happened: skipped, rolled_back, resumed ..."""
        return tuple(line for line in self.lines if "event" in line)

    @property
    def last_step(self) -> int:
        """The last step that any line speaks of; 0 where there is none."""
        return max((line["step"] for line in self.lines if isinstance(line.get("step"), int)), default=0)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The recipe's stages as written in run.json; none for a fine-tuning run."""
        return list((self.record.get("recipe") or {}).get("stages") or [])

    @property
    def steps(self) -> int | None:
        """Steps that the recipe asks for, or None where it does not count in steps."""
        steps = [stage.get("steps") for stage in self.stages]
        known = [one for one in steps if isinstance(one, int)]
        return sum(known) if known and len(known) == len(steps) else None

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end: the last step is logged, or a fine-tuning run's result, or a model was saved."""
        if self.kind == "finetuning":
            return any("result" in line for line in self.lines)
        if self.steps is None:
            return (self.path / "model").is_dir()
        return self.last_step >= self.steps

    def objectives(self, split: str = "train") -> list[str]:
        """Names of what was measured in "train" or "heldout" lines, in order of appearance."""
        return list(dict.fromkeys(name for line in self.lines for name in _mapping(line.get(split))))

    @cached_property
    def segments(self) -> list[dict[str, int]]:
        """The stretches in which figures compare, as what their lines say: {"stage": 0}, {"stage": 1}; or by "seed"."""
        name = "seed" if self.kind == "finetuning" else "stage"
        values = dict.fromkeys(line[name] for line in self.training if isinstance(line.get(name), int))
        return [{name: value} for value in values]

    def series(self, *keys: str, **where: int) -> Series:
        """The numbers at a path of keys, such as ("train", "masked_lm", "loss"), of the lines that say `where`.

        Null and missing values are left out (see `nulls`); NaN and infinite ones are kept.
        """
        return series(self.lines, *keys, **where)

    def nulls(self, *keys: str) -> list[int]:
        """The steps of lines with a null at that path: a figure that was not finite, for which JSON has no word."""
        found = []
        for line in self.lines:
            *path, last = keys
            place: Any = line
            for key in path:
                place = _mapping(place).get(key)
            if isinstance(line.get("step"), int) and last in _mapping(place) and place[last] is None:
                found.append(line["step"])
        return found

    def total(self, key: str) -> float:
        """Sum of a figure over all steps, where each logged step stands for those since the one logged before."""
        found = self.series(key)
        return float((found.values * np.diff(found.steps, prepend=0).clip(min=0)).sum())

    def speed(self, **where: int) -> Series:
        """Real tokens a second, of each logged step."""
        tokens, seconds = self.series("tokens", **where), self.series("seconds", **where)
        if len(tokens) != len(seconds):
            return Series(np.array([], np.int64), np.array([]))
        return Series(tokens.steps, tokens.values / np.maximum(seconds.values, 1e-9))


def series(lines: Iterable[Mapping[str, Any]], *keys: str, **where: int) -> Series:
    """The numbers at a path of keys in some lines of a log: see `History.series`."""
    found: list[tuple[int, float]] = []
    for line in lines:
        if not isinstance(line.get("step"), int) or any(line.get(name) != value for name, value in where.items()):
            continue
        value: Any = line
        for key in keys:
            value = _mapping(value).get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append((line["step"], float(value)))
    steps, values = zip(*found, strict=True) if found else ((), ())
    return Series(np.array(steps, np.int64), np.array(values, np.float64))


class Tail:
    """Reads what is new in a run's log since the last look, also while the run goes on."""

    def __init__(self, run: str | Path) -> None:
        self.path = Path(run) / LOG
        self.damaged: list[int] = []
        self._read = 0
        self._offset = 0
        self._last = b""

    def new(self) -> list[dict[str, Any]]:
        """The whole lines that were added. Where the log was cut or replaced, as by a resumed run, all of them again."""
        if self.was_replaced():
            self._offset = self._read = 0
            self._last = b""
            self.damaged.clear()
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        if not end:
            return []
        self._offset += len(whole) + 1
        found = []
        for self._last in whole.split(b"\n"):
            self._read += 1
            line = _parse(self._last)
            if line is None:
                self.damaged.append(self._read)
            else:
                found.append(line)
        return found

    def was_replaced(self) -> bool:
        """Whether the next look begins again at the first line, because the last one read is not where it was."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self._offset - len(self._last) - 1))
                return self._offset > 0 and file.read(len(self._last) + 1) != self._last + b"\n"
        except FileNotFoundError:
            return False


def averaged(series: Series, points: int, weights: Sequence[float] | None = None) -> Series:
    """At most `points` means over neighbouring values, each at the last of its steps: a curve that can be drawn."""
    if len(series) <= points:
        return series
    counts = np.ones(len(series)) if weights is None else np.asarray(weights, np.float64)
    parts = np.array_split(np.arange(len(series)), points)
    steps = [int(series.steps[part[-1]]) for part in parts]
    values = [float(np.average(series.values[part], weights=counts[part])) for part in parts]
    return Series(np.array(steps), np.array(values))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
