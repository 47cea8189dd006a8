"""Checkpoints that TensorFlow itself wrote, by tensorflow/make.py."""

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bertsmith.checkpoints.sorted_table import masked, read_table, write_table
from bertsmith.checkpoints.tensor_bundle import TensorBundle, write_bundle
from bertsmith.checkpoints.weights import Stored
from bertsmith.errors import CheckpointError

TENSORFLOW = Path(__file__).parent / "tensorflow"


def values(name: str, *shape: int) -> torch.Tensor:
    """What make.py saved under `name`."""
    count = torch.Size(shape).numel()
    return (((torch.arange(count) * 7 + zlib.crc32(name.encode()) % 101) % 64) / 32 - 1).reshape(shape)


def read(prefix: Path) -> dict[str, torch.Tensor]:
    bundle = TensorBundle.open(prefix)
    return {name: bundle.read(name) for name in bundle.entries}


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint of TensorFlow's that may be spoilt: its prefix."""

    def copy(name: str) -> Path:
        for file in TENSORFLOW.glob(f"{name}.*"):
            shutil.copy(file, tmp_path)
        return tmp_path / name

    return copy


@pytest.fixture
def forged(tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of two bytes of data with an index of ours, its checksums right, and these changes."""

    def forge(changes: dict[bytes, bytes | None], data: bytes = b"\0\0") -> Path:
        good = b"\x08\x06\x12\x04\x12\x02\x08\x02\x28\x02\x35" + bytes(4)  # int8, [2], 2 bytes
        entries = {b"": b"\x08\x01\x1a\x02\x08\x01", b"a": good} | changes
        (tmp_path / "x.index").write_bytes(write_table({k: v for k, v in entries.items() if v is not None}))
        (tmp_path / "x.data-00000-of-00001").write_bytes(data)
        return tmp_path / "x"

    return forge


def test_every_type_is_read() -> None:
    bundle = TensorBundle.open(TENSORFLOW / "kinds.ckpt")
    assert bundle.read("scalar").item() == 2.5
    assert bundle.read("empty").shape == (0, 4)
    kinds = {name.removeprefix("kinds/"): name for name in bundle.entries if name.startswith("kinds/")}
    assert len(kinds) == 10
    for kind, name in kinds.items():
        tensor = bundle.read(name)
        assert tensor.dtype == getattr(torch, kind)
        assert torch.equal(tensor, (values(kind, 3, 5) * 32).to(tensor.dtype))
    assert bundle.entries["kinds/bfloat16"].stored == Stored((3, 5), "BF16")
    assert bundle.entries["scalar"].stored == Stored((), "F32")


def test_a_checkpoint_in_several_files_is_read() -> None:
    assert {name: tensor.tolist() for name, tensor in read(TENSORFLOW / "shards.ckpt").items()} == {
        "one": values("one", 2, 3).tolist(),
        "two": values("two", 4).tolist(),
    }


@pytest.mark.parametrize("name", ["bert_model.ckpt", "model.ckpt-20", "kinds.ckpt"])
def test_the_same_tensors_are_written_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    """So whatever reads what TensorFlow writes, TensorFlow first of all, reads what we write."""
    write_bundle(tmp_path / name, read(TENSORFLOW / name))
    files = sorted(TENSORFLOW.glob(f"{name}.*"))
    assert [file.name for file in files] == sorted(file.name for file in tmp_path.iterdir())
    for file in files:
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("sliced.ckpt", "it holds a variable in slices (partitioned), which is not supported"),
        ("strings.ckpt", "'text' has TensorFlow's type number 7; allowed are F32"),
        ("objects.ckpt", "it was saved object by object, as TensorFlow 2 does"),
        ("none.ckpt", "it cannot be read (No such file"),
    ],
)
def test_what_bert_never_saved_is_refused(name: str, problem: str) -> None:
    with pytest.raises(CheckpointError) as error:
        TensorBundle.open(TENSORFLOW / name)
    assert problem in str(error.value)
    assert f"{name}.index" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({b"": None}, "it says that the tensors are in 0 files"),
        ({b"": b"\x08\x80\x80\x80\x80\x08"}, "it says that the tensors are in 2147483648 files"),
        ({b"": b"\x08\x01\x10\x01"}, "its numbers have their highest byte first"),
        ({b"": b"\x08\x01\x1a\x02\x10\x02"}, "it needs a reader of version 2"),
        ({b"": b"\x08\x01\x50\x01"}, "its header has a field 10 that is not known"),
        ({b"": b"\x0a\x00"}, "its header has a field 1 that is not known"),
        ({b"\xff": b""}, "is no name of a variable"),
        ({b"a": b"\x08\x06\x18\x01"}, "'a' has 0 bytes, and its shape [] needs 1"),
        ({b"a": b"\x08\x06\x18\x01\x28\x01"}, "a tensor lies in a file beyond the 1"),
        ({b"a": b"\x08\x06\x28\x03\x12\x04\x12\x02\x08\x02"}, "'a' has 3 bytes, and its shape [2] needs 2"),
        ({b"a": b"\x08\x06\x28\x02\x20\x01\x12\x04\x12\x02\x08\x02"}, "expected 3 bytes, found 2"),
        ({b"a": b"\x08\x06\x28\x01"}, "expected 1 bytes, found 2"),
        ({b"b": b"\x08\x06\x28\x01\x20\x01"}, "b and a lie one over the other"),
        ({b"a": b"\x08\x17"}, "'a' has TensorFlow's type number 23"),
        ({b"a": b""}, "'a' has TensorFlow's type number 0"),
        ({b"a": b"\x08\x06\x3a\x00"}, "a was saved in slices"),
        ({b"a": b"\x08\x06\x12\x02\x18\x01"}, "the shape of 'a' is not known"),
        ({b"a": b"\x08\x06\x12\x0d\x12\x0b\x08" + b"\xff" * 9 + b"\x01"}, "the shape of 'a' is not one of counts"),
        ({b"a": b"\x08\x06\x12\x24" + b"\x12\x02\x08\x01" * 9 + b"\x28\x01"}, "'a' has 9 dimensions; allowed are 8"),
        ({b"a": b"\x08\x06\x09"}, "an entry is not what TensorFlow writes"),
        ({b"a": b"\x35\x01"}, "an entry is cut off"),
        ({b"a": b"\x12\xff\xff\xff\xff\x0f"}, "an entry is cut off"),
        # 4 TiB that the file does not have
        ({b"a": b"\x08\x06\x12\x09\x12\x07\x08" + b"\x80" * 5 + b"\x01\x28" + b"\x80" * 5 + b"\x01"}, "found 2"),
    ],
)  # fmt: skip
def test_hostile_indexes_are_refused(
    forged: Callable[..., Path], changes: dict[bytes, bytes | None], problem: str
) -> None:
    with pytest.raises(CheckpointError) as error:
        TensorBundle.open(forged(changes))
    assert problem in str(error.value)


def test_the_forged_checkpoint_is_good_but_for_what_is_changed(forged: Callable[..., Path]) -> None:
    import google_crc32c

    crc = masked(google_crc32c.value(b"\1\2")).to_bytes(4, "little")
    good = b"\x08\x06\x12\x04\x12\x02\x08\x02\x28\x02\x35" + crc
    assert read(forged({b"a": good}, b"\1\2"))["a"].tolist() == [1, 2]
    with pytest.raises(CheckpointError, match="the checksum of a is wrong"):
        read(forged({b"a": good}, b"\1\3"))


def test_a_data_file_that_is_no_file_is_refused(copied: Callable[[str], Path]) -> None:
    prefix = copied("shards.ckpt")
    second = prefix.with_name("shards.ckpt.data-00001-of-00002")
    second.unlink()
    with pytest.raises(CheckpointError, match="data-00001-of-00002: this file is missing"):
        TensorBundle.open(prefix)
    second.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="data-00001-of-00002: this file is missing"):
        TensorBundle.open(prefix)
    second.unlink()
    second.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="git-lfs pointer"):
        TensorBundle.open(prefix)


def test_every_truncation_and_thousands_of_flipped_bits_are_refused(copied: Callable[[str], Path]) -> None:
    prefix = copied("bert_model.ckpt")
    read(prefix)
    chance = random.Random(2018)
    for file in (prefix.with_name("bert_model.ckpt.index"), prefix.with_name("bert_model.ckpt.data-00000-of-00001")):
        content = file.read_bytes()
        damaged = [content[:length] for length in range(len(content))]
        for bit in chance.sample(range(8 * len(content)), 1500):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(changed))
        for one in damaged:
            file.write_bytes(one)
            with pytest.raises(CheckpointError):
                read(prefix)
        file.write_bytes(content)


def test_an_index_that_was_changed_by_hand_is_refused_or_read(copied: Callable[[str], Path]) -> None:
    """With right checksums of its blocks: nothing but a CheckpointError comes out, whatever an entry says."""
    prefix = copied("bert_model.ckpt")
    file = prefix.with_name("bert_model.ckpt.index")
    entries = read_table(file)
    chance = random.Random(7)
    refused = 0
    for _ in range(1000):
        key = chance.choice(list(entries))
        value = bytearray(entries[key])
        for _ in range(chance.randint(1, 3)):
            value[chance.randrange(len(value))] = chance.randrange(256)
        file.write_bytes(write_table(entries | {key: bytes(value)}))
        try:
            read(prefix)
        except CheckpointError:
            refused += 1
    assert refused > 750
