"""A whole encoder as one call, for reading only."""

import copy
import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith.data import Batch
from bertsmith.nn.blocks import Streams
from bertsmith.nn.channels import Lookup, Position
from bertsmith.nn.encoder import Encoder
from bertsmith.nn.kernels import structures
from bertsmith.nn.kernels.blocks import FusedBlock, Steps
from bertsmith.nn.kernels.parameters import Parameters, Version
from bertsmith.nn.linear import LayerNorm
from bertsmith.nn.masks import AttentionMask
from bertsmith.nn.pooling import ClsPooling, MeanPooling, Pooling

_POOLINGS: dict[type[Pooling], int] = {MeanPooling: 1, ClsPooling: 2}  # `Pooling` of blocks.cpp


def can_fuse_whole(encoder: Encoder) -> bool:
    """Whether all its blocks are fused, and what is around them is of nothing but our own parts, which nobody looks into."""
    if encoder.channels.keys() != {"tokens"} or not all(type(block) is FusedBlock for block in encoder.blocks):
        return False
    channels: Any = encoder.channels["tokens"]
    if any(type(channel) not in (Lookup, Position) for channel in channels):
        return False
    parts = [encoder.norms["tokens"], encoder.ends["tokens"], *channels, *(channel.table for channel in channels)]
    return (
        all(type(part) in (LayerNorm, nn.Identity, Lookup, Position, nn.Embedding) for part in parts)
        and not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
        and all(p.device.type == "cpu" and p.dtype == torch.float32 for part in parts for p in part.parameters())
    )


class FusedEncoder(Encoder):
    """What `encoder` computes, in one call; `layers` calls its blocks one by one.

    `vectors` goes on from ids to one vector a text, without a batch in between: of a short query's time, two fifths went into
    the many small operations that make one.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Take the place of `encoder`, and its modules.

        Raises:
            ValueError: `can_fuse_whole` says no.
        """
        if not can_fuse_whole(encoder):
            raise ValueError("the kernels do not know such an encoder")
        nn.Module.__init__(self)
        self.__dict__.update(encoder.__dict__)
        self._fused: list[FusedBlock] = list(self.blocks)  # pyright: ignore[reportAttributeAccessIssue]
        channels: Any = self.channels["tokens"]
        self._own: Any = (*channels, self.norms["tokens"], self.ends["tokens"])
        self.fields = tuple(channel.field if type(channel) is Lookup else "position_ids" for channel in channels)
        self._parameters_now = Parameters([*self._own, *(block.replaced for block in self._fused)])
        self._ready: _Ready | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "FusedEncoder":
        plain = Encoder.__new__(Encoder)
        own = {"_fused", "_own", "fields", "_parameters_now", "_ready"}  # what the constructor makes, with its pointers
        plain.__dict__.update({name: copy.deepcopy(it, memo) for name, it in self.__dict__.items() if name not in own})
        return FusedEncoder(plain)

    def forward(self, inputs: Batch, masks: Mapping[str, AttentionMask] | None = None) -> Streams:
        applied = self.apply_masks(inputs, masks)
        numbers = [inputs[field] for field in self.fields]
        if applied.keys() != {"tokens"} or not applied["tokens"].runs or any(n.dtype != torch.int64 for n in numbers):
            return super().forward(inputs, masks)
        rows = [number.contiguous() for number in numbers]
        out = _floats(1, rows[0].shape[1], self.config.hidden_size)
        if inputs.has_padding:
            out.zero_()
        self._run([row.data_ptr() for row in rows], np.array(inputs.runs, np.int32), out)
        return {"tokens": out}

    def can_pool(self, pooling: Pooling) -> bool:
        """Whether `vectors` knows this pooling."""
        return type(pooling) in _POOLINGS

    def vectors(self, numbers: np.ndarray, runs: np.ndarray, pooling: Pooling) -> np.ndarray:
        """The vectors of texts that lie one after the other, float32 (texts, hidden).

        Args:
            numbers: what `self.fields` are, int64 (fields, tokens).
            runs: int32 (runs, 3), as those of a batch.
            pooling: one that `can_pool` says yes to.

        Raises:
            IndexError: a channel has no vector for a number.
        """
        texts, hidden = int(runs[:, 1].sum()), self.config.hidden_size
        first, step = numbers.ctypes.data, numbers.strides[0]
        out, pooled = _floats(numbers.shape[1], hidden), _floats(texts, hidden)
        self._run([first + step * i for i in range(len(numbers))], runs, out, _POOLINGS[type(pooling)], pooled)
        return pooled.numpy()

    def _run(
        self, numbers: Sequence[int], runs: np.ndarray, out: Tensor, pooling: int = 0, pooled: Tensor | None = None
    ) -> None:
        """`numbers` are the addresses of each channel's."""
        ready = self._up_to_date(int(runs[:, 2].max()))
        lookups = (structures.Lookup * len(numbers))(
            *((table, number, size) for (table, size), number in zip(ready.tables, numbers, strict=True))
        )
        ready.steps.run(
            runs,
            out=out.data_ptr(),
            embedding=structures.Embedding(ctypes.addressof(lookups), len(numbers), ready.norm),
            end=ready.end,
            pooling=pooling,
            pooled=None if pooled is None else pooled.data_ptr(),
        )

    def _up_to_date(self, length: int) -> "_Ready":
        version, ready = self._parameters_now.version(), self._ready
        if ready is None or ready.version != version or ready.steps.length < length:
            *channels, norm, end = self._own
            held: list[Tensor] = []

            def point(tensor: Tensor | None) -> int | None:
                if tensor is None:
                    return None
                held.append(tensor.detach().contiguous())
                return held[-1].data_ptr()

            tables = [(point(channel.table.weight), len(channel.table.weight)) for channel in channels]
            ends = (
                structures.Norm() if isinstance(end, nn.Identity) else structures.Norm.of(end, structures.AFTER, point)
            )
            steps = Steps(self._fused, 1 << (length - 1).bit_length())
            first = structures.Norm.of(norm, structures.AFTER, point)
            ready = self._ready = _Ready(version, steps, tables, first, ends, held)
        return ready


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


@dataclass(frozen=True)
class _Ready:
    """What a call needs besides a batch, as parameters were at one moment; `held` keeps the memory that is pointed to."""

    version: Version
    steps: Steps
    tables: Sequence[tuple[int | None, int]]  # address and number of vectors, by channel
    norm: structures.Norm
    end: structures.Norm
    held: Sequence[Tensor]
