"""Kernels of our own: C++ that the machine's compiler makes, and the modules that call it."""

from bertsmith.nn.kernels.blocks import FusedBlock, can_fuse
from bertsmith.nn.kernels.compiled import missing
from bertsmith.nn.kernels.encoder import FusedEncoder, can_fuse_whole

__all__ = ["FusedBlock", "FusedEncoder", "can_fuse", "can_fuse_whole", "missing"]
