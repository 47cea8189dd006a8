"""The processes that train one model together; usually a team of one.

A step's examples are divided among the processes. What they must agree on goes through here: how many predictions the step
holds in all, whether somebody was asked to stop, whether the loss is finite for everybody.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bertsmith.data import Share
from bertsmith.folders import publish
from bertsmith.nn import Model


class Team:
    """A team of one, and the interface of every other. `device` is where this process trains.

    All processes of a team call the same methods in the same order, but for `share`.
    """

    rank = 0
    world = 1
    pieces = 1  # files over which a checkpoint's tensors are divided; piece `rank` is this process's

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def share(self, tokens_at_once: int | None) -> Share:
        """This process's part of each step's examples."""
        return Share(rank=self.rank, world=self.world, tokens_at_once=tokens_at_once)

    def sum(self, values: list[float]) -> list[float]:
        """The values of all processes, added up: the same result everywhere."""
        return values

    def most(self, value: int) -> int:
        """The largest value of any process."""
        return value

    def agree(self, facts: Mapping[str, str]) -> None:
        """Make sure that all processes would train the same thing.

        Raises:
            UsageError: they would not; it names the fact.
        """

    def place(self, model: Model, device: torch.device) -> Model:
        """The model where and as this team trains it."""
        return model.to(device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module in a form that adds up gradients over the team; they come out as if one process had all examples."""
        return module

    def passes(self, own: int) -> int:
        """How often a process that needs `own` passes through the model goes through it in this step."""
        return own

    def adds_up(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Within this, a backward pass through a wrapped module adds up gradients over the team if it is the `last`."""
        return nullcontext()

    def clip(self, model: nn.Module, norm: float) -> float:
        """Scale all gradients so that their common norm is at most `norm`; the norm before."""
        return torch.nn.utils.clip_grad_norm_(model.parameters(), norm).item()

    def at_rest(self, model: Model) -> None:
        """Let go of what passes without a backward pass have gathered from other processes."""

    def whole(self, model: Model) -> Model | None:
        """The model in main memory, as one process would hold it; None for those that have nothing to write."""
        return model.to("cpu")

    @contextmanager
    def leader_first(self) -> Iterator[bool]:
        """Yields True to the one process that may write; the others wait at the end of the block until it is through.

        An error that the leader meets is everybody's.
        """
        yield True

    @contextmanager
    def publish(self, folder: Path) -> Iterator[Path | None]:
        """`folders.publish` by the team: a folder for this process's piece, None if it has nothing to write."""
        with publish(folder, replace=True) as temporary:
            yield temporary
