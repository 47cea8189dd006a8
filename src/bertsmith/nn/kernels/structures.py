"""The structures of `blocks.cpp`, for ctypes. Those who make one keep what it points to."""

import ctypes
from collections.abc import Callable

from torch import Tensor

from bertsmith.nn.linear import LayerNorm

NOWHERE, BEFORE, AFTER = range(3)  # where a normalization stands

_pointer, _int = ctypes.c_void_p, ctypes.c_int


class Norm(ctypes.Structure):
    """A layer normalization, and where it stands: nowhere, before a layer or after it."""

    _fields_ = (("place", _int), ("eps", ctypes.c_float), ("weight", _pointer), ("bias", _pointer))

    @classmethod
    def of(cls, norm: LayerNorm, place: int, point: Callable[[Tensor | None], int | None]) -> "Norm":
        return cls(place, norm.eps, point(norm.weight), point(norm.bias))


class Matrix(ctypes.Structure):
    """A matrix as panels, and its bias."""

    _fields_ = (("panels", _pointer), ("bias", _pointer))


class Block(ctypes.Structure):
    """A block's weights as the kernels read them."""

    _fields_ = (
        *((name, _int) for name in ("hidden", "heads", "inner", "activation")),
        *((name, Norm) for name in ("attention_norm", "feed_forward_norm")),
        *((name, Matrix) for name in ("query_key_value", "output", "gate", "up", "down")),
    )


class Lookup(ctypes.Structure):
    """A table of vectors, and which of them each token gets."""

    _fields_ = (("table", _pointer), ("numbers", _pointer), ("size", ctypes.c_int64))


class Embedding(ctypes.Structure):
    """What is summed up and normalized before the first block."""

    _fields_ = (("lookups", _pointer), ("count", _int), ("norm", Norm))


class Step(ctypes.Structure):
    """A block, and the angles by which queries and keys are turned, for each position."""

    _fields_ = (("block", _pointer), ("cosines", _pointer), ("sines", _pointer))


class Call(ctypes.Structure):
    """What the kernels are asked for."""

    _fields_ = (
        *((name, _pointer) for name in ("embedding", "x", "out", "steps")),
        ("number", _int),
        ("end", Norm),
        ("pooling", _int),
        *((name, _pointer) for name in ("pooled", "runs")),
        *((name, _int) for name in ("count", "bits", "threads")),
    )
