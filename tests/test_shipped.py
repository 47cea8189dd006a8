"""Models by name: those that come with the package."""

from pathlib import Path

import pytest

import bertsmith
from bertsmith import shipped
from bertsmith.checkpoints import Checkpoint, describe, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.errors import CheckpointError
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.recipes import bert
from bertsmith.text import Tokenizer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where shipped models are looked for: an empty folder; and the current folder is another one."""
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path / "shipped")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "shipped"


def save(folder: Path, shards: Path, seed: int = 0) -> None:
    tokenizer = Tokenizer.load(shards / "tokenizer")
    config = Model.Config(encoder=bert.encoder(12, 2, 2), pooler=False, heads={"masked_lm": MaskedLMHead.Config()})
    config = override(config, [f"encoder.vocab_size={len(tokenizer.vocabulary)}"])
    folder.parent.mkdir(exist_ok=True)
    save_model(folder, Checkpoint(model=config.initialized(seed), tokenizer=tokenizer), storage="float16")


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_a_shipped_model_is_the_default(home: Path, shard_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(home / "small-english", shard_folder)
    assert bertsmith.load("small-english").checkpoint.path == home / "small-english"
    assert describe("small-english")["weights"]["dtypes"] == ["F16"]
    assert run("fill", "the old [MASK].") == run("embed", "--text", "the mill") == 0
    capsys.readouterr()
    assert run("models", "list") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("small-english") and not err


def test_a_folder_of_that_name_comes_first(home: Path, shard_folder: Path) -> None:
    save(home / "small-english", shard_folder)
    save(Path("small-english"), shard_folder, seed=1)
    assert bertsmith.load("small-english").checkpoint.path == Path("small-english")


def test_without_its_weights_it_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="comes with bertsmith, but its weights are not in this installation"):
        bertsmith.load("small-english")
    with pytest.raises(CheckpointError, match=r"no such folder.*small-english"):
        bertsmith.load("small-englsh")
    assert run("fill", "the old [MASK].") == 1
    assert run("models", "list") == 0
    assert "its weights are not in this installation" in " ".join(capsys.readouterr().err.split())
