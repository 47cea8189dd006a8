"""The weights file: safetensors, looked at before it is opened.

The library that reads the tensors accepts files that a hostile or a broken writer makes: names that stand twice, a
header of a million entries that costs a gigabyte. So the header is read here first, strictly and cheaply, and a model
gets its memory only after all names and shapes are known to be right.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bertsmith.checkpoints.json_objects import is_lfs_pointer, parse
from bertsmith.checkpoints.transforms import Shape, Transform, fill, to_stored
from bertsmith.errors import CheckpointError

FILE_NAME = "model.safetensors"
Storage = Literal["float32", "float16"]

# 512 KiB name some 4,000 tensors; the largest BERT has 400.
_MOST_HEADER_BYTES = 512 << 10
_MOST_HEADER_VALUES = 50_000
_NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_LISTED = 8


@dataclass(frozen=True)
class Stored:
    """What a file says of one tensor. `dtype` as safetensors writes it: "F32", "BF16" ..."""

    shape: Shape
    dtype: str

    @property
    def is_float(self) -> bool:
        """Whether it can be a weight."""
        return self.dtype in _FLOATS


def read_header(file: Path) -> dict[str, Stored]:
    """Name, shape and type of each tensor in `file`, without reading any tensor.

    Raises:
        CheckpointError: the file is missing, is no safetensors file, or does not hold exactly what its header says.
    """
    try:
        size = file.stat().st_size
        if file.exists() and not file.is_file() and not file.is_dir():
            _refuse(file, "it is no regular file. Put a copy of the file in its place")
        with file.open("rb") as stream:
            start = stream.read(40)
            length = int.from_bytes(start[:8], "little")
            if is_lfs_pointer(start):
                _refuse(file, "it is a git-lfs pointer. Fetch the real file with `git lfs pull`")
            if len(start) < 8 or not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES) or start[8:9] != b"{":
                _refuse(file, "it is no safetensors file, or it was cut off. Copy it again, whole")
            stream.seek(8)
            header = stream.read(length)
    except OSError as error:
        _refuse(file, f"it cannot be read ({error.strerror})")
    try:
        return _check_entries(parse(header, _MOST_HEADER_VALUES), size - 8 - length)
    except ValueError as error:
        _refuse(file, f"its header is wrong: {error}. It was damaged or cut off: copy it again, whole")


def read_weights(model: nn.Module, transforms: list[Transform], file: Path, names: Mapping[str, str]) -> None:
    """Fill `model` from `file`. `names` gives the name in this file of each name that the transforms use.

    Raises:
        CheckpointError: a tensor holds a number that is not finite, or the file cannot be read.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            fill_finite(model, transforms, file, names, tensors.get_tensor)
    except (SafetensorError, OSError) as error:
        _refuse(file, f"it cannot be read ({error})")


def fill_finite(
    model: nn.Module,
    transforms: list[Transform],
    file: Path,
    names: Mapping[str, str],
    read: Callable[[str], Tensor],
) -> None:
    """Fill `model` with what `read` gives for a name in `file`. Arguments and errors otherwise as `read_weights`."""

    def checked(name: str) -> Tensor:
        tensor = read(names[name]).float()  # what float32 cannot hold is infinite from here on
        # The sum shows it at once; it may itself overflow, so it is not believed when it is not finite.
        if not math.isfinite(tensor.sum().item()) and not tensor.isfinite().all():
            _refuse(file, f"the tensor {names[name]} holds NaN or infinity")
        return tensor

    fill(model, transforms, checked)


def read_tensor(file: Path, name: str) -> Tensor:
    """One tensor of `file`, by its name there."""
    with safe_open(file, framework="pt") as tensors:
        return tensors.get_tensor(name)


def write_weights(model: nn.Module, transforms: list[Transform], file: Path, storage: Storage = "float32") -> None:
    """Write all parameters of `model`; the same weights give the same bytes.

    Raises:
        CheckpointError: a parameter holds NaN or infinity, or is too large for `storage`; such a model is never saved.
    """
    dtype = torch.float16 if storage == "float16" else torch.float32
    broken = [name for name, parameter in model.named_parameters() if not parameter.to(dtype).isfinite().all()]
    if broken:
        raise CheckpointError(
            f"The model is not saved: NaN or infinity in {_list(broken)}, as {storage}. Go back to an older one."
        )
    file.touch()
    mode = file.stat().st_mode  # safetensors replaces the file by one that nobody but its owner may read
    stored = {name: tensor.to(dtype) for name, tensor in to_stored(transforms, model).items()}
    save_file(stored, file, metadata={"format": "pt"})
    file.chmod(mode)


def check_shapes(file: Path, found: Mapping[str, Stored], expected: Mapping[str, Shape]) -> None:
    """Compare what a file holds with what a model needs, by the names that the transforms use.

    Raises:
        CheckpointError: naming all that is missing, unexpected, of a wrong shape or not a float.
    """
    missing = [f"{name} {list(shape)}" for name, shape in expected.items() if name not in found]
    unexpected = [f"{name} {list(stored.shape)}" for name, stored in found.items() if name not in expected]
    wrong = [
        f"{name} is {list(found[name].shape)} {found[name].dtype}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and (found[name].shape != shape or not found[name].is_float)
    ]
    problems = [
        f"{what}: {_list(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape or type", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{file}: these are not the weights that the configuration describes. {'. '.join(problems)}. "
            "Use the configuration and the weights of one model."
        )


def _check_entries(header: Any, data_bytes: int) -> dict[str, Stored]:
    """The tensors must fill the file from first to last byte, one after the other."""
    if not isinstance(header, dict):
        raise ValueError("it is no object")
    stored: dict[str, Stored] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                raise ValueError("its metadata are not texts by name")
        else:
            stored[name], start, end = _check_entry(name, entry)
            spans.append((start, end, name))
    position = 0
    for start, end, name in sorted(spans):
        if start != position:
            raise ValueError(f"{name} starts at byte {start}, expected {position}")
        position = end
    if position != data_bytes:
        raise ValueError(f"it holds {data_bytes} bytes of tensors, expected {position}")
    return stored


def _check_entry(name: str, entry: Any) -> tuple[Stored, int, int]:
    """One tensor, and its first and last byte."""
    if len(name) > 200 or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is no name of a tensor")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name} needs dtype, shape and data_offsets")
    shape, offsets, dtype = _integers(entry["shape"]), _integers(entry["data_offsets"]), entry["dtype"]
    if shape is None or offsets is None or len(offsets) != 2 or len(shape) > 8:
        raise ValueError(f"the shape or the place of {name} is no list of counts")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise ValueError(f"{name} has the type {dtype!r:.40}; allowed: {', '.join(_ITEM_BYTES)}")
    start, end = offsets
    if end - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ValueError(f"{name} is {list(shape)} of {dtype} and has {end - start} bytes")
    return Stored(shape, dtype), start, end


def _integers(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**63 for item in value):
        return None
    return tuple(value)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _refuse(file: Path, problem: str) -> NoReturn:
    raise CheckpointError(f"{file}: {problem}.")
