"""Recipes: one short file per system, made of picks and numbers.

A recipe is a function without arguments that its module lists in `__all__`; its name is `module:function`, as in
`bert:base`. The list is made by looking, so there is none to keep by hand.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from bertsmith.errors import UsageError, nearest


def names() -> dict[str, str]:
    """Every recipe's name with the first line of what it says of itself, in the order of its module."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        for function in import_module(f"{__name__}.{module.name}").__all__:
            recipe = _function(module.name, function)
            found[f"{module.name}:{function}"] = (recipe.__doc__ or "").partition("\n")[0]
    return found


def find(name: str) -> Any:
    """The recipe called `name`, such as `bert:tiny`, as a frozen `bertsmith.train.Recipe`."""
    if name not in names():
        raise UsageError(f"There is no recipe called {name!r}.{nearest(name, names())}")
    return _function(*name.split(":"))()


def largest_within(name: str, run: Any, measured: Any) -> str:
    """Which recipe of `name`'s family is the largest that the time of a run can feed and the machine can hold, in words.

    `run` is a `bertsmith.train.Pretraining` and `measured` what its `measure()` found. Larger and smaller recipes are
    reckoned from the operations that a token costs and the rate that was measured, which favours smaller ones a little.
    """
    from bertsmith.train.measuring import TOKENS_PER_PARAMETER, training_flops, training_memory, weights_to_feed

    vocab_size = run.vocab_size
    seconds = measured.seconds(run.recipe, run.evaluate_every)
    affordable = measured.tokens(run.recipe) * training_flops(run.recipe, vocab_size)
    family = {other: find(other) for other in names() if other.partition(":")[0] == name.partition(":")[0]}
    fed = {
        other: affordable / training_flops(recipe, vocab_size) / weights_to_feed(recipe, vocab_size)
        for other, recipe in family.items()
    }
    rule = f"{TOKENS_PER_PARAMETER} or more are wanted"
    large_enough = sorted((other for other in family if fed[other] >= TOKENS_PER_PARAMETER), key=fed.__getitem__)
    if not large_enough:
        most = max(fed, key=fed.__getitem__)
        return f"none: in {seconds:,.0f} seconds {most} would see {fed[most]:.1f} tokens for each weight, and {rule}"
    needs = {
        other: training_memory(family[other], vocab_size, like=run.recipe, measured=measured.memory)
        for other in large_enough
    }
    best = next((other for other in large_enough if needs[other] <= measured.room), None)
    room = f"{measured.room / 2**30:.0f} GiB"
    if best is None:
        return f"none: {large_enough[-1]} needs about {needs[large_enough[-1]] / 2**30:.0f} GiB, and there are {room}"
    too_large = f"; {large_enough[0]} does not fit into {room}" if best != large_enough[0] else ""
    return f"{best}: it would see {fed[best]:,.0f} tokens for each weight of its layers, and {rule}{too_large}"


def _function(module: str, name: str) -> Callable[[], Any]:
    return getattr(import_module(f"{__name__}.{module}"), name)
