import errno
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from bertsmith.data import Document, prepare
from bertsmith.data.pieces import cut
from bertsmith.errors import CheckpointError, DataError, UsageError
from bertsmith.text import Tokenizer, Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER = Tokenizer(Vocabulary((*SPECIAL, *(f"t{i}" for i in range(37)))))


def corpus(folder: Path, documents: int = 30) -> Path:
    """Documents of 40 to 99 words, in two paragraphs, all different."""
    rng = np.random.default_rng(3)
    texts = []
    for _ in range(documents):
        words = [f"t{i}" for i in rng.integers(37, size=rng.integers(40, 100))]
        texts.append(" ".join(words[:20]) + "\n" + " ".join(words[20:]))
    (folder / "text.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return folder / "text.txt"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertsmith.data.pieces._CHARACTERS", 1000)


def test_pieces_are_cut_by_size_and_named_by_what_stands_in_them() -> None:
    documents = [Document("a" * size, "x.txt", line) for line, size in enumerate([600, 600, 10, 2000, 10])]
    pieces = list(cut(documents, count(3)))
    assert [len(piece.documents) for piece in pieces] == [2, 2, 1]
    assert [piece.number for piece in pieces] == [3, 4, 5]
    assert str(pieces[0]) == "x.txt, line 0 to line 1"
    names = {piece.name for piece in pieces}
    for changed in (
        Document("a" * 599 + "b", "x.txt", 0),
        Document("a" * 600, "y.txt", 0),
        Document("a" * 600, "x.txt", 7),
    ):
        other = list(cut([changed, *documents[1:]], count(3)))
        assert len({piece.name for piece in other} & names) == 2
    assert not {piece.name for piece in cut(documents, count(3), apart=True)} & names


def test_a_failed_call_is_taken_up_and_changed_text_is_done_anew(tmp_path: Path) -> None:
    file = corpus(tmp_path)
    good = file.read_bytes()
    prepare(file, TOKENIZER, tmp_path / "whole")
    file.write_bytes(good + b"\n\n\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        prepare(file, TOKENIZER, tmp_path / "shards")
    (work,) = tmp_path.glob(".shards.work-*")
    finished = len(list(work.glob("*.npz")))
    assert finished > 4
    file.write_bytes(good)
    done = prepare(file, TOKENIZER, tmp_path / "shards")
    assert done.notices == (f"Went on from an earlier start: {finished} pieces of text were finished.",)
    assert everything(tmp_path / "shards") == everything(tmp_path / "whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["shards", "text.txt", "whole"]


def test_other_text_or_options_begin_anew_and_say_so(tmp_path: Path) -> None:
    file = corpus(tmp_path)
    good = file.read_bytes()

    def fail() -> None:
        file.write_bytes(good + b"\n\n\xff")
        with pytest.raises(DataError):
            prepare(file, TOKENIZER, tmp_path / "shards")
        file.write_bytes(good)

    fail()
    done = prepare(file, TOKENIZER, tmp_path / "shards", language="de")
    assert "begins anew" in done.notices[0]
    prepare(file, TOKENIZER, tmp_path / "german", language="de")
    assert everything(tmp_path / "shards") == everything(tmp_path / "german")
    (tmp_path / "shards").rename(tmp_path / "elsewhere")

    fail()
    file.write_bytes(b"t1 t2 t3\n\n" + good)
    (changed,) = prepare(file, TOKENIZER, tmp_path / "shards").notices
    assert changed.startswith("The text changed since an earlier start")
    prepare(file, TOKENIZER, tmp_path / "fresh")
    assert everything(tmp_path / "shards") == everything(tmp_path / "fresh")
    assert not list(tmp_path.glob(".*"))


def test_what_is_decided_at_the_end_needs_no_new_pieces(tmp_path: Path) -> None:
    file = corpus(tmp_path)
    good = file.read_bytes()
    file.write_bytes(good + b"\n\n\xff")
    with pytest.raises(DataError):
        prepare(file, TOKENIZER, tmp_path / "shards")
    file.write_bytes(good)
    (notice,) = prepare(file, TOKENIZER, tmp_path / "shards", heldout=0.2, shard_tokens=99).notices
    assert notice.startswith("Went on")


CRASHES = """
import os, signal, sys
from pathlib import Path
from bertsmith.data import pieces, prepare
from bertsmith.text import Tokenizer

pieces._CHARACTERS = 1000
text, vocabulary, whole, out = map(Path, sys.argv[1:])
tokenizer, fsync = Tokenizer.load(vocabulary), os.fsync
prepare(text, tokenizer, whole, duplicates="near")
for steps in range(1, 200):
    child = os.fork()
    if not child:
        def dying(descriptor):
            global steps
            steps -= 1
            if not steps:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)
        os.fsync = dying
        prepare(text, tokenizer, out, duplicates="near")
        os._exit(0)
    os.waitpid(child, 0)
    if out.exists():
        break
print(steps)
"""


def test_killed_at_every_durable_step_the_folder_is_the_same(tmp_path: Path) -> None:
    file = corpus(tmp_path)
    TOKENIZER.save(tmp_path / "vocabulary")
    arguments = [sys.executable, "-c", CRASHES, file, *(tmp_path / name for name in ("vocabulary", "whole", "shards"))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) > 12  # so many deaths
    assert everything(tmp_path / "shards") == everything(tmp_path / "whole")
    with pytest.raises(UsageError, match="already exists"):  # the last death came after the rename, before the broom
        prepare(file, TOKENIZER, tmp_path / "shards")
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_said_and_what_is_finished_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = corpus(tmp_path)
    prepare(file, TOKENIZER, tmp_path / "whole")
    fsync, failures = os.fsync, 0
    for steps in range(1, 200):
        left = iter(range(steps - 1))

        def full(descriptor: int, left=left) -> None:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            try:
                prepare(file, TOKENIZER, tmp_path / "shards")
                break
            except CheckpointError as error:
                assert "the disk is full" in str(error)
                failures += 1
                assert not list(tmp_path.glob(".shards.new-*"))
                if (tmp_path / "shards").exists():  # all is done but to make the last rename durable
                    break
    assert failures > 12
    assert everything(tmp_path / "shards") == everything(tmp_path / "whole")


def test_a_damaged_piece_is_named_and_made_anew(tmp_path: Path) -> None:
    file = corpus(tmp_path)
    good = file.read_bytes()
    prepare(file, TOKENIZER, tmp_path / "whole")
    file.write_bytes(good + b"\n\n\xff")
    with pytest.raises(DataError):
        prepare(file, TOKENIZER, tmp_path / "shards")
    file.write_bytes(good)
    piece = min(tmp_path.glob(".shards.work-*/*.npz"))
    content = bytearray(piece.read_bytes())
    content[content.index(b"tokens.npy") + 200] ^= 1
    piece.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{piece.name}: this finished piece of text was damaged"):
        prepare(file, TOKENIZER, tmp_path / "shards")
    prepare(file, TOKENIZER, tmp_path / "shards")
    assert everything(tmp_path / "shards") == everything(tmp_path / "whole")


SMALL_PIECES = """
if __name__ == "__main__":
    import sys
    from bertsmith.cli import main
    from bertsmith.data import pieces

    pieces._CHARACTERS = 3000
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_signals_end_it_in_seconds_with_its_workers_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = np.random.default_rng(1).integers(37, size=(1500, 150))
    text = "\n\n".join(" ".join(f"t{i}" for i in row) for row in words)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    TOKENIZER.save(tmp_path / "vocabulary")
    (tmp_path / "script.py").write_text(SMALL_PIECES, encoding="utf-8")
    command = [sys.executable, "script.py", "prepare", "text.txt", "--vocab", "vocabulary", "-o", "shards"]
    command += ["--processes", "2"]
    finished = 0
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 130)):
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 100
            while len(list(tmp_path.glob(".shards.work-*/*.npz"))) <= finished:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
            assert process.returncode == code
        assert len(workers) >= 2
        while [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        finished = len(list(tmp_path.glob(".shards.work-*/*.npz")))
    assert finished < 250
    assert "the same command goes on from there" in said
    assert not list(tmp_path.glob(".shards.new-*"))
    done = prepare(tmp_path / "text.txt", TOKENIZER, tmp_path / "other")
    assert not done.notices
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"Went on from an earlier start: {finished} pieces" in again.stderr
    one, two = everything(tmp_path / "shards"), everything(tmp_path / "other")
    assert {name for name in one if one[name] != two[name]} == {"manifest.json", "integrity.json"}  # the path as given
