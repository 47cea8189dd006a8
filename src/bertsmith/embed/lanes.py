"""Lanes: the numbers in which an encoder computes vectors on a CPU, from exact to fast.

A lane makes of a model the one that runs: the same modules and parameters, in which blocks have given way to those of
`bertsmith.nn.kernels`, or where that cannot be, matrices of attention and feed-forward layers to those of
`bertsmith.nn.packed`. What it does not know, it leaves as it is.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from bertsmith.config import Part
from bertsmith.nn import Attention, FeedForward, GatedFeedForward, Linear, Model
from bertsmith.nn.feed_forward import ACTIVATIONS, Activation
from bertsmith.nn.kernels import FusedBlock, FusedEncoder, can_fuse, can_fuse_whole, missing
from bertsmith.nn.packed import KERNELS, DirectLinear, PackedLinear

Known = dict[Linear, Activation | None]  # matrices, each with the activation that can be computed with it


class Lane(Part):
    """In which numbers vectors are computed: `dtype` is that of matrix products."""

    dtype: ClassVar[torch.dtype] = torch.float32

    def missing(self) -> str | None:
        """Why this machine cannot compute in it, in words; None if it can."""
        return None

    def knows(self, model: Model) -> bool:
        """Whether there is anything in the encoder that it can make faster."""
        return bool(_known(model))

    def of(self, model: Model) -> Model:
        """The model that runs; it shares its parameters with `model`, which stays as it is."""
        raise NotImplementedError


@dataclass(frozen=True)
class Float32(Lane, kind="float32"):
    """As the weights are: vectors equal those of transformers and sentence-transformers to 1e-5."""

    def of(self, model: Model) -> Model:
        wide = torch.cpu.get_capabilities().get("avx512_f") and torch.backends.mkldnn.is_available()
        return _running(model, self.dtype, DirectLinear) if wide and _is_plain(model) else model


@dataclass(frozen=True)
class BFloat16(Lane, kind="bfloat16"):
    """Matrix products in bfloat16, everything else in float32."""

    dtype = torch.bfloat16

    def missing(self) -> str | None:
        native = torch.cpu.get_capabilities()
        return (
            None if native.get("avx512_bf16") or native.get("amx_bf16") else "this processor has no units for bfloat16"
        )

    def of(self, model: Model) -> Model:
        return _running(model, self.dtype, PackedLinear)


@dataclass(frozen=True)
class Int8(Lane, kind="int8"):
    """The blocks' matrix products in 8 bits, from ranges that are found for each token; everything else as in bfloat16."""

    dtype = torch.int8

    def missing(self) -> str | None:
        return missing(self.dtype)

    def knows(self, model: Model) -> bool:
        return _fuses(model, self.dtype)

    def of(self, model: Model) -> Model:
        return _running(model, self.dtype, DirectLinear if BFloat16().missing() else PackedLinear)


def slowed(model: Model, lane: Lane) -> str | None:
    """Why blocks that kernels of our own could compute on this processor are left to torch's operators; None if none are."""
    return missing(lane.dtype) if _fuses(model, lane.dtype) and torch.cpu.get_capabilities().get("avx512_f") else None


def _fuses(model: Model, dtype: torch.dtype) -> bool:
    parts_sequences = all(mask.only_parts_sequences for mask in model.config.encoder.masks.values())
    return _is_plain(model) and parts_sequences and any(can_fuse(block, dtype) for block in _blocks(model))


def _is_plain(model: Model) -> bool:
    return model.encoder.stream_dtype == torch.float32


def _blocks(model: Model) -> list[Any]:
    return list(model.encoder.blocks)


def _known(model: Model) -> Known:
    """The matrices of parts whose formula is known. Parts of other people's, and subclasses, may look into their matrices,
    and are left alone."""
    found: Known = {}
    for module in model.encoder.modules():
        matrices: dict[nn.Module, Activation | None] = {}
        if type(module) is Attention:
            matrices = {module.query_key_value: None, module.output: None}
        elif type(module) is FeedForward:
            matrices = {module.up: _joined(module), module.down: None}
        elif type(module) is GatedFeedForward:
            matrices = {module.up: None, module.down: None}
        found |= {matrix: name for matrix, name in matrices.items() if type(matrix) is Linear}
    return found


def _joined(module: FeedForward) -> Activation | None:
    return next((name for name in KERNELS if name and ACTIVATIONS[name] is module.activation), None)


def _running(model: Model, dtype: torch.dtype, make: Callable[[Linear, Activation | None], nn.Module]) -> Model:
    """`model` with other blocks and matrices; all other parameters are the same tensors."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    if _fuses(model, dtype) and not missing(dtype):
        memo |= {id(block): FusedBlock(block, dtype) for block in _blocks(model) if can_fuse(block, dtype)}
    fused = {linear for block in _blocks(model) if id(block) in memo for linear in block.modules()}
    memo |= {id(linear): make(linear, name) for linear, name in _known(model).items() if linear not in fused}
    copied = copy.deepcopy(model, memo)
    for module in copied.encoder.modules():
        if type(module) is FeedForward and not isinstance(module.up, Linear) and _joined(module):
            module.activation = nn.Identity()
    if can_fuse_whole(copied.encoder):
        copied.encoder = FusedEncoder(copied.encoder)
    return copied
