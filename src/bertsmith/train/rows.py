"""Tensors divided by their first dimension: over processes in memory, over files on disk.

`model.safetensors` holds whole tensors. Where several processes each write what they have of a model, piece 2 of 4 is
`model-00002-of-00004.safetensors`; a tensor's rows lie one after another in the order of the pieces, and a piece that has
none of them does not name it. Any number of processes reads any number of pieces.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bertsmith.errors import CheckpointError


def own_rows(tensor: Tensor) -> tuple[Tensor, int]:
    """The rows of a tensor that this process holds, sharing its memory, and the number of the first.

    All of them, which is the tensor itself, unless it is a DTensor, divided as FSDP divides: into parts of equal size but
    for the last ones.
    """
    if not hasattr(tensor, "to_local"):
        return tensor, 0
    divided = cast(Any, tensor)
    rows, mesh = tensor.shape[0], divided.device_mesh
    with torch.no_grad():
        local = divided.to_local()
    return local, min(rows, mesh.get_local_rank() * -(-rows // mesh.size()))


def whole(tensor: Tensor) -> Tensor:
    """All rows of a tensor; of a divided one every process of its team must ask for them at once."""
    return cast(Any, tensor).full_tensor() if hasattr(tensor, "full_tensor") else tensor


def write_rows(folder: Path, name: str, tensors: Mapping[str, Tensor], piece: int = 0, pieces: int = 1) -> None:
    """Write this process's rows of all tensors; what is not divided stands in the first piece."""
    own = {key: own_rows(tensor)[0] for key, tensor in tensors.items()}
    kept = {k: t.contiguous() for k, t in own.items() if t.numel() and (piece == 0 or t is not tensors[k])}
    save_file(
        kept, folder / (f"{name}-{piece + 1:05d}-of-{pieces:05d}.safetensors" if pieces > 1 else f"{name}.safetensors")
    )


class RowFiles:
    """The tensors `name` of a folder that `write_rows` has filled, whatever the number of pieces."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._files = [safe_open(path, "pt") for path in self._paths()]
        self._places: dict[str, list[tuple[Any, tuple[int, ...]]]] = {}
        for file in self._files:
            for key in file.keys():  # noqa: SIM118 - no mapping
                self._places.setdefault(key, []).append((file, tuple(file.get_slice(key).get_shape())))

    def _paths(self) -> list[Path]:
        whole = self.folder / f"{self.name}.safetensors"
        if whole.is_file():
            return [whole]
        found = sorted(self.folder.glob(f"{self.name}-*-of-*.safetensors"))
        if not found or not found[0].name.endswith(f"-of-{len(found):05d}.safetensors"):
            raise CheckpointError(f"{self.folder}: of the pieces of {self.name}, {len(found)} are there, and not all.")
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor as a whole."""
        return {
            key: shapes[0] and (sum(shape[0] for shape in shapes), *shapes[0][1:])
            for key, places in self._places.items()
            if (shapes := [shape for _, shape in places])
        }

    def read(self, key: str, first: int = 0, rows: int | None = None) -> Tensor:
        """`rows` rows of a tensor from the `first` on; the whole of it if that is not given."""
        places = self._places[key]
        if rows is None and len(places) == 1:
            return places[0][0].get_tensor(key)
        parts, before = [], 0
        end = sum(shape[0] for _, shape in places) if rows is None else first + rows
        for file, shape in places:
            begin, stop = max(first - before, 0), min(end - before, shape[0])
            if begin < stop:
                parts.append(file.get_slice(key)[begin:stop])
            before += shape[0]
        return torch.cat(parts) if parts else places[0][0].get_slice(key)[0:0]
