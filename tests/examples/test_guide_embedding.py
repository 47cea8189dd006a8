"""The commands and the Python of docs/guides/embedding.md run as they stand there."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.data import learn_tokenizer
from bertsmith.nn import Pooling
from bertsmith.recipes import bert

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "embedding.md").read_text(encoding="utf-8")


def test_the_guide(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    model = bert.tiny().model(len(tokenizer.vocabulary)).initialized(3)
    save_model("runs/model", Checkpoint(model=model, tokenizer=tokenizer))
    lines = [*corpus.read_text(encoding="utf-8").split("\n")[:8], "mill"]
    Path("reviews.csv").write_text(
        "stars,text\n" + "".join(f'{i},"{line}"\n' for i, line in enumerate(lines)) + f'9,"{" ".join(lines * 8)}"\n',
        encoding="utf-8",
    )
    commands = re.findall(r"^    bertsmith (.*)$", GUIDE, flags=re.MULTILINE)
    said = list[tuple[str, str]]()
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        said.append(capsys.readouterr())
        assert ended.value.code == 0, (command, said[-1])
    assert len(said) == 7
    assert "Computed in" in said[6][1]
    assert "Pooling: mean (as modules.json of the model says)" in said[1][1]
    assert pq.read_table("vectors.parquet").column("truncated").to_pylist()[-1] > 0
    assert "10 vectors of 128, from 10 texts (text = column 'text'). 1 were cut" in said[0][1]
    with Path("other.npy").open("rb") as file:
        np.testing.assert_allclose(np.linalg.norm(np.lib.format.read_array(file), axis=1), 1, atol=1e-5)
    with pa.OSFile("long.arrow") as file:
        assert pa.ipc.open_file(file).read_all().column("windows").to_pylist()[-1] > 1
    assert {"The", "old", "mill"} & set(pq.read_table("words.parquet").column("word").to_pylist())
    assert [len(json.loads(line)["vector"]) for line in said[5][0].splitlines()] == [8] * 10
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    exec(compile(block, "guide", "exec"), {})
    assert "10 1 ()" in capsys.readouterr().out
    assert pq.read_table("python.parquet").column_names == ["line", "text", "stars", "vector", "truncated", "windows"]


def test_every_pooling_is_in_the_guide() -> None:
    table = GUIDE[GUIDE.index("| `--pooling`") : GUIDE.index("`--layers -2` takes")]
    assert set(re.findall(r"`(\w+)`", table)) == set(Pooling.kinds())
