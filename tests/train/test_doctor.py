"""The doctor finds what is wrong with a run that was made wrong that way, and nothing in a sound one."""

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bertsmith.config import override
from bertsmith.data import learn_tokenizer, prepare
from bertsmith.errors import CheckpointError, DataError
from bertsmith.folders import publish
from bertsmith.history import History
from bertsmith.objectives import MaskedLM
from bertsmith.text import Tokenizer
from bertsmith.train import Pretraining, Recipe
from bertsmith.train.doctor import Finding, examine, mask_figures, symptoms
from bertsmith.train.state import saved_states

STEPS = 160
Line = dict[str, Any]


def train(recipe: Recipe, data: Path, out: Path, *, until: int | None = None) -> Path:
    run = Pretraining(
        recipe=recipe, data=data, out=out, log_every=1, evaluate_every=20, save_every=50, heldout_sequences=64
    )
    steps = run.run()
    for report in steps:
        if report.step == until:
            steps.close()
            break
    return out


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of seven places, at each one of three letters, so that there is something to learn from context, and soon."""
    dice = random.Random(7)
    places = ("abc", "def", "ghi", "jkl", "mno", "pqr", "stu")
    lines: list[str] = []
    for _ in range(150):
        lines += [" ".join(map(dice.choice, places)) for _ in range(4)] + [""]
    path = tmp_path_factory.mktemp("corpus") / "places.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shard_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "places"
    prepare(corpus, learn_tokenizer(corpus, 47).tokenizer, folder, heldout=0.1)
    return folder


@pytest.fixture(scope="module")
def recipe(small_recipe: Recipe) -> Recipe:
    """One stage of masked LM alone, long enough to learn something of the small corpus."""
    one = override(
        replace(small_recipe, stages=small_recipe.stages[:1]),
        [
            f"stages.0.steps={STEPS}",
            "stages.0.schedule.warmup_steps=9",
            "stages.0.schedule.final=0.0",
            "stages.0.batch_size=12",
        ],
    )
    return replace(one, stages=(replace(one.stages[0], objectives=(MaskedLM(),)),))


@pytest.fixture(scope="module")
def short(recipe: Recipe) -> Recipe:
    """For a run that is wrong from its beginning."""
    return override(recipe, ["stages.0.steps=40"])


@pytest.fixture(scope="module")
def sound(recipe: Recipe, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe, shard_folder, tmp_path_factory.mktemp("sound") / "run")


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound run, to be made wrong."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


def edit(run: Path, change: Callable[[Line], Line | None]) -> None:
    """Write the log again with every line as `change` gives it back; None removes it."""
    lines = [change(json.loads(line)) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps(line) + "\n" for line in lines if line is not None)
    (run / "log.jsonl").write_text(text, encoding="utf-8")


def add(run: Path, *lines: Line) -> None:
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def record(run: Path, **changes: Any) -> None:
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def losses(run: Path, values: Callable[[int, float], float], split: str = "train", name: str = "masked_lm") -> None:
    def change(line: Line) -> Line:
        if split in line:
            measure = line[split].setdefault(name, {"loss": 0.7, "accuracy": 0.5, "count": 24})
            measure["loss"] = values(line["step"], measure["loss"])
        return line

    edit(run, change)


def only(run: Path, check: str, severity: str, says: str, **options: Any) -> Finding:
    """The one finding there is."""
    found = examine(run, **options)
    assert [(one.check, one.severity) for one in found] == [(check, severity)], found
    assert says in found[0].seen, found[0].seen
    assert found[0].why and found[0].advice
    return found[0]


def test_a_sound_run_has_nothing_wrong(sound: Path, shard_folder: Path) -> None:
    assert examine(sound) == []
    assert examine(sound, shard_folder) == []


def test_the_masks_of_a_sound_run_are_within_their_tolerance(sound: Path) -> None:
    rows = mask_figures(History.load(sound))
    assert [round(row.asked, 2) for row in rows] == [0.15, 0.8, 0.1, 0.1]
    assert all(abs(row.found - row.asked) < row.tolerance for row in rows)


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no run here \(run.json is missing\)"):
        examine(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        examine(tmp_path)


def test_shards_that_are_none(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the manifest"):
        examine(sound, tmp_path)


def test_shards_of_another_run(run: Path, shard_folder: Path) -> None:
    record(run, data="0123")
    with pytest.raises(CheckpointError, match=r"not the shards that .* was trained on, whose SHA-256 is 0123"):
        examine(run, shard_folder)


@pytest.mark.parametrize(
    ("statistics", "found"),
    [
        ({"leaks": {"heldout_documents": 40, "copies": 1, "nearly_copies": 1, "half_or_more": 1}}, ("leak", "wrong")),
        ({"leaks": {"heldout_documents": 400, "copies": 1, "nearly_copies": 0, "half_or_more": 2}}, ("leak", "odd")),
        ({"leaks": {"heldout_documents": 40, "copies": 3, "training_documents_left_out": 3}}, None),
        ({"leaks": None, "unknown_rate": 0.031}, ("unknown", "odd")),
    ],
)
def test_what_the_shards_know(
    run: Path, shard_folder: Path, tmp_path: Path, statistics: dict[str, Any], found: tuple[str, str] | None
) -> None:
    """Found without being told where, if the shards still are where they were."""
    shards = Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    manifest = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))
    (shards / "manifest.json").write_text(json.dumps(manifest | {"statistics": statistics}), encoding="utf-8")
    record(run, data_path=str(shards))
    assert [(one.check, one.severity) for one in examine(run)] == ([found] if found else [])


# Real runs that were made wrong


def test_stopped_on_the_way(recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    run = train(recipe, shard_folder, tmp_path / "run", until=60)
    found = only(run, "unfinished", "note", f"at step 60 of {STEPS}. The newest checkpoint is step-00000060")
    assert "--resume" in found.advice


def test_a_run_that_learned_nothing(short: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    slow = override(short, ["stages.0.schedule.peak=1e-7", "stages.0.steps=20", "stages.0.schedule.warmup_steps=2"])
    only(train(slow, shard_folder, tmp_path / "run"), "unigram", "wrong", "a blind guess among all tokens costs 3.85")


def test_warm_up_longer_than_the_run(short: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    endless = override(short, ["stages.0.schedule.warmup_steps=500", "stages.0.steps=120"])
    only(train(endless, shard_folder, tmp_path / "run"), "schedule", "wrong", "warms up for 500 of its 120 steps")


def test_a_learning_rate_that_stays_high(short: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    high = override(short, ["stages.0.schedule.final=0.009"])
    only(train(high, shard_folder, tmp_path / "run"), "schedule", "odd", "ends at 0.009, 90% of its highest")


def test_without_heldout_text(short: Recipe, shard_folder: Path, corpus: Path, tmp_path: Path) -> None:
    prepare(corpus, Tokenizer.load(shard_folder / "tokenizer"), tmp_path / "shards", heldout=0)
    only(train(short, tmp_path / "shards", tmp_path / "run"), "heldout", "odd", "no held-out figure")


def test_a_text_that_was_read_too_often(short: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("a d g\nb e h\n\nc f i\na e i\n", encoding="utf-8")
    prepare(tiny, Tokenizer.load(shard_folder / "tokenizer"), tmp_path / "shards", heldout=0)
    found = examine(train(short, tmp_path / "shards", tmp_path / "run"))
    (epochs,) = [one for one in found if one.check == "epochs"]
    assert "times" in epochs.seen


# Checkpoints


def test_a_flipped_bit_in_a_checkpoint(run: Path) -> None:
    file = saved_states(run)[-1] / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    found = only(run, "checkpoints", "wrong", "step-00000160 is damaged")
    assert "expected SHA-256" in found.seen and "step-00000150" in found.why


def test_weights_that_are_not_finite(run: Path) -> None:
    newest = saved_states(run)[-1]
    files = {path.name: path.read_bytes() for path in newest.iterdir() if path.name != "integrity.json"}
    weights = load_file(newest / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[3] = torch.inf
    with publish(newest, replace=True) as folder:
        for other, content in files.items():
            (folder / other).write_bytes(content)
        save_file(weights, folder / "model.safetensors")
    only(run, "checkpoints", "wrong", f"not finite, in 1 tensor: model: {name}")


def test_no_checkpoint_and_no_model(run: Path) -> None:
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints")
    assert [(one.check, one.severity) for one in examine(run)] == [("model", "wrong"), ("checkpoints", "odd")]


def test_a_model_with_a_missing_file(run: Path) -> None:
    (run / "model" / "vocab.txt").unlink()
    only(run, "model", "wrong", "vocab.txt: this file is missing")


# The log


def test_lines_that_cannot_be_read(run: Path) -> None:
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[4] = "{\x00\n"
    path.write_text("".join(lines) + '{"step": 1', encoding="utf-8")
    found = examine(run)
    assert "1 line of log.jsonl cannot be read: 5." in found[0].seen


def test_steps_that_are_missing(run: Path) -> None:
    edit(run, lambda line: None if 40 <= line["step"] < 60 and "train" in line else line)
    only(run, "log", "odd", "1 time: from 39 to 60")


def test_fine_tuning_logs_at_odd_distances(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"kind": "finetuning"}', encoding="utf-8")
    (tmp_path / "log.jsonl").touch()
    measure = {"label": {"loss": 0.5, "accuracy": 0.5, "count": 3}}
    steps = (1, 10, 14, 20, 28, 30, 40, 42)
    add(tmp_path, *({"step": step, "seed": 0, "train": measure, "learning_rate": 0.1} for step in steps))
    assert [one.check for one in examine(tmp_path)] == ["unfinished"]


def test_a_skipped_step_is_not_missing_but_told(run: Path) -> None:
    edit(run, lambda line: {"step": 41, "event": "skipped", "message": "loss is inf"} if line["step"] == 41 else line)
    only(run, "finite", "odd", "1 batch was skipped (0.62% of the steps): at step 41. It said: loss is inf.")


def test_steps_that_come_again(run: Path) -> None:
    edit(run, lambda line: line | {"step": line["step"] - 30} if line["step"] > 150 else line)
    assert "come again or out of order: 121, 122" in examine(run)[0].seen
    add(run, {"step": 150, "event": "resumed", "message": "Resumed at step 150."})
    assert "come again" in examine(run)[0].seen, "a resumed run cuts its log"
    add(run, {"step": 150, "event": "rolled_back", "message": "Back to step 120."})
    assert [one.check for one in examine(run)] == ["events", "unfinished"]


def test_two_evaluations_of_one_step_are_no_repetition(run: Path) -> None:
    history = History.load(run)
    assert len(history.series("heldout", "masked_lm", "loss")) == 9


@pytest.mark.parametrize("broken", [math.nan, None])
def test_a_loss_that_is_not_a_number(run: Path, broken: float | None) -> None:
    """As Python's JSON would write it, and as a run does."""
    losses(run, lambda step, loss: broken if step == 77 else loss)  # pyright: ignore[reportArgumentType, reportReturnType]
    only(run, "finite", "wrong", "The training loss of masked LM is not finite at 1 logged step: 77")


@pytest.mark.parametrize(
    ("event", "severity", "says"),
    [
        ("rolled_back", "odd", "Rolled back, 2 times: at step 50, 90. It said: because of it."),
        ("out_of_memory", "odd", "Out of memory, 2 times"),
        ("not_saved", "odd", "Not saved, 2 times"),
        ("worker_restarted", "odd", "Worker restarted, 2 times"),
    ],
)
def test_events_are_told(run: Path, event: str, severity: str, says: str) -> None:
    add(run, *({"step": step, "event": event, "message": "because of it"} for step in (50, 90)))
    only(run, "events", severity, says)


def test_going_on_is_no_event_of_note(run: Path) -> None:
    add(run, {"step": 60, "event": "resumed", "message": "from step 60"}, {"step": 60, "event": "stopped"})
    assert examine(run) == []


def test_a_clock_that_jumps(run: Path) -> None:
    def clocked(line: Line) -> Line:
        minute, hour = line["step"] % 60, 10 + line["step"] // 60
        hour += 5 if 100 <= line["step"] < 140 else 0
        return line | {"clock": f"2026-11-21T{hour:02d}:{minute:02d}:00+00:00"}

    edit(run, clocked)
    found = {one.seen.split(" at step")[0]: one for one in examine(run)}
    assert "100 (18,060 s)" in found["The clock leapt ahead"].seen
    assert "140 (17,940 s)" in found["The clock went back"].seen


# What was learned


def unigram(run: Path, value: float) -> None:
    record(run, reference={"uniform": math.log(150), "unigram": value})


def test_stuck_at_the_unigram_level(run: Path) -> None:
    unigram(run, 4.2)
    losses(run, lambda step, loss: 4.2 + 0.01 * (step % 3))
    losses(run, lambda step, loss: 4.19, "heldout")
    found = only(
        run, "unigram", "wrong", "knowing how frequent each token is, and nothing else, costs 4.20. It has not moved"
    )
    assert "learning rate" in found.advice


def test_not_yet_under_the_unigram_level(run: Path) -> None:
    unigram(run, 4.2)
    losses(run, lambda step, loss: 4.9 - 0.6 * step / STEPS)
    losses(run, lambda step, loss: 4.3, "heldout")
    only(run, "unigram", "wrong", "It is still falling.")


def test_a_young_run_is_given_time(run: Path) -> None:
    unigram(run, 4.2)
    edit(run, lambda line: line if line["step"] <= 30 else None)
    losses(run, lambda step, loss: 4.8)
    assert [one.check for one in examine(run)] == ["unfinished"]


def test_too_good_to_be_true(run: Path) -> None:
    losses(run, lambda step, loss: loss if step < 20 else 0.2)
    losses(run, lambda step, loss: loss if step < 20 else 0.2, "heldout")
    only(run, "too_good", "odd", "lower than any encoder reaches")


def test_learned_by_heart(run: Path) -> None:
    losses(run, lambda step, loss: 2.5 - 2 * step / STEPS)
    losses(run, lambda step, loss: 1.8 + abs(step - 60) / 100, "heldout")
    only(run, "overfitting", "wrong", "best at step 60 (1.80 nats) and has risen to 2.80, while training stands at 0.5")


def test_heldout_text_of_another_kind(run: Path) -> None:
    losses(run, lambda step, loss: 2.5 - 2 * step / STEPS)
    losses(run, lambda step, loss: 2.9 - 0.1 * step / STEPS, "heldout")
    only(run, "overfitting", "odd", "far above training")


def test_heldout_text_that_was_trained_on(run: Path) -> None:
    losses(run, lambda step, loss: 4 - step / STEPS)
    losses(run, lambda step, loss: 4 - 2 * step / STEPS, "heldout")
    only(run, "leak", "odd", "below training")


def test_a_higher_rate_of_masking_explains_more(run: Path) -> None:
    stages = json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]
    stages["stages"][0]["masking"]["rate"] = 0.4
    record(run, recipe=stages)
    losses(run, lambda step, loss: 4 - step / STEPS)
    losses(run, lambda step, loss: 4 - 2 * step / STEPS, "heldout")
    assert {one.check for one in examine(run)} == {"masking"}


def paired(run: Path, accuracy: Callable[[int], float]) -> None:
    def change(line: Line) -> Line:
        for split, count in (("train", 24), ("heldout", 512)):
            if split in line:
                line[split]["next_sentence"] = {"loss": 0.5, "accuracy": accuracy(line["step"]), "count": count}
        if "masking" in line:
            line["masking"]["random_next"] = 0.5
        return line

    edit(run, change)


def test_next_sentence_solved_at_once(run: Path) -> None:
    paired(run, lambda step: min(1.0, 0.5 + step / 40))
    only(run, "next_sentence", "wrong", "solved at once: 100% right by step 20, while the token loss was still")


def test_next_sentence_not_learned(run: Path) -> None:
    paired(run, lambda step: 0.5 + 0.02 * (step % 2))
    only(run, "next_sentence", "odd", "at 50.0% (held-out); always giving the more frequent answer gets 50.0%")


def test_next_sentence_learned(run: Path) -> None:
    paired(run, lambda step: 0.5 + 0.4 * step / STEPS)
    assert examine(run) == []


# The course of a run


@pytest.mark.parametrize(
    ("key", "factor", "says"),
    [
        ("chosen", 1.6, "tokens chosen for prediction: 2"),
        ("masked", 0.95, "chosen tokens hidden by [MASK]: 7"),
        ("random", 1.5, "chosen tokens replaced by a random one"),
        ("kept", 0.5, "chosen tokens left as they are"),
    ],
)
def test_masks_that_are_off(run: Path, key: str, factor: float, says: str) -> None:
    def change(line: Line) -> Line:
        if "masking" in line:
            line["masking"][key] *= factor
        return line

    edit(run, change)
    only(run, "masking", "wrong", says)


def test_a_rate_that_changes_over_the_stage(run: Path) -> None:
    recipe = json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]
    recipe["stages"][0]["masking"] |= {"rate": 0.3, "final_rate": 0.1}
    record(run, recipe=recipe)

    def change(line: Line) -> Line:
        if "masking" in line:
            line["masking"]["chosen"] = 0.3 - 0.2 * line["step"] / STEPS
        return line

    edit(run, change)
    assert examine(run) == []


def test_too_few_random_pairs(run: Path) -> None:
    paired(run, lambda step: 0.5 + 0.4 * step / STEPS)
    edit(run, lambda line: line | {"masking": line["masking"] | {"random_next": 0.2}} if "masking" in line else line)
    found = examine(run)
    assert found[0].check == "masking" and "second sentences that are random: 20.00%" in found[0].seen


def seconds(run: Path, factor: Callable[[int], float]) -> None:
    def change(line: Line) -> Line:
        return line | {"seconds": line["tokens"] / 100 * factor(line["step"])} if "seconds" in line else line

    edit(run, change)


def test_a_drop_of_speed_is_placed(run: Path) -> None:
    seconds(run, lambda step: 2 if step > 100 else 1)
    only(
        run,
        "throughput",
        "odd",
        "From step 101 to the end, 50 tokens a second were trained, 50% of the usual 100",
    )


def test_a_slow_stretch_is_placed(run: Path) -> None:
    seconds(run, lambda step: 3 if 50 < step <= 90 else 1)
    only(run, "throughput", "odd", "From step 51 to step 90")


def test_a_few_slow_seconds_are_no_matter(run: Path) -> None:
    seconds(run, lambda step: 0.02 if step > 100 else 0.01)
    assert examine(run) == []


@pytest.mark.parametrize("name", ["slow steps now and then", "slow at first", "noise"])
def test_what_is_no_drop_of_speed(run: Path, name: str) -> None:
    dice = np.random.default_rng(3).lognormal(0, 0.25, STEPS + 1)
    seconds(
        run,
        {
            "slow steps now and then": lambda step: 20 if step % 10 == 0 else 1,
            "slow at first": lambda step: 5 if step < 40 else 1,
            "noise": lambda step: dice[step],
        }[name],
    )
    assert examine(run) == []


def test_leaps_of_the_loss(run: Path) -> None:
    losses(run, lambda step, loss: 6.5 if step in (90, 91, 92) else loss)
    only(run, "spikes", "odd", "leapt up 1 time: at step 90; the highest to 6.50 from")


def test_a_loss_that_went_up_and_stayed(run: Path) -> None:
    losses(run, lambda step, loss: loss if step < 100 else 4.9)
    losses(run, lambda step, loss: loss if step < 100 else 4.4, "heldout")
    found = {one.check: one for one in examine(run)}
    assert found["diverged"].severity == "wrong" and "is 4.90 at the end" in found["diverged"].seen


def norms(run: Path, value: Callable[[int, float], float]) -> None:
    def change(line: Line) -> Line:
        old = line.get("gradient_norm")
        return line if old is None else line | {"gradient_norm": value(line["step"], old)}

    edit(run, change)


def test_gradients_that_explode_vanish_or_leap(run: Path) -> None:
    kept = (run / "log.jsonl").read_text(encoding="utf-8")
    norms(run, lambda step, norm: norm * 100 if step > 145 else norm)
    only(run, "gradients", "wrong", "Gradient norms end at")
    (run / "log.jsonl").write_text(kept, encoding="utf-8")
    norms(run, lambda step, norm: norm * 1e-5 if step > 140 else norm)
    assert "They vanish" in only(run, "gradients", "wrong", "Gradient norms end at").why
    (run / "log.jsonl").write_text(kept, encoding="utf-8")
    norms(run, lambda step, norm: norm * 50 if step in (70, 110) else norm)
    only(run, "gradients", "odd", "at 2 logged steps: 70, 110")


def test_rows_that_are_mostly_padding(run: Path) -> None:
    edit(run, lambda line: line | {"fill": 0.4} if "train" in line else line)
    only(run, "fill", "odd", "Only 40% of the positions")


# Symptoms by themselves


def test_nothing_is_seen_in_noise() -> None:
    """Curves like real ones, a hundred of them: falling, noisy, and sound."""
    steps = np.arange(300)
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(size=300)
        loss = 4 + 4 * np.exp(-steps / 40) + 0.15 * noise
        assert symptoms.spikes(loss) == []
        assert symptoms.slow_stretch(1000 * np.exp(0.2 * noise)) is None
        assert symptoms.rise_at_end(loss) is None


def test_gaps_and_repeats() -> None:
    assert symptoms.gaps(np.array([1, 10, 20, 30, 60, 70, 80])) == [(30, 60)]
    assert symptoms.gaps(np.array([1, 10, 20, 30, 130, 230, 330])) == []  # logged at another distance from there on
    assert symptoms.repeats(np.array([1, 2, 3, 3, 2, 4])) == [3, 2]
    assert symptoms.repeats(np.array([], np.int64)) == []
