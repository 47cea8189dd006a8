"""Choosing between options."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.errors import DataError, UsageError
from bertsmith.tasks import Choice, Columns, Cutter, Finetuning, Predictor, find_task, read_labelled


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """The right ending has a good word in it; there are two to four."""
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for _ in range(count):
        options = [
            f"{random.choice(('tree', 'road'))} {random.choice(('rain', 'mud'))}" for _ in range(random.integers(2, 5))
        ]
        right = int(random.integers(len(options)))
        options[right] = f"{random.choice(('tree', 'road'))} {random.choice(('sun', 'joy'))}"
        made.append({"prompt": "the bird walks", "options": options, "label": right})
    return made


def lines(made: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in made)


@pytest.fixture
def job(checkpoint: Checkpoint, tmp_path: Path) -> Finetuning:
    (tmp_path / "train.jsonl").write_text(lines(rows(120, 1)), encoding="utf-8")
    (tmp_path / "dev.jsonl").write_text(lines(rows(40, 2)), encoding="utf-8")
    return Finetuning(
        task="choice",
        model=checkpoint,
        train=tmp_path / "train.jsonl",
        dev=tmp_path / "dev.jsonl",
        out=tmp_path / "run",
        epochs=3,
        batch_size=8,
        seeds=(0,),
        learning_rate=3e-3,
    )


def test_learns_predicts_and_is_a_bert_for_multiple_choice(job: Finetuning, tmp_path: Path) -> None:
    result = job.finish()
    assert result.best.dev.metrics["accuracy"] > 0.9 > (result.best.dev.majority or 1)
    saved = Predictor(load_model(tmp_path / "run"))
    assert saved.evaluate(saved.read_labelled(job.dev)) == result.best.dev
    options = ["road mud", "tree rain", "road joy"]
    (prediction,) = saved.predict([("the bird walks", *options)])
    assert prediction.option == 2
    with pytest.raises(UsageError, match="a beginning and at least two options"):
        saved.predict(["alone"])
    transformers = pytest.importorskip("transformers", reason="transformers is only there for development")
    theirs = transformers.BertForMultipleChoice.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    inputs = tokenizer(["the bird walks"] * 3, options, padding=True, return_tensors="pt")
    with torch.no_grad():
        shares = theirs(**{name: tensor[None] for name, tensor in inputs.items()}).logits[0].softmax(-1).tolist()
    assert list((prediction.probabilities or {}).values()) == pytest.approx(shares, abs=1e-5)


def test_long_options_are_read_in_windows(job: Finetuning) -> None:
    result = replace(job, out=None, max_length=9, epochs=2).finish()
    assert result.best.dev.windowed == 0
    (prediction,) = result.predictor().predict([("the bird", "mud " * 30, "rain", "sun " * 30)])
    assert (prediction.option, prediction.windows, prediction.truncated) == (2, 14, 0)


def test_a_long_choice_is_learned_a_window_at_a_time(checkpoint: Checkpoint) -> None:
    windows = Choice().windows(("the bird", "mud " * 9, "sun"), Cutter(checkpoint.tokenizer, 9))
    (lesson,) = Choice().lessons(windows, 1)
    assert len(lesson) == len(windows) - 1
    for alternative in lesson:
        assert [dict(example.targets) for example in alternative] == [
            {"option": 0, "right": 0},
            {"option": 1, "right": 1},
        ]


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.jsonl", '{"ctx": "a", "endings": ["x", "y", "z"], "label": 1}\n', Columns()),
        ("a.jsonl", '{"question": "a", "choices": ["x", "y", "z"], "answer": "B"}\n', Columns()),
        ("a.jsonl", '{"question": "a", "choices": ["x", "y", "z"], "answer": "y"}\n', Columns()),
        ("a.csv", "startphrase,ending0,ending1,ending2,label\na,x,y,z,1\n", Columns()),
        ("a.tsv", "c\ta\tx\ty\tz\t1\n", Columns(("2", "3", "4", "5"), "6")),
    ],
)
def test_files(tmp_path: Path, name: str, content: str, columns: Columns) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (example,) = read_labelled(tmp_path / name, find_task("choice"), columns=columns).examples
    assert (example.texts, example.label) == (("a", "x", "y", "z"), 1)


def test_rows_of_a_table_may_have_fewer_options(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,ending0,ending1,ending2,label\na,x,y,,1\nb,x,,z,2\n", encoding="utf-8")
    found = read_labelled(tmp_path / "a.csv", find_task("choice")).examples
    assert [(e.texts, e.label) for e in found] == [(("a", "x", "y"), 1), (("b", "x", "", "z"), 2)]
    (tmp_path / "a.csv").write_text("prompt,ending0,ending1,ending2,label\na,x,y,,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2: 2 is none of the 2 options"):
        read_labelled(tmp_path / "a.csv", find_task("choice"))


def test_codah_as_it_comes(data_pack: Callable[[str], Path]) -> None:
    columns = Columns(("2", "3", "4", "5", "6"), "7")
    file = data_pack("codah") / "data" / "cv_split" / "fold_0" / "train.tsv"
    found = read_labelled(file, find_task("choice"), columns=columns)
    assert len(found.examples) == 1665 and set(found.labels) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a", "options": ["x"], "label": 0}', "line 1: 1 option; a choice needs at least two"),
        ('{"prompt": "a", "options": null, "label": 0}', "line 1: 0 options; a choice needs at least two"),
        ('{"prompt": "a", "options": ["x", 5], "label": 0}', "line 1: 5 is not text"),
        ('{"prompt": "a", "options": ["x", "y"], "label": 2}', "line 1: 2 is none of the 2 options"),
        ('{"prompt": "a", "options": ["x", "y"], "label": null}', "line 1: None is none of the 2 options"),
        ('{"prompt": "a", "options": ["x", "y"], "label": "w!"}', "line 1: 'w!' is none of the 2 options"),
    ],
)
def test_bad_files_say_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path / "a.jsonl", find_task("choice"))


def test_a_place_is_not_an_answer(job: Finetuning, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        lines([{"prompt": "a", "options": ["x", "y"], "label": 1}] * 3), encoding="utf-8"
    )
    with pytest.raises(DataError, match="in every example option 1 is right"):
        _ = job.survey
