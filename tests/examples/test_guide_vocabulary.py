"""The commands and the Python of docs/guides/vocabulary.md run as they stand there, with small numbers."""

import re
import shlex
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, describe, save_model
from bertsmith.cli import main
from bertsmith.data import learn_tokenizer
from bertsmith.recipes import bert

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "vocabulary.md").read_text(encoding="utf-8")
SMALL = {"--size 30000": "--size 150", "--add 300": "--add 9", "300)": "9)"}
MORE = {
    "prepare": ["--processes", "1"],
    "pretrain": [
        part
        for one in ("steps=1", "length=32", "batch_size=4")
        for n in "01"
        for part in ("--set", f"stages.{n}.{one}")
    ],
}


def small(text: str) -> str:
    for large, number in SMALL.items():
        text = text.replace(large, number)
    return text


def test_the_guide(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    text = corpus.read_text(encoding="utf-8")
    Path("texts/mill.txt").write_text(text.replace("wheel", "waterwheel").replace("book", "millbook"), encoding="utf-8")
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    model = bert.tiny().model(len(tokenizer.vocabulary)).initialized(3)
    save_model("runs/model", Checkpoint(model=model, tokenizer=tokenizer))
    commands = re.findall(r"^    bertsmith (.*)$", GUIDE, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["vocab", "vocab", "models", "prepare", "pretrain"]
    for command in commands:
        arguments = shlex.split(small(command))
        with pytest.raises(SystemExit) as ended:
            main(arguments + MORE.get(arguments[0], []))
        assert ended.value.code == 0, command
    said = capsys.readouterr().out
    assert "new tokens   0 at [unused] places, 9 appended" in said
    assert describe("runs/adapted")["lineage"]["continued_from"]["lineage"]["extended_from"]["path"] == "runs/model"
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    exec(compile(small(block), "guide", "exec"), {})
    assert describe("runs/extended-too")["tokenizer"] == describe("runs/extended")["tokenizer"]
