"""What the fault tests have done in another process. `task` and `arguments` come from whoever runs this file."""

import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from bertsmith.cli import main
from bertsmith.config import from_dict
from bertsmith.train import AdamW, Pretraining, Recipe, loop, pretraining, session, state

sys.path.insert(0, str(Path(__file__).parent))
import slow_pairs  # noqa: F401 - a part that recipes may name

# Every call that changes what is on disk. What a process has written survives it, so nothing is really made durable here.
task: str = globals()["task"]
arguments: dict[str, Any] = globals()["arguments"]
CALLS = ("mkdir", "open", "write", "fsync", "rename", "replace", "unlink", "rmdir", "truncate", "ftruncate")


def die_at(number: int) -> None:
    """End this process, as SIGKILL would, before its call `number` of any of `CALLS`, or in the middle of a write."""
    calls = 0

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                if call is write:
                    write(given[0], given[1][: len(given[1]) // 2])
                os._exit(137)
            return None if call is fsync else call(*given, **named)

        return made

    write, fsync = os.write, os.fsync
    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    serialize = vars(safetensors.torch)["serialize_file"]

    def half(tensors: Any, path: Any, *rest: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        serialize(tensors, path, *rest, **named)
        if calls == number:
            with Path(path).open("r+b") as file:
                file.truncate(Path(path).stat().st_size // 2)
            os._exit(137)

    safetensors.torch.serialize_file = half  # pyright: ignore[reportPrivateImportUsage]


def announce(number: int | None) -> None:
    """Write down that a checkpoint is durable, past everything that dies."""
    with open(arguments["announced"], "a", encoding="utf-8") as file:  # noqa: PTH123 - not one of `CALLS`
        file.write(f"{number or 0}\n")


def sweep() -> None:
    """Save four states, one of them twice, each with its step in all its weights; and die at call 1, at call 2, ..."""
    model = from_dict(Recipe, arguments["recipe"]).model(37).initialized(0)
    optimizer = AdamW().build(model)
    folder, died = Path(arguments["out"]), 0
    while True:
        died += 1
        arguments["announced"] = str(folder / f"announced-{died}")
        child = os.fork()
        if not child:
            die_at(died)
            for step in (1, 2, 3, 3, 5):
                with torch.no_grad():
                    for tensor in model.state_dict().values():
                        tensor.fill_(float(step))
                at = state.State(step=step, draws=step)
                state.save_state(folder / f"run-{died}", at, model, optimizer, every=2)
                announce(step)
            os._exit(0)
        if not os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            return


def train() -> None:
    """Train, and announce each checkpoint."""
    run = the_run()
    if "die_at" in arguments:
        die_at(arguments["die_at"])
    for report in run.run(resume=True):
        announce(report.saved)
        hold()


def command() -> None:
    """The command line; it sends itself a signal, or breaks the disk, where it comes to a certain point."""
    sys.stderr = open(arguments["stderr"], "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stdout = sys.stderr
    import bertsmith.cli.terminal

    bertsmith.cli.terminal.talk.file = sys.stderr
    if "nth" in arguments:
        for place, name, point in (
            (pretraining.Shards, "load", "hashing"),
            (Recipe, "model", "building"),
            (pretraining, "measure", "measuring"),
            (pretraining, "reference_losses", "reference losses"),
            (loop.Losses, "forward", "pass"),
            (session, "evaluate", "evaluating"),
            (session, "save_state", "saving"),
            (Pretraining, "_save_model", "model"),
        ):
            if point == arguments["point"]:
                setattr(place, name, struck(getattr(place, name)))
    main(arguments["argv"])


def hold() -> None:
    """Wait for as long as a file says so."""
    while "hold" in arguments and Path(arguments["hold"]).exists():
        time.sleep(0.01)


def struck(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with something that happens just as it begins for the n-th time."""
    calls = 0

    def called(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += arguments["point"] != "pass" or given[0].model.training  # neither trials nor evaluations
        if calls == arguments["nth"]:
            if "signal" in arguments:
                os.kill(os.getpid(), arguments["signal"])
            elif "fault" in arguments:
                break_disk()
            else:
                Path(arguments["reached"]).touch()
                hold()
        return function(*given, **named)

    return called


def the_run() -> Pretraining:
    return Pretraining(
        recipe=from_dict(Recipe, arguments["recipe"]),
        data=Path(arguments["data"]),
        out=Path(arguments["out"]),
        **arguments["settings"],
    )


def break_disk() -> Callable[[], None]:
    """Files may not grow past a size, or no fsync succeeds, until what this returns is called."""
    hard, fsync = resource.getrlimit(resource.RLIMIT_FSIZE)[1], os.fsync

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def mend() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        os.fsync = fsync

    if arguments["fault"] == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments["room"], hard))
    else:
        os.fsync = fail
    return mend


def train_on_bad_disk() -> None:
    """Train, and have the disk fail from one step to another."""
    mend: Callable[[], None] = lambda: None  # noqa: E731
    for report in the_run().run(resume=True):
        if report.step == arguments["from"]:
            mend = break_disk()
        if report.step == arguments["until"]:
            mend()
        announce(report.saved)


torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a server's children begin without one
globals()[task]()
