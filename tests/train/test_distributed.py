"""Teams: any number of processes trains the same model on the same samples, and survives what happens to one of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from bertsmith.checkpoints import load_model
from bertsmith.config import override, to_dict
from bertsmith.errors import UsageError
from bertsmith.train import AdamW, Muon, NorMuon, Pretraining, Recipe, find_team, read_log
from bertsmith.train.state import newest_state

Job = dict[str, Any]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def launch(processes: int, folder: Path, jobs: list[Job], *options: str) -> subprocess.CompletedProcess[str]:
    """Let torchrun carry out some jobs, one after another."""
    listed = folder / "jobs.json"
    listed.write_text(json.dumps(jobs), encoding="utf-8")
    command = [*TORCHRUN, str(processes), *options, str(Path(__file__).with_name("team_job.py")), str(listed)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=200, check=False)


def alone(job: Job, recipe: Recipe, *, until: int | None = None, tokens_at_once: int = 50) -> None:
    """The same job in this process."""
    run = Pretraining(
        recipe=recipe,
        data=Path(job["data"]),
        out=Path(job["out"]),
        log_every=1,
        evaluate_every=4,
        save_every=3,
        heldout_sequences=8,
        tokens_at_once=tokens_at_once,
    )
    steps = run.run(resume=True)
    for report in steps:
        if report.step == until:
            steps.close()


def weights(out: str | Path) -> str:
    return sha256((Path(out) / "model" / "model.safetensors").read_bytes()).hexdigest()


def samples(out: str | Path) -> list[Any]:
    """All that the log says about what was trained on, step by step."""
    return [
        [r["step"], r["tokens"], r["masking"], r["lengths"], [m["count"] for m in r["train"].values()]]
        for r in read_log(Path(out))
        if "train" in r
    ]


def losses(out: str | Path) -> list[float]:
    return [
        measure["loss"]
        for record in read_log(Path(out))
        for measure in {**record.get("train", {}), **record.get("heldout", {})}.values()
    ]


def assert_same(out: str | Path, other: str | Path, *, rel: float = 2e-5, atol: float = 2e-4) -> None:
    """The same samples in the same order, and the same model within the rounding of sums."""
    assert samples(out) == samples(other)
    assert losses(out) == pytest.approx(losses(other), rel=rel)
    theirs = load_model(other).model.state_dict()
    for name, tensor in load_model(out).model.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture(scope="module")
def uneven(small_recipe: Recipe) -> Recipe:
    """Batches that no number of processes divides evenly."""
    return override(small_recipe, ["stages.0.batch_size=7", "stages.1.batch_size=5"])


def without_dropout(recipe: Recipe) -> Recipe:
    """What is dropped out is drawn by each process, so without it the number of processes changes nothing but rounding."""
    block = recipe.encoder.layers[0].block
    still = replace(
        block,
        attention=replace(block.attention, dropout=0.0),  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        residual=replace(block.residual, dropout=0.0),  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    )
    layers = (replace(recipe.encoder.layers[0], block=still),)
    return replace(recipe, encoder=replace(recipe.encoder, embedding_dropout=0.0, layers=layers))


OPTIMIZERS = {"adamw": AdamW(), "muon": Muon(), "normuon": NorMuon()}


@pytest.fixture(scope="module")
def runs(uneven: Recipe, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Job]:
    """Runs by name: alone, by 2 and by 4 processes, with DDP and FSDP; two that wander from 2 processes to 1 to 4."""
    folder = tmp_path_factory.mktemp("teams")
    still = without_dropout(uneven)
    jobs: dict[str, Job] = {}

    def job(name: str, recipe: Recipe, **more: Any) -> Job:
        jobs[name] = {"recipe": to_dict(recipe), "data": str(shard_folder), "out": str(folder / name), **more}
        return jobs[name]

    for name, tokens_at_once in (("alone", 50), ("at once", 10_000)):
        alone(job(name, still), still, tokens_at_once=tokens_at_once)
    wanderers = [job("wanders", still), job("sharded wanders", still, sharded=True)]
    by_two = [job("2", still), job("2 sharded", still, sharded=True)]
    by_two += [{**wanderer, "until": 3} for wanderer in wanderers]
    for name, optimizer in OPTIMIZERS.items():
        short = replace(still, stages=(replace(still.stages[0], steps=4, optimizer=optimizer),))
        alone(job(name, short), short)
        by_two.append(job(f"{name} sharded", short, sharded=True))
    for processes, chosen in ((2, by_two), (4, [job("4", still), *wanderers])):
        done = launch(processes, folder, chosen)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        for wanderer in wanderers if processes == 2 else ():
            found = newest_state(Path(wanderer["out"]))
            assert found is not None and found[1].step == 3
            alone(wanderer, still, until=6)
    return jobs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["at once", "2", "2 sharded", "4", "wanders", "sharded wanders"])
def test_any_number_of_processes_trains_the_same_model(runs: Mapping[str, Job], name: str) -> None:
    assert_same(runs[name]["out"], runs["alone"]["out"])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_divided_parameters_are_updated_as_whole_ones(runs: Mapping[str, Job], optimizer: str) -> None:
    # Muon's iterations may be in bfloat16; an update of a matrix has a root mean square of 2e-3 here.
    assert_same(runs[f"{optimizer} sharded"]["out"], runs[optimizer]["out"], rel=1e-4, atol=1e-3)


@pytest.mark.slow
def test_each_process_writes_its_own_rows(runs: Mapping[str, Job]) -> None:
    found = newest_state(Path(runs["2 sharded"]["out"]))
    assert found is not None
    pieces = sorted(path.name for path in found[0].glob("*.safetensors"))
    assert pieces == [f"{name}-0000{piece}-of-00002.safetensors" for name in ("model", "optimizer") for piece in (1, 2)]
    sizes = [(found[0] / piece).stat().st_size for piece in pieces]
    assert sizes[1] > sizes[0] / 3 and sizes[3] > sizes[2] / 3
    assert json.loads((found[0] / "state.json").read_text(encoding="utf-8"))["pieces"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "sharded", "deaths"),
    [
        (2, False, [{"rank": "all", "step": 3}, {"rank": 1, "step": 5}, {"rank": 0, "writing": 6}]),
        (2, True, [{"rank": 1, "writing": 4}]),
    ],
)
def test_killed_and_resumed_to_the_same_bits(
    uneven: Recipe, shard_folder: Path, tmp_path: Path, processes: int, sharded: bool, deaths: list[dict[str, Any]]
) -> None:
    """SIGKILL of everything, of one process between two checkpoints, and of one while it writes; with dropout."""
    base = {"recipe": to_dict(uneven), "data": str(shard_folder), "sharded": sharded, "save_every": 2}
    killed = base | {"out": str(tmp_path / "killed")}
    for die in deaths:
        started = time.monotonic()
        done = launch(processes, tmp_path, [killed | {"die": die}])
        assert done.returncode != 0
        assert time.monotonic() - started < 60  # as long as they would wait for one that hangs
        if die["rank"] != "all":
            assert done.stdout.count("Another process of this run has ended") == 1
            assert done.stdout.count("rror: ") == 1
        found = newest_state(Path(killed["out"]))
        assert found is not None
        assert found[1].step == (die["writing"] - 2 if "writing" in die else die["step"] - 1)
    done = launch(processes, tmp_path, [killed, base | {"out": str(tmp_path / "straight")}])
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up(uneven: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    hangs = {"rank": 1, "step": 3, "hangs": 15.0}
    job = {"recipe": to_dict(uneven), "data": str(shard_folder), "out": str(tmp_path / "run"), "save_every": 2}
    started = time.monotonic()
    done = launch(2, tmp_path, [job | {"die": hangs, "patience": 4.0}])
    assert done.returncode != 0
    assert "has said nothing for 4 seconds" in done.stdout
    assert time.monotonic() - started < 60
    found = newest_state(tmp_path / "run")
    assert found is not None and found[1].step == 2


@pytest.mark.slow
def test_torchrun_starts_them_again_after_a_death(uneven: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    base = {"recipe": to_dict(uneven), "data": str(shard_folder), "save_every": 2}
    killed = base | {"out": str(tmp_path / "killed"), "die": {"rank": 3, "step": 3}}
    straight = base | {"out": str(tmp_path / "straight")}
    refused = straight | {"resume": False}
    done = launch(4, tmp_path, [killed, straight, refused], "--max-restarts=1")
    assert done.returncode != 0 and done.stdout.count("already holds a run") == 1, done.stderr
    assert done.stdout.count("Another process of this run has ended") == 1
    assert [r["step"] for r in read_log(tmp_path / "killed") if r.get("event") == "resumed"] == [2]
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")


def test_alone_is_a_team_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with find_team("cpu", sharded=True) as team:
        assert (team.rank, team.world, team.device) == (0, 1, "cpu")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE"), find_team():
        pass


COMMAND = ["-m", "bertsmith", "pretrain", "bert:tiny", "--save-every", "1000", "--evaluate-every", "1000"]
SETTINGS = [
    f"--set={setting}"
    for setting in (
        "precision=float32",
        "stages.0.steps=30",
        "stages.0.length=24",
        "stages.0.batch_size=5",
        "stages.0.schedule.warmup_steps=2",
        "stages.1.steps=2",
        "stages.1.length=40",
        "stages.1.batch_size=3",
    )
]


def command(shards: Path, out: Path, *more: str) -> list[str]:
    return [*TORCHRUN, "2", *COMMAND, "--data", str(shards), "-o", str(out), *SETTINGS, *more]


def once(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_signal_to_torchrun_or_to_one_process_saves_and_ends_all(shard_folder: Path, tmp_path: Path) -> None:
    """And only one process talks."""
    out, slow = tmp_path / "run", ["--set=stages.0.steps=3000"]
    forwarded = ENVIRONMENT | {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGUSR1"}
    for whom in ("torchrun and one process", "one process"):
        with subprocess.Popen(
            command(shard_folder, out, "--resume", *slow),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=forwarded,
        ) as running:
            before = newest_state(out)
            steps = before[1].step if before else 0
            once(lambda: (out / "log.jsonl").is_file() and any(r["step"] > steps + 1 for r in read_log(out)))  # noqa: B023
            signalled = time.monotonic()
            owner = json.loads((out / "owner.json").read_text(encoding="utf-8"))["pid"]
            os.kill(owner, signal.SIGUSR1)
            if whom != "one process":
                os.kill(running.pid, signal.SIGUSR1)  # which passes it on: once more is not asked for by that
            said, told = running.communicate(timeout=60)
        assert time.monotonic() - signalled < 30
        assert running.returncode != 0
        found = newest_state(out)
        assert found is not None and found[1].step > steps
        assert told.count("Stopped at step") == 1
        assert said == ""


@pytest.mark.slow
def test_only_one_process_talks_and_all_go_by_one_measurement(shard_folder: Path, tmp_path: Path) -> None:
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        line = command(shard_folder, tmp_path / "run", *more)
        return subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, timeout=200, check=False)

    dry = run("--dry-run", "--budget", "0.5s")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("speed  ") == 1 and dry.stdout.count("processes  ") == 1
    assert not (tmp_path / "run").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model ") == 1 and done.stdout.count("held-out masked_lm") == 1
    assert done.stderr.count("pretraining: 100%") == 1 and "arning" not in done.stderr
