"""A training run on a terminal: where it stands, what it learns, how fast, how long still; a line now and then elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from bertsmith.cli.terminal import Bars, talk

if TYPE_CHECKING:
    from bertsmith.train import Measure, Report

_SMOOTH = 0.95  # of a smoothed value that stays from one step to the next: it tells of about the last twenty
_BLOCKS = "▁▂▃▄▅▆▇█"


class Sparkline:
    """A curve in one line of text, of all values so far in constant memory: each column is the mean of equally many."""

    def __init__(self, columns: int = 40) -> None:
        self.columns = columns
        self._each = 1  # values a column
        self._means: list[float] = []
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        """Take in the next value."""
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._each:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == self.columns:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means, self._each = [(one + other) / 2 for one, other in pairs], 2 * self._each

    def __str__(self) -> str:
        if not self._means:
            return ""
        low, high = min(self._means), max(self._means)
        step = (high - low) / (len(_BLOCKS) - 1) or 1.0
        return "".join(_BLOCKS[round((mean - low) / step)] for mean in self._means)


class Panel:
    """Shows the reports of a run as they come: a live panel on a terminal, a plain line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._lines = Bars()
        self._curve = Sparkline()
        self._losses: dict[str, float] = {}
        self._speed = 0.0
        self._seen = 0
        self._first: tuple[int, float] | None = None
        self._report: Report | None = None
        self._heldout: tuple[int, Mapping[str, Measure]] | None = None
        self._live = Live(console=talk, get_renderable=self.render, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        if talk.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if talk.is_terminal:
            self._live.stop()

    def __call__(self, report: "Report") -> None:
        """Show one more step."""
        now, update = time.monotonic(), report.update
        self._first = self._first or (report.step - 1, now - update.seconds)
        self._report = report
        self._seen += 1
        for name, measure in update.measures.items():
            self._losses[name] = self._smoothed(self._losses.get(name, 0.0), measure.loss)
        self._speed = self._smoothed(self._speed, update.tokens / max(update.seconds, 1e-9))
        self._curve.add(next(iter(update.measures.values())).loss)
        if report.heldout is not None:
            self._heldout = report.step, report.heldout
        if not talk.is_terminal:
            self._lines("pretraining", report.step, report.steps, report.note())

    def render(self) -> RenderableType:
        """The panel as it stands."""
        report = self._report
        if report is None or self._first is None:
            return Text("pretraining: getting ready", style="dim")
        begun, at = self._first
        gone = time.monotonic() - at
        left = gone / (report.step - begun) * (report.steps - report.step)
        words = [
            "pretraining",
            f"{report.step / report.steps:.0%}",
            f"step {report.step:,} of {report.steps:,}",
            f"{_clock(gone)} gone",
            f"{_clock(left)} left",
        ]
        width = max(8, min(30, talk.width - sum(map(len, words)) - 2 * len(words)))
        head = Table.grid(*(Column(no_wrap=True) for _ in range(len(words) + 1)), padding=(0, 2))
        head.add_row(words[0], ProgressBar(total=report.steps, completed=report.step, width=width), *words[1:])
        body = Table.grid(padding=(0, 2))
        body.add_row(Text("training", style="dim"), self._training())
        body.add_row(Text("held-out", style="dim"), self._held_out())
        body.add_row(Text("loss", style="dim"), Text(str(self._curve), style="cyan"))
        how = [
            f"{self._speed:,.0f} tokens/s",
            f"learning rate {report.update.learning_rate:.2e}",
            f"gradient norm {report.update.gradient_norm:.2f}",
            "no checkpoint yet" if report.saved is None else f"checkpoint at step {report.saved:,}",
        ]
        body.add_row(Text("now", style="dim"), Text("   ".join(how)))
        return Group(head, body)

    def _smoothed(self, value: float, new: float) -> float:
        """The running mean with `new` in it; of few values so far, their plain mean."""
        share = max(1 - _SMOOTH, 1 / self._seen)
        return value + share * (new - value)

    def _training(self) -> Text:
        return Text("   ".join(f"{_spoken(name)} {loss:.3f}" for name, loss in self._losses.items()))

    def _held_out(self) -> Text:
        if self._heldout is None:
            return Text("not looked at yet", style="dim")
        step, measures = self._heldout
        told = [
            f"{_spoken(name)} {m.loss:.3f}" + ("" if m.accuracy is None else f" ({m.accuracy:.1%} right)")
            for name, m in measures.items()
        ]
        return Text("   ".join([*told, f"at step {step:,}"]))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _spoken(name: str) -> str:
    return name.replace("_lm", " LM").replace("_", " ")
