"""The command and the Python of docs/guides/adapting.md run as they stand there, on a small model."""

import re
import shlex
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, describe, save_model
from bertsmith.cli import main
from bertsmith.data import learn_tokenizer
from bertsmith.recipes import bert

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "adapting.md").read_text(encoding="utf-8")


def test_the_guide(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    documents = corpus.read_text(encoding="utf-8").split("\n\n")
    Path("abstracts.txt").write_text("\n".join(" ".join(text.split()) for text in documents), encoding="utf-8")
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    save_model(
        "runs/model",
        Checkpoint(model=bert.tiny().model(len(tokenizer.vocabulary)).initialized(3), tokenizer=tokenizer),
    )
    (command,) = re.findall(r"^    bertsmith (.*)$", GUIDE, flags=re.MULTILINE)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command))
    assert ended.value.code == 0
    assert "halves of a text find each other: 0." in capsys.readouterr().err
    assert describe("runs/adapted")["lineage"]["settings"]["views"]["kind"] == "crops"
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    exec(compile(block, "guide", "exec"), {})
    assert describe("runs/adapted-in-python")["lineage"]["settings"]["views"]["kind"] == "same"
    with pytest.raises(SystemExit):
        main(["adapt", "abstracts.txt", "--model", "runs/model", "-o", "elsewhere", "--views", "crop"])
    assert "There are no views 'crop'. Did you mean 'crops'" in capsys.readouterr().err
