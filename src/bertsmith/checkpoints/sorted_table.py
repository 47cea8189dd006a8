"""LevelDB's sorted table of keys and values, in which TensorFlow keeps the index of a checkpoint.

    file:   data blocks, one block of meta data, one index block, footer of 48 bytes
    block:  entries, restart points, then 1 byte for its compression and the checksum of all before
    entry:  length of what its key shares with the last one, of the rest of the key, of the value; then those two

TensorFlow 2.21.0, `core/lib/io/format.h`, `block.cc` and `table_builder.cc`. Numbers in front of bytes are varints: seven
bits a byte, the lowest first, the highest bit set in all but the last.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import google_crc32c

from bertsmith.errors import CheckpointError
from bertsmith.folders import is_lfs_pointer, read_small

# The index of BERT-large with two slots a weight has 0.1 MB and 1,200 entries.
_MOST_BYTES = 4 << 20
_MOST_ENTRIES = 20_000
_LONGEST_KEY = 400

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER_BYTES = 48
_TRAILER = struct.Struct("<BI")
_RESTART_INTERVAL = 16

Handle = tuple[int, int]


def read_table(file: Path) -> dict[bytes, bytes]:
    """All entries of the table in `file`, every checksum verified.

    Raises:
        CheckpointError: the file is missing, is no such table, or is not exactly what was written.
    """
    try:
        content = read_small(file, _MOST_BYTES)
        if is_lfs_pointer(content):
            raise CheckpointError(
                f"{file}: it is a git-lfs pointer. Fetch the real file with `git lfs pull`, and those beside it."
            )
        return _entries(content)
    except OSError as error:
        raise CheckpointError(f"{file}: it cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise CheckpointError(
            f"{file}: no index of a TensorFlow checkpoint: {error}. If it was damaged or cut off, copy it again, whole."
        ) from None


def write_table(entries: Mapping[bytes, bytes]) -> bytes:
    """The file that `read_table` reads: one block of data, without compression, as TensorFlow writes it.

    TensorFlow begins a new block after 256 KiB, but reads one of any size.
    """
    ordered = sorted(entries.items())
    last = ordered[-1][0]
    after = bytes([last[0] + 1]) if last and last[0] < 0xFF else last  # the shortest key that is not below the last one
    content = bytearray()
    data = _append(content, ordered)
    meta = _append(content, [])
    index = _append(content, [(after, write_varint(data[0]) + write_varint(data[1]))])
    handles = b"".join(write_varint(number) for number in (*meta, *index))
    return bytes(content) + handles.ljust(_FOOTER_BYTES - len(_MAGIC), b"\0") + _MAGIC


def masked(crc: int) -> int:
    """A CRC32C as it is stored: turned and shifted, so that a checksum of checksums is no trivial number."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, at most 64 bits, and the position after it; ValueError where there is none."""
    number = 0
    for length in range(10):
        if position + length >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[position + length]
        number |= (byte & 0x7F) << 7 * length
        if byte < 0x80:
            if (byte == 0 and length) or number >= 1 << 64:
                break
            return number, position + length + 1
    raise ValueError(f"there is no number at byte {position}")


def write_varint(number: int) -> bytes:
    """`number`, which is not negative, as `read_varint` reads it."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _entries(content: bytes) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    last = None
    for block in _data_blocks(content):
        for key, value in _block(content, block):
            if last is not None and key <= last:
                raise ValueError(f"the key {key!r:.80} stands at a wrong place or twice")
            if len(entries) == _MOST_ENTRIES:
                raise ValueError(f"it has more than {_MOST_ENTRIES:,} entries")
            entries[key] = value
            last = key
    return entries


def _data_blocks(content: bytes) -> list[Handle]:
    """Where the blocks of data are, after checking that they and the others fill the file from first to last byte."""
    footer = content[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise ValueError("it does not end as one")
    meta, position = _read_handle(footer, 0)
    index, position = _read_handle(footer, position)
    if footer[position : -len(_MAGIC)].strip(b"\0"):
        raise ValueError("its last 48 bytes are not those of one")
    blocks = [_read_handle(value, 0)[0] for _, value in _block(content, index)]
    position = 0
    for offset, size in (*blocks, meta, index):  # so the checksums cover every byte, and nothing is read twice
        if offset != position:
            raise ValueError(f"a block starts at byte {offset}, expected {position}")
        position = offset + size + _TRAILER.size
    if position != len(content) - _FOOTER_BYTES:
        raise ValueError(f"its blocks end at byte {position}, expected {len(content) - _FOOTER_BYTES}")
    if any(_block(content, meta)):
        raise ValueError("it has meta data, which TensorFlow does not write")
    return blocks


def _block(content: bytes, handle: Handle) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block. Restart points help those who look for one key; all are read here, in their order."""
    offset, size = handle
    end = offset + size
    if size < 4 or end + _TRAILER.size > len(content):
        raise ValueError(f"a block of {size} bytes at byte {offset} does not fit into it")
    compression, crc = _TRAILER.unpack_from(content, end)
    if masked(google_crc32c.value(content[offset : end + 1])) != crc:
        raise ValueError(f"the checksum of the block at byte {offset} is wrong")
    if compression:
        raise ValueError(
            "it is compressed, which TensorFlow itself does not do; save the checkpoint again with TensorFlow"
        )
    num_restarts = int.from_bytes(content[end - 4 : end], "little")
    block = content[offset : max(offset, end - 4 - 4 * num_restarts)]
    key, position = b"", 0
    while position < len(block):
        shared, position = read_varint(block, position)
        rest, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + rest + length > len(block):
            raise ValueError(f"an entry of the block at byte {offset} does not fit into it")
        if shared + rest > _LONGEST_KEY:
            raise ValueError(f"a key of {shared + rest:,} bytes, and the longest allowed has {_LONGEST_KEY}")
        key = key[:shared] + block[position : position + rest]
        position += rest
        yield key, block[position : position + length]
        position += length


def _append(content: bytearray, entries: list[tuple[bytes, bytes]]) -> Handle:
    """Write a block with `entries`, which are sorted, at the end of `content`."""
    block, restarts, last = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % _RESTART_INTERVAL:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        elif number:
            restarts.append(len(block))
        block += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value))
        block += key[shared:] + value
        last = key
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    offset = len(content)
    content += block
    content += _TRAILER.pack(0, masked(google_crc32c.value(bytes(block) + b"\0")))
    return offset, len(block)


def _read_handle(data: bytes, position: int) -> tuple[Handle, int]:
    """Where a block is: its first byte and its length without the trailer."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position
