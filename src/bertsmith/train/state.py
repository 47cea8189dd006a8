"""The state of a run on disk: what a resume needs, whole or absent.

One folder a checkpoint, `checkpoints/step-00000100`: the model's and the optimizer's tensors as safetensors, in as many
pieces as the team has that wrote it, and a small JSON file. Any other team can go on from it. No random state is stored,
because none is kept: order, masks and dropout are functions of seed and step.
"""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from bertsmith.data import Position
from bertsmith.errors import CheckpointError, TrainingError
from bertsmith.folders import make_folder, recover, verify
from bertsmith.nn import Model
from bertsmith.train.rows import RowFiles, own_rows, write_rows
from bertsmith.train.team import Team

VERSION = 2
KEEP = 2  # the newest may be the one that a crash is about to prove unreadable


@dataclass(frozen=True)
class State:
    """Where a run stands after `step` updates.

    `stage_step` of them were in the current stage, which has taken `draws` batches from the data: more than steps where
    batches were skipped, `skipped` of them in a row just now. `rollbacks` counts how often the run went back to a
    checkpoint. `tokens_at_once` is what fits into memory, where the run has met with too little of it.
    `without` are the shards that are left out of the text, because they are damaged.
    """

    step: int = 0
    stage: int = 0
    stage_step: int = 0
    position: Position = Position()
    draws: int = 0
    rollbacks: int = 0
    skipped: int = 0
    tokens_at_once: int | None = None
    without: tuple[str, ...] = ()


class Spoiled(TrainingError):
    """A weight or a moment is not a finite number."""


def save_state(
    run: Path,
    state: State,
    model: Model,
    optimizer: torch.optim.Optimizer,
    *,
    every: int,
    team: Team = Team(),
) -> Path:
    """Write `run/checkpoints/step-N`, durably, then remove those that nobody will need. All of the team call it at once.

    The newest `KEEP` stay, and the newest older one at a multiple of `every` steps, which `state_before` may ask for.

    Raises:
        Spoiled: a weight or a moment is not a finite number; nothing is written.
        CheckpointError: the disk is full, or has no room for it; the older checkpoints are all there.
    """
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    weights = model.state_dict()
    moments = {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    tensors = [*weights.items(), *moments.items()]
    broken = [name for name, tensor in tensors if not own_rows(tensor)[0].isfinite().all()]
    if team.sum([float(len(broken))])[0]:
        what = broken[0] if broken else "what another process holds"
        raise Spoiled(f"Step {state.step}: {what} has values that are not finite, so nothing was saved.")
    _make_sure_of_room(folder, sum(own_rows(tensor)[0].nbytes for _, tensor in tensors), team)
    with team.publish(folder) as temporary:
        if temporary is not None:
            write_rows(temporary, "model", weights, team.rank, team.pieces)
            write_rows(temporary, "optimizer", moments, team.rank, team.pieces)
        if temporary is not None and team.rank == 0:
            stored = {"version": VERSION, "pieces": team.pieces, **asdict(state)}
            (temporary / "state.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")
    with team.leader_first() as leads:
        if leads:
            forget_after(run, state.step)
            prune(run, state.step, every=every)
    return folder


def _make_sure_of_room(folder: Path, needed: int, team: Team) -> None:
    """A disk is not filled up to find out that it is full: others write there too."""
    make_folder(folder.parent)
    free = shutil.disk_usage(folder.parent).free
    if team.sum([float(free < needed)])[0]:
        raise CheckpointError(
            f"{folder}: the disk is full: {needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free, and nothing was "
            "written. Free some space."
        )


def prune(run: Path, step: int, *, every: int) -> None:
    """Remove the checkpoints that a run which stands at `step` will not need."""
    older = [folder for folder in saved_states(run) if step_of(folder) < step]
    needed = [*older[1 - KEEP :], *[folder for folder in older if step_of(folder) % every == 0][-1:]]
    for folder in older:
        if folder not in needed:
            shutil.rmtree(folder, ignore_errors=True)  # half of one fails its check; it will be tried again


def forget_after(run: Path, step: int) -> None:
    """Remove the checkpoints after `step`, newest first: they could not be read, or the run goes another way from there."""
    for folder in reversed(saved_states(run)):
        if step_of(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)


def step_of(folder: Path) -> int:
    """The step of a checkpoint."""
    return int(folder.name.removeprefix("step-"))


def saved_states(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, by step and never by clock."""
    found = [p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", p.name) and p.is_dir()]
    return sorted(found, key=step_of)


def newest_state(run: Path) -> tuple[Path, State] | None:
    """The newest checkpoint that is whole, or None where there is none at all.

    Raises:
        CheckpointError: there are checkpoints and not one of them is whole.
    """
    return _first_whole(run, saved_states(run)[::-1])


def state_before(run: Path, step: int, *, every: int) -> tuple[Path, State] | None:
    """The checkpoint that a run goes back to from `step`: the newest older one at a multiple of `every` steps.

    What others there are depends on clocks and on interruptions, so they come into question only where there is no such.
    """
    older = [folder for folder in saved_states(run)[::-1] if step_of(folder) < step]
    return _first_whole(run, sorted(older, key=lambda folder: step_of(folder) % every != 0))


def _first_whole(run: Path, folders: Iterable[Path]) -> tuple[Path, State] | None:
    problems = []
    for folder in folders:
        try:
            verify(folder, thorough=True)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        stored = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if (version := stored.pop("version", 1)) > VERSION:
            raise CheckpointError(f"{folder} was written by a newer bertsmith (version {version}). Upgrade this one.")
        stored.setdefault("draws", stored["stage_step"])  # runs of bertsmith 0.1 knew no skipped batches
        stored.pop("pieces", None)  # the files say so themselves
        position, without = Position(**stored["position"]), tuple(stored.get("without", ()))
        return folder, State(**{**stored, "position": position, "without": without})
    if problems:
        raise CheckpointError(f"{run}: no checkpoint can be read: " + "; ".join(problems))
    return None


def clear_litter(run: Path) -> None:
    """Remove what those left behind that were killed while they wrote checkpoints. Only for the run's owner."""
    for folder in (run / "checkpoints").glob("step-*"):
        recover(folder)
    for litter in (run / "checkpoints").glob(".step-*"):
        recover(litter.with_name(litter.name[1:].partition(".")[0]))


def load_weights(folder: Path, model: Model) -> None:
    """Put a checkpoint's weights into `model`, which must be of the same shape; into a divided one, its own part.

    Raises:
        CheckpointError: the checkpoint has other tensors.
    """
    stored, wanted = RowFiles(folder, "model"), model.state_dict()
    if stored.shapes() != {name: tuple(tensor.shape) for name, tensor in wanted.items()}:
        raise CheckpointError(f"{folder} holds another model than this run trains.")
    for name, tensor in wanted.items():
        _fill(tensor, stored, name)


def load_moments(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's moments into `optimizer`, which must be newly built for the same model."""
    values: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    stored = RowFiles(folder, "optimizer")
    for key, shape in stored.shapes().items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if shape == tuple(parameter.shape):
            value = torch.zeros_like(parameter, requires_grad=False)
            _fill(value, stored, key)
        else:
            value = stored.read(key)
        values.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def _fill(tensor: Tensor, stored: RowFiles, key: str) -> None:
    """Read what this process holds of a tensor."""
    own, first = own_rows(tensor)
    own.copy_(stored.read(key, first, len(own)) if own is not tensor else stored.read(key))
