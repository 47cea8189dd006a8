"""Files that are not what they were: shards, checkpoints, vocabularies. Each is named, before anything is made of it."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from bertsmith.checkpoints import load_model
from bertsmith.data import Shards, prepare
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.folders import sha256_of
from bertsmith.text import Tokenizer, Vocabulary
from bertsmith.train import Pretraining, read_log
from bertsmith.train.state import State, newest_state, saved_states

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)


DAMAGE = {
    "a flipped bit": flipped,
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "a pointer": lambda _: LFS,
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", ["tokens", "sentences", "documents"])
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_damaged_shard_is_named_before_the_first_step(
    run_in: Callable[..., Pretraining], shard_folder: Path, tmp_path: Path, split: str, part: str, damage: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shard_folder, data)
    file = data / f"{split}-00000.{part}.bin"
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{file.name}: expected .*, found .*") as told:
        next(run_in(tmp_path / "run", data=data).run())
    assert ("git lfs pull" in str(told.value)) == (damage == "a pointer")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def many_shards(corpus: Path, shard_folder: Path, tmp_path: Path) -> Path:
    """The text of `shard_folder`, a few documents a shard."""
    prepare(corpus, Tokenizer.load(shard_folder / "tokenizer"), tmp_path / "many", heldout=0.1, shard_tokens=300)
    return tmp_path / "many"


def events(run: Path, kind: str) -> list[str]:
    return [line["message"] for line in read_log(run) if line.get("event") == kind]


@pytest.mark.parametrize("damage", [*DAMAGE, "missing"])
def test_a_run_can_do_without_a_damaged_shard(
    run_in: Callable[..., Pretraining], many_shards: Path, tmp_path: Path, damage: str
) -> None:
    """It says so, and comes to the same weights however it is carried out."""
    file = many_shards / "train-00001.sentences.bin"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(CheckpointError, match=file.name):
        next(run_in(tmp_path / "stop", data=many_shards).run())
    straight = run_in(tmp_path / "straight", data=many_shards, on_bad_shard="skip")
    assert len(list(straight.run())) == 30
    assert [file.name in message for message in events(straight.out, "bad_shard")] == [True]
    assert straight.plan(resume=True)["data"].endswith("; damaged and left out: train-00001")
    broken_off = run_in(tmp_path / "broken-off", data=many_shards, on_bad_shard="skip", workers=1)
    list(islice(broken_off.run(), 11))
    list(broken_off.run(resume=True))
    assert load_model(straight.out).lineage["without_shards"] == ["train-00001"]
    assert sha256_of(straight.out / "model" / "model.safetensors") == sha256_of(
        broken_off.out / "model" / "model.safetensors"
    )


def test_a_shard_that_is_damaged_on_the_way(
    run_in: Callable[..., Pretraining], many_shards: Path, tmp_path: Path
) -> None:
    run = run_in(tmp_path / "run", data=many_shards, on_bad_shard="skip")
    list(islice(run.run(), 9))
    epoch = (newest_state(run.out) or (0, State()))[1].position.epoch
    (many_shards / "train-00000.tokens.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"train-00000\.tokens\.bin"):
        next(replace(run, on_bad_shard="stop").run(resume=True))
    reports = run.run(resume=True)
    assert next(reports).step == 10
    reports.close()
    state = (newest_state(run.out) or (0, State()))[1]
    assert state.position.epoch == epoch + 1
    assert state.without == ("train-00000",)
    assert len(events(run.out, "bad_shard")) == 1
    assert list(run.run(resume=True))[-1].step == 30


def test_what_cannot_be_done_without(run_in: Callable[..., Pretraining], many_shards: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", data=many_shards, on_bad_shard="skip")
    kept = {file: file.read_bytes() for file in many_shards.glob("train-*.tokens.bin")}
    assert len(kept) > 2
    for file in kept:
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="every shard of train text is damaged"):
        next(run.run())
    for file, content in kept.items():
        file.write_bytes(content)
    vocabulary = many_shards / "tokenizer" / "vocab.txt"
    vocabulary.write_bytes(flipped(vocabulary.read_bytes()))
    with pytest.raises(CheckpointError, match=r"vocab\.txt"):
        next(run.run())


def test_swapped_and_missing_shards_are_named(
    run_in: Callable[..., Pretraining], shard_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shard_folder, data)
    one, two = data / "train-00000.tokens.bin", data / "heldout-00000.tokens.bin"
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    with pytest.raises(CheckpointError, match=r"00000\.tokens\.bin: expected"):
        next(run_in(tmp_path / "run", data=data).run())
    two.unlink()
    with pytest.raises(CheckpointError, match=r"heldout-00000\.tokens\.bin: this file is missing"):
        next(run_in(tmp_path / "run", data=data).run())


def test_a_checkpoint_damaged_in_any_place_is_passed_over(
    run_in: Callable[..., Pretraining], straight: Path, tmp_path: Path
) -> None:
    """Random bits and lengths of each file of the newest: the older one is taken, and with both damaged, all are named."""
    out, chance = tmp_path / "run", random.Random(1)
    shutil.copytree(straight, out)
    older, newest = saved_states(out)[-2:]
    for file in sorted(newest.iterdir()):
        whole = file.read_bytes()
        bits = [chance.randrange(8 * len(whole)) for _ in range(60)]
        lengths = [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(10))]
        for bit in bits:
            broken = bytearray(whole)
            broken[bit // 8] ^= 1 << bit % 8
            file.write_bytes(broken)
            found = newest_state(out)
            # A list of files that says the same in another way, by a space for a tab, is whole.
            assert found is not None and (found[0] == older or (file.name == "integrity.json" and found[0] == newest))
            assert found[0] == older or json.loads(broken) == json.loads(whole)
        for length in lengths:
            file.write_bytes(whole[:length])
            found = newest_state(out)
            assert found is not None and (found[0] == older or whole[:length].strip() == whole.strip())
        file.write_bytes(whole)
    for folder in saved_states(out):
        (folder / "model.safetensors").write_bytes(LFS)
    with pytest.raises(CheckpointError, match="no checkpoint can be read") as told:
        next(run_in(out).run(resume=True))
    assert all(str(folder / "model.safetensors") in str(told.value) for folder in saved_states(out))


def test_what_was_passed_over_is_said(run_in: Callable[..., Pretraining], straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    (saved_states(out)[-1] / "state.json").write_text("{}", encoding="utf-8")
    for _ in run_in(out).run(resume=True):
        pass
    assert "Resumed at step 28. step-00000030 cannot be read" in (out / "log.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["two lines swapped", "a line dropped", "a line added", "other casing"])
def test_another_vocabulary(
    run_in: Callable[..., Pretraining], shard_folder: Path, corpus: Path, straight: Path, tmp_path: Path, change: str
) -> None:
    """Resumed with it, or begun with it from a model that has learned another: refused with both hashes."""
    ours = Shards.load(shard_folder).tokenizer
    tokens = list(ours.vocabulary.tokens)
    if change == "two lines swapped":
        tokens[-1], tokens[-2] = tokens[-2], tokens[-1]
    elif change == "a line dropped":
        del tokens[-1]
    elif change == "a line added":
        tokens.append("zzz")
    other = Tokenizer(Vocabulary(tuple(tokens)), lower_case=change != "other casing")
    prepare(corpus, other, tmp_path / "data", heldout=0.1)
    both = rf"(?s){ours.sha256}.*{other.sha256}"
    with pytest.raises(UsageError, match=both):
        next(run_in(straight, data=tmp_path / "data").run(resume=True))
    with pytest.raises(CheckpointError, match=both):
        next(run_in(tmp_path / "run", data=tmp_path / "data", start=straight).run())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["shards", "model"])
def test_a_vocabulary_that_was_edited_in_place(
    run_in: Callable[..., Pretraining], shard_folder: Path, straight: Path, tmp_path: Path, where: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shard_folder if where == "shards" else straight / "model", copy)
    file = next(copy.rglob("vocab.txt"))
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[-1], lines[-2] = lines[-2], lines[-1]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    changes = {"data": copy} if where == "shards" else {"start": copy}
    with pytest.raises(CheckpointError, match=r"vocab\.txt: expected SHA-256 \w{64}, found \w{64}"):
        next(run_in(tmp_path / "run", **changes).run())
