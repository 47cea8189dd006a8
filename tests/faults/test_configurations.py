"""Recipes and options made by chance: an error that says where, or a run; never a traceback."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.config import from_dict, override, to_dict
from bertsmith.errors import BertsmithError, ConfigError
from bertsmith.folders import sha256_of
from bertsmith.train import Pretraining, Recipe
from bertsmith.train.measuring import read_budget

# Small where a size may be meant: what is asked for is made, and a machine has only so much memory.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.floats(-2, 3),
    st.sampled_from([float("nan"), float("inf"), 1e-300, 2**70, -(2**70)]),
    st.sampled_from(["", "adamw", "relu", "float32", "tokens", "input_ids", "masked_lm", "segments", "nowhere", "\0"]),
    st.just([]),
    st.just({}),
    st.builds(
        lambda kind: {"kind": kind}, st.sampled_from(["adamw", "constant", "segments", "full", "causal", "normuon"])
    ),
)


def places(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a configuration, inner and outer ones."""
    if path:
        yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, (*path, key))


def changed(data: Any, path: tuple[str | int, ...], change: Callable[[Any, Any], None]) -> Any:
    data = json.loads(json.dumps(data))
    inside = data
    for key in path[:-1]:
        inside = inside[key]
    change(inside, path[-1])
    return data


@pytest.fixture(scope="module")
def quick(recipe: Recipe) -> Recipe:
    return override(recipe, ["stages.0.steps=2", "stages.1.steps=1"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_recipe_with_something_else_in_it(
    run_in: Callable[..., Pretraining], quick: Recipe, tmp_path: Path, data: st.DataObject
) -> None:
    given_ = to_dict(quick)
    path = data.draw(st.sampled_from(list(places(given_))))
    value = data.draw(VALUES)
    what = data.draw(st.sampled_from(["another value", "a key too many", "a key too few"]))

    def change(inside: Any, key: Any) -> None:
        if what == "another value":
            inside[key] = value
        elif what == "a key too few":
            del inside[key]
        elif isinstance(inside, dict):
            inside[f"{key}x"] = value

    try:
        recipe = from_dict(Recipe, changed(given_, path, change))
        out = next(tmp_path / str(number) for number in count() if not (tmp_path / str(number)).exists())
        for report in run_in(out, recipe=recipe).run():
            if report.step == 2:
                break
    except ConfigError as error:
        assert (
            any(str(key) in str(error) for key in path) or "the configuration" in str(error) or "stages" in str(error)
        )
    except BertsmithError as error:
        assert "\n" not in str(error) and str(error).endswith(".")


@given(
    text=st.text(max_size=12) | st.from_regex(r"[0-9]{0,4}(\.[0-9]{0,2})?[kMGsmhd]? ?(steps|tokens|)", fullmatch=True)
)
def test_any_budget_is_read_or_refused(text: str) -> None:
    try:
        budget = read_budget(text)
    except BertsmithError as error:
        assert repr(text) in str(error)
        assert "expected" in str(error)
    else:
        assert 0 < budget.amount < sys.float_info.max
        assert budget.unit in ("steps", "tokens", "seconds")


@given(
    assignment=st.text(max_size=20)
    | st.builds("stages.{}.{}={}".format, st.integers(0, 3), st.text(max_size=5), st.text(max_size=5))
)
def test_any_assignment_is_made_or_refused(quick: Recipe, assignment: str) -> None:
    try:
        override(quick, [assignment])
    except ConfigError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("budget", "steps"), [("9 steps", 9), ("0.06k steps", 60), ("3000 tokens", None), ("7 steps", 7)], ids=str
)
def test_a_budget_is_reckoned_once(
    run_in: Callable[..., Pretraining], recipe: Recipe, tmp_path: Path, budget: str, steps: int | None
) -> None:
    """A resumed run keeps its length, whatever this machine would make of the budget now."""
    run = run_in(tmp_path / "run").within(budget, measured=run_in(tmp_path / "run").measure(seconds=0.05))
    assert steps is None or abs(run.recipe.steps - steps) <= 1
    begun = run.run()
    seen = next(begun).update.tokens
    begun.close()
    again = run_in(tmp_path / "run").within("50 steps")
    assert again.recipe == run.recipe
    for report in again.run(resume=True):
        seen += report.update.tokens
        assert report.steps == run.recipe.steps
    if budget == "3000 tokens":
        assert 2000 < seen < 4000


def test_a_dry_run_writes_nothing(run_in: Callable[..., Pretraining], straight: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    measured = run.measure(seconds=0.05)
    facts = run.plan(measured=measured)
    assert {"parameters", "memory", "speed", "takes"} <= facts.keys()
    assert list(tmp_path.iterdir()) == []
    before = {file: sha256_of(file) for file in straight.rglob("*") if file.is_file()}
    run_in(straight).plan(resume=True, measured=measured)
    assert before == {file: sha256_of(file) for file in straight.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_a_budget_of_time_is_kept(run_in: Callable[..., Pretraining], tmp_path: Path) -> None:
    """Five seconds asked for, on a machine that others use too."""
    seldom = {"log_every": 100, "save_every": 100_000, "evaluate_every": 100_000}
    run = run_in(tmp_path / "run", **seldom)
    run = run.within("5s", measured=run.measure(seconds=1.0))
    began = time.monotonic()
    for _ in run.run():
        pass
    assert 2 < time.monotonic() - began < 15
