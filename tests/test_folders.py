import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bertsmith import folders
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.folders import INTEGRITY, publish, recover, sha256_of, verify, verify_listed


def write_example(folder: Path, text: str = "hello") -> None:
    (folder / "deep" / "est").mkdir(parents=True)
    (folder / "a.txt").write_text(text, encoding="utf-8")
    (folder / "deep" / "est" / "ünï.bin").write_bytes(bytes(range(200)))


def siblings(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_folder_appears_whole_with_its_integrity_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"
    with publish(path) as folder:
        write_example(folder)
        assert not path.exists()
    assert siblings(path) == ["model"]
    hashes = verify(path, thorough=True)
    assert hashes == {
        "a.txt": sha256_of(path / "a.txt"),
        "deep/est/ünï.bin": sha256_of(path / "deep/est/ünï.bin"),
    }


def test_the_integrity_file_depends_on_the_content_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with publish(tmp_path / name) as folder:
            write_example(folder)
    assert (tmp_path / "one" / INTEGRITY).read_bytes() == (tmp_path / "two" / INTEGRITY).read_bytes()


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), publish(tmp_path / "model") as folder:
        write_example(folder)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_kept_unless_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with publish(path) as folder:
        write_example(folder, "old")
    with pytest.raises(UsageError, match="already exists"), publish(path):
        pytest.fail("must not get here")
    with publish(path, replace=True) as folder:
        write_example(folder, "new")
        assert (path / "a.txt").read_text(encoding="utf-8") == "old"
    assert (path / "a.txt").read_text(encoding="utf-8") == "new"
    assert siblings(path) == ["model"]


def test_a_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(UsageError, match="already exists"), publish(path) as folder:
        write_example(folder)
        path.mkdir()
    assert siblings(path) == ["model"]
    assert list(path.iterdir()) == []


def test_only_our_own_folders_are_replaced(tmp_path: Path) -> None:
    mine, file, empty = tmp_path / "mine", tmp_path / "file", tmp_path / "empty"
    mine.mkdir()
    (mine / "thesis.txt").write_text("ten years of work", encoding="utf-8")
    file.write_text("more work", encoding="utf-8")
    empty.mkdir()
    for path in (mine, file):
        with pytest.raises(UsageError, match="not written by bertsmith"), publish(path, replace=True):
            pytest.fail("must not get here")
    assert (mine / "thesis.txt").exists()
    with publish(empty, replace=True) as folder:
        write_example(folder)
    verify(empty, thorough=True)


def test_a_file_in_the_way_of_the_parent_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file" / "model", tmp_path / "file" / "deep" / "model"):
        with pytest.raises(UsageError, match="file: this is a file"), publish(path):
            pytest.fail("must not get here")


@pytest.mark.parametrize("path", [Path("x" * 300), Path("x" * 300, "model")])
def test_a_place_that_the_system_refuses_is_named(tmp_path: Path, path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"/x{300}: cannot be written \(File name too long\)"),
        publish(tmp_path / path),
    ):
        pytest.fail("must not get here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOSPC])
def test_a_parent_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(folders.Path, "mkdir", refuse)
    said = "the disk is full" if code == errno.ENOSPC else re.escape(f"cannot be written ({os.strerror(code)})")
    for path in (tmp_path / "model", tmp_path / "no" / "model"):
        with pytest.raises((UsageError, CheckpointError), match=f"{path.parent}.*: {said}"), publish(path):
            pytest.fail("must not get here")


@pytest.mark.parametrize("name", ["run[1]", "[a-z]*", "what?"])
def test_a_folder_with_any_name_is_put_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with publish(path) as folder:
        write_example(folder)
    path.rename(tmp_path / f".{name}.old-0123456789ab")  # killed between the two renames of a replacement
    (tmp_path / f".{name}.new-0123456789ab").mkdir()
    recover(path)
    verify(path, thorough=True)
    assert siblings(path) == [name]


def test_verify_names_every_kind_of_damage(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with publish(path) as folder:
        write_example(folder)
    good = path / "a.txt"

    good.write_text("hellp", encoding="utf-8")  # same size, one bit
    verify(path, thorough=False)
    with pytest.raises(CheckpointError, match=r"a\.txt: expected SHA-256 2cf2.*found"):
        verify(path, thorough=True)
    good.write_text("hell", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"a\.txt: expected 5 bytes, found 4"):
        verify(path, thorough=False)
    good.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        verify(path, thorough=False)
    good.unlink()
    with pytest.raises(CheckpointError, match=r"a\.txt: this file is missing"):
        verify(path, thorough=False)


def test_verify_refuses_a_folder_without_a_usable_integrity_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        verify(tmp_path / "nowhere", thorough=False)
    with pytest.raises(CheckpointError, match="incomplete"):
        verify(tmp_path, thorough=False)
    for text in ("{", "[]", '{"format": "x", "version": 1}', '{"format": "bertsmith-integrity", "version": 2}'):
        (tmp_path / INTEGRITY).write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match="not a readable list"):
            verify(tmp_path, thorough=False)
    (tmp_path / INTEGRITY).write_text(
        '{"format": "bertsmith-integrity", "version": 1, "files": {"../x": {"bytes": 1, "sha256": ""}}}\n',
        encoding="utf-8",
    )
    with pytest.raises(CheckpointError, match="outside the folder"):
        verify(tmp_path, thorough=False)


def test_what_costs_least_is_checked_first(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with publish(path) as folder:
        for name, size in (("a.bin", 3000), ("b.bin", 200), ("c.bin", 1000)):
            (folder / name).write_bytes(bytes(size))
    for name in ("a.bin", "b.bin"):
        (path / name).write_bytes(b"\1" + (path / name).read_bytes()[1:])
    (path / "c.bin").write_bytes(bytes(999))
    with pytest.raises(CheckpointError, match=r"c\.bin: expected 1000 bytes, found 999"):  # a size before any hash
        verify(path, thorough=True)
    (path / "c.bin").write_bytes(bytes(1000))
    with pytest.raises(CheckpointError, match=r"b\.bin: expected SHA-256"):  # the smaller file first
        verify(path, thorough=True)
    assert set(verify(path, thorough=True, later=("a.bin", "b.bin"))) == {"a.bin", "b.bin", "c.bin"}
    with pytest.raises(CheckpointError, match=r"a\.bin: expected SHA-256"):
        verify_listed(path / "a.bin")
    verify_listed(path / "c.bin")
    verify_listed(tmp_path / "in no such folder.bin")


@pytest.mark.parametrize("what", ["a pipe", "a gigabyte", "deep", "cut off", "a listed pipe"])
def test_a_hostile_list_is_refused_at_once(tmp_path: Path, what: str) -> None:
    with publish(tmp_path / "model") as folder:
        write_example(folder)
    file = tmp_path / "model" / INTEGRITY
    if what == "cut off":
        os.truncate(file, file.stat().st_size - 1)
    elif what == "a listed pipe":
        file = tmp_path / "model" / "a.txt"
    if what != "cut off":
        file.unlink()
    if "pipe" in what:
        os.mkfifo(file)
    elif what == "a gigabyte":
        file.touch()
        os.truncate(file, 1 << 30)
    elif what == "deep":
        file.write_text("[" * 1_000_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match="no regular file" if what == "a listed pipe" else "integrity"):
        verify(tmp_path / "model", thorough=True)


def test_a_living_publisher_is_left_alone_and_a_dead_one_swept(tmp_path: Path) -> None:
    path = tmp_path / "model"
    dead = tmp_path / ".model.new-0123456789ab"
    write_example(dead)
    with publish(path) as living:
        assert not dead.exists()
        recover(path)
        assert living.exists()
        write_example(living)
    verify(path, thorough=True)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_full_disk_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The n-th fsync fails, for every n: the place where a file system that allocates late reports that it is full."""
    path = tmp_path / "model"
    with publish(path) as folder:
        write_example(folder, "old")
    calls, fsync = 0, os.fsync

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(folders.os, "fsync", failing)
    try:
        with publish(path, replace=True) as folder:
            write_example(folder, "new")
    except CheckpointError as error:
        assert "disk is full" in str(error)
    assert calls >= min(number, 7)
    verify(path, thorough=True)
    # The seventh fsync is the parent's, after the rename: the new folder is there, and whole.
    assert (path / "a.txt").read_text(encoding="utf-8") == ("old" if number < 7 else "new")
    assert not list(tmp_path.glob(".model.new-*"))


PUBLISH_AND_DIE = """
import os, shutil, sys
from pathlib import Path
import bertsmith.folders as folders

path, stop, count = Path(sys.argv[1]), int(sys.argv[2]), 0

def deadly(function):
    def wrapped(*arguments, **keywords):
        global count
        count += 1
        if count == stop:
            os._exit(137)
        result = function(*arguments, **keywords)
        count += 1
        if count == stop:
            os._exit(137)
        return result
    return wrapped

for name in ("fsync", "rename", "mkdir"):
    setattr(os, name, deadly(getattr(os, name)))
folders.shutil.rmtree = deadly(shutil.rmtree)
with folders.publish(path, replace=True) as folder:
    (folder / "a.txt").write_text("new", encoding="utf-8")
    (folder / "b.txt").write_text("new", encoding="utf-8")
"""


@pytest.mark.parametrize("existing", [False, True])
def test_killed_at_any_step_the_folder_is_whole_or_absent(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "model"
    finished, stop = False, 0
    while not finished:
        stop += 1
        shutil.rmtree(path, ignore_errors=True)
        if existing:
            with publish(path) as folder:
                (folder / "a.txt").write_text("old", encoding="utf-8")
                (folder / "b.txt").write_text("old", encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", PUBLISH_AND_DIE, path, str(stop)], check=False)
        finished = done.returncode == 0
        assert finished or done.returncode == 137
        recover(path)
        assert siblings(path) in (["model"], [])
        if path.exists():
            verify(path, thorough=True)
            assert (path / "a.txt").read_text(encoding="utf-8") == (path / "b.txt").read_text(encoding="utf-8")
        else:
            assert not existing
    assert stop > 12  # the sweep met every fsync and rename
    assert (path / "a.txt").read_text(encoding="utf-8") == "new"


def test_nothing_is_renamed_or_removed_before_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of system calls: fsync of all files, rename, fsync of the parent, removal of the old folder."""
    path = tmp_path / "model"
    with publish(path) as folder:
        write_example(folder)
    log: list[str] = []
    fsync, rename, rmtree = os.fsync, os.rename, shutil.rmtree
    monkeypatch.setattr(
        folders.os,
        "fsync",
        lambda fd: (log.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name}"), fsync(fd)),
    )
    monkeypatch.setattr(folders.os, "rename", lambda a, b: (log.append(f"rename to {Path(b).name[:11]}"), rename(a, b)))
    monkeypatch.setattr(folders.shutil, "rmtree", lambda p, **k: (log.append("remove"), rmtree(p, **k)))
    with publish(path, replace=True) as folder:
        write_example(folder)
        temporary = folder.name
    assert log == [
        "fsync a.txt",
        "fsync ünï.bin",
        f"fsync {INTEGRITY}",
        f"fsync {temporary}",
        "fsync deep",
        "fsync est",
        "rename to .model.old-",
        "rename to model",
        f"fsync {tmp_path.name}",
        "remove",
    ]


def test_a_disk_that_fills_up_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="disk is full"), publish(tmp_path / "model") as folder:
        write_example(folder)
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
