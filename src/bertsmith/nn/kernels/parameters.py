"""Noticing that parameters have changed, by whoever did it."""

from collections.abc import Iterable
from functools import cache
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

Version = list[int]
_changes = attrgetter("_version")


class Parameters:
    """All parameters of modules, whichever they are at a moment.

    What is written behind torch's back, through `.data` or NumPy, is not noticed.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._held = [part._parameters for module in modules for part in module.modules() if part._parameters]
        _count_steps()

    def version(self) -> Version:
        """Which there are, and how often each has been changed in place; equal as long as nothing has happened."""
        parameters: list[Tensor] = [p for held in self._held for p in held.values() if p is not None]
        try:
            return [_steps, *map(id, parameters), *map(_changes, parameters)]
        except RuntimeError:  # what was made in inference mode does not count
            return [_steps, *map(id, parameters), *(0 if p.is_inference() else p._version for p in parameters)]


_steps = 0  # of all optimizers: torch's fused ones do not say which parameters they changed


@cache
def _count_steps() -> None:
    def count(*_: Any) -> None:
        global _steps
        _steps += 1

    register_optimizer_step_post_hook(count)
