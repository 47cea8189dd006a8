"""The state of a run on disk: what a resume needs, whole or absent.

One folder a checkpoint, `checkpoints/step-00000100`: the model's and the optimizer's tensors as safetensors, and a small
JSON file. No random state is stored, because none is kept: order, masks and dropout are functions of seed and step.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertsmith.data import Position
from bertsmith.errors import CheckpointError, TrainingError
from bertsmith.folders import publish, recover, verify
from bertsmith.nn import Model

VERSION = 2
KEEP = 2  # the newest may be the one that a crash is about to prove unreadable


@dataclass(frozen=True)
class State:
    """Where a run stands after `step` updates.

    `stage_step` of them were in the current stage, which has taken `draws` batches from the data: more than steps where a
    batch was skipped. `rollbacks` counts how often the run went back to a checkpoint.
    """

    step: int = 0
    stage: int = 0
    stage_step: int = 0
    position: Position = Position()
    draws: int = 0
    rollbacks: int = 0


def save_state(run: Path, state: State, model: Model, optimizer: torch.optim.Optimizer) -> Path:
    """Write `run/checkpoints/step-N`, durably, then remove all but the newest `KEEP`.

    Raises:
        TrainingError: a weight is not a finite number; nothing is written.
        CheckpointError: the disk is full; the older checkpoints are all there.
    """
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    broken = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise TrainingError(f"Step {state.step}: {broken[0]} has values that are not finite, so nothing was saved.")
    moments = {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    with publish(folder, replace=True) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary / "model.safetensors"
        )
        save_file(moments, temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(
            json.dumps({"version": VERSION, **asdict(state)}) + "\n", encoding="utf-8"
        )
    for old in saved_states(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def saved_states(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, by step and never by clock."""
    found = [p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", p.name) and p.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def newest_state(run: Path) -> tuple[Path, State] | None:
    """The newest checkpoint that is whole, or None where there is none at all.

    Raises:
        CheckpointError: there are checkpoints and not one of them is whole.
    """
    problems = []
    for folder in reversed(saved_states(run)):
        try:
            verify(folder, thorough=True)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        stored = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if (version := stored.pop("version", 1)) > VERSION:
            raise CheckpointError(f"{folder} was written by a newer bertsmith (version {version}). Upgrade this one.")
        stored.setdefault("draws", stored["stage_step"])  # runs of bertsmith 0.1 knew no skipped batches
        return folder, State(**{**stored, "position": Position(**stored["position"])})
    if problems:
        raise CheckpointError(f"{run}: no checkpoint can be read: " + "; ".join(problems))
    return None


def clear_litter(run: Path) -> None:
    """Remove what writers of checkpoints left behind that were killed. Only for the owner of the run."""
    for folder in (run / "checkpoints").glob("step-*"):
        recover(folder)
    for litter in (run / "checkpoints").glob(".step-*"):
        recover(litter.with_name(litter.name[1:].partition(".")[0]))


def load_weights(folder: Path, model: Model) -> None:
    """Put a checkpoint's weights into `model`, which must be of the same shape."""
    model.load_state_dict(load_file(folder / "model.safetensors"))


def load_moments(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's moments into `optimizer`, which must be newly built for the same model."""
    values: dict[int, dict[str, Tensor]] = {}
    moments: Mapping[str, Tensor] = load_file(folder / "optimizer.safetensors")
    for key, value in moments.items():
        index, name = key.split(".", 1)
        values.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
