"""Kernels of our own: C++ that the machine's compiler makes, and the modules that call it."""

from bertsmith.nn.kernels.blocks import FusedBlock, can_fuse
from bertsmith.nn.kernels.compiled import missing

__all__ = ["FusedBlock", "can_fuse", "missing"]
