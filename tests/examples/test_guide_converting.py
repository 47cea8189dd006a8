"""The commands and the Python of docs/guides/converting.md run as they stand there."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bertsmith import load
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.data import learn_tokenizer
from bertsmith.nn import MeanPooling, Model
from bertsmith.recipes import bert

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "converting.md").read_text(encoding="utf-8")
OURS = ("bertsmith.json", "integrity.json")


@pytest.fixture
def downloads(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that the guide speaks of, of one layer of 12."""
    monkeypatch.chdir(tmp_path)
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    config = override(replace(bert.tiny(), encoder=bert.encoder(12, 1, 2)), ["encoder.initializer_range=0.3"]).model(
        120
    )
    model = Checkpoint(model=config.initialized(3), tokenizer=tokenizer)
    vectors = Model.Config(encoder=config.encoder, pooler=False).initialized(4)
    save_model("downloads/bert", model)
    save_model("downloads/old-bert", model)
    save_model(
        "downloads/sentences",
        Checkpoint(model=vectors, tokenizer=tokenizer, pooling=MeanPooling(), normalize=True),
    )
    for folder in Path("downloads").iterdir():
        for name in OURS:
            (folder / name).unlink()
    old = Path("downloads/old-bert/model.safetensors")
    torch.save(load_file(old), old.with_name("pytorch_model.bin"))
    old.unlink()
    return Path("downloads")


def test_the_guide(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^    bertsmith (.*)$", GUIDE, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["models", *["convert"] * 6]
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        assert ended.value.code == 0, command
    said = capsys.readouterr()
    assert "Checked: onnxruntime gave our own numbers for 10 texts in ragged batches" in said.err
    weights = [Path("runs") / name / "model.safetensors" for name in ("bert", "bert-again", "old-bert")]
    assert len({file.read_bytes() for file in weights}) == 1
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, "guide", "exec"), names)
    np.testing.assert_allclose(names["vectors"], load("runs/sentences").embed(names["texts"]), atol=1e-5)
