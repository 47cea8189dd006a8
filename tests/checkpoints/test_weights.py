import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.checkpoints.weights import Stored, check_shapes, read_header
from bertsmith.errors import CheckpointError

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def write(file: Path, header: Any, data: bytes = bytes(24), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return file


def test_header_of_a_real_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(
        {"a.weight": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.int64), "empty": np.zeros((0, 4), np.float16)},
        file,
        metadata={"format": "np"},
    )
    header = read_header(file)
    assert header == {"a.weight": Stored((2, 3), "F32"), "b": Stored((5,), "I64"), "empty": Stored((0, 4), "F16")}
    assert [name for name, stored in header.items() if stored.is_float] == ["a.weight", "empty"]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b'{"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}',
         "the key 'a' stands there twice"),
        (b'{"a":{"dtype":"F32","shape":[6],"shape":[6],"data_offsets":[0,24]}}', "the key 'shape' stands there twice"),
        ({"../../etc/passwd": ENTRY}, "'../../etc/passwd' is no name of a tensor"),
        ({"a\x00b": ENTRY}, "is no name of a tensor"),
        ({"": ENTRY}, "is no name of a tensor"),
        ({"a" * 300: ENTRY}, "is no name of a tensor"),
        ({"a": ENTRY | {"shape": [2, 4]}}, "a is [2, 4] of F32 and has 24 bytes"),
        ({"a": ENTRY | {"shape": [2**62, 2**62, 2**62]}}, "and has 24 bytes"),
        ({"a": ENTRY | {"shape": [-2, -3]}}, "is no list of counts"),
        ({"a": ENTRY | {"shape": [2.0, 3]}}, "is no list of counts"),
        ({"a": ENTRY | {"shape": [True, 6]}}, "is no list of counts"),
        ({"a": ENTRY | {"shape": [6, *[1] * 20]}}, "is no list of counts"),
        ({"a": ENTRY | {"shape": [10**30]}}, "is no list of counts"),
        ({"a": ENTRY | {"data_offsets": [0, 24, 24]}}, "is no list of counts"),
        ({"a": ENTRY | {"data_offsets": [8, 32]}}, "a starts at byte 8, expected 0"),
        ({"a": ENTRY | {"data_offsets": [24, 0]}}, "has -24 bytes"),
        ({"a": ENTRY | {"dtype": "F8_E4M3"}}, "has the type 'F8_E4M3'"),
        ({"a": ENTRY | {"dtype": ["F32"]}}, "has the type ['F32']"),
        ({"a": ENTRY, "b": ENTRY}, "b starts at byte 0, expected 24"),
        ({"a": ENTRY | {"more": 1}}, "needs dtype, shape and data_offsets"),
        ({"a": [1]}, "needs dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}, "it holds 24 bytes of tensors, expected 16"),
        ({"a": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}}, "it holds 24 bytes of tensors, expected 36"),
        (b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "it is nested too deeply"),
        (b'{"a":' + b"9" * 10_000 + b"}", "its header is wrong"),
        (b"{broken}", "its header is wrong"),
        (b'{"\xff\xfe":1}', "its header is wrong"),
        (b"[1, 2, 3]", "no safetensors file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_hostile_headers_are_refused(tmp_path: Path, header: Any, problem: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read_header(write(tmp_path / "a.safetensors", header))
    assert problem in str(error.value)
    assert "a.safetensors" in str(error.value)


def test_a_million_tensors_are_refused_cheaply(tmp_path: Path) -> None:
    entries = (f'"t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(1_000_000))
    file = write(tmp_path / "a.safetensors", ("{" + ",".join(entries) + "}").encode(), b"")
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_header(file)
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 10_000])
def test_wrong_header_lengths_are_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(CheckpointError, match="no safetensors file, or it was cut off"):
        read_header(write(tmp_path / "a.safetensors", {"a": ENTRY}, length=length))


def test_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 90868376\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="git-lfs pointer"):
        read_header(file)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", {"a": ENTRY, "__metadata__": {"format": "pt"}})
    whole = file.read_bytes()
    read_header(file)
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_header(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        read_header(file)


def test_random_bytes_never_give_another_error(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", {"a": ENTRY, "b": ENTRY | {"data_offsets": [24, 48]}}, bytes(48))
    whole = file.read_bytes()
    chance = random.Random(5)
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(whole) - 48)] = chance.randrange(256)
        file.write_bytes(content)
        try:
            read_header(file)
        except CheckpointError:
            continue


def test_all_differences_are_listed() -> None:
    found = {"a": Stored((2, 3), "F32"), "b": Stored((4,), "F32"), "c": Stored((5,), "I64"), "x": Stored((7,), "F32")}
    with pytest.raises(CheckpointError) as error:
        check_shapes(Path("m"), found, {"a": (2, 3), "b": (9,), "c": (5,), "d": (1, 2)})
    message = str(error.value)
    assert "missing: d [1, 2]." in message
    assert "unexpected: x [7]." in message
    assert "wrong shape or type: b is [4] F32, expected [9], c is [5] I64, expected [5]." in message


def test_long_lists_are_cut() -> None:
    with pytest.raises(CheckpointError, match=r"t7 \[1\] and 92 more"):
        check_shapes(Path("m"), {}, {f"t{i}": (1,) for i in range(100)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_model_is_never_saved(tmp_path: Path, checkpoint: Callable[..., Checkpoint], value: float) -> None:
    broken = checkpoint()
    with torch.no_grad():
        broken.model.encoder.blocks[1].attention.output.weight[3, 4] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinity in encoder\.blocks\.1\.attention\.output\.weight"):
        save_model(tmp_path / "m", broken)
    assert list(tmp_path.iterdir()) == []


def test_everybody_may_read_what_the_umask_allows(saved: Path) -> None:
    modes = {file.name: file.stat().st_mode for file in saved.iterdir() if file.is_file()}
    assert len(set(modes.values())) == 1, modes
