"""Compiling the C++ of this folder, once for each machine.

The library is kept under its digest in `$XDG_CACHE_HOME/bertsmith` (`~/.cache/bertsmith`). There is no Python in it, and
nothing of torch, so a new torch does not need a new one. Threads are OpenMP's, of the library that torch has loaded.
"""

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("blocks.cpp")
NEEDS = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl", "avx2", "fma3")
FLAGS = (
    "-O3 -std=c++17 -fno-strict-aliasing -fopenmp -fPIC -shared -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma"
)
UNITS = {torch.bfloat16: ("avx512_bf16", "BF16"), torch.int8: ("avx512_vnni", "VNNI")}  # that other numbers need
SECONDS = 120  # that the compiler may take; it takes three or four


class CannotCompile(Exception):
    """There are no kernels on this machine; the message says why."""


def missing(dtype: torch.dtype = torch.float32) -> str | None:
    """Why there are no kernels for these numbers on this machine; None if there are."""
    try:
        library(dtype)
    except CannotCompile as error:
        return str(error)
    return None


def library(dtype: torch.dtype = torch.float32) -> ctypes.CDLL:
    """The compiled kernels; the first call on a machine compiles them.

    Raises:
        CannotCompile: the processor has not the units, or there is no compiler, or it fails, or its result cannot be kept.
    """
    unit, name = UNITS.get(dtype, ("avx512_f", "F"))
    if not torch.cpu.get_capabilities().get(unit):
        raise CannotCompile(f"this processor has no AVX-512 {name}")
    made = _made()
    if isinstance(made, CannotCompile):
        raise made
    return made


@cache
def _made() -> ctypes.CDLL | CannotCompile:
    try:
        return _load()
    except CannotCompile as error:
        return error
    except (OSError, RuntimeError, AttributeError, subprocess.SubprocessError) as error:
        return CannotCompile(f"the compiled kernels cannot be made or loaded ({error})")


def _load() -> ctypes.CDLL:
    can = torch.cpu.get_capabilities()
    if not all(can.get(unit) for unit in NEEDS):
        raise CannotCompile("this processor has no AVX-512")
    command = shlex.split(os.environ.get("CXX") or "g++")
    if not command or shutil.which(command[0]) is None:
        raise CannotCompile("no C++ compiler was found: install g++, or name one in CXX")
    command += FLAGS.split() + [f"-m{unit.replace('_', '')}" for unit, _ in UNITS.values() if can.get(unit)]
    about = _run([command[0], "--version"]).stdout
    digest = sha256(b"\0".join([SOURCE.read_bytes(), about.encode(), *map(str.encode, command)])).hexdigest()[:16]
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    path = (given if given.is_absolute() else Path.home() / ".cache") / "bertsmith" / f"blocks-{digest}.so"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _compile(command, path)
    return _opened(path)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )


def _compile(command: list[str], path: Path) -> None:
    """Others may be compiling too: whoever is last replaces what is the same."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compiling-") as folder:
        made = Path(folder) / path.name
        done = _run([*command, str(SOURCE), "-o", str(made)])
        if done.returncode or not made.exists():
            said = [line for line in done.stderr.splitlines() if "error" in line][:1]
            raise CannotCompile(": ".join([f"{command[0]} failed", *said]))
        made.chmod(0o700)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(path)


def _opened(path: Path) -> ctypes.CDLL:
    """The library, if nobody but us and root can have put it there: what is loaded is run."""
    for one in (path.parent, path):
        about = one.stat()
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o022:
            raise CannotCompile(f"{one} could have been written by others: remove it, or make it yours alone")
    made = ctypes.CDLL(str(path))
    number, pointer = ctypes.c_int, ctypes.c_void_p
    made.packed_bytes.restype = ctypes.c_size_t
    made.packed_bytes.argtypes = [number] * 3
    made.pack.restype = made.release.restype = None
    made.run.restype = number
    made.allocate.restype = pointer
    made.allocate.argtypes = [ctypes.c_size_t]
    made.release.argtypes = [pointer]
    made.pack.argtypes = [pointer, number, number, number, pointer]
    made.run.argtypes = [pointer]
    return made
