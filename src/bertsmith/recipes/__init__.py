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


def _function(module: str, name: str) -> Callable[[], Any]:
    return getattr(import_module(f"{__name__}.{module}"), name)
