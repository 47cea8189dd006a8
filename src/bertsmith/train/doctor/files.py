"""What a run left on disk: its log, its checkpoints, its model, and what it reported itself."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from bertsmith.errors import CheckpointError
from bertsmith.folders import verify
from bertsmith.train.doctor import symptoms
from bertsmith.train.doctor.finding import Case, Finding, Severity, count, last_words, some, spoken, steps_of
from bertsmith.train.state import saved_states


def log_is_whole(case: Case) -> Iterator[Finding]:
    """Lines that cannot be read, steps that are missing or come twice."""
    history = case.history
    if history.damaged:
        yield Finding(
            "log",
            "wrong",
            f"{count(len(history.damaged), 'line')} of log.jsonl cannot be read: {some(history.damaged)}.",
            "The figures below are without them. A run writes whole lines, so something else changed the file.",
            "Copy the log again from where the run was made, and see whether the disk is well.",
        )
    if not history.training:
        yield Finding(
            "log",
            "odd",
            "The log has no training step.",
            "The run stopped before its first step, or its log was removed.",
            "Start it again with --resume.",
        )
    told = [event["step"] for event in history.events if isinstance(event.get("step"), int)]
    # Fine-tuning also logs the end of each epoch, wherever that falls.
    for where in history.segments if history.kind == "pretraining" else ():
        steps = history.series("learning_rate", **where).steps
        missing = [
            (before, after)
            for before, after in symptoms.gaps(steps)
            if not any(before <= step <= after for step in told)
        ]
        if missing:
            places = some([f"{before:,} to {after:,}" for before, after in missing])
            yield Finding(
                "log",
                "odd",
                f"Steps are missing in the log, {count(len(missing), 'time')}: from {places}.",
                "A run logs at even distances. Either lines were lost, or two logs were put together.",
                "See whether two runs wrote into this folder, or whether the disk was full at that time.",
            )
    steps = history.series("learning_rate").steps
    again = symptoms.repeats(steps)
    if again and not any(event["event"] == "rolled_back" for event in history.events):
        yield Finding(
            "log",
            "wrong",
            f"{count(len(again), 'step')} of the log come again or out of order: {some(again)}.",
            "A resumed run cuts its log back first. So two runs wrote here, or the log was changed by hand.",
            "Train in a folder of its own. Trust neither the curves nor the checkpoints of this one.",
        )


def figures_are_finite(case: Case) -> Iterator[Finding]:
    """Losses and gradient norms that are NaN or infinite, and batches that were skipped for it."""
    history = case.history
    paths = [("train", name, "loss") for name in history.objectives()]
    paths += [("heldout", name, "loss") for name in history.objectives("heldout")]
    for path in [*paths, ("gradient_norm",)]:
        series = history.series(*path)
        broken = sorted(series.steps[~np.isfinite(series.values)].tolist() + history.nulls(*path))
        if broken:
            yield Finding(
                "finite",
                "wrong",
                f"{_said(path)} is not finite at {count(len(broken), 'logged step')}: {some(broken)}.",
                "An update from such a step would make the weights useless, and everything after it.",
                "Go back to a checkpoint from before. Lower the learning rate or train in float32.",
            )
    skipped = [event for event in history.events if event["event"] == "skipped"]
    if skipped:
        share = len(skipped) / max(1, history.last_step)
        yield Finding(
            "finite",
            "wrong" if share > 0.01 else "odd",
            f"{count(len(skipped), 'batch was', 'batches were')} skipped ({share:.2%} of the steps): {steps_of(skipped)}."
            f"{last_words(skipped)}",
            "The loss or a gradient was not finite there. A few in a long run do no harm, many say that it is unstable.",
            "If there are more to come, lower the learning rate or train in float32.",
        )


_EVENTS: dict[str, tuple[Severity, str, str]] = {
    "rolled_back": (
        "odd",
        "The run went back to a checkpoint because it could not go on; the batches in between were passed over.",
        "Once is no harm. Again and again means that the learning rate is too high for this precision.",
    ),
    "out_of_memory": (
        "odd",
        "The batch was computed in smaller pieces from there on: the result is the same, the speed is not.",
        "Raise the stage's accumulation, or shorten its sequences, so that a batch fits from the start.",
    ),
    "not_saved": (
        "odd",
        "No checkpoint could be written there. The run went on, but a crash would have cost more steps than expected.",
        "Free some space or see the message, then see that the newest checkpoint is near the last step.",
    ),
    "worker_restarted": (
        "odd",
        "A process that prepares batches died. It went on from its exact place, so the data are as they were.",
        "See the system's log for the memory killer; use fewer workers.",
    ),
}


def events_of_note(case: Case) -> Iterator[Finding]:
    """What the run itself reported."""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in case.history.events:
        by_kind[str(event["event"])].append(event)
    for kind, (severity, why, advice) in _EVENTS.items():
        if found := by_kind.get(kind):
            what = kind.replace("_", " ")
            seen = f"{what.capitalize()}, {count(len(found), 'time')}: {steps_of(found)}.{last_words(found)}"
            yield Finding("events", severity, seen, why, advice)


def checkpoints_are_whole(case: Case) -> Iterator[Finding]:
    """Every checkpoint and the model: all files with their hashes, all weights finite."""
    run, history = case.history.path, case.history
    folders = saved_states(run)
    if history.kind == "pretraining" and history.training and not folders:
        yield Finding(
            "checkpoints",
            "odd",
            f"There is no checkpoint, at step {history.last_step:,}.",
            "If the run ends now, it has to begin again at step 1.",
            "Choose a smaller --save-every; if they were removed, the run cannot be resumed.",
        )
    model = run / "model"
    if history.is_finished and not model.is_dir():
        yield Finding(
            "model",
            "wrong",
            "All steps are done and there is no model folder.",
            "Nothing can be used of this run yet. It was stopped while the model was written, or the folder was removed.",
            "Run the same command with --resume, which writes it from the last checkpoint.",
        )
    for folder in [*folders, *([model] if model.is_dir() else [])]:
        what = "model" if folder == model else "checkpoints"
        try:
            verify(folder, thorough=True)
        except CheckpointError as error:
            others = [other for other in folders if other != folder]
            rest = f"A resume takes the newest whole one of the others ({some([o.name for o in others])})."
            yield Finding(
                what,
                "wrong",
                f"{folder.name} is damaged: {error}",
                rest if what == "checkpoints" and others else "It cannot be loaded.",
                "Remove that folder, and test the disk." if what == "checkpoints" else "Write it again with --resume.",
            )
            continue
        broken = [name for file in sorted(folder.glob("*.safetensors")) for name in _not_finite(file)]
        if broken:
            yield Finding(
                what,
                "wrong",
                f"{folder.name} has values that are not finite, in {count(len(broken), 'tensor')}: {some(broken)}.",
                "Whatever is computed with them is not a number either; training on from there cannot recover.",
                "Remove that folder and go on from an older one, with a lower learning rate.",
            )


def run_is_finished(case: Case) -> Iterator[Finding]:
    """A run that stands before its end."""
    history = case.history
    if history.is_finished or not history.training:
        return
    of = f" of {history.steps:,}" if history.steps else ""
    saved = saved_states(history.path)
    newest = f" The newest checkpoint is {saved[-1].name}." if saved else ""
    stopped = [event for event in history.events if event["event"] == "stopped"]
    why = "It is still running, or it was killed: it did not say that it stopped."
    if stopped and stopped[-1].get("step") == history.last_step:
        why = f"It was asked to stop.{last_words(stopped)}"
    yield Finding(
        "unfinished",
        "note",
        f"The run stands at step {history.last_step:,}{of}.{newest}",
        why,
        "If nobody is training it, go on with --resume." if history.kind == "pretraining" else "Train it again.",
    )


def clock_runs_on(case: Case) -> Iterator[Finding]:
    """A clock that went back, or stood still for the run while it went on elsewhere."""
    told = [
        line for line in case.history.lines if isinstance(line.get("clock"), str) and isinstance(line.get("step"), int)
    ]
    steps = case.history.series("seconds").values
    usual = float(np.median(steps)) if len(steps) else 0.0
    back, pauses = [], []
    for before, after in pairwise(told):
        try:
            passed = (datetime.fromisoformat(after["clock"]) - datetime.fromisoformat(before["clock"])).total_seconds()
        except (ValueError, TypeError):
            continue
        if passed < -1:
            back.append((after["step"], -passed))
        elif passed > 600 + 20 * usual * max(1, after["step"] - before["step"]) and after.get("event") != "resumed":
            pauses.append((after["step"], passed))
    for places, what, why in (
        (back, "went back", "Order is by step here, so nothing is lost; times in this log cannot be trusted there."),
        (
            pauses,
            "leapt ahead",
            "The machine slept, was paused, or its clock was set. The steps themselves took their usual time.",
        ),
    ):
        if places:
            said = some([f"{step:,} ({seconds:,.0f} s)" for step, seconds in places])
            yield Finding("clock", "note", f"The clock {what} at step {said}.", why, "Nothing, if you know of it.")


def _not_finite(file: Path) -> Iterator[str]:
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a mapping
            tensor = tensors.get_tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                yield f"{file.stem}: {name}"


def _said(path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return "The gradient norm"
    return f"The {'held-out' if path[0] == 'heldout' else 'training'} loss of {spoken(path[1])}"
