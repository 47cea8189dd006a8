"""`pytorch_model.bin`, what PyTorch's `torch.save` writes, read without running anything: only `convert` does it.

Such a file is a program in the language of pickle, which can call any function there is. Here the program is taken apart
by `pickletools` and followed by a small machine of our own that knows the few instructions which a dictionary of tensors
needs, and five names, none of which it looks up: it only notes them. Whatever else a file says ends the reading.

Two containers: a zip archive (PyTorch 1.6 and later) and the sequence of pickles before it.
"""

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from bertsmith.checkpoints.json_objects import is_lfs_pointer
from bertsmith.checkpoints.weights import Stored
from bertsmith.errors import CheckpointError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
# A tensor takes some 40 instructions and 300 bytes; the largest BERT has 400 tensors.
_MOST_INSTRUCTIONS = 500_000
_MOST_PICKLE_BYTES = 8 << 20

# The type of each storage: in torch, as safetensors calls it, and its bytes.
_TYPES: dict[str, tuple[torch.dtype, str]] = {
    "torch FloatStorage": (torch.float32, "F32"),
    "torch HalfStorage": (torch.float16, "F16"),
    "torch BFloat16Storage": (torch.bfloat16, "BF16"),
    "torch DoubleStorage": (torch.float64, "F64"),
    "torch LongStorage": (torch.int64, "I64"),
    "torch IntStorage": (torch.int32, "I32"),
    "torch ShortStorage": (torch.int16, "I16"),
    "torch CharStorage": (torch.int8, "I8"),
    "torch ByteStorage": (torch.uint8, "U8"),
    "torch BoolStorage": (torch.bool, "BOOL"),
}
_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_NAMES = {*_TYPES, _ORDERED_DICT, _TENSOR, _PARAMETER}


# What zipfile raises: it also meets features and sizes that it does not know.
_DAMAGED_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
)


class _Refused(Exception):
    """Something that no dictionary of tensors needs."""


@dataclass(frozen=True)
class _Name:
    """A name that the file mentions: "module name". It stands for itself; nothing is imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A run of `count` numbers somewhere in the file, under `key`."""

    key: str
    type: str
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor: which numbers of a storage, in which shape."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class PickledTensors:
    """The tensors of one file: `stored` says what there is, `read` gives one of them.

    Raises:
        CheckpointError: the file holds something that is not a plain tensor, naming it; or it is damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            views, self._bytes_of = _open_zip(file) if zipfile.is_zipfile(file) else _open_legacy(file)
            self._views = _checked(views)
        except _Refused as error:
            raise CheckpointError(
                f"{file}: {error}. Only plain dictionaries of tensors are read, and nothing in such a file is ever run."
            ) from None
        except OSError as error:
            raise CheckpointError(f"{file}: it cannot be read ({error.strerror}).") from None
        except _DAMAGED_ZIP as error:
            raise CheckpointError(f"{file}: it is a damaged zip archive ({error}). Copy it again, whole.") from None
        self.stored = {name: Stored(view.shape, _TYPES[view.storage.type][1]) for name, view in self._views.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        view = self._views[name]
        dtype = _TYPES[view.storage.type][0]
        try:
            content = bytearray(self._bytes_of(view.storage.key))
        except (OSError, *_DAMAGED_ZIP) as error:
            raise CheckpointError(f"{self.file}: the numbers of {name} cannot be read ({error}).") from None
        if len(content) != view.storage.count * dtype.itemsize:
            raise CheckpointError(
                f"{self.file}: expected {view.storage.count:,} numbers for {name}, found {len(content):,} bytes. It was "
                "cut off or damaged: copy it again, whole."
            )
        if not content:
            return torch.empty(view.shape, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype).as_strided(view.shape, view.stride, view.offset).clone()


def _open_zip(file: Path) -> tuple[Any, Callable[[str], bytes]]:
    """The object in a zip archive, and how to get the bytes of a storage."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        programs = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(programs) != 1 or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise _Refused("it is a zip archive, but not one that torch.save made")
        root = programs[0].removesuffix("data.pkl")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise _Refused("its numbers are stored with the highest byte first, which is not supported")
        if entries[programs[0]].file_size > _MOST_PICKLE_BYTES:
            raise _Refused("its list of tensors is too long for a model")
        with archive.open(programs[0]) as stream:
            found = _Machine(stream).run()

    def read(key: str) -> bytes:
        with zipfile.ZipFile(file) as again:
            try:
                return again.read(f"{root}data/{key}")
            except KeyError:
                raise OSError(f"there is no entry data/{key}") from None

    return found, read


def _open_legacy(file: Path) -> tuple[Any, Callable[[str], bytes]]:
    """The object in a file of before PyTorch 1.6: five pickles, then the storages, each behind its count."""
    with file.open("rb") as stream:
        if is_lfs_pointer(stream.read(40)):
            raise _Refused("it is a git-lfs pointer; fetch the real file with `git lfs pull`")
        stream.seek(0)
        if _Machine(stream).run() != _LEGACY_MAGIC or _Machine(stream).run() != _LEGACY_VERSION:
            raise _Refused("it is not a file that torch.save made")
        system = _Machine(stream).run()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise _Refused("its numbers are stored with the highest byte first, which is not supported")
        machine = _Machine(stream)
        found, keys = machine.run(), _Machine(stream).run()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise _Refused("it has no list of its storages")
        places: dict[str, tuple[int, int]] = {}
        for key in keys:
            if key not in machine.storages:
                raise _Refused(f"it lists a storage {key!r:.40} that no tensor uses")
            storage = machine.storages[key]
            if int.from_bytes(stream.read(8), "little") != storage.count:
                raise _Refused("its storages are not as long as its tensors say; it was cut off or damaged")
            size = storage.count * _TYPES[storage.type][0].itemsize
            places[key] = (stream.tell(), size)
            stream.seek(size, 1)

    def read(key: str) -> bytes:
        if key not in places:
            raise OSError(f"there is no storage {key!r:.40}")
        with file.open("rb") as again:
            again.seek(places[key][0])
            return again.read(places[key][1])

    return found, read


def _checked(found: Any) -> dict[str, _View]:
    """The tensors by name, if `found` is a dictionary of them in which each lies inside its storage."""
    if not isinstance(found, dict):
        raise _Refused(f"it holds {_describe(found)}, not a dictionary of tensors")
    for name, view in found.items():
        if not isinstance(name, str) or not isinstance(view, _View):
            raise _Refused(f"{name!r:.80} in it is {_describe(view)}, not a tensor")
        if len(view.shape) != len(view.stride) or len(view.shape) > 8 or min(view.shape + view.stride, default=0) < 0:
            raise _Refused(f"the shape of {name:.80} makes no sense")
        empty = math.prod(view.shape) == 0
        last = view.offset + sum((size - 1) * step for size, step in zip(view.shape, view.stride, strict=True))
        # A tensor with more elements than its storage shows numbers twice: no weight does, and it may be huge.
        if math.prod(view.shape) > view.storage.count or view.offset < 0 or (not empty and last >= view.storage.count):
            raise _Refused(f"the tensor {name:.80} reaches beyond its numbers")
    return found


class _InSmallSteps:
    """A stream that gives a few megabytes at a time, so that a length in a damaged or hostile file costs no memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        if count > _MOST_PICKLE_BYTES:
            raise ValueError(f"a text of {count:,} bytes")
        return self._stream.read(count)

    def readline(self) -> bytes:
        return self._stream.readline(_MOST_PICKLE_BYTES)


class _Machine:
    """Follows one pickle from a stream, to the byte after its end. `storages` are those it mentioned, by key."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.storages: dict[str, _Storage] = {}
        self._stream = _InSmallSteps(stream)
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes: numbers, texts, tuples, lists, dictionaries, views of storages."""
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], self._stream))):
                if count > _MOST_INSTRUCTIONS:
                    raise _Refused("its list of tensors is too long for a model")
                if opcode.name == "STOP":
                    return self._pop()
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise _Refused(f"it is no pickle, or it was cut off or damaged ({str(error)[:80]})") from None
        raise _Refused("it ends in the middle")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _IGNORED:
            pass
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise _Refused(f"it holds the pickle instruction {name}, which tensors do not need")

    def _pop(self) -> Any:
        if not self._stack:
            raise ValueError("a value is missing")
        return self._stack.pop()

    def _pop_mark(self) -> list[Any]:
        """What stands above the last mark."""
        above = self._stack
        self._stack = self._marks.pop()
        return above

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _put(self, index: Any) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _new_dict(self, _: Any) -> None:
        self._stack.append({})

    def _new_list(self, _: Any) -> None:
        self._stack.append([])

    def _tuple(self, _: Any) -> None:
        items = tuple(self._pop_mark())
        self._stack.append(items)

    def _short_tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise ValueError("a value is missing")
        self._stack[len(self._stack) - size :] = [tuple(self._stack[len(self._stack) - size :])]

    def _append(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("a list is missing")
        self._stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict) or len(items) % 2:
            raise ValueError("a dictionary is missing")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Hashable) or isinstance(key, tuple):
                raise ValueError("a key is no text")
            self._stack[-1][key] = value

    def _name(self, name: str) -> None:
        if name not in _NAMES:
            raise _Refused(f"it asks for {name.replace(' ', '.')!r:.100}, which tensors do not need")
        self._stack.append(_Name(name))

    def _stack_name(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._name(f"{module} {name}")

    def _persistent(self, _: Any) -> None:
        """A storage: ("storage", type, key, place, count), and in old files what part of another it is."""
        found = self._pop()
        if not isinstance(found, tuple) or len(found) < 5:
            raise ValueError("a storage is no list of five")
        tag, kind, key, _, count, *rest = found
        if tag != "storage" or not isinstance(kind, _Name) or kind.name not in _TYPES or any(rest):
            raise _Refused("it refers to something outside the file that is no storage of numbers")
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError("a storage has no key or no length")
        storage = _Storage(key, kind.name, count)
        if self.storages.setdefault(key, storage) != storage:
            raise _Refused(f"it describes the storage {key!r:.40} twice, in two ways")
        self._stack.append(storage)

    def _call(self, _: Any) -> None:
        """The three calls that tensors need, made by us."""
        arguments, called = self._pop(), self._pop()
        name = called.name if isinstance(called, _Name) else _describe(called)
        if not isinstance(arguments, tuple):
            raise ValueError("a call without arguments")
        if name == _ORDERED_DICT and not arguments:
            self._stack.append({})
        elif name == _TENSOR and len(arguments) >= 4:
            storage, offset, shape, stride = arguments[:4]
            whole = isinstance(shape, tuple) and isinstance(stride, tuple) and isinstance(storage, _Storage)
            if not whole or not all(type(number) is int for number in (offset, *shape, *stride)):
                raise ValueError("a tensor without a shape")
            self._stack.append(_View(storage, offset, shape, stride))
        elif name == _PARAMETER and arguments and isinstance(arguments[0], _View):
            self._stack.append(arguments[0])
        else:
            raise _Refused(f"it calls {name.replace(' ', '.')!r:.100} in a way that tensors do not need")

    def _build(self, _: Any) -> None:
        """The state of an object: a dictionary of tensors has notes on versions there, which are dropped."""
        state = self._pop()
        if not isinstance(self._stack[-1], dict) or not isinstance(state, dict):
            raise _Refused("it sets the state of an object that is no dictionary")


_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"),
}
_IGNORED = {"PROTO", "FRAME"}
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"), _Machine._put),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "GET"), _Machine._get),
    "EMPTY_DICT": _Machine._new_dict,
    "EMPTY_LIST": _Machine._new_list,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "APPEND": lambda machine, _: machine._append([machine._pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_mark()),
    "SETITEM": lambda machine, _: machine._set_items([machine._pop(), machine._pop()][::-1]),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_mark()),
    "GLOBAL": _Machine._name,
    "STACK_GLOBAL": _Machine._stack_name,
    "BINPERSID": _Machine._persistent,
    "REDUCE": _Machine._call,
    "BUILD": _Machine._build,
}


def _describe(value: Any) -> str:
    return value.name if isinstance(value, _Name) else f"a {type(value).__name__.strip('_').lower()}"
