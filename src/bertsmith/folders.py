"""Folders that are whole or absent: a checkpoint, a shard folder or a vocabulary is published in one atomic step.

    with publish("runs/mine/step-500") as folder:      # a temporary sibling
        (folder / "config.json").write_text(...)       # write anything; nobody sees it yet
    verify("runs/mine/step-500", thorough=True)        # later: sizes and SHA-256 of every file

Order of a publication, each step durable before the next: every file is fsynced, `integrity.json` with the size and
hash of each is written and fsynced, then the rename, then the parent is fsynced, and only then is a replaced folder
removed.
A process killed anywhere leaves the old folder, or the new one, and litter that the next publication cleans away.
"""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from bertsmith.errors import BertsmithError, CheckpointError, UsageError

INTEGRITY = "integrity.json"
"""Name of the file that lists the others with their sizes and hashes. A folder without it is incomplete."""

_MOST_LISTING_BYTES = 8 << 20  # some 60,000 files
_LFS_POINTER = b"version https://git-lfs"

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def publish(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that becomes `path` when the block ends without an exception.

    With `replace`, an older published folder gives way at the last moment; anything else at `path` is never touched.

    Raises:
        UsageError: something is at `path` and may not be replaced, or a folder cannot be made there.
        CheckpointError: the disk is full or fails; what was at `path` is still there.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link at `path` and publish elsewhere
    make_folder(path.parent)
    try:
        recover(path)
        _refuse_to_overwrite(path, replace=replace)
        folder, lock = _temporary_sibling(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield folder
        _seal(folder)
        _refuse_to_overwrite(path, replace=replace)
        _swap_in(folder, path)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if (code := _system_error(error)) in (*_FULL_DISK, errno.EIO):
            raise cannot_write(path, OSError(code, os.strerror(code))) from error
        raise
    finally:
        os.close(lock)


def verify(
    path: str | os.PathLike[str], *, thorough: bool, later: Collection[str] = (), besides: Collection[str] = ()
) -> dict[str, str]:
    """Check a published folder: every file is there with its size and, if `thorough`, with its SHA-256.

    All sizes are looked at before the first hash, and small files are hashed before large ones, so that what can be
    known at once is said at once. The hashes of the files in `later` are left to `verify_listed`; the files in `besides`
    are not looked at.

    Returns the SHA-256 of each file by its name inside the folder. Files that were added later are not looked at.

    Raises:
        CheckpointError: naming the file, what was expected and what was found.
    """
    path = Path(path)
    entries = _read_integrity(path)
    for name, size, _ in entries:
        if name not in besides:
            _verify_size(path / name, size)
    if thorough:
        for name, _, digest in sorted(entries, key=lambda entry: (entry[1], entry[0])):
            if name not in later and name not in besides:
                _verify_hash(path / name, digest)
    return {name: digest for name, _, digest in entries}


def damage(path: str | os.PathLike[str]) -> dict[str, CheckpointError]:
    """What `verify` would say of each file of a published folder that is not as it was written, by its name inside."""
    path, found = Path(path), {}
    for name, size, digest in _read_integrity(path):
        try:
            _verify_size(path / name, size)
            _verify_hash(path / name, digest)
        except CheckpointError as error:
            found[name] = error
    return found


def verify_listed(file: Path) -> None:
    """Check the SHA-256 of one file, where the folder that it is in lists it; elsewhere there is nothing to check.

    Raises:
        CheckpointError: its content is not what was written.
    """
    if (file.parent / INTEGRITY).is_file():
        for name, _, digest in _read_integrity(file.parent):
            if name == file.name:
                _verify_hash(file, digest)


def read_small(file: Path, most_bytes: int) -> bytes:
    """The content of a regular file, or of what a link to one leads to: the caches of others are made of links.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a pipe or a device, or larger than `most_bytes`.
    """
    if file.exists() and not file.is_file() and not file.is_dir():  # a pipe would be waited for, a device never ends
        raise ValueError("it is no regular file")
    if (size := file.stat().st_size) > most_bytes:
        raise ValueError(f"it has {size:,} bytes, and such a file has {most_bytes:,} at most")
    with file.open("rb") as stream:
        return stream.read(size)


def recover(path: str | os.PathLike[str]) -> None:
    """Clean up after publishers of `path` that were killed; put back a folder whose replacement never came.

    Folders of publishers that are still alive, on any machine that shares the file system's locks, are left alone.
    """
    path = Path(path)
    for litter in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        if litter.name.startswith(f".{path.name}.old-") and not path.exists():
            os.rename(litter, path)  # noqa: PTH104 - killed between the two renames of a replacement
            fsync(path.parent)
        elif litter.name.startswith((f".{path.name}.old-", f".{path.name}.new-")) and _is_abandoned(litter):
            shutil.rmtree(litter, ignore_errors=True)


def sha256_of(file: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal, read in constant memory."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably, where they are not there yet.

    Raises:
        UsageError: a file is in the way, or the system refuses.
        CheckpointError: the disk is full.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            fsync(folder.parent)
    except (FileExistsError, NotADirectoryError):
        file = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
        raise UsageError(f"{file}: this is a file, and a folder is needed here. Choose another place.") from None
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> BertsmithError:
    """What to raise where the system refuses to write at `path`, or to make it."""
    if error.errno in _FULL_DISK:
        return CheckpointError(
            f"{path}: the disk is full, nothing was written there. Free some space or choose another place."
        )
    reason = os.strerror(error.errno) if error.errno else error
    if error.errno == errno.EIO:
        return CheckpointError(f"{path}: cannot be written ({reason}). Look after the disk, or choose another place.")
    return UsageError(f"{path}: cannot be written ({reason}). Choose another place.")


def _system_error(error: BaseException) -> int:
    """The number of the system's error that `error` stands for, 0 if there is none."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))  # what Rust says; safetensors has no other way to tell
    return int(found[1]) if found else 0


def _refuse_to_overwrite(path: Path, *, replace: bool) -> None:
    if not os.path.lexists(path):
        return
    if not replace:
        raise UsageError(f"{path}: this already exists. Choose another place, or remove it first.")
    if path.is_symlink() or not path.is_dir() or (any(path.iterdir()) and not (path / INTEGRITY).is_file()):
        # Replacing deletes; so only what this module made, or an empty folder, may ever be replaced.
        raise UsageError(f"{path}: this was not written by bertsmith and will not be replaced. Choose another place.")


def _temporary_sibling(path: Path) -> tuple[Path, int]:
    """A new empty folder and a lock on it, which the kernel drops when this process dies, however it dies."""
    while True:
        folder = path.parent / f".{path.name}.new-{uuid4().hex[:12]}"
        folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except FileNotFoundError:
            continue  # another publisher swept it away before it was locked
        if folder.exists():
            return folder, lock
        os.close(lock)


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        return False  # already gone
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # its publisher lives
    finally:
        os.close(lock)
    return True


def _seal(folder: Path) -> None:
    """Make all files durable, then list them in `integrity.json`, which is written last and made durable too."""
    files, folders = [], [folder]
    for entry in sorted(folder.rglob("*")):
        (folders if entry.is_dir() else files).append(entry)
    entries = {}
    for file in files:
        fsync(file)
        name = file.relative_to(folder).as_posix()
        entries[name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    listing = {"format": "bertsmith-integrity", "version": 1, "files": entries}
    with (folder / INTEGRITY).open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(listing, indent=1, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    for directory in folders:
        fsync(directory)


def _swap_in(folder: Path, path: Path) -> None:
    old = None
    if path.exists():
        old = path.parent / f".{path.name}.old-{uuid4().hex[:12]}"
        os.rename(path, old)  # noqa: PTH104 - os.rename: the one call whose atomicity all of this rests on
    try:
        os.rename(folder, path)  # noqa: PTH104
    except BaseException:
        if old is not None:
            os.rename(old, path)  # noqa: PTH104
        raise
    fsync(path.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def fsync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_integrity(path: Path) -> list[tuple[str, int, str]]:
    file = path / INTEGRITY
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such folder.")
    if not file.is_file():
        raise CheckpointError(
            f"{path}: {INTEGRITY} is missing, so this folder is incomplete or not one of bertsmith's."
        )
    try:
        content = read_small(file, _MOST_LISTING_BYTES).decode("utf-8")
        listing = json.loads(content)
        if listing["format"] != "bertsmith-integrity" or listing["version"] != 1:
            raise ValueError(f"format {listing['format']!r:.80}, version {listing['version']!r:.80}")
        if not content.endswith("\n"):
            raise ValueError("it was cut off")
        entries = [(str(name), int(e["bytes"]), str(e["sha256"])) for name, e in listing["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: not a readable list of files ({error}). Copy the folder again, whole."
        ) from None
    for name, _, _ in entries:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(f"{file}: lists {name!r:.200}, which lies outside the folder.")
    return entries


def _verify_size(file: Path, size: int) -> None:
    if not file.is_file():
        what = "this is no regular file" if os.path.lexists(file) else "this file is missing"
        raise CheckpointError(f"{file}: {what}. Make the folder anew or copy it again, whole.")
    if (found := file.stat().st_size) != size:
        raise CheckpointError(f"{file}: expected {size} bytes, found {found}.{_explain(file)}")


def _verify_hash(file: Path, digest: str) -> None:
    if (found := sha256_of(file)) != digest:
        raise CheckpointError(f"{file}: expected SHA-256 {digest}, found {found}.{_explain(file)}")


def is_lfs_pointer(start: bytes) -> bool:
    """Whether a file that starts with `start` is what git leaves when git-lfs has not fetched the real one."""
    return start.startswith(_LFS_POINTER)


def _explain(file: Path) -> str:
    with file.open("rb") as stream:
        if is_lfs_pointer(stream.read(40)):
            return " It is a git-lfs pointer: fetch the real file with `git lfs pull`."
    return " It was damaged or changed: copy it again or make the folder anew."
