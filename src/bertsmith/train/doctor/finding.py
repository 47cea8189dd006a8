"""What the doctor says, and what it looks at: a finding, a case, and the words for steps and counts."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from bertsmith.data import read_manifest
from bertsmith.errors import CheckpointError
from bertsmith.folders import INTEGRITY, sha256_of
from bertsmith.history import History

Severity = Literal["wrong", "odd", "note"]

SEVERITIES: tuple[Severity, ...] = ("wrong", "odd", "note")


@dataclass(frozen=True)
class Finding:
    """What a check found: what was `seen` (figures and steps), `why` it matters, and what to do: the `advice`.

    `severity`: "wrong" cannot be meant; "odd" should be looked at; "note" is good to know.
    """

    check: str
    severity: Severity
    seen: str
    why: str
    advice: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Case:
    """A run under examination, and the manifest of its shards where that is at hand."""

    history: History
    manifest: dict[str, Any] | None = None

    @classmethod
    def of(cls, run: str | Path, data: str | Path | None = None) -> Self:
        """Read a run folder, and the manifest of its shards: in `data`, or where run.json says they were (`data_path`).

        Raises:
            DataError: there is no run in that folder.
            CheckpointError: `data` is not a folder of shards, or not what the run was trained on.
        """
        history = History.load(run)
        known = history.record.get("data")
        place = Path(data if data is not None else history.record.get("data_path") or "")
        same = (place / INTEGRITY).is_file() and sha256_of(place / INTEGRITY) == known
        if data is None:
            return cls(history, read_manifest(place) if same else None)
        manifest = read_manifest(place)
        if not same:
            raise CheckpointError(f"{data}: not the shards that {run} was trained on, whose SHA-256 is {known}.")
        return cls(history, manifest)

    @cached_property
    def references(self) -> dict[str, float]:
        """Losses in nats of who has learned nothing: "uniform" (ln V) and "unigram", where they are known."""
        known = {k: float(v) for k, v in (self.history.record.get("reference") or {}).items() if v is not None}
        config = self.history.path / "model" / "config.json"
        if "uniform" not in known and config.is_file():
            size = json.loads(config.read_text(encoding="utf-8")).get("vocab_size")
            known |= {"uniform": math.log(size)} if size else {}
        return known

    @property
    def language_models(self) -> list[str]:
        """The objectives whose loss is that of naming a token."""
        return [name for name in self.history.objectives() if name.endswith("_lm")]

    def final(self, name: str, figure: str = "loss") -> tuple[float, str] | None:
        """Where an objective ended: the last held-out value, else the mean of the last training lines; and which it is."""
        heldout = self.history.series("heldout", name, figure)
        if len(heldout):
            return float(heldout.values[-1]), "held-out"
        found = self.recent(name, figure)
        return None if found is None else (found, "training")

    def recent(self, name: str, figure: str = "loss") -> float | None:
        """Mean over the last twentieth of the training lines of the last stage, 10 at least."""
        where = self.history.segments[-1] if self.history.segments else {}
        values = self.history.series("train", name, figure, **where).values
        return float(values[-max(10, len(values) // 20) :].mean()) if len(values) else None

    @property
    def is_young(self) -> bool:
        """Whether it is too early to judge what was learned: less than a fifth of the way, or 500 steps."""
        steps = self.history.steps
        return not self.history.is_finished and self.history.last_step < max(500, (steps or 0) / 5)


Check = Callable[[Case], Iterator[Finding]]


def count(number: int, one: str, many: str | None = None) -> str:
    """A number of things: 1 step, 2 steps."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(values: Any, most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    shown = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def steps_of(events: list[dict[str, Any]]) -> str:
    """Where events happened."""
    steps = list(dict.fromkeys(event["step"] for event in events if isinstance(event.get("step"), int)))
    return f"at step {some(steps)}" if steps else "at an unknown step"


def last_words(events: list[dict[str, Any]]) -> str:
    """What the last of some events said, as a sentence with a blank before it; nothing where it said nothing."""
    message = events[-1].get("message")
    return f" It said: {str(message).rstrip('.')}." if message else ""


def spoken(name: str) -> str:
    """An objective's name as a person says it."""
    return name.replace("_lm", " LM").replace("_", " ")
