"""Attention masks: which position may look at which (plug point 2).

A mask is a type, not a tensor. `allowed` is its definition; `lower` is what the attention kernel receives and must mean
the same: None where nothing is forbidden (the fastest path), else the boolean tensor. Masks compose with `&`.

The *attention mask* is one of three things that must not be confused: the *padding mask* says which positions hold real
tokens, the *masking policy* (`bertsmith.data.masking`) says which tokens are hidden from the model.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from bertsmith.config import Part
from bertsmith.data import Batch

T = TypeVar("T")


class AttentionMask(Part):
    """Who may attend to whom. `sees_later` is False if no position sees what comes after it."""

    sees_later: ClassVar[bool] = True

    def allowed(self, inputs: Batch) -> Tensor:
        """True where the query may attend to the key; bool (batch, query, key)."""
        raise NotImplementedError

    def lower(self, inputs: Batch) -> Tensor | None:
        """`allowed`, or None where it is known without looking that everything is allowed."""
        return self.allowed(inputs)

    @property
    def only_parts_sequences(self) -> bool:
        """Whether within a sequence everything is allowed, so that each may be attended to by itself."""
        return False

    def __and__(self, other: "AttentionMask") -> "AttentionMask":
        return Both(left=self, right=other)


@dataclass(frozen=True)
class Full(AttentionMask, kind="full"):
    """Every position sees every other: BERT is bidirectional (Devlin et al. 2018, §3.1)."""

    @property
    def only_parts_sequences(self) -> bool:
        return True

    def allowed(self, inputs: Batch) -> Tensor:
        rows, length = inputs["input_ids"].shape
        return torch.ones(rows, length, length, dtype=torch.bool, device=inputs["input_ids"].device)

    def lower(self, inputs: Batch) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Causal(AttentionMask, kind="causal"):
    """Each position sees itself and what comes before it: a left-to-right language model."""

    sees_later: ClassVar[bool] = False

    def allowed(self, inputs: Batch) -> Tensor:
        rows, length = inputs["input_ids"].shape
        triangle = torch.ones(length, length, dtype=torch.bool, device=inputs["input_ids"].device).tril()
        return triangle.expand(rows, length, length)


@dataclass(frozen=True)
class SameSequence(AttentionMask, kind="same_sequence"):
    """Sequences that are packed into one row do not see each other, and nobody sees padding.

    Padding counts as a sequence of its own (number 0), so that its rows of the softmax are never empty.
    """

    @property
    def only_parts_sequences(self) -> bool:
        return True

    def allowed(self, inputs: Batch) -> Tensor:
        sequence_ids = inputs["sequence_ids"]
        return sequence_ids[:, :, None] == sequence_ids[:, None, :]

    def lower(self, inputs: Batch) -> Tensor | None:
        if inputs.one_sequence_per_row and not inputs.has_padding:
            return None
        return self.allowed(inputs)


@dataclass(frozen=True)
class Both(AttentionMask, kind="both"):
    """Allowed by `left` and by `right`."""

    left: AttentionMask
    right: AttentionMask

    @property
    def only_parts_sequences(self) -> bool:
        return self.left.only_parts_sequences and self.right.only_parts_sequences

    @property
    def sees_later(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.left.sees_later and self.right.sees_later

    def allowed(self, inputs: Batch) -> Tensor:
        return self.left.allowed(inputs) & self.right.allowed(inputs)

    def lower(self, inputs: Batch) -> Tensor | None:
        left, right = self.left.lower(inputs), self.right.lower(inputs)
        if left is None or right is None:
            return right if left is None else left
        return left & right


class AppliedMask:
    """A mask for one batch. All layers share it, so the tensor is made at most once per encoder pass.

    Blocks receive this object and not a tensor: a block that cannot honour a mask looks at `.mask` and refuses.

    `runs`, if there are any, say the whole mask without a tensor: each sequence of them sees all of itself and no more.
    """

    def __init__(self, mask: AttentionMask, inputs: Batch) -> None:
        self.mask = mask
        self.runs = inputs.runs if mask.only_parts_sequences else ()
        self._inputs = inputs
        self._bias: dict[torch.dtype, Tensor] = {}
        self._shared: dict[Hashable, Any] = {}

    @cached_property
    def _allowed(self) -> Tensor | None:
        return self.mask.lower(self._inputs)

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to the attention scores: 0 where allowed, -inf elsewhere; (batch, 1, query, key) or None."""
        if self._allowed is None:
            return None
        if dtype not in self._bias:
            zeros = torch.zeros(self._allowed.shape, dtype=dtype, device=self._allowed.device)
            self._bias[dtype] = zeros.masked_fill_(~self._allowed, float("-inf"))[:, None]
        return self._bias[dtype]

    def once(self, key: Hashable, make: Callable[[Batch], T]) -> T:
        """What `make` gives for this batch, made by the first layer that asks and kept for the others.

        `key` says what it is, with all that it depends on besides the batch.
        """
        if key not in self._shared:
            self._shared[key] = make(self._inputs)
        return self._shared[key]
