"""The processes that train one model together; usually a team of one.

A step's examples are divided among the processes. What they must agree on goes through here: how many predictions the step
holds in all, whether somebody was asked to stop, whether the loss is finite for everybody.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bertsmith.data import Share


class Team:
    """A team of one, and the interface of every other."""

    rank = 0
    world = 1

    def share(self, tokens_at_once: int | None) -> Share:
        """This process's part of each step's examples."""
        return Share(rank=self.rank, world=self.world, tokens_at_once=tokens_at_once)

    def sum(self, values: list[float]) -> list[float]:
        """The values of all processes, added up: the same result everywhere."""
        return values

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module in a form that adds up gradients over the team; they come out as if one process had all examples."""
        return module

    def adds_up(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Within this, a backward pass through a wrapped module adds up gradients over the team if it is the `last`."""
        return nullcontext()

    def clip(self, model: nn.Module, norm: float) -> float:
        """Scale all gradients so that their common norm is at most `norm`; the norm before."""
        return torch.nn.utils.clip_grad_norm_(model.parameters(), norm).item()

    def full(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors as one process would hold them, on every process that returns them; for writing them down."""
        return state

    @contextmanager
    def leader_first(self) -> Iterator[bool]:
        """Yields True to the one process that may write; the others wait at the end of the block until it is through."""
        yield True
