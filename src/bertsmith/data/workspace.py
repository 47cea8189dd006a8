"""Where finished pieces of long work are kept until all are there, so that work which is killed goes on where it was.

    .NAME.work-3f9a.../            beside the NAME that is being made; the number stands for all that shapes a piece
        0000000-8d1c....npz        a finished piece, under its place and the hash of its text

A piece appears in one atomic step after it is on disk, so work that is killed loses only the pieces in hand. A later start
cuts its text anew and finds the pieces whose text has not changed.
"""

import errno
import fcntl
import glob
import json
import os
import shutil
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np

from bertsmith.errors import CheckpointError, UsageError
from bertsmith.folders import cannot_write, make_folder

Stored = TypeVar("Stored")


class Workspace(Generic[Stored]):
    """The folder of finished pieces beside `out`, locked for this process. A piece is a `kind`: a dataclass of arrays.

    `options` is all that shapes a piece besides its text; other options mean another folder, and pieces that were made
    with other ones are thrown away. `finished` says how many pieces stood here, `begun_anew` whether some were thrown away.

    Raises:
        UsageError: another process makes the same, or the place cannot be written.
    """

    def __init__(self, out: Path, options: dict[str, Any], kind: type[Stored]) -> None:
        self._kind = kind
        self._members = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
        number = sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = out.parent / f".{out.name}.work-{number}"
        make_folder(self.folder)
        self._lock = os.open(self.folder, os.O_RDONLY)
        if not _locked(self._lock):
            os.close(self._lock)
            raise UsageError(f"{out}: another process is making this already. Let it end, or choose another place.")
        self.begun_anew = sweep(out, but=self.folder)
        for file in self.folder.glob("*.part"):
            file.unlink()
        self._there = {file.stem for file in self.folder.glob("*.npz")}
        self.finished = len(self._there)
        self.names: list[str] = []
        self.keep = True

    def __contains__(self, name: str) -> bool:
        return name in self._there

    def save(self, name: str, done: Stored) -> None:
        """Make a piece durable, then visible.

        Raises:
            CheckpointError: the disk is full.
        """
        part = self.folder / f"{name}.part"
        try:
            with part.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **{name: getattr(done, name) for name in self._members})
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self.folder / f"{name}.npz")
            os.fsync(self._lock)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CheckpointError(
                    f"{self.folder}: the disk is full. The finished pieces of text are kept: free some space and run the "
                    "same command again."
                ) from error
            raise cannot_write(self.folder, error) from error
        self._there.add(name)

    def load(self, name: str, *members: str) -> Stored:
        """A finished piece, or only some `members` of it: the others are empty then.

        Raises:
            CheckpointError: it was damaged since; it is removed, so that the same command makes it anew.
        """
        file = self.folder / f"{name}.npz"
        try:
            with ZipFile(file) as stored:  # which checks a CRC of each member
                found = {name: _array(stored, name) for name in members or self._members}
            return self._kind(**{name: found.get(name, np.empty(0)) for name in self._members})
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            file.unlink(missing_ok=True)
            raise CheckpointError(
                f"{file}: this finished piece of text was damaged ({error}). Run the same command again: it is made anew."
            ) from error

    def close(self) -> None:
        """Give the folder free, and remove it unless `keep` says to keep it and there is something in it."""
        if not (self.keep and any(self.folder.glob("*.npz"))):
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def sweep(out: Path, but: Path | None = None) -> bool:
    """Remove the workspaces of `out` that nobody works in, except `but`; say whether a finished piece went with them."""
    found = False
    for folder in out.parent.glob(f".{glob.escape(out.name)}.work-*"):
        if folder == but:
            continue
        lock = os.open(folder, os.O_RDONLY)
        if _locked(lock):
            found = found or any(folder.glob("*.npz"))
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
    return found


def _array(stored: ZipFile, name: str) -> np.ndarray:
    with stored.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _locked(descriptor: int) -> bool:
    """Take the lock, which the kernel drops when this process dies, unless another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
