"""One folder, one writer: of a run, and of an index."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bertsmith.errors import UsageError
from bertsmith.folders import cannot_write, make_folder

OWNER = "owner.json"


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """Be the only process that writes into a folder. It is made if need be, and removed again if nothing is put in.

    The kernel drops the lock when its holder dies, however it dies, so there is never a dead owner to clear away; the file
    only says who it is. Every file system that honours `flock` across machines guards across machines too.

    Raises:
        UsageError: another process is at work in the folder; the message names it. Or nothing can be written there.
        CheckpointError: the disk is full.
    """
    is_new = not run.exists()
    make_folder(run)
    path = run / OWNER
    try:
        lock = _lock(path)
    except BlockingIOError:
        raise UsageError(
            f"{run} is in use by {_owner(path)}. Wait for it or stop it, or choose another folder with -o."
        ) from None
    except OSError as error:
        raise cannot_write(run, error) from error
    try:
        yield
    finally:
        if is_new and [entry.name for entry in run.iterdir()] == [OWNER]:
            path.unlink()
            run.rmdir()
        os.close(lock)


def _lock(path: Path) -> int:
    """Lock the file at `path`, and say in it who we are."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(path, lock):
                now = datetime.now(UTC).isoformat(timespec="seconds")
                who = {"host": socket.gethostname(), "pid": os.getpid(), "since": now}
                os.ftruncate(lock, 0)
                os.write(lock, (json.dumps(who) + "\n").encode())
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _is_still_there(path: Path, lock: int) -> bool:
    """False where its last owner removed the file after we had opened it: then others lock another file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    said = "another process"
    # It may be writing its name just now; until then the file is empty, or names an owner before it.
    for _ in range(100):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads(path.read_text(encoding="utf-8"))
            said = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
            if owner["host"] != socket.gethostname() or _is_alive(owner["pid"]):
                break
        time.sleep(0.02)
    return said


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is somebody else's
        return True
    except ProcessLookupError:
        return False
    return True
