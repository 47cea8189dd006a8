"""Losses that are no numbers, rates that are too high, memory that runs out: what is left is as if it had not happened."""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bertsmith.data import Batch, Drawn, Loader, Masking, Shards, Share
from bertsmith.errors import TrainingError
from bertsmith.nn import Model, Output
from bertsmith.objectives import Loss, MaskedLM
from bertsmith.recipes import bert
from bertsmith.train import AdamW, Loop, Muon, Pretraining, Recipe, Schedule, read_log
from bertsmith.train.state import newest_state, saved_states


def mark(batch: Batch) -> int:
    """What tells one batch from all others."""
    return int((batch["input_ids"].flatten() * torch.arange(1, batch["input_ids"].numel() + 1)).sum())


class _Poison(torch.autograd.Function):
    """The value as it is, with a gradient that is no number."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient * float("nan")


@dataclass(frozen=True, kw_only=True)
class FragileLM(MaskedLM, kind="fragile_lm"):
    """Masked LM that breaks at certain batches: its loss is no number, or its gradient; or memory runs out at a size.

    A pass without a backward pass takes half as much.
    """

    no_loss: tuple[int, ...] = ()
    no_gradient: tuple[int, ...] = ()
    most_tokens: int = 1 << 30

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        if inputs.num_tokens > self.most_tokens * (1 if model.training else 2):
            raise torch.OutOfMemoryError("there is no more")
        loss = super().loss(model, output, inputs)
        if not model.training:
            return loss
        if mark(inputs) in self.no_loss:
            return replace(loss, total=loss.total * float("inf"))
        return replace(loss, total=_Poison.apply(loss.total)) if mark(inputs) in self.no_gradient else loss


@dataclass(frozen=True, kw_only=True)
class Spike(Schedule, kind="spike"):
    """A rate that is a hundred times too high for five steps."""

    peak: float

    def rate(self, step: int, steps: int) -> float:
        return self.peak * (100 if 10 <= step < 15 else 1)


def fragile(recipe: Recipe, **changes: Any) -> Recipe:
    """The first stage of the recipe, with that objective alone."""
    return replace(recipe, stages=(replace(recipe.stages[0], objectives=(FragileLM(**changes),)),))


def even(recipe: Recipe) -> Recipe:
    """With steps that take the same from the text whatever their number, for what is skipped shall be all that differs."""
    (stage,) = recipe.stages
    masking = replace(stage.masking or Masking(), final_rate=None)
    return replace(recipe, stages=(replace(stage, masking=masking, initial_batch_size=None, ramp=0.0),))


def coming(recipe: Recipe, shards: Shards) -> Iterator[Drawn]:
    stage = recipe.stages[0]
    loader = Loader(shards, stage.instances, length=stage.length, seed=recipe.seed)
    return loader.steps(stage.draws, share=Share(tokens_at_once=1 << 20))


def trained_on(recipe: Recipe, shards: Shards, drawn: Iterator[Drawn]) -> dict[str, Tensor]:
    """The weights of a loop that knows nothing of runs, and gets these batches."""
    stage, model = recipe.stages[0], recipe.model(len(shards.vocabulary)).initialized(recipe.seed)
    loop = Loop(
        model=model,
        objectives=stage.objectives,
        optimizer=stage.optimizer.build(model),
        schedule=stage.schedule,
        steps=stage.steps,
        seed=recipe.seed,
    )
    assert len(list(loop.run(drawn))) == stage.steps
    return model.state_dict()


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(saved_states(out)[-1] / "model.safetensors")


def events(out: Path) -> list[tuple[int, str]]:
    return [(r["step"], r["event"]) for r in read_log(out) if "event" in r and r["event"] not in ("resumed", "stopped")]


def finite(out: Path) -> bool:
    """Whether every number on disk is one."""
    for file in out.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values()), file
    return "NaN" not in (out / "log.jsonl").read_text() and "Infinity" not in (out / "log.jsonl").read_text()


def train(run: Pretraining, *, until: int | None = None) -> None:
    steps = run.run(resume=True)
    for report in steps:
        assert finite(run.out)
        if report.step == until:
            steps.close()
            return


@pytest.mark.parametrize("where", ["no_loss", "no_gradient"])
@pytest.mark.parametrize("bad", [(0,), (5,), (23, 24, 25), (2, 3, 9, 17, 18, 19, 20)], ids=str)
def test_a_bad_batch_is_as_if_it_had_not_been_there(
    run_in: Callable[..., Pretraining],
    recipe: Recipe,
    shard_folder: Path,
    tmp_path: Path,
    where: str,
    bad: tuple[int, ...],
) -> None:
    """Also where the run is interrupted in the middle of it, by a stop or by a death."""
    shards = Shards.load(shard_folder)
    marks = [mark(drawn.batches[0]) for drawn in islice(coming(even(fragile(recipe)), shards), 40)]
    poisoned = even(fragile(recipe, **{where: tuple(marks[i] for i in bad)}))
    run = run_in(tmp_path / "run", recipe=poisoned, tokens_at_once=1 << 20)
    train(run)
    expected = trained_on(
        even(fragile(recipe)), shards, (d for i, d in enumerate(coming(even(fragile(recipe)), shards)) if i not in bad)
    )
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(run.out).items())
    skipped = [event for _, event in events(run.out)]
    assert skipped == ["skipped"] * len(bad)


def bad_run(run_in: Callable[..., Pretraining], recipe: Recipe, shards: Shards, out: Path, bad: range) -> Pretraining:
    marks = [mark(drawn.batches[0]) for drawn in islice(coming(even(fragile(recipe)), shards), bad.stop)]
    poisoned = even(fragile(recipe, no_loss=tuple(marks[i] for i in bad)))
    return run_in(out, recipe=poisoned, tokens_at_once=1 << 20)


def test_ten_in_a_row_go_back_to_a_checkpoint(
    run_in: Callable[..., Pretraining], recipe: Recipe, shard_folder: Path, tmp_path: Path
) -> None:
    """Batches 10 to 22 are bad: at the tenth of them back to step 8, then three more are skipped, and on."""
    shards = Shards.load(shard_folder)
    run = bad_run(run_in, recipe, shards, tmp_path / "run", range(10, 23))
    train(run)
    good = [d for i, d in enumerate(islice(coming(even(fragile(recipe)), shards), 60)) if i < 8 or i > 22]
    expected = trained_on(even(fragile(recipe)), shards, iter(good))
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(run.out).items())
    assert events(run.out) == [(8, "rolled_back"), *[(8, "skipped")] * 3]
    told = [record["step"] for record in read_log(run.out) if "train" in record]
    assert told == list(range(1, 25)), "each step is told of once"
    # A stop leaves a checkpoint of its own; where a rollback goes does not depend on such.
    stopped = bad_run(run_in, recipe, shards, tmp_path / "stopped", range(10, 23))
    train(stopped, until=9)
    train(stopped)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(stopped.out).items())


@pytest.mark.parametrize("stops", [(9, 9, 9), (12, 16, 19, 21, 23)], ids=str)
@pytest.mark.parametrize("death", [False, True], ids=["stopped", "killed"])
def test_interrupted_while_batches_are_skipped(
    run_in: Callable[..., Pretraining],
    recipe: Recipe,
    shard_folder: Path,
    tmp_path: Path,
    stops: tuple[int, ...],
    *,
    death: bool,
) -> None:
    """Stopped, or killed, after so many batches of each start: the same weights, the same rollback."""
    shards = Shards.load(shard_folder)
    straight = bad_run(run_in, recipe, shards, tmp_path / "straight", range(10, 23))
    train(straight)
    run = bad_run(run_in, recipe, shards, tmp_path / "run", range(10, 23))
    for stop in stops:
        asked = 0

        def enough(stop: int = stop) -> bool:
            nonlocal asked
            asked += 1
            if death and asked > 2 * stop:
                raise KeyboardInterrupt
            return asked > 2 * stop

        try:
            for _ in run.run(resume=True, stop=enough):
                pass
        except KeyboardInterrupt:
            assert death
    train(run)
    assert all(torch.equal(weights(straight.out)[name], tensor) for name, tensor in weights(run.out).items())
    assert events(run.out)[-4:] == events(straight.out)[-4:]


def test_it_gives_up_after_three_times(
    run_in: Callable[..., Pretraining], recipe: Recipe, shard_folder: Path, tmp_path: Path
) -> None:
    run = bad_run(run_in, recipe, Shards.load(shard_folder), tmp_path / "run", range(10, 60))
    said = r"is not finite.* So were 40 batches in a row\. Going back to a checkpoint has not helped 3 times\.$"
    with pytest.raises(TrainingError, match=said) as told:
        train(run)
    assert "\n" not in str(told.value)
    assert finite(run.out)
    found = newest_state(run.out)
    assert found is not None and found[1].step == 8


def test_it_gives_up_where_there_is_nothing_to_go_back_to(
    run_in: Callable[..., Pretraining], recipe: Recipe, shard_folder: Path, tmp_path: Path
) -> None:
    run = bad_run(run_in, recipe, Shards.load(shard_folder), tmp_path / "run", range(2, 20))
    with pytest.raises(TrainingError, match="There is no older checkpoint of this stage"):
        train(run)


def test_weights_that_are_spoiled_are_never_saved(
    run_in: Callable[..., Pretraining], recipe: Recipe, tmp_path: Path
) -> None:
    """A row that no batch uses, and so no loss tells of, becomes infinite: the save finds it and the run goes back."""
    spoiled = 0
    steps = run_in(tmp_path / "run", recipe=fragile(recipe)).run()
    for report in steps:
        assert finite(tmp_path / "run")
        if report.step == 14 and not spoiled:
            spoiled += 1
            model = inspect.getgeneratorlocals(steps)["model"]  # what only a fault reaches
            with torch.no_grad():
                model.encoder.channels["tokens"][1].table.weight[-1].fill_(float("inf"))
    assert (12, "rolled_back") in events(tmp_path / "run")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_rate_far_too_high_for_five_steps(
    run_in: Callable[..., Pretraining], recipe: Recipe, tmp_path: Path, kind: str
) -> None:
    stage = replace(
        fragile(recipe).stages[0], schedule=Spike(peak=0.01), optimizer=AdamW() if kind == "adamw" else Muon()
    )
    run = run_in(tmp_path / "run", recipe=replace(recipe, stages=(stage,)))
    train(run)
    losses = [r["train"]["fragile_lm"]["loss"] for r in read_log(run.out) if "train" in r]
    assert len(losses) == 24 and all(map(math.isfinite, losses))


def test_a_step_that_does_not_fit_into_memory(
    run_in: Callable[..., Pretraining], recipe: Recipe, tmp_path: Path
) -> None:
    """From the first step that is too large on in smaller pieces: the weights of a run that began with them.

    Dropout is drawn anew for each piece, so the step before must be a single piece for both.
    """
    stage = replace(recipe.stages[0], initial_batch_size=1, ramp=0.04)
    recipe = replace(recipe, stages=(stage,))
    tight = {"recipe": fragile(recipe, most_tokens=80), "heldout_sequences": 2, "tokens_at_once": 1000}
    run = run_in(tmp_path / "run", **tight)
    train(run)
    assert events(run.out) == [(1, "out_of_memory")]
    found = newest_state(run.out)
    less = None if found is None else found[1].tokens_at_once
    assert less is not None and 30 < less < 70
    expected = run_in(tmp_path / "small", **tight | {"recipe": fragile(recipe), "tokens_at_once": less})
    train(expected)
    for name, tensor in weights(expected.out).items():
        torch.testing.assert_close(weights(run.out)[name], tensor, rtol=0, atol=1e-6)
    for stop in (1, 3, 11):
        train(run_in(tmp_path / "resumed", **tight), until=stop)
    train(run_in(tmp_path / "resumed", **tight))
    resumed = weights(tmp_path / "resumed")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in weights(run.out).items())
    assert events(tmp_path / "resumed") == events(run.out), "it remembers"


def test_a_look_at_heldout_text_that_does_not_fit(
    run_in: Callable[..., Pretraining], recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, encoder=bert.encoder(12, 2, 2, dropout=0.0))  # which is drawn anew for each piece
    looks = []
    for name, most, at_once in (("tight", 60, 200), ("roomy", 1000, 20)):
        run = run_in(tmp_path / name, recipe=fragile(recipe, most_tokens=most), tokens_at_once=at_once)
        train(run, until=1)
        looks.append(next(r["heldout"]["fragile_lm"] for r in read_log(run.out) if "heldout" in r))
    assert events(tmp_path / "tight") == [(1, "out_of_memory")]
    assert looks[0]["count"] == looks[1]["count"]
    assert looks[0]["loss"] == pytest.approx(looks[1]["loss"], rel=1e-4)


def test_a_sequence_that_does_not_fit(run_in: Callable[..., Pretraining], recipe: Recipe, tmp_path: Path) -> None:
    """In training, or even before, where each stage is tried."""
    with pytest.raises(TrainingError, match=r"Step 1 does not fit into memory\. It was a single sequence"):
        train(run_in(tmp_path / "run", recipe=fragile(recipe, most_tokens=20)))
    with pytest.raises(TrainingError, match=r"stages\.0: it does not fit into memory\."):
        train(run_in(tmp_path / "other", recipe=fragile(recipe, most_tokens=3)))
