"""The grid and the learning curve."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint
from bertsmith.errors import ConfigError
from bertsmith.tasks import (
    CurvePoint,
    Finetuning,
    Grid,
    best_trial,
    curve_lines,
    default_learning_rate,
    learning_curve,
    search,
    twice_the_labels,
)


@pytest.fixture
def job(checkpoint: Checkpoint, sentences: Callable[..., object], write: Callable[..., Path]) -> Finetuning:
    return Finetuning(
        task="classify",
        model=checkpoint,
        train=write("train.tsv", [("text", "label"), *sentences(96, 1)]),  # type: ignore[misc]
        dev=write("dev.tsv", [("text", "label"), *sentences(20, 2)]),  # type: ignore[misc]
        epochs=1,
        learning_rate=3e-3,
        batch_size=8,
        seeds=(4, 5),
    )


def test_every_setting_is_tried_and_the_best_is_taken(job: Finetuning) -> None:
    grid = Grid(learning_rates=(6.0, 1e-9), epochs=(3,), batch_sizes=(4, 8))
    heard: list[tuple[int, int | None]] = []
    trials = list(search(job, grid, lambda phase, done, total: heard.append((done, total))))
    rate = default_learning_rate(24)
    assert [(t.learning_rate, t.epochs, t.batch_size) for t in trials] == [
        (pytest.approx(rate * share), 3, size) for share in (6.0, 1e-9) for size in (4, 8)
    ]
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)] and len(grid) == 4
    assert all(t.collapsed and "one answer to everything" in t.line() for t in trials[2:])
    best = best_trial(trials)
    assert best.score == max(t.score for t in trials if not t.collapsed)
    again = replace(best.applied(job), seeds=(4,)).finish()
    assert again.best.dev.metrics["accuracy"] == best.score
    assert best.applied(job).seeds == (4, 5)


def test_the_papers_grid_is_the_default() -> None:
    rates = [share * default_learning_rate(768) for share in Grid().learning_rates]
    assert rates == pytest.approx([5e-5, 3e-5, 2e-5]) and len(Grid()) == 18
    with pytest.raises(ConfigError, match="epochs: expected numbers over 0"):
        Grid(epochs=(0,))


def test_the_curve_is_of_shares(job: Finetuning) -> None:
    points = list(learning_curve(job, (0.01, 0.125, 0.25)))
    assert [p.examples for p in points] == [12, 24]
    whole = replace(job, most=24).finish()
    assert points[1].mean == whole.mean and points[1].spread == whole.spread


def test_what_more_labels_would_bring() -> None:
    points = [CurvePoint(examples=n, metric="f1", mean=1 - 2 * n**-0.5, spread=0.01) for n in (100, 400, 200, 800)]
    assert twice_the_labels(points) == pytest.approx(1 - 2 * 1600**-0.5)
    assert "Twice the labels would bring about +0.0207, to 0.9500" in curve_lines(points)[-1]
    assert curve_lines(points)[0].startswith("    100 examples: dev f1 0.8000 ± 0.0100")
    flat = [replace(p, mean=0.5) for p in points]
    for odd in (points[:2], flat, [*points, replace(points[0], examples=900, mean=1.0)]):
        assert twice_the_labels(odd) is None
    assert "does not say" in curve_lines(flat)[-1]
