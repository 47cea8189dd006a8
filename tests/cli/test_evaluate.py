"""Evaluating a pretrained model: plain text and minimal pairs, by the command and by the library."""

import json
import math
from pathlib import Path

import pytest

import bertsmith
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.errors import DataError, UsageError
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.recipes import bert
from bertsmith.text import Tokenizer


@pytest.fixture(scope="module")
def pretrained(shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that was never trained, with a masked-LM head."""
    tokenizer = Tokenizer.load(shard_folder / "tokenizer")
    config = Model.Config(encoder=bert.encoder(12, 2, 2), pooler=False, heads={"masked_lm": MaskedLMHead.Config()})
    config = override(config, [f"encoder.vocab_size={len(tokenizer.vocabulary)}"])
    folder = tmp_path_factory.mktemp("models") / "small"
    return save_model(folder, Checkpoint(model=config.initialized(5), tokenizer=tokenizer))


GOOD = [f"the mill{i} stood by the river." for i in range(5)]
BAD = [f"the by mill{i} the river." for i in range(5)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name, field in (("order", "syntax"), ("number", "morphology")):
        rows = [
            {"sentence_good": good, "sentence_bad": bad, "field": field} for good, bad in zip(GOOD, BAD, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return out


def test_minimal_pairs(pretrained: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "evaluate", "--model", pretrained, pairs, "--limit", 3)
    assert [word in shown for word in ("order", "number", "syntax", "morphology", "all", "95 %")] == [True] * 6
    found = json.loads(run(capsys, "evaluate", "-m", pretrained, pairs / "order.jsonl", "--json"))
    model = bertsmith.load(pretrained)
    better = model.pseudo_likelihood(GOOD).log_likelihoods > model.pseudo_likelihood(BAD).log_likelihoods
    assert found["overall"]["accuracy"] == found["paradigms"]["order"]["accuracy"] == better.mean()
    within = json.loads(run(capsys, "evaluate", "-m", pretrained, pairs, "--variant", "within_word_l2r", "--json"))
    assert within["overall"]["pairs"] == 10


def test_plain_text(pretrained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nats" in run(capsys, "evaluate", "--model", pretrained, corpus)
    first, again = (json.loads(run(capsys, "evaluate", "-m", pretrained, corpus, "--json")) for _ in range(2))
    assert first == again
    tokens = len(bertsmith.load(pretrained).tokenizer.vocabulary)
    assert first["masked_lm_loss"] == pytest.approx(math.log(tokens), abs=0.1)  # it knows nothing
    assert first["predictions"] > 300


def test_what_cannot_be_scored(pretrained: Path, corpus: Path, tmp_path: Path) -> None:
    model = bertsmith.load(pretrained)
    with pytest.raises(UsageError, match="length 600"):
        model.evaluate_text(corpus, length=600)
    (tmp_path / "long.jsonl").write_text(
        json.dumps({"sentence_good": "a " * 600, "sentence_bad": "a"}), encoding="utf-8"
    )
    with pytest.raises(DataError, match="too long for the model"):
        model.evaluate_pairs(tmp_path)
