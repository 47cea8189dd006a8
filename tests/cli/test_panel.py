"""The live panel: what it says, on a terminal and where there is none."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bertsmith.cli import panel, terminal
from bertsmith.cli.panel import Panel, Sparkline
from bertsmith.train import Pretraining, Recipe


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    console = Console(file=io.StringIO(), force_terminal=request.param, width=100, highlight=False)
    for module in (panel, terminal):
        monkeypatch.setattr(module, "talk", console)
    yield console


def test_a_run_is_shown(screen: Console, small_recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    run = Pretraining(recipe=small_recipe, data=shard_folder, out=tmp_path / "run", evaluate_every=4, save_every=4)
    with Panel() as shown:
        screen.print(shown.render())
        for report in run.run():
            shown(report)
            if report.step == 9:
                screen.print(shown.render())
    assert isinstance(screen.file, io.StringIO)
    said = screen.file.getvalue()
    assert "pretraining: getting ready" in said
    assert "90%" in said and "step 9 of 10" in said and " left" in said
    assert "training  masked LM " in said.replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert " right)   at step 8" in said and "checkpoint at step 8" in said
    assert " tokens/s   learning rate " in said
    if screen.is_terminal:
        assert "100%" in said and "step 10 of 10" in said, "the last step stays on the screen"
    else:
        assert "\x1b[" not in said and "pretraining: 100%  (10 of 10)" in said


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(
    width: int, small_recipe: Recipe, shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    monkeypatch.setattr(panel, "talk", console)
    shown = Panel()
    report = next(Pretraining(recipe=small_recipe, data=shard_folder, out=tmp_path / "run").run())
    shown(report)
    with console.capture() as capture:
        console.print(shown.render())
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    assert width < 80 or ("of 10" in lines[0] and "left" in lines[0])


def test_times_are_said_as_on_a_clock() -> None:
    assert [panel._clock(s) for s in (5, 65.4, 3600, 100_000)] == ["0:05", "1:05", "1:00:00", "27:46:40"]


def test_losses_are_smoothed_from_the_first() -> None:
    shown = Panel()
    values = []
    for number in range(1, 201):
        shown._seen = number
        values.append(shown._smoothed(values[-1] if values else 0.0, 3.0 if number <= 100 else 1.0))
    assert values[0] == values[99] == pytest.approx(3.0)
    assert 1.0 < values[110] < 2.5 and values[-1] == pytest.approx(1.0, abs=0.02)


def test_a_sparkline_holds_all_values_in_few_columns() -> None:
    line = Sparkline(columns=8)
    assert str(line) == ""
    for value in range(1000, 0, -1):
        line.add(value)
    drawn = str(line)
    assert 4 <= len(drawn) < 8
    assert drawn[0] == "█" and drawn[-1] == "▁" and list(drawn) == sorted(drawn, reverse=True)
    flat = Sparkline()
    for _ in range(3):
        flat.add(0.7)
    assert str(flat) == "▁▁▁"
