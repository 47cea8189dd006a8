"""TensorFlow's tensor bundle, the format of its checkpoints since 2016, read and written without TensorFlow.

    PREFIX.index                 a sorted table: from "" to a header, and from a tensor's name to its type, shape and place
    PREFIX.data-00000-of-00002   the bytes of the tensors, one after the other; several such files are one checkpoint

TensorFlow 2.21.0, `core/util/tensor_bundle` and `core/protobuf/tensor_bundle.proto`. Entries are protocol buffers, of which
the few fields that there are are read here. Nothing in such a checkpoint can be run: it has no graph (that is `.meta`, which
is not opened).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import google_crc32c
import numpy as np
import torch
from torch import Tensor

from bertsmith.checkpoints.sorted_table import masked, read_table, read_varint, write_table, write_varint
from bertsmith.checkpoints.transforms import Shape
from bertsmith.checkpoints.weights import Stored
from bertsmith.errors import CheckpointError
from bertsmith.folders import is_lfs_pointer

# By the numbers of TensorFlow's `DataType`; the names are those of `Stored`.
_TYPES: dict[int, tuple[str, torch.dtype]] = {
    1: ("F32", torch.float32),
    2: ("F64", torch.float64),
    3: ("I32", torch.int32),
    4: ("U8", torch.uint8),
    5: ("I16", torch.int16),
    6: ("I8", torch.int8),
    9: ("I64", torch.int64),
    10: ("BOOL", torch.bool),
    14: ("BF16", torch.bfloat16),
    19: ("F16", torch.float16),
}
_OBJECT_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
_MOST_SHARDS = 10_000
_MOST_DIMENSIONS = 8
_CHUNK = 1 << 20

Field = int | bytes


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor: where its bytes are, and their checksum as it is stored."""

    name: str
    type_number: int
    shape: Shape
    shard: int
    offset: int
    size: int
    crc: int

    @property
    def dtype(self) -> torch.dtype:
        """Its type in torch."""
        return _TYPES[self.type_number][1]

    @property
    def stored(self) -> Stored:
        """What is said of a tensor in any format."""
        return Stored(self.shape, _TYPES[self.type_number][0])


@dataclass(frozen=True)
class TensorBundle:
    """A checkpoint whose index was read: every tensor lies in its file, of the size that its shape needs."""

    prefix: Path
    num_shards: int
    entries: Mapping[str, Entry]

    @classmethod
    def open(cls, prefix: Path) -> "TensorBundle":
        """Read the index of the checkpoint `prefix` and look at the sizes of its data files.

        Raises:
            CheckpointError: a file is missing, damaged or cut off, or holds what BERT's code never saved.
        """
        file = index_file(prefix)
        table = read_table(file)
        try:
            num_shards = _read_header(table.pop(b"", b""))
            if _OBJECT_GRAPH in table:
                raise ValueError(
                    "it was saved object by object, as TensorFlow 2 does; only checkpoints of the original BERT code "
                    "are supported"
                )
            entries = {entry.name: entry for entry in (_read_entry(*item) for item in table.items())}
            if any(entry.shard >= num_shards for entry in entries.values()):
                raise ValueError(f"a tensor lies in a file beyond the {num_shards} that there are")
        except ValueError as error:
            raise CheckpointError(f"{file}: {error}.") from None
        bundle = cls(prefix, num_shards, entries)
        for shard in bundle._shards:
            bundle._check_data_file(shard)
        return bundle

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The files with the bytes of the tensors."""
        return tuple(self.data_file(shard) for shard in self._shards)

    def data_file(self, shard: int) -> Path:
        """The file with the bytes of the tensors of `shard`."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.num_shards:05d}")

    def read(self, name: str) -> Tensor:
        """One tensor, after its checksum was verified.

        Raises:
            CheckpointError: its bytes are not those that were saved.
        """
        entry = self.entries[name]
        file = self.data_file(entry.shard)
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        into = tensor.reshape(-1).view(torch.uint8).numpy()
        crc = position = 0
        try:
            with file.open("rb") as stream:
                stream.seek(entry.offset)
                while chunk := stream.read(min(_CHUNK, entry.size - position)):
                    crc = google_crc32c.extend(crc, chunk)
                    into[position : position + len(chunk)] = np.frombuffer(chunk, np.uint8)
                    position += len(chunk)
        except OSError as error:
            _refuse(file, f"it cannot be read ({error.strerror})")
        if position != entry.size or masked(crc) != entry.crc:
            _refuse(file, f"the checksum of {name} is wrong. The file was damaged: copy it again, whole")
        return tensor

    @property
    def _shards(self) -> list[int]:
        return sorted({entry.shard for entry in self.entries.values()})

    def _check_data_file(self, shard: int) -> None:
        file = self.data_file(shard)
        if not file.is_file():
            _refuse(file, "this file is missing. The files of a checkpoint belong together: copy all of them")
        size = file.stat().st_size
        end, last = 0, ""
        for entry in sorted(
            (entry for entry in self.entries.values() if entry.shard == shard),
            key=lambda entry: (entry.offset, entry.size),
        ):
            if entry.offset < end:
                _refuse(file, f"{entry.name} and {last} lie one over the other")
            end, last = entry.offset + entry.size, entry.name
        if end != size:
            with file.open("rb") as stream:
                if is_lfs_pointer(stream.read(40)):
                    _refuse(file, "it is a git-lfs pointer. Fetch the real file with `git lfs pull`")
            _refuse(file, f"expected {end:,} bytes, found {size:,}. It was damaged or cut off: copy it again, whole")


def index_file(prefix: Path) -> Path:
    """The index of the checkpoint `prefix`."""
    return prefix.with_name(f"{prefix.name}.index")


def write_bundle(prefix: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` as one checkpoint `prefix` with one data file, in the order of their names.

    TensorFlow's `Saver` writes the same bytes for the same tensors.
    """
    numbers = {dtype: number for number, (_, dtype) in _TYPES.items()}
    entries = {b"": _number(1, 1) + _bytes(3, _number(1, 1))}  # one data file; version 1
    offset = 0
    with prefix.with_name(f"{prefix.name}.data-00000-of-00001").open("wb") as stream:
        for name, tensor in sorted((name.encode(), tensor) for name, tensor in tensors.items()):
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            shape = b"".join(_bytes(2, _number(1, size)) for size in tensor.shape)
            entries[name] = (
                _number(1, numbers[tensor.dtype])
                + _bytes(2, shape)
                + _number(4, offset)
                + _number(5, len(content))
                + write_varint(6 << 3 | 5)
                + masked(google_crc32c.value(content)).to_bytes(4, "little")
            )
            offset += stream.write(content)
    index_file(prefix).write_bytes(write_table(entries))


def _read_header(message: bytes) -> int:
    """How many data files there are, from a `BundleHeaderProto`."""
    num_shards, endianness, version = 0, 0, b""
    for number, value in _fields(message):
        match number, value:
            case 1, int(num_shards):
                pass
            case 2, int(endianness):
                pass
            case 3, bytes(version):
                pass
            case _:
                raise ValueError(f"its header has a field {number} that is not known")
    oldest_reader = next((value for number, value in _fields(version) if number == 2), 0)
    if not 0 < num_shards <= _MOST_SHARDS:
        raise ValueError(f"it says that the tensors are in {num_shards} files; allowed are 1 to {_MOST_SHARDS:,}")
    if endianness != 0:
        raise ValueError("its numbers have their highest byte first, which is not supported")
    if oldest_reader not in (0, 1):
        raise ValueError(f"it needs a reader of version {oldest_reader}, and this one reads version 1")
    return num_shards


def _read_entry(key: bytes, message: bytes) -> Entry:
    """One tensor, from a `BundleEntryProto`."""
    if key.startswith(b"\0"):
        raise ValueError("it holds a variable in slices (partitioned), which is not supported; save it in one piece")
    try:
        name = key.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"{key!r:.80} is no name of a variable") from None
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: Shape = ()
    for number, value in _fields(message):
        if number == 7:
            raise ValueError(f"{name} was saved in slices (partitioned), which is not supported; save it in one piece")
        if number == 2 and isinstance(value, bytes):
            shape = _read_shape(name, value)
        elif number in numbers and isinstance(value, int):
            numbers[number] = value
        else:
            raise ValueError(f"the entry of {name!r:.80} has a field {number} that is not known")
    type_number, shard, offset, size, crc = numbers.values()
    if type_number not in _TYPES:
        allowed = ", ".join(kind for kind, _ in _TYPES.values())
        raise ValueError(f"{name!r:.80} has TensorFlow's type number {type_number}; allowed are {allowed}")
    needed = math.prod(shape) * _TYPES[type_number][1].itemsize
    if size != needed:
        raise ValueError(f"{name!r:.80} has {size:,} bytes, and its shape {list(shape)} needs {needed:,}")
    return Entry(name, type_number, shape, shard, offset, size, crc)


def _read_shape(name: str, message: bytes) -> Shape:
    """A `TensorShapeProto`; a dimension of 0 is not written."""
    shape = []
    for number, value in _fields(message):
        if number != 2 or not isinstance(value, bytes):
            raise ValueError(f"the shape of {name!r:.80} is not known")
        dimension = 0
        for inner, size in _fields(value):
            if inner != 1 or not isinstance(size, int) or size >= 1 << 63:
                raise ValueError(f"the shape of {name!r:.80} is not one of counts")
            dimension = size
        shape.append(dimension)
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{name!r:.80} has {len(shape)} dimensions; allowed are {_MOST_DIMENSIONS}")
    return tuple(shape)


def _fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """Number and value of each field of a protocol buffer; ValueError where it is none."""
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = read_varint(message, position)
            yield number, value
            continue
        size = 4
        if kind == 2:
            size, position = read_varint(message, position)
        elif kind != 5:
            raise ValueError("an entry is not what TensorFlow writes")
        value = message[position : position + size]
        position += size
        if len(value) != size:
            raise ValueError("an entry is cut off")
        yield number, value if kind == 2 else int.from_bytes(value, "little")


def _number(field: int, value: int) -> bytes:
    """A field with a number; 0 is what a reader assumes, and not written."""
    return write_varint(field << 3) + write_varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return write_varint(field << 3 | 2) + write_varint(len(value)) + value


def _refuse(file: Path, problem: str) -> NoReturn:
    raise CheckpointError(f"{file}: {problem}.")
