"""The commands and the Python of docs/guides/search.md run as they stand there."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("lancedb", reason="the extra [search] is not installed")

from bertsmith import open_index
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.data import learn_tokenizer
from bertsmith.nn import Model, SequenceHead
from bertsmith.recipes import bert

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "search.md").read_text(encoding="utf-8")
SUBJECTS = ("heat in slender wings", "drag of a plate", "the flow behind a shock", "a wing in a slipstream")


def write(name: str, numbers: range) -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["number", "author", "year", "text"])
        rows.writerows((n, "mn"[n % 2] + "iller", 1950 + n, f"On {SUBJECTS[n % 4]}, part {n}.") for n in numbers)


@pytest.fixture
def folder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of one layer of 12, and the files that the guide speaks of."""
    monkeypatch.chdir(tmp_path)
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    encoder = bert.tiny().model(120).encoder
    save_model(
        "runs/model", Checkpoint(model=Model.Config(encoder=encoder, pooler=False).initialized(3), tokenizer=tokenizer)
    )
    pairs = Model.Config(encoder=encoder, heads={"sequence_label": SequenceHead.Config(num_labels=2)})
    task = {"kind": "pair", "labels": ["0", "1"]}
    save_model("runs/pairs", Checkpoint(model=pairs.initialized(4), tokenizer=tokenizer, task=task))
    write("abstracts.csv", range(24))
    write("more.csv", range(20, 30))
    return tmp_path


def test_the_guide(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^    bertsmith (.*)$", GUIDE, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["index"] * 4 + ["search"] * 3 + ["index"]
    said: list[tuple[str, str]] = []
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        assert ended.value.code == 0, (command, capsys.readouterr().err)
        said.append(capsys.readouterr())
    assert "24 texts are new, 0 replaced" in said[0][1]
    assert "6 texts are new, 4 replaced" in said[1][1]
    assert "2 of 2 texts taken out" in said[2][1]
    assert len(said[4][0].splitlines()) == 20
    chosen = [json.loads(line)["fields"] for line in said[5][0].splitlines()]
    assert len(chosen) == 3
    assert all(fields["year"] > 1955 and fields["author"] == "miller" for fields in chosen)
    assert len(said[6][0].splitlines()) == 20
    assert "28 texts, every file as it was written; search looks at every vector" in said[7][1]
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    exec(compile(block, "guide", "exec"), {})
    assert len(open_index(folder / "runs" / "python.index").index) == 24
    assert capsys.readouterr().out.splitlines()[-1] == "1.0"
