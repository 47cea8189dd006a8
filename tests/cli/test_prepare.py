import json
import signal
import sys
from pathlib import Path

import pytest

from bertsmith.cli import main
from bertsmith.data import Shards, learn_tokenizer


@pytest.fixture(scope="module")
def vocabulary(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary") / "words"
    folder.mkdir()
    learn_tokenizer(corpus, 150).tokenizer.save(folder)
    return folder


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


def test_the_report_is_readable_or_one_object(corpus, vocabulary, tmp_path: Path, capsys) -> None:
    text = corpus.read_text(encoding="utf-8")
    (tmp_path / "text.txt").write_text(text + "\n\n" + text.split("\n\n")[0], encoding="utf-8")
    before = signal.getsignal(signal.SIGTERM)
    run("prepare", tmp_path / "text.txt", "--vocab", vocabulary, "-o", tmp_path / "one", "--processes", 1)
    out, _ = capsys.readouterr()
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert lines["held out"].strip().startswith("1 documents")
    assert "text.txt, line 1)" in lines["duplicates"]
    assert lines["languages"].strip().startswith("en ")
    assert "0 stand in training text" in lines["leaks"]
    run("prepare", tmp_path / "text.txt", "--vocab", vocabulary, "-o", tmp_path / "two", "--json")
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["train"]["documents"] == Shards.load(tmp_path / "one").documents == 39
    assert found["statistics"]["duplicates"]["copies"] == 1
    assert found["statistics"] == Shards.load(tmp_path / "two").manifest["statistics"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_held_out_files_and_what_is_missing_is_said(
    corpus, vocabulary, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "held.txt").write_text("His daughter read a book.\n\nThe river was quiet.", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "py3langid", None)
    command = ["prepare", corpus, "--vocab", vocabulary, "-o", tmp_path / "shards"]
    run(*command, "--heldout-text", tmp_path / "held.txt", "--leaks", "drop", "--json")
    out, err = capsys.readouterr()
    assert json.loads(out)["heldout"]["documents"] == 2
    assert json.loads(out)["statistics"]["languages"] is None
    assert "Note: Languages are not identified. For that: pip install 'bertsmith[corpus]'" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "eng"], "language 'eng' is not known. Nearest:"),
        (["--duplicates", "all"], "duplicates 'all' is not known. Allowed: exact, keep, near."),
        (["--processes", "0"], "at least one process"),
        (["--cluster", "dask"], "expected ray, or ray:ADDRESS"),
    ],
)
def test_wrong_use_is_one_sentence(corpus, vocabulary, tmp_path: Path, capsys, options, message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["prepare", str(corpus), "--vocab", str(vocabulary), "-o", str(tmp_path / "shards"), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
