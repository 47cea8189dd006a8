"""Lanes: the numbers in which an encoder computes vectors on a CPU, from exact to fast.

A lane makes of a model the one that runs: the same modules and parameters, in which the matrices of attention and
feed-forward layers have given way to those of `bertsmith.nn.packed`. What it does not know, it leaves as it is.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bertsmith.config import Part
from bertsmith.nn import Attention, FeedForward, GatedFeedForward, Linear, Model
from bertsmith.nn.feed_forward import ACTIVATIONS, Activation
from bertsmith.nn.packed import KERNELS, DirectLinear, PackedLinear

Known = dict[Linear, Activation | None]  # matrices, each with the activation that can be computed with it


class Lane(Part):
    """In which numbers vectors are computed."""

    def missing(self) -> str | None:
        """What this machine lacks for it, in words; None if it lacks nothing."""
        return None

    def of(self, model: Model) -> Model:
        """The model that runs; it shares its parameters with `model`, which stays as it is."""
        raise NotImplementedError


@dataclass(frozen=True)
class Float32(Lane, kind="float32"):
    """As the weights are: vectors equal those of transformers and sentence-transformers to 1e-5."""

    def of(self, model: Model) -> Model:
        wide = torch.cpu.get_capabilities().get("avx512_f") and torch.backends.mkldnn.is_available()
        return _packed(model, DirectLinear) if wide and model.encoder.stream_dtype == torch.float32 else model


@dataclass(frozen=True)
class BFloat16(Lane, kind="bfloat16"):
    """Matrix products in bfloat16, everything else in float32."""

    def missing(self) -> str | None:
        native = torch.cpu.get_capabilities()
        return None if native.get("avx512_bf16") or native.get("amx_bf16") else "units for bfloat16"

    def of(self, model: Model) -> Model:
        return _packed(model, PackedLinear)


def packs(model: Model) -> bool:
    """Whether there is anything in the encoder that a lane can make faster."""
    return bool(_known(model))


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


def _packed(model: Model, make: Callable[[Linear, Activation | None], nn.Module]) -> Model:
    """`model` with other matrices; all other parameters are the same tensors."""
    known = _known(model)
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    memo |= {id(linear): make(linear, activation) for linear, activation in known.items()}
    copied = copy.deepcopy(model, memo)
    for module in copied.encoder.modules():
        if type(module) is FeedForward and not isinstance(module.up, Linear) and _joined(module):
            module.activation = nn.Identity()
    return copied
