"""Between our tensors and a file's: a list of reversible transforms, so that one table both reads and writes a format.

A transform stands for one of our parameters. `read` makes it from the file's tensors, `write` makes the file's tensors
from it, and each undoes the other. A format is a function from a model's configuration to such a list.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


class Transform(Protocol):
    """How one of our parameters, `ours`, is stored: under the names `theirs`."""

    @property
    def ours(self) -> str: ...

    @property
    def theirs(self) -> tuple[str, ...]: ...

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        """Our tensor from theirs, which come in the order of `theirs`."""
        ...

    def write(self, tensor: Tensor) -> Sequence[Tensor]:
        """Their tensors from ours, in the order of `theirs`."""
        ...


@dataclass(frozen=True)
class Rename:
    """The same tensor under another name."""

    ours: str
    name: str

    @property
    def theirs(self) -> tuple[str, ...]:
        return (self.name,)

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        (tensor,) = tensors
        return tensor

    def write(self, tensor: Tensor) -> Sequence[Tensor]:
        return (tensor,)


@dataclass(frozen=True)
class Stack:
    """Several tensors of one shape, one below the other along the first axis: ours is (n * rows, ...)."""

    ours: str
    theirs: tuple[str, ...]

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors))

    def write(self, tensor: Tensor) -> Sequence[Tensor]:
        return tuple(part.clone() for part in tensor.chunk(len(self.theirs)))  # safetensors refuses shared memory


@dataclass(frozen=True)
class Padded:
    """The first `kept` rows of a tensor that has `rows` in the file; what is written is padded with zeros."""

    ours: str
    name: str
    kept: int
    rows: int

    @property
    def theirs(self) -> tuple[str, ...]:
        return (self.name,)

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        (tensor,) = tensors
        return tensor[: self.kept]

    def write(self, tensor: Tensor) -> Sequence[Tensor]:
        return (torch.cat([tensor, tensor.new_zeros(self.rows - self.kept, *tensor.shape[1:])]),)


def stored_shapes(transforms: Iterable[Transform], model: nn.Module) -> dict[str, Shape]:
    """The shape of every tensor that a file of `model` holds, by its name there. Touches no weights."""
    parameters = dict(model.named_parameters())
    shapes: dict[str, Shape] = {}
    for transform in transforms:
        parts = transform.write(torch.empty(parameters[transform.ours].shape, device="meta"))
        shapes |= {name: tuple(part.shape) for name, part in zip(transform.theirs, parts, strict=True)}
    return shapes


def to_stored(transforms: Iterable[Transform], model: nn.Module) -> dict[str, Tensor]:
    """The tensors that a file of `model` holds, by their names there."""
    parameters = dict(model.named_parameters())
    return {
        name: part
        for transform in transforms
        for name, part in zip(
            transform.theirs, transform.write(parameters[transform.ours].detach().cpu().contiguous()), strict=True
        )
    }


@torch.no_grad()
def fill(model: nn.Module, transforms: Iterable[Transform], read: Callable[[str], Tensor]) -> None:
    """Copy stored tensors, read one at a time by name, into the parameters of `model`."""
    parameters: Mapping[str, nn.Parameter] = dict(model.named_parameters())
    for transform in transforms:
        parameters[transform.ours].copy_(transform.read([read(name) for name in transform.theirs]))
