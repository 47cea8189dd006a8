"""Compiling the C++ of this folder, once for each machine.

The library is kept under its digest in `$XDG_CACHE_HOME/bertsmith` (`~/.cache/bertsmith`). There is no Python in it, and
nothing of torch, so a new torch does not need a new one. Threads are OpenMP's, of the library that torch has loaded.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("blocks.cpp")
NEEDS = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl")
SECONDS = 120  # that the compiler may take; it takes three or four


class CannotCompile(Exception):
    """There are no kernels on this machine; the message says why."""


def missing() -> str | None:
    """Why there are no kernels on this machine; None if there are."""
    try:
        library()
    except CannotCompile as error:
        return str(error)
    return None


@cache
def _made() -> ctypes.CDLL | CannotCompile:
    try:
        return _load()
    except CannotCompile as error:
        return error


def library() -> ctypes.CDLL:
    """The compiled kernels; the first call on a machine compiles them.

    Raises:
        CannotCompile: the processor has no AVX-512, or there is no compiler, or it fails, or its result cannot be kept.
    """
    made = _made()
    if isinstance(made, CannotCompile):
        raise made
    return made


def _load() -> ctypes.CDLL:
    can = torch.cpu.get_capabilities()
    if not all(can.get(unit) for unit in NEEDS):
        raise CannotCompile("this processor has no AVX-512")
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        raise CannotCompile("no C++ compiler was found: install g++, or name one in CXX")
    flags = ["-O3", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-march=x86-64-v4"]
    if can.get("avx512_bf16"):
        flags.append("-mavx512bf16")
    about = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    digest = sha256(b"\0".join([SOURCE.read_bytes(), about, *map(str.encode, flags)])).hexdigest()[:16]
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertsmith" / f"blocks-{digest}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _compile([compiler, *flags, str(SOURCE)], path)
        return _declared(ctypes.CDLL(str(path)))
    except OSError as error:
        raise CannotCompile(f"{path} cannot be used ({error.strerror or error})") from error


def _compile(command: list[str], path: Path) -> None:
    """Others may be compiling too: whoever is last replaces what is the same."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compiling-") as folder:
        made = Path(folder) / path.name
        try:
            subprocess.run([*command, "-o", str(made)], capture_output=True, check=True, timeout=SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            last = (error.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
            raise CannotCompile(f"{command[0]} failed{': ' + last[0] if last else ''}") from error
        made.replace(path)


def _declared(made: ctypes.CDLL) -> ctypes.CDLL:
    number, pointer = ctypes.c_int, ctypes.c_void_p
    made.packed_bytes.restype = ctypes.c_size_t
    made.packed_bytes.argtypes = [number] * 3
    made.pack.restype = made.run_block.restype = made.release.restype = None
    made.allocate.restype = pointer
    made.allocate.argtypes = [ctypes.c_size_t]
    made.release.argtypes = [pointer]
    made.pack.argtypes = [pointer, number, number, number, pointer]
    made.run_block.argtypes = [pointer] * 3 + [number] * 3
    return made
