"""One run folder, one writer."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bertsmith.errors import UsageError

OWNER = "owner.json"


@contextmanager
def owned(run: Path) -> Iterator[None]:
    """Be the only process that writes into the run folder, which is made if need be.

    The kernel drops the lock when its holder dies, however it dies, so there is never a dead owner to clear away; the file
    only says who it is. Every file system that honours `flock` across machines guards across machines too.

    Raises:
        UsageError: another process is at work in the folder; the message names it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / OWNER).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"{run} is in use by {_owner(run)}. Wait for it or stop it, or choose another folder with -o."
            ) from None
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": now}) + "\n")
        file.flush()
        yield


def _owner(run: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads((run / OWNER).read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    return "another process"
