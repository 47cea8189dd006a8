"""Learning rates by their formulas, and stages that are made shorter."""

import math

import pytest

from bertsmith.config import from_dict, to_dict
from bertsmith.errors import ConfigError
from bertsmith.recipes.bert import stages
from bertsmith.train import Constant, Schedule, WarmupLinear, WarmupStableDecay


def test_warm_up_then_a_straight_line() -> None:
    schedule = WarmupLinear(peak=1.0, warmup_steps=4)
    assert [schedule.rate(step, 12) for step in range(12)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    )
    assert WarmupLinear(peak=1.0, final=0.5).rate(10, 10) == 0.5
    assert Constant(peak=0.3).rate(7, 9) == 0.3


def test_warm_up_stable_decay() -> None:
    linear = WarmupStableDecay(peak=1.0, warmup=0.2, decay=0.4, shape="linear", final=0.2)
    rates = [linear.rate(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4])
    curved = WarmupStableDecay(peak=2.0, warmup=0.2, decay=0.4)
    expected = [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, *(2 - 2 * math.sqrt(x) for x in (0.25, 0.5, 0.75))]
    assert [curved.rate(step, 10) for step in range(10)] == pytest.approx(expected)


def test_stages_of_a_stable_rate_can_follow_each_other() -> None:
    stable = WarmupStableDecay(peak=1.0, warmup=0.1, decay=0.0)
    last = WarmupStableDecay(peak=1.0, warmup=0.0, decay=1.0)
    assert stable.rate(19, 20) == last.rate(0, 5) == 1.0
    assert last.rate(4, 5) == pytest.approx(1 - math.sqrt(0.8))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "schedule",
    [
        Constant(peak=0.3),
        WarmupLinear(peak=0.3, warmup_steps=2),
        WarmupStableDecay(peak=0.3),
        WarmupStableDecay(peak=0.3, warmup=1.0, decay=0.0),
        WarmupStableDecay(peak=0.3, warmup=0.0, decay=1.0),
    ],
)
def test_every_step_of_a_stage_learns(schedule: Schedule, steps: int) -> None:
    assert from_dict(Schedule, to_dict(schedule)) == schedule
    assert all(0 < schedule.rate(step, steps) <= 0.3 for step in range(steps))


@pytest.mark.parametrize("factor", [0.1, 0.3, 1.0, 2.5])
def test_a_shorter_stage_has_the_same_shape(factor: float) -> None:
    steps = round(1000 * factor)
    for schedule in (
        WarmupLinear(peak=1.0, warmup_steps=200),
        WarmupStableDecay(peak=1.0, warmup=0.2),
        Constant(peak=1),
    ):
        short = schedule.scaled(factor)
        for place in (0.1, 0.5, 0.95):
            before = schedule.rate(round(1000 * place), 1000)
            assert short.rate(round(steps * place), steps) == pytest.approx(before, abs=6 / steps + 0.01)
    assert WarmupLinear(peak=1.0, warmup_steps=20).scaled(0.001).warmup_steps == 1
    assert WarmupLinear(peak=1.0).scaled(0.001).warmup_steps == 0


def test_two_stages_make_one_line() -> None:
    """BERT's two stages have a stage each, and the learning rate must not jump where they meet."""
    short, long = stages()
    end, start = short.schedule.rate(short.steps, short.steps), long.schedule.rate(0, long.steps)
    assert end == pytest.approx(start) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "warmup_linear", "peak": -1.0}, "peak: expected more than 0"),
        ({"kind": "warmup_stable_decay", "peak": 1.0, "final": 2.0}, r"final: expected 0 to peak \(1\.0\), got 2\.0"),
        ({"kind": "warmup_stable_decay", "peak": 1.0, "warmup": 1.5}, "warmup: expected a share of the steps"),
        (
            {"kind": "warmup_stable_decay", "peak": 1.0, "warmup": 0.5, "decay": 0.6},
            r"decay: expected 0 to 1 - warmup = 0\.5, got 0\.6",
        ),
        ({"kind": "warmup_stable_decay", "peak": 1.0, "shape": "cosine"}, "shape: 'cosine' is not allowed"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Schedule, values)
