"""Choosing settings and counting labels by command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.cli import main
from bertsmith.nn import Model
from bertsmith.recipes import bert
from bertsmith.text import Tokenizer


def test_the_grid_and_the_curve(shard_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = Tokenizer.load(shard_folder / "tokenizer")
    encoder = replace(bert.encoder(12, 1, 2), vocab_size=len(tokenizer.vocabulary))
    model = save_model(
        tmp_path / "model", Checkpoint(model=Model.Config(encoder=encoder).initialized(3), tokenizer=tokenizer)
    )
    rows = [("the mill by the river", "place"), ("bread and eggs", "food"), ("the green door", "place")] * 8
    for name in ("train", "dev"):
        text = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    files = ["--train", tmp_path / "train.csv", "--dev", tmp_path / "dev.csv", "-o", tmp_path / "run"]
    arguments = ["finetune", "classify", "--model", model, *files, "--search", "--curve", "--patience", 1, "--freeze"]
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    said = " ".join(err.split())
    assert said.count("dev accuracy") >= 18 + 1 + 1 + 4 and "Best: learning rate " in said
    assert [f"{count} examples: dev accuracy" in said for count in (3, 6, 12, 24)] == [True] * 4
    assert "over 3 of 3 seeds" in said or "one answer to everything" in said
    assert "Twice the labels" in said and str(tmp_path / "run" / "model") in out
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and "run exists and is not empty" in err
    assert "searching" not in err and "dev accuracy" not in err  # before the work, not after it
    trials = json.loads((tmp_path / "run" / "search.json").read_text(encoding="utf-8"))
    assert len(trials) == 18 and {trial["batch_size"] for trial in trials} == {16, 32}
    assert load_model(tmp_path / "run").model.mix is not None
