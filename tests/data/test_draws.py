"""Draws: sizes that grow along a line, masks that change with the stage, and how much that is in all."""

import time

import pytest

from bertsmith.data import Draws, Masking
from bertsmith.recipes import find


@pytest.mark.parametrize(("initial", "ramp"), [(None, 0.0), (None, 0.5), (2, 0.0), (2, 0.5), (3, 1.0), (7, 0.3)])
def test_all_examples_are_those_of_every_draw(initial: int | None, ramp: float) -> None:
    draws = Draws(batch_size=7, steps=13, initial_batch_size=initial, ramp=ramp)
    sizes = [draws.at(number).size for number in range(13)]
    assert draws.examples == sum(sizes)
    assert sizes == sorted(sizes) and sizes[-1] == 7
    assert sizes[0] == (initial if initial and ramp else 7)
    assert draws.at(40) == draws.at(12)  # a stage that skipped batches makes more draws than steps


def test_sizes_lie_on_a_line() -> None:
    draws = Draws(batch_size=10, steps=20, initial_batch_size=2, ramp=0.4)
    assert [draws.at(number).size for number in range(10)] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


def test_the_masking_rate_falls() -> None:
    draws = Draws(batch_size=1, steps=10, masking=Masking(rate=0.3, final_rate=0.1))
    rates = [draw.masking.rate for number in (0, 5, 9) if (draw := draws.at(number)).masking]
    assert rates == pytest.approx([0.3, 0.2, 0.12])


def test_a_million_steps_are_reckoned_at_once() -> None:
    stage = find("modern:mini").stages[0]
    began = time.perf_counter()
    assert stage.steps > 1_000_000 and 0.7 < stage.examples / (stage.steps * stage.batch_size) < 0.8
    assert time.perf_counter() - began < 1
