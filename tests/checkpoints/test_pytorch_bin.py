"""pytorch_model.bin is read to the last bit, and nothing that is in it is ever run."""

import collections
import io
import os
import pickle
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from bertsmith.checkpoints.pytorch_bin import PickledTensors
from bertsmith.errors import CheckpointError

FORMATS = pytest.mark.parametrize("zipped", [True, False])


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    state = module.state_dict()  # an OrderedDict with notes on versions
    wide = torch.randn(4, 6, generator=generator)
    state |= {
        "half": wide.half(),
        "brain": wide.bfloat16(),
        "double": wide.double(),
        "ids": torch.arange(9)[None],
        "transposed": wide.t(),
        "part": wide.flatten()[3:7],
        "tied": state["0.weight"],
        "parameter": torch.nn.Parameter(torch.randn(2, generator=generator)),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.0),
    }
    return state


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_every_tensor_comes_back(tmp_path: Path, zipped: bool, protocol: int) -> None:
    state = tensors()
    file = tmp_path / "pytorch_model.bin"
    torch.save(state, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = PickledTensors(file)
    assert found.stored.keys() == state.keys()
    for name, tensor in state.items():
        read = found.read(name)
        assert (read.dtype, found.stored[name].shape) == (tensor.dtype, tuple(tensor.shape))
        assert torch.equal(read, tensor), name
    assert found.stored["brain"].dtype == "BF16"


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_nothing_is_run(tmp_path: Path) -> None:
    """A call of os.system wherever one can be; an audit hook sees no import of it, no call and no process."""
    marker = tmp_path / "exploded"
    bomb = Bomb(marker)
    for zipped in (True, False):
        for place in ("value", "key", "state", "whole"):
            state: Any = collections.OrderedDict(weight=torch.zeros(2))
            if place == "value":
                state["bomb"] = bomb
            elif place == "key":
                state[bomb] = torch.zeros(2)
            elif place == "state":
                state.note = bomb
            else:
                state = bomb
            torch.save(state, tmp_path / f"{place}-{zipped}.bin", _use_new_zipfile_serialization=zipped)
    script = """
import sys
from pathlib import Path
from bertsmith.checkpoints.pytorch_bin import PickledTensors
rooms, seen = {"pickle", "import", "exec", "compile", "os", "subprocess", "ctypes"}, []
sys.addaudithook(lambda event, arguments: seen.append(event) if event.split(".")[0] in rooms else None)
messages = []
for file in sys.argv[1:]:
    try:
        PickledTensors(Path(file))
    except Exception as error:
        messages.append(str(error))
events = set(seen)
print(events)
print(*messages, sep="\\n")
"""
    files = sorted(str(file) for file in tmp_path.glob("*.bin"))
    result = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=True)
    events, *messages = result.stdout.splitlines()
    assert events == "set()"
    assert len(messages) == len(files) == 8
    assert all("it asks for 'posix.system', which tensors do not need" in message for message in messages)
    assert not marker.exists()


def zip_of(tmp_path: Path, program: bytes, storages: dict[str, bytes] | None = None, **entries: bytes) -> Path:
    file = tmp_path / "hostile.bin"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return file


def of_tensors(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4) -> bytes:
    """A pickle of one tensor, as torch.save would write it if these numbers were right."""

    class Storage:
        pass

    class View:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, stride, False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(thing, Storage) else None

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump({"weight": View()})
    return stream.getvalue()


def test_the_forgery_is_good_where_its_numbers_are(tmp_path: Path) -> None:
    file = zip_of(tmp_path, of_tensors((2, 2), (2, 1)), {"0": torch.arange(4.0).numpy().tobytes()})
    assert PickledTensors(file).read("weight").tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (of_tensors((2, 3), (3, 1)), "weight reaches beyond its numbers"),
        (of_tensors((2,), (4,)), "weight reaches beyond its numbers"),
        (of_tensors((2,), (1,), offset=3), "weight reaches beyond its numbers"),
        (of_tensors((2,), (1,), offset=-1), "weight reaches beyond its numbers"),
        (of_tensors((10**12, 10**12), (0, 0)), "weight reaches beyond its numbers"),
        (of_tensors((-2,), (1,)), "shape of weight makes no sense"),
        (of_tensors((2,), (1, 1)), "shape of weight makes no sense"),
        (of_tensors((2,), (1,), count=-4), "a storage has no key or no length"),
        (pickle.dumps([1, 2]), "holds a list, not a dictionary of tensors"),
        (pickle.dumps({"model": {}}), "'model' in it is a dict, not a tensor"),
        (pickle.dumps({"a": b"bytes"}), "pickle instruction SHORT_BINBYTES, which tensors do not need"),
        (pickle.dumps({"a": {1, 2}}), "pickle instruction EMPTY_SET"),
        (pickle.dumps({"a": collections.Counter}), "asks for 'collections.Counter'"),
        (pickle.dumps({"a": 10**400}), "pickle instruction LONG4|pickle instruction LONG1|not a tensor|is a int"),
        (b"cos\nsystem\n(S'true'\ntR.", "asks for 'os.system'"),
        (b"\x80\x02ccollections\nOrderedDict\n(]tR.", "calls 'collections.OrderedDict' in a way"),
        (b"\x80\x02}(K\x01K\x02", "no pickle, or it was cut off"),
        (b"\x80\x02}X\xff\xff\xff\x7fabc.", "no pickle, or it was cut off or damaged (a text of 2,147,483,647 bytes)"),
        (b"\x80\x02R.", "a value is missing"),
        (b"\x80\x02h\x05.", "no pickle, or it was cut off"),
        (b"", "no pickle, or it was cut off"),
    ],
)
def test_whatever_else_is_refused_by_name(tmp_path: Path, program: bytes, message: str) -> None:
    file = zip_of(tmp_path, program, {"0": bytes(16)})
    with pytest.raises(CheckpointError) as error:
        PickledTensors(file)
    assert str(file) in str(error.value)
    assert any(part in str(error.value) for part in message.split("|"))


def test_containers_that_torch_did_not_make(tmp_path: Path) -> None:
    program = of_tensors((2, 2), (2, 1))
    with pytest.raises(CheckpointError, match="highest byte first"):
        PickledTensors(zip_of(tmp_path, program, byteorder=b"big"))
    with zipfile.ZipFile(tmp_path / "packed.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(CheckpointError, match=r"not one that torch\.save made"):
        PickledTensors(tmp_path / "packed.bin")
    short = PickledTensors(zip_of(tmp_path, program, {"0": bytes(12)}))
    with pytest.raises(CheckpointError, match="expected 4 numbers for weight, found 12 bytes"):
        short.read("weight")
    missing = PickledTensors(zip_of(tmp_path, program))
    with pytest.raises(CheckpointError, match="numbers of weight cannot be read"):
        missing.read("weight")
    for content in (b"", b"not a model", b"version https://git-lfs.github.com/spec/v1\n", pickle.dumps([])):
        (tmp_path / "no.bin").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"no\.bin"):
            PickledTensors(tmp_path / "no.bin")


@FORMATS
def test_any_damage_is_an_error_or_harmless(tmp_path: Path, zipped: bool) -> None:
    """Every byte flipped, and truncations all along: never anything but a CheckpointError."""
    file = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.arange(2.0)}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    refused = 0

    def read(content: bytes) -> None:
        nonlocal refused
        file.write_bytes(content)
        try:
            found = PickledTensors(file)
            for name in found.stored:
                found.read(name)
        except CheckpointError:
            refused += 1

    lengths = range(0, len(whole), 7)
    for length in lengths:
        read(whole[:length])
    assert refused == len(lengths)
    for place in range(len(whole)):
        read(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
    assert refused > len(lengths) + 0.1 * len(whole)


def test_no_instruction_does_more_than_move_values() -> None:
    """The list of instructions is closed: those that call what a file names are not in it."""
    from bertsmith.checkpoints import pytorch_bin

    known = {*pytorch_bin._CONSTANTS, *pytorch_bin._LITERALS, *pytorch_bin._IGNORED, *pytorch_bin._ACTIONS, "STOP"}
    everything = {opcode.name for opcode in pickletools.opcodes}
    assert known < everything
    assert not known & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER"}


def test_the_module_cannot_unpickle() -> None:
    text = Path(sys.modules[PickledTensors.__module__].__file__ or "").read_text(encoding="utf-8")
    assert not [
        word for word in ("import pickle\n", "torch.load", "Unpickler", "import_module", "getattr") if word in text
    ]
