"""A transformer block as one call, for reading only."""

import ctypes
from collections.abc import Sequence
from itertools import accumulate
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor, nn

from bertsmith.data import Batch
from bertsmith.nn.attention import Attention
from bertsmith.nn.blocks import AttentionBlock, Masks, Streams
from bertsmith.nn.feed_forward import ACTIVATIONS, FeedForward
from bertsmith.nn.kernels.compiled import library
from bertsmith.nn.linear import LayerNorm, Linear
from bertsmith.nn.residuals import PostNorm

BITS = {torch.float32: 32, torch.bfloat16: 16}
_NUMBERS = {"gelu": 0, "gelu_tanh": 1, "relu": 2, "silu": 3}  # of activations, in blocks.cpp


class _Block(ctypes.Structure):
    """`Block` of blocks.cpp."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("hidden", "heads", "inner", "activation")),
        *((name, ctypes.c_float) for name in ("attention_eps", "feed_forward_eps")),
        *((name, ctypes.c_void_p) for name in ("query_key_value", "output", "up", "down")),
        *((name, ctypes.c_void_p) for name in ("query_key_value_bias", "output_bias", "up_bias", "down_bias")),
        *((f"{part}_{name}", ctypes.c_void_p) for part in ("attention", "feed_forward") for name in ("weight", "bias")),
    )


def can_fuse(block: nn.Module) -> bool:
    """Whether it is a block of the 2018 kind, of nothing but our own parts: a subclass or a part of somebody else is not."""
    if type(block) is not AttentionBlock:
        return False
    attention, feed_forward = block.attention, block.feed_forward
    if type(attention) is not Attention or type(feed_forward) is not FeedForward:
        return False
    residuals = (block.attention_residual, block.feed_forward_residual)
    return (
        not attention.query_key
        and attention.gate is None
        and _activation(feed_forward) is not None
        and all(type(linear) is Linear for linear in _matrices(block))
        and all(type(residual) is PostNorm and type(residual.norm) is LayerNorm for residual in residuals)
        and attention.head_size % 2 == feed_forward.up.weight.shape[0] % 2 == 0
        and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in block.parameters())
    )


class FusedBlock(nn.Module):
    """What `block` computes, for batches in one row without padding between texts (`Batch.runs`).

    Products are computed in float32 or bfloat16, everything else in float32, the stream too. It has no parameters: it reads
    those of `block`, and lays the matrices out anew when one has been changed in place, as optimizers and `load_state_dict` do.
    """

    def __init__(self, block: AttentionBlock, dtype: torch.dtype) -> None:
        """Raises CannotCompile where there are no kernels."""
        super().__init__()
        self._block = (block,)  # in a tuple, or it would be a submodule
        self._dtype, self._bits = dtype, BITS[dtype]
        self._library = library()
        self._watched = [parameter for parameter in block.parameters() if not parameter.is_inference()]
        self._versions: list[int] | None = None
        self._memory: int | None = None

    def forward(self, streams: Streams, masks: Masks, inputs: Batch) -> Streams:
        x, mask = streams["tokens"], masks["tokens"]
        if not mask.runs:
            raise ValueError("a fused block reads texts that lie in one row, each of which sees all of itself")
        versions = [parameter._version for parameter in self._watched]
        if versions != self._versions:
            self._lay_out()
            self._versions = versions
        x = x.contiguous()
        out = torch.zeros_like(x) if inputs.has_padding else torch.empty_like(x)
        runs: np.ndarray = mask.once("runs", lambda inputs: np.array(inputs.runs, np.int32))
        self._library.run_block(
            ctypes.byref(self._laid_out),
            *(x.data_ptr(), out.data_ptr(), runs.ctypes.data, len(runs), self._bits, torch.get_num_threads()),
        )
        return {**streams, "tokens": out}

    def __deepcopy__(self, memo: dict[int, Any]) -> "FusedBlock":
        return FusedBlock(self._block[0], self._dtype)  # memory of its own

    def _lay_out(self) -> None:
        (block,) = self._block
        matrices = _matrices(block)
        norms: list[Any] = [block.attention_residual.norm, block.feed_forward_residual.norm]
        query_key_value, _, up, _ = matrices
        panels = self._pack([matrix.weight for matrix in matrices])
        vectors = [matrix.bias for matrix in matrices] + [x for norm in norms for x in (norm.weight, norm.bias)]
        self._vectors = [None if vector is None else vector.detach() for vector in vectors]  # which keeps their memory
        self._laid_out = _Block(
            *(query_key_value.weight.shape[1], block.attention.num_attention_heads),
            *(up.weight.shape[0], _activation(block.feed_forward)),
            *(norm.eps for norm in norms),
            *panels,
            *(None if vector is None else vector.data_ptr() for vector in self._vectors),
        )

    def _pack(self, weights: Sequence[Tensor]) -> list[int]:
        """The matrices as panels, in one piece of memory that is freed with the block; their addresses."""
        sizes = [self._library.packed_bytes(*weight.shape, self._bits) for weight in weights]
        if self._memory is None:
            self._memory = self._library.allocate(sum(sizes))
            if not self._memory:
                raise MemoryError(f"{sum(sizes)} bytes for a block's weights")
            finalize(self, self._library.release, self._memory)
        addresses = list(accumulate(sizes[:-1], initial=self._memory))
        for weight, address in zip(weights, addresses, strict=True):
            self._library.pack(weight.detach().contiguous().data_ptr(), *weight.shape, self._bits, address)
        return addresses


def _matrices(block: Any) -> tuple[Linear, ...]:
    attention, feed_forward = block.attention, block.feed_forward
    return attention.query_key_value, attention.output, feed_forward.up, feed_forward.down


def _activation(feed_forward: Any) -> int | None:
    return next((number for name, number in _NUMBERS.items() if ACTIVATIONS[name] is feed_forward.activation), None)
