import os
import random
import struct
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.checkpoints.sorted_table import masked, read_table, read_varint, write_table, write_varint
from bertsmith.errors import CheckpointError

TENSORFLOW = Path(__file__).parent / "tensorflow"
MAGIC = bytes.fromhex("57fb808b247547db")


def block(entries: bytes, restarts: tuple[int, ...] = (0,), compression: int = 0) -> bytes:
    content = entries + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    checksum = masked(google_crc32c.value(content + bytes([compression])))
    return content + bytes([compression]) + checksum.to_bytes(4, "little")


def table(*blocks: bytes, meta: bytes = b"") -> bytes:
    """A table of blocks that may be wrong, each with a right checksum."""
    content, handles = b"", []
    for data in (*blocks, block(meta)):
        handles.append((len(content), len(data) - 5))
        content += data
    index = b"".join(
        bytes((0, 1, len(handle))) + bytes([97 + number]) + handle
        for number, handle in enumerate(write_varint(offset) + write_varint(size) for offset, size in handles[:-1])
    )
    handles.append((len(content), len(block(index)) - 5))
    content += block(index)
    footer = b"".join(write_varint(number) for handle in handles[-2:] for number in handle)
    return content + footer.ljust(40, b"\0") + MAGIC


def test_tables_of_tensorflow_are_written_to_the_same_bytes() -> None:
    files = sorted(TENSORFLOW.glob("*.index"))
    assert len(files) == 7
    for file in files:
        entries = read_table(file)
        assert list(entries) == sorted(entries)
        assert write_table(entries) == file.read_bytes()


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), min_size=1, max_size=60))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, entries: dict[bytes, bytes]) -> None:
    file = tmp_path_factory.mktemp("table") / "a.index"
    file.write_bytes(write_table(entries))
    assert read_table(file) == entries


def test_a_table_of_several_blocks_is_read_whole(tmp_path: Path) -> None:
    first, second = b"\0\1\3a123\1\1\0b", b"\0\2\1ba4"  # "a": 123, "ab": nothing; "ba": 4
    (tmp_path / "a.index").write_bytes(table(block(first), block(second)))
    assert read_table(tmp_path / "a.index") == {b"a": b"123", b"ab": b"", b"ba": b"4"}


@given(st.integers(0, 2**64 - 1))
def test_varints(number: int) -> None:
    written = write_varint(number)
    assert read_varint(b"?" + written + b"?", 1) == (number, 1 + len(written))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 11, b"\xff" * 9 + b"\x02"])
def test_what_is_no_varint(data: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        read_varint(data, 0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it does not end as one"),
        (bytes(100), "it does not end as one"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a git-lfs pointer"),
        (bytes((4 << 20) + 1), "such a file has 4,194,304 at most"),
        (table(block(b"\0\1\1a1"), meta=b"\0\1\0x"), "it has meta data"),
        (table(block(b"\0\1\1a1", compression=1)), "it is compressed"),
        (table(block(b"\0\1\1a1\0\1\1a2")), "the key b'a' stands at a wrong place or twice"),
        (table(block(b"\0\1\1b1"), block(b"\0\1\1a2")), "the key b'a' stands at a wrong place or twice"),
        (table(block(b"\1\1\1a1")), "does not fit into it"),  # shares a byte with the key before the first
        (table(block(b"\0\1\2a1")), "does not fit into it"),  # a value that ends behind the block
        (table(block(b"\0\1")), "it ends in the middle of a number"),
        (table(block(b"\0\xff\xff\x03\0" + bytes(65535))), "a key of 65,535 bytes, and the longest allowed has 400"),
        (table(block(b"\0\1\1a1", restarts=(0, 0, 0))), None),
        (b"?" + table(block(b"\0\1\1a1")), "the checksum of the block at byte"),
        (table(block(b"\0\1\1a1"))[:-48] + bytes(40) + MAGIC, "a block of 0 bytes at byte 0 does not fit into it"),
        (table(block(b"\0\1\1a1"))[:-48] + b"\xff\x7f" * 4 + bytes(32) + MAGIC, "does not fit into it"),
        (table(block(b"\0\1\1a1"))[:-9] + b"\1" + MAGIC, "its last 48 bytes"),
    ],
)
def test_hostile_tables_are_refused(tmp_path: Path, content: bytes, problem: str | None) -> None:
    file = tmp_path / "a.index"
    file.write_bytes(content)
    if problem is None:
        assert read_table(file) == {b"a": b"1"}
        return
    with pytest.raises(CheckpointError, match=r"a\.index: ") as error:
        read_table(file)
    assert problem in str(error.value)


def test_a_block_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    """A small file could otherwise stand for one of any size."""
    content = table(block(b"\0\1\1a1"))
    data = block(b"\0\1\1a1")
    meta = block(b"")
    index = block(b"\0\1\2a\0\x0b\0\1\2b\0\x0b")
    footer = b"".join(map(write_varint, (len(data), len(meta) - 5, len(data + meta), len(index) - 5)))
    assert content.startswith(data + meta)
    (tmp_path / "a.index").write_bytes(data + meta + index + footer.ljust(40, b"\0") + MAGIC)
    with pytest.raises(CheckpointError, match="a block starts at byte 0, expected"):
        read_table(tmp_path / "a.index")


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.index").write_bytes(write_table({b"%06d" % number: b"" for number in range(20_001)}))
    with pytest.raises(CheckpointError, match="more than 20,000 entries"):
        read_table(tmp_path / "a.index")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.index: it cannot be read \(No such file"):
        read_table(tmp_path / "a.index")
    os.mkfifo(tmp_path / "a.index")
    with pytest.raises(CheckpointError, match="it is no regular file"):
        read_table(tmp_path / "a.index")


def test_every_truncation_and_random_flips_are_refused(tmp_path: Path) -> None:
    content = (TENSORFLOW / "shards.ckpt.index").read_bytes()
    file = tmp_path / "a.index"
    damaged = [content[:length] for length in range(len(content))]
    damaged += [content + b"\0", content[1:]]
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    random.Random(5).shuffle(damaged)
    for one in damaged:
        file.write_bytes(one)
        with pytest.raises(CheckpointError):
            read_table(file)
