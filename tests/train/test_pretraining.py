"""Runs: 10 steps are 5 + 5, bit for bit, whatever interrupts them; and a run folder guards what it holds."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bertsmith.checkpoints import load_model
from bertsmith.config import override, to_dict
from bertsmith.errors import CheckpointError, ConfigError, UsageError
from bertsmith.nn import Causal
from bertsmith.objectives import CausalLM
from bertsmith.train import Pretraining, Recipe, read_log
from bertsmith.train.state import newest_state, saved_states


def pretraining(recipe: Recipe, data: Path, out: Path, **changes: int | Path) -> Pretraining:
    settings = {
        "log_every": 1,
        "evaluate_every": 4,
        "save_every": 3,
        "heldout_sequences": 8,
        "tokens_at_once": 90,
    } | changes
    return Pretraining(recipe=recipe, data=data, out=out, **settings)  # pyright: ignore[reportArgumentType]


def train(run: Pretraining, *, until: int | None = None, resume: bool = False) -> None:
    steps = run.run(resume=resume)
    for report in steps:
        if report.step == until:
            steps.close()
            return


def result(out: Path) -> tuple[bytes, list[dict]]:
    """The weights, and the log without the clock and without what is told of the interruptions."""
    log = [
        {key: value for key, value in record.items() if key not in ("seconds", "clock")}
        for record in read_log(out)
        if "event" not in record
    ]
    return (out / "model" / "model.safetensors").read_bytes(), log


@pytest.fixture(scope="module")
def straight(small_recipe: Recipe, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten steps in one go."""
    out = tmp_path_factory.mktemp("straight") / "run"
    train(pretraining(small_recipe, shard_folder, out))
    return out


@pytest.mark.parametrize("stops", [(5,), (1,), (7,), (9,), (2, 5, 8)], ids=str)
def test_ten_steps_are_five_and_five(
    small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    """Stopped anywhere, also where one stage ends, and more than once: the same weights and the same log."""
    run = pretraining(small_recipe, shard_folder, tmp_path / "run")
    for stop in stops:
        train(run, until=stop, resume=True)
        found = newest_state(run.out)
        assert found is not None and found[1].step == stop
    train(run, resume=True)
    assert result(run.out) == result(straight)


def test_killed_before_the_first_checkpoint(
    small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path
) -> None:
    """The run begins again, and its log with it: no step is there twice, and a torn last line is gone."""
    run = pretraining(small_recipe, shard_folder, tmp_path / "run", save_every=100)
    train(run, until=6)
    shutil.rmtree(run.out / "checkpoints")  # as if it had been killed and not stopped
    with (run.out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 7, "tra')
    train(run, resume=True)
    assert result(run.out) == result(straight)


def test_a_resumed_run_keeps_its_start_and_its_precision(
    small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(small_recipe, ["precision=auto"])
    begun = pretraining(recipe, shard_folder, tmp_path / "run", start=straight)
    train(begun)
    for place, until in (("early", 1), ("late", 8)):
        run = pretraining(recipe, shard_folder, tmp_path / place, start=straight)
        train(run, until=until)
        if place == "early":
            shutil.rmtree(run.out / "checkpoints")
        with monkeypatch.context() as other_machine:
            has = torch.cpu.get_capabilities()
            lacks = {name: not there if "bf16" in name else there for name, there in has.items()}
            other_machine.setattr(torch.cpu, "get_capabilities", lambda lacks=lacks: lacks)
            train(replace(run, start=None), resume=True)
        assert result(run.out) == result(begun.out)
        assert load_model(run.out).lineage["continued_from"]["path"] == str(straight)
    with pytest.raises(UsageError, match="was begun with another start"):
        train(replace(begun, start=tmp_path), resume=True)


def test_what_cannot_begin_leaves_no_folder(
    small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    wider = override(small_recipe, ["encoder.hidden_size=16"])
    with pytest.raises(CheckpointError, match="not shaped like"):
        train(pretraining(wider, shard_folder, out, start=straight))
    with pytest.raises(CheckpointError, match="no such folder"):
        train(pretraining(small_recipe, shard_folder, out, start=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"no device 'abacus' here. There is: cpu"):
        train(replace(pretraining(small_recipe, shard_folder, out), device="abacus"))
    with pytest.raises(ConfigError, match="save_every: expected more than 0"):
        pretraining(small_recipe, shard_folder, out, save_every=0)
    with pytest.raises(ConfigError, match="seed: expected 0 to"):
        override(small_recipe, [f"seed={2**32}"])
    assert not out.exists()


def test_a_run_record_that_is_damaged(small_recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    run = pretraining(small_recipe, shard_folder, tmp_path / "run")
    train(run, until=1)
    path = run.out / "run.json"
    for content in (path.read_text(encoding="utf-8")[:90], "{}", "[]"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
            train(run, resume=True)
    path.rename(path.with_name(".run.json.new"))  # killed while it was being written: the folder holds no run yet
    shutil.rmtree(run.out / "checkpoints")
    (run.out / "log.jsonl").unlink()
    train(run, until=1)
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="not a run"):
        train(pretraining(small_recipe, shard_folder, file))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path
) -> None:
    run = pretraining(small_recipe, shard_folder, tmp_path / "run")
    train(run, until=8, resume=True)
    older, newest = saved_states(run.out)
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    found = newest_state(run.out)
    assert found is not None and found[0] == older
    train(run, resume=True)
    assert result(run.out) == result(straight)


def test_all_checkpoints_damaged(small_recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    run = pretraining(small_recipe, shard_folder, tmp_path / "run")
    train(run, until=8, resume=True)
    for folder in saved_states(run.out):
        (folder / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no checkpoint can be read"):
        train(run, resume=True)


def test_two_checkpoints_are_kept(straight: Path) -> None:
    assert [path.name for path in saved_states(straight)] == ["step-00000009", "step-00000010"]


def test_the_log_holds_losses_rates_and_masks(straight: Path) -> None:
    records = list(read_log(straight))
    steps = [record for record in records if "train" in record]
    assert [record["step"] for record in steps] == list(range(1, 11))
    assert {"masked_lm", "next_sentence"} == set(steps[0]["train"])
    assert 0.1 < steps[0]["masking"]["chosen"] < 0.2
    assert [record["step"] for record in records if "heldout" in record] == [1, 4, 8, 10]


def test_a_finished_run_stays_as_it_is(small_recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    run = pretraining(small_recipe, shard_folder, tmp_path / "run")
    train(run)
    before = result(run.out)
    train(run, resume=True)
    assert result(run.out) == before


def test_a_run_is_not_overwritten(small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already holds a run"):
        train(pretraining(small_recipe, shard_folder, straight))
    other = override(small_recipe, ["stages.0.steps=8"])
    with pytest.raises(UsageError, match="another recipe"):
        train(pretraining(other, shard_folder, straight), resume=True)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not empty and not a run"):
        train(pretraining(small_recipe, shard_folder, tmp_path))


def test_continuing_from_a_model(small_recipe: Recipe, shard_folder: Path, straight: Path, tmp_path: Path) -> None:
    """`start` takes the weights: the first held-out loss of the new run is the last of the old one."""
    run = pretraining(
        replace(small_recipe, stages=small_recipe.stages[1:]), shard_folder, tmp_path / "run", start=straight
    )
    steps = run.run()
    first = next(steps)
    steps.close()
    last = [record for record in read_log(straight) if "heldout" in record][-1]["heldout"]["masked_lm"]["loss"]
    assert first.heldout is not None
    assert first.heldout["masked_lm"].loss == pytest.approx(last, abs=0.02)
    wider = override(small_recipe, ["encoder.hidden_size=16"])
    with pytest.raises(CheckpointError, match="not shaped like"):
        train(pretraining(wider, shard_folder, tmp_path / "other", start=straight))


def test_the_model_folder_knows_where_it_comes_from(straight: Path, small_recipe: Recipe) -> None:
    lineage = load_model(straight).lineage
    assert lineage["recipe"] == to_dict(small_recipe)
    assert len(lineage["shards"]) == len(lineage["tokenizer"]) == 64


def test_a_stage_longer_than_the_positions_is_refused(small_recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="length 600 exceeds max_position_embeddings 512"):
        override(small_recipe, ["stages.1.length=600"])


def test_a_left_to_right_model(small_recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    """Another mask, another objective, no masking: trained, saved, and loaded as the causal model that it is."""
    stage = replace(small_recipe.stages[0], objectives=(CausalLM(),), masking=None)
    recipe = override(replace(small_recipe, stages=(stage,)), ['encoder.masks.tokens={"kind": "causal"}'])
    train(pretraining(recipe, shard_folder, tmp_path / "run", evaluate_every=1))
    losses = [line["heldout"]["causal_lm"]["loss"] for line in read_log(tmp_path / "run") if "heldout" in line]
    assert losses[-1] < losses[0]
    config = load_model(tmp_path / "run").model.config
    assert config.encoder.masks == {"tokens": Causal()}
    assert config.heads.keys() == {"causal_lm"}
