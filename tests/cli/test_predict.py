"""Predicting and evaluating by command: files in and out, and the page."""

import io
import json
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.nn import Model, TokenHead
from bertsmith.recipes import bert
from bertsmith.text import Tokenizer


@pytest.fixture(scope="module")
def tagger(shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger that was never trained."""
    tokenizer = Tokenizer.load(shard_folder / "tokenizer")
    config = Model.Config(
        encoder=bert.encoder(12, 2, 2), pooler=False, heads={"token_label": TokenHead.Config(num_labels=3)}
    )
    config = override(config, [f"encoder.vocab_size={len(tokenizer.vocabulary)}"])
    task = {"kind": "tag", "labels": ["O", "B-mill", "I-mill"], "columns": {"texts": ["1"], "label": "2"}}
    folder = tmp_path_factory.mktemp("models") / "tagger"
    return save_model(folder, Checkpoint(model=config.initialized(5), tokenizer=tokenizer, task=task))


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    return out, err


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "dev.conll"
    path.write_text("the\tO\nold\tB-mill\nmill\tI-mill\n\nthe\tO\nriver\tO\n", encoding="utf-8")
    return path


def test_conll_in_and_out(tagger: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "predict", "--model", tagger, sentences, "--to", "conll")
    assert [line.partition("\t")[0] for line in out.splitlines()] == ["the", "old", "mill", "", "the", "river", ""]
    (tmp_path / "guessed.conll").write_text(out, encoding="utf-8")
    scores = json.loads(run(capsys, "evaluate", "--model", tagger, tmp_path / "guessed.conll", "--json")[0])
    assert scores["metrics"]["accuracy"] == 1 and scores["count"] == 2


def test_plain_lines_in_and_json_out(tagger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("The mill's wheel, the river.\n\nmill\n", encoding="utf-8")
    found = [json.loads(line) for line in run(capsys, "predict", "--model", tagger, tmp_path / "a.txt")[0].splitlines()]
    assert [len(f["words"]) for f in found] == [7, 0, 1]
    words = found[0]["words"]
    assert [(w["text"], w["start"], w["end"]) for w in words[:3]] == [
        ("The", 0, 3),
        ("mill's", 4, 10),
        ("wheel", 11, 16),
    ]
    assert all(0 < w["probability"] <= 1 for w in words) and found[0]["windows"] == 1


def test_the_page(tagger: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "evaluate", "--model", tagger, sentences, "--report", tmp_path / "page.html")
    assert "f1" in out and "mill" in out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Evaluation: tag" in text and "line 1" in text


def test_the_page_goes_where_it_can(
    tagger: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "evaluate", "--model", tagger, sentences, "--report", tmp_path / "pages" / "page.html")
    assert (tmp_path / "pages" / "page.html").is_file()
    out, err = run(capsys, "evaluate", "--model", tagger, sentences, "--report", sentences / "page.html", code=2)
    assert not out and "dev.conll: this is a file, and a folder is needed here" in err
    _, err = run(capsys, "evaluate", "--model", tagger, sentences, "--report", tmp_path / "pages", code=2)
    assert "pages: cannot be written (Is a directory)" in err


def test_what_a_stream_holds_can_be_said(
    tagger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"tokens": ["old", "mill"], "tags": ["B-mill", "I-mill"]}] * 3
    stream = io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream, "utf-8"))
    out, err = run(capsys, "evaluate", "--model", tagger, "-", "--format", "jsonl", "--json")
    assert json.loads(out)["count"] == 3
    assert err.splitlines()[-1].startswith("predicting: 100%")  # and no empty line behind it


def test_a_format_that_does_not_fit(tagger: Path, sentences: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = run(capsys, "predict", "--model", tagger, sentences, "--to", "xls", code=2)
    assert "'xls' is not a format of predictions" in err
