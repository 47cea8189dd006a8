"""The commands and the Python of docs/guides/fine-tuning.md run as they stand there, with a tiny model."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.data import learn_tokenizer
from bertsmith.nn import Model
from bertsmith.recipes import bert

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "fine-tuning.md").read_text(encoding="utf-8")


def test_the_guide(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    Path("texts.txt").write_text(
        "Hope to see you in Chicago tomorrow!\n" + "The mill stood by the river. " * 99, "utf-8"
    )
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    encoder = replace(bert.encoder(12, 1, 2), vocab_size=len(tokenizer.vocabulary))
    save_model("MODEL", Checkpoint(model=Model.Config(encoder=encoder).initialized(3), tokenizer=tokenizer))
    commands = re.findall(r"^    bertsmith (.*)$", GUIDE, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        *("finetune", "predict", "evaluate", "finetune", "predict", "predict"),
    ]
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        assert ("--curve" in command) == ("Twice the labels" in err)
    assert out.startswith("labels,")
    assert Path("runs/names.html").stat().st_size > 5000
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    exec(compile(block, "guide", "exec"), {})


def test_the_guide_tells_of_every_task() -> None:
    from bertsmith.tasks import Task

    assert set(re.findall(r"^\| `(\w+)` \|", GUIDE, flags=re.MULTILINE)) >= set(Task.kinds()) - {
        "choice",
        "tag",
        "span",
    }
    assert [kind for kind in Task.kinds() if f"`{kind}`" not in GUIDE] == []
