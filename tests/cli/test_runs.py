"""doctor and report on a real run, as typed in a terminal."""

import json
import sys
from pathlib import Path

import pytest

import bertsmith
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.errors import MissingExtra, UsageError
from bertsmith.train import Pretraining, Recipe


@pytest.fixture(scope="module")
def run(small_recipe: Recipe, shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps at a rate at which nothing is learned."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    slow = override(
        small_recipe, ["stages.0.schedule.final=0.0", "stages.0.schedule.peak=1e-7", "stages.1.schedule.peak=1e-8"]
    )
    for _ in Pretraining(recipe=slow, data=shard_folder, out=out, log_every=1, evaluate_every=4).run():
        pass
    return out


def command(capsys: pytest.CaptureFixture[str], *arguments: object, code: int) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    return out, err


def test_the_doctor_in_words(run: Path, shard_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = command(capsys, "doctor", run, "--data", shard_folder, code=1)
    assert "wrong  The held-out loss of masked LM is " in out
    assert "\n  why  Nothing was learned at all" in out and "\n  do   Raise the learning rate" in out
    assert max(map(len, out.splitlines())) <= 96


def test_the_doctor_for_programs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = command(capsys, "doctor", run, "--json", code=1)
    findings = [json.loads(line) for line in out.splitlines()]
    assert findings[0]["severity"] == "wrong" and set(findings[0]) == {"check", "severity", "seen", "why", "advice"}
    assert err == ""


def test_nothing_to_say(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is only worth a note does not fail."""
    (tmp_path / "run.json").write_text('{"kind": "finetuning"}', encoding="utf-8")
    line = {"step": 1, "seed": 0, "train": {"label": {"loss": 0.5, "accuracy": 0.5, "count": 3}}, "learning_rate": 0.1}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    out, _ = command(capsys, "doctor", tmp_path, code=0)
    assert out.startswith("note ")
    (tmp_path / "log.jsonl").write_text(json.dumps(line | {"result": {}}) + "\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "integrity.json").write_text(
        '{"format": "bertsmith-integrity", "version": 1, "files": {}}\n', encoding="utf-8"
    )
    out, err = command(capsys, "doctor", tmp_path, code=0)
    assert (out, "nothing wrong was found" in err) == ("", True)


def test_a_page_and_event_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = command(capsys, "report", run, code=0)
    assert out.strip().endswith("report.html") and "Pretraining: small" in (run / "report.html").read_text(
        encoding="utf-8"
    )
    command(capsys, "report", run, "-o", tmp_path / "page.html", code=0)
    assert (tmp_path / "page.html").read_bytes() == (run / "report.html").read_bytes()
    command(capsys, "report", run, "--tensorboard", tmp_path / "events", code=0)
    assert len(list((tmp_path / "events").iterdir())) == 1


@pytest.mark.parametrize("verb", ["doctor", "report"])
def test_where_there_is_no_run(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = command(capsys, verb, tmp_path, code=1)
    assert "there is no run here" in err and err.count("Error: ") == 1


def test_no_event_files_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "report", tmp_path, "--tensorboard", tmp_path / "events", code=1)
    assert list(tmp_path.iterdir()) == []


def test_as_a_library(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bertsmith.report(run, tmp_path / "a.html") == tmp_path / "a.html"
    with pytest.raises(UsageError, match="cannot be written"):
        bertsmith.report(run, tmp_path / "no" / "such" / "folder.html")
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtra, match=r"bertsmith\[inspect\]"):
        bertsmith.report(run, tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()
