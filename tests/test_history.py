"""What a run wrote is read back as it stands: damaged, growing, cut and all."""

import json
from pathlib import Path

import numpy as np
import pytest

from bertsmith.history import History, Series, Tail, averaged


@pytest.fixture
def run(tmp_path: Path) -> Path:
    recipe = {"stages": [{"steps": 4}, {"steps": 3}]}
    (tmp_path / "run.json").write_text(json.dumps({"kind": "pretraining", "recipe": recipe}), encoding="utf-8")
    lines = [
        {"step": 2, "stage": 0, "train": {"masked_lm": {"loss": 5.0, "accuracy": None}}, "tokens": 70, "seconds": 0.5},
        {"step": 2, "stage": 0, "heldout": {"masked_lm": {"loss": 5.5}}},
        {"step": 6, "stage": 1, "train": {"masked_lm": {"loss": 3.0}}, "tokens": 90, "seconds": 0.0},
        {"step": 6, "event": "stopped"},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return tmp_path


def append(run: Path, text: str) -> None:
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


def test_figures_by_path_and_stage(run: Path) -> None:
    history = History.load(run)
    assert history.series("train", "masked_lm", "loss").values.tolist() == [5.0, 3.0]
    assert history.series("train", "masked_lm", "loss", stage=1).steps.tolist() == [6]
    assert len(history.series("train", "masked_lm", "accuracy")) == 0, "null is no figure"
    assert history.objectives() == history.objectives("heldout") == ["masked_lm"]
    assert history.segments == [{"stage": 0}, {"stage": 1}]
    assert history.speed(stage=0).values.tolist() == [140.0]
    assert np.isfinite(history.speed().values).all(), "a clock that stood still divides nothing by 0"
    assert (history.steps, history.last_step, history.is_finished) == (7, 6, False)


def test_a_log_that_grows_is_read_once(run: Path) -> None:
    tail = Tail(run)
    assert len(tail.new()) == 4
    assert tail.new() == []
    append(run, '{"step": 7}\nnot json\n[1]\n{"ste')
    assert tail.new() == [{"step": 7}]
    assert tail.damaged == [6, 7]
    append(run, 'p": 8}\n')
    assert tail.new() == [{"step": 8}]


def test_a_log_that_was_cut_is_read_anew(run: Path) -> None:
    tail = Tail(run)
    tail.new()
    (run / "log.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    assert tail.was_replaced()
    assert tail.new() == [{"step": 1}]
    assert not tail.was_replaced()


def test_a_log_that_was_cut_and_has_grown_again_is_read_anew(run: Path) -> None:
    """A resumed run cuts its log where it lies; by the next look it may be longer than before."""
    tail = Tail(run)
    tail.new()
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join([*lines[:2], '{"step": 3}\n' * 40]), encoding="utf-8")
    assert len(tail.new()) == 42


def test_null_is_told_from_nothing(run: Path) -> None:
    history = History.load(run)
    assert history.nulls("train", "masked_lm", "accuracy") == [2]
    assert history.nulls("gradient_norm") == []


def test_a_run_without_a_log_yet(run: Path) -> None:
    (run / "log.jsonl").unlink()
    history = History.load(run)
    assert history.lines == () and history.last_step == 0 and not history.is_finished


def test_a_curve_is_thinned_to_weighted_means() -> None:
    series = Series(np.arange(6), np.array([1.0, 3.0, 5.0, 5.0, 0.0, 9.0]))
    thin = averaged(series, 3, weights=[3, 1, 1, 1, 1, 2])
    assert thin.steps.tolist() == [1, 3, 5] and thin.values.tolist() == [1.5, 5.0, 6.0]
    assert averaged(series, 6) is series
