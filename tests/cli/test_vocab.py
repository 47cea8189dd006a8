"""bertsmith vocab: the two commands, and the first where none is named."""

import json
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.data import learn_tokenizer
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.recipes import bert


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that was never trained, with few tokens."""
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    config = Model.Config(encoder=bert.encoder(12, 2, 2), pooler=False, heads={"masked_lm": MaskedLMHead.Config()})
    config = override(config, ["encoder.vocab_size=120"])
    folder = tmp_path_factory.mktemp("models") / "small"
    return save_model(folder, Checkpoint(model=config.initialized(5), tokenizer=tokenizer))


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    return out, err


def test_the_name_of_the_first_command_may_be_left_out(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "vocab", "learn", corpus, "--size", 150, "-o", tmp_path / "named")
    run(capsys, "vocab", corpus, "--size", 150, "-o", tmp_path / "unnamed")
    run(capsys, "vocab", "--size", 150, "-o", tmp_path / "options first", corpus)
    first, *others = ((tmp_path / name / "vocab.txt").read_bytes() for name in ("named", "unnamed", "options first"))
    assert [first] * 2 == others


def test_extend(model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, talk = run(capsys, "vocab", "extend", model, corpus, "--add", 7, "-o", tmp_path / "people")
    assert "127 in all" in out and "tokens a word before" in out and "Pretrain it further" in talk
    out, _ = run(capsys, "vocab", "extend", model, corpus, "--add", 7, "-o", tmp_path / "programs", "--json")
    said = json.loads(out)
    assert (said["vocab_size"], len(said["tokens"]), said["heldout"]) == (127, 7, False)
    assert said["fertility"][1] < said["fertility"][0]
    assert said["unknown_rate"][1] <= said["unknown_rate"][0]
    found = load_model(tmp_path / "programs")
    assert list(found.tokenizer.vocabulary.tokens[120:]) == said["tokens"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("people", "programs")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("add", "out", "code", "message"),
    [(7, ".", 2, "already exists"), (0, "new", 2, "add is 0"), (9999, "new", 1, "at most")],
)
def test_mistakes(
    model: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    add: int,
    out: str,
    code: int,
    message: str,
) -> None:
    _, said = run(capsys, "vocab", "extend", model, corpus, "--add", add, "-o", tmp_path / out, code=code)
    assert message in said
    assert list(tmp_path.iterdir()) == []
