"""Transformer blocks as one call, for reading only."""

import ctypes
from collections.abc import Sequence
from itertools import accumulate
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith.data import Batch
from bertsmith.nn.attention import Attention
from bertsmith.nn.blocks import AttentionBlock, Masks, Streams
from bertsmith.nn.feed_forward import ACTIVATIONS, FeedForward, GatedFeedForward
from bertsmith.nn.kernels import structures
from bertsmith.nn.kernels.compiled import library
from bertsmith.nn.kernels.parameters import Parameters, Version
from bertsmith.nn.linear import LayerNorm, Linear
from bertsmith.nn.queries_keys import Rotary
from bertsmith.nn.residuals import Plain, PostNorm, PreNorm, Residual

BITS = {torch.float32: 32, torch.bfloat16: 16, torch.int8: 8}  # of the numbers that products are computed in
_NO_NORM = structures.Norm()
_ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "relu": 2, "silu": 3}  # `Activation` of blocks.cpp
_PLACES: dict[type[Residual], int] = {
    Plain: structures.NOWHERE,
    PreNorm: structures.BEFORE,
    PostNorm: structures.AFTER,
}


def can_fuse(block: nn.Module, dtype: torch.dtype = torch.float32) -> bool:
    """Whether it is a block of nothing but our own parts, and of those that the kernels know: a subclass is somebody else's.

    What is summed up must fill words of 32 bits: sizes that are multiples of 2 in bfloat16, of 4 in int8.
    """
    if type(block) is not AttentionBlock:
        return False
    attention, feed_forward = block.attention, block.feed_forward
    if type(attention) is not Attention or type(feed_forward) not in (FeedForward, GatedFeedForward):
        return False
    residuals = (block.attention_residual, block.feed_forward_residual)
    return (
        [type(part) for part in attention.query_key] in ([], [Rotary])
        and attention.gate is None
        and _activation(feed_forward) is not None
        and all(type(linear) is Linear for linear in _matrices(block))
        and all(
            type(residual) in _PLACES and type(_norm(residual)) in (LayerNorm, type(None)) for residual in residuals
        )
        and attention.head_size % 2 == 0
        and all(linear.weight.shape[1] % (32 // BITS[dtype]) == 0 for linear in _matrices(block))
        and not any(module._forward_hooks or module._forward_pre_hooks for module in block.modules())
        and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in block.parameters())
    )


class FusedBlock(nn.Module):
    """What `block` computes, for batches in one row without padding between texts (`Batch.runs`).

    Products are computed in float32, bfloat16 or int8, everything else in float32, the stream too. In int8 a weight is one of
    255 numbers, evenly from the largest of its column to minus that, and what is multiplied by it one of 256 from the least
    to the largest of its row; in a row of the stream the number farthest from zero is apart from these and exact. Products of
    queries, keys and values are in bfloat16 then, or in float32 where there is none.

    It has no parameters: it reads those of `block`, and lays them out anew once an optimizer has made a step, or they have been
    changed in place or replaced. What is written behind torch's back, through `.data` or NumPy, it does not see.
    """

    def __init__(self, block: AttentionBlock, dtype: torch.dtype) -> None:
        """Raises CannotCompile where there are no kernels, and ValueError for a block that `can_fuse` says no to."""
        super().__init__()
        if not can_fuse(block, dtype):
            raise ValueError(f"the kernels do not know such a block in {dtype}")
        self._block = (block,)  # in a tuple, or it would be a submodule
        self._rotary: tuple[Any, ...] = tuple(block.attention.query_key)
        self._dtype = dtype
        self._library = library(dtype)
        self._parameters_now = Parameters([block])
        self._laid_out: _LaidOut | None = None
        self._lock = Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "FusedBlock":
        return FusedBlock(self._block[0], self._dtype)

    def forward(self, streams: Streams, masks: Masks, inputs: Batch) -> Streams:
        x, mask = streams["tokens"], masks["tokens"]
        if not mask.runs:
            raise ValueError("a fused block reads texts that lie in one row, each of which sees all of itself")
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ValueError(f"a fused block reads a float32 stream on the CPU, and this is {x.dtype} on {x.device}")
        x = x.contiguous()
        out = torch.zeros_like(x) if inputs.has_padding else torch.empty_like(x)
        runs: np.ndarray = mask.once("runs", lambda inputs: np.array(inputs.runs, np.int32))
        Steps([self], int(runs[:, 2].max())).run(runs, x=x.data_ptr(), out=out.data_ptr())
        return {**streams, "tokens": out}

    @property
    def replaced(self) -> AttentionBlock:
        """The block that it stands for."""
        return self._block[0]

    def up_to_date(self) -> "_LaidOut":
        """Its weights as they are now, which stay so, whatever other threads find."""
        version = self._parameters_now.version()
        laid_out = self._laid_out
        if laid_out is None or laid_out.version != version:
            with self._lock:
                laid_out = self._laid_out
                if laid_out is None or laid_out.version != version:
                    laid_out = self._laid_out = _LaidOut(self._block[0], version, self._library, BITS[self._dtype])
        return laid_out

    def angles(self, positions: int) -> list[Tensor]:
        """Cosines and sines for so many positions, (positions, head_size / 2) each, if queries and keys are turned."""
        return [angle for rotary in self._rotary for angle in rotary.table(positions)]


class Steps:
    """Blocks that follow each other, in the same numbers, as they are now, for texts up to a length."""

    def __init__(self, blocks: Sequence[FusedBlock], length: int) -> None:
        self.length = length
        self._laid_out = [block.up_to_date() for block in blocks]  # what is pointed to keeps its memory
        self._angles = [block.angles(length) for block in blocks]
        self._library, self._bits = blocks[0]._library, BITS[blocks[0]._dtype]
        self._number = len(blocks)
        self._steps = (structures.Step * self._number)(
            *(
                (laid_out.address, *(angle.data_ptr() for angle in angles))
                for laid_out, angles in zip(self._laid_out, self._angles, strict=True)
            )
        )
        self._address = ctypes.addressof(self._steps)

    def run(
        self,
        runs: np.ndarray,
        *,
        out: int,
        x: int | None = None,
        embedding: structures.Embedding | None = None,
        end: structures.Norm | None = None,
        pooling: int = 0,
        pooled: int | None = None,
    ) -> None:
        """Fill `out`, and `pooled`: addresses of float32. `runs` is int32 (runs, 3).

        Raises:
            IndexError: the embedding has no vector for a number that is looked up.
        """
        call = structures.Call(
            None if embedding is None else ctypes.addressof(embedding),
            *(x, out, self._address, self._number, end or _NO_NORM, pooling, pooled),
            *(runs.ctypes.data, len(runs), self._bits, torch.get_num_threads()),
        )
        channel = self._library.run(ctypes.byref(call))
        if channel >= 0:
            raise IndexError(f"channel {channel} of the embedding has no vector for a number that is looked up")


class _LaidOut:
    """A block's weights as the kernels read them, as they were at one moment; its memory is its own."""

    def __init__(self, block: AttentionBlock, version: Version, library: ctypes.CDLL, bits: int) -> None:
        self.version = version
        self._library, self._bits = library, bits
        self._held: list[Tensor] = []  # what the kernels point to keeps its memory
        matrices = _matrices(block)
        weights: list[Any] = [matrix.weight for matrix in matrices]
        biases: list[Any] = [matrix.bias for matrix in matrices]
        if gated := type(block.feed_forward) is GatedFeedForward:
            weights[2:3] = weights[2].chunk(2)
            biases[2:3] = [None, None] if biases[2] is None else biases[2].chunk(2)
        laid_out = [structures.Matrix(*two) for two in zip(self._pack(weights), map(self._point, biases), strict=True)]
        if not gated:
            laid_out.insert(2, structures.Matrix())
        self.block = structures.Block(
            *(weights[0].shape[1], block.attention.num_attention_heads),
            *(weights[-1].shape[1], _activation(block.feed_forward)),
            *(self._norm(residual) for residual in (block.attention_residual, block.feed_forward_residual)),
            *laid_out,
        )
        self.address = ctypes.addressof(self.block)

    def _norm(self, residual: Residual) -> structures.Norm:
        norm = _norm(residual)
        return structures.Norm() if norm is None else structures.Norm.of(norm, _PLACES[type(residual)], self._point)

    def _point(self, vector: Tensor | None) -> int | None:
        if vector is None:
            return None
        held = vector.detach().contiguous()
        self._held.append(held)
        return held.data_ptr()

    def _pack(self, weights: Sequence[Tensor]) -> list[int]:
        """The matrices as panels, one behind the other; their addresses."""
        sizes = [self._library.packed_bytes(*weight.shape, self._bits) for weight in weights]
        memory = self._library.allocate(sum(sizes))
        if not memory:
            raise MemoryError(f"{sum(sizes)} bytes for a block's weights")
        # At the end of the program a thread may still be reading it, and the system frees it anyway.
        finalize(self, self._library.release, memory).atexit = False
        addresses = list(accumulate(sizes[:-1], initial=memory))
        for weight, address in zip(weights, addresses, strict=True):
            held = weight.detach().contiguous()
            self._library.pack(held.data_ptr(), *held.shape, self._bits, address)
        return addresses


def _matrices(block: Any) -> list[Linear]:
    attention, feed_forward = block.attention, block.feed_forward
    return [attention.query_key_value, attention.output, feed_forward.up, feed_forward.down]


def _norm(residual: Any) -> LayerNorm | None:
    return None if type(residual) is Plain else residual.norm


def _activation(feed_forward: Any) -> int | None:
    return next((number for name, number in _ACTIVATIONS.items() if ACTIVATIONS[name] is feed_forward.activation), None)
