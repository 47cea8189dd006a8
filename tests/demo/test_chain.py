"""The whole chain runs on its own texts, with a recipe of a few steps, and every file that it leaves works."""

import json
import math
import re
from dataclasses import fields
from pathlib import Path

import pytest

import bertsmith
from bertsmith.config import override
from bertsmith.demo import DemoResult, Settings, chain, run
from bertsmith.demo.chain import CONTEXTS, DATA, FILLS
from bertsmith.errors import UsageError
from bertsmith.recipes.demo import reviews
from bertsmith.tasks import read_labelled
from bertsmith.tasks.classification import Classify

SMALL = Settings(
    recipe=override(
        reviews(),
        [
            "stages.0.steps=6",
            "stages.0.length=32",
            "stages.0.schedule.warmup_steps=2",
            "encoder.hidden_size=16",
            "encoder.layers.0.count=1",
        ],
    ),
    vocab_size=1500,
    labels=40,
    epochs=1,
    seeds=(0, 1),
    words=2000,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain") / "demo"


@pytest.fixture(scope="module")
def phases() -> list[str]:
    """The phases that reported progress."""
    return []


@pytest.fixture(scope="module")
def result(out: Path, phases: list[str]) -> DemoResult:
    def progress(phase: str, done: int, total: int | None, note: str = "") -> None:
        phases.append(phase)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "REVIEWS", chain.OTHER_REVIEWS)  # a twentieth of the text
        return run(out, settings=SMALL, progress=progress)


def test_every_phase_is_timed_and_reported(result: DemoResult, phases: list[str]) -> None:
    assert list(result.seconds) == ["vocabulary", "shards", "pretraining", "fine-tuning", "looking inside"]
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert {"pretraining", "reading words in context"} < set(phases)


def test_every_part_of_the_result_is_there(result: DemoResult) -> None:
    for each in fields(result):
        value = getattr(result, each.name)
        assert value or not hasattr(value, "__len__"), each.name
    assert (result.corpus.documents, result.vocabulary.size, result.model.hidden_size) == (100, 1500, 16)
    assert result.references.unigram < result.references.ln_v == math.log(1500)
    assert [fill.text for fill in result.fills] == list(FILLS)
    assert all(len(fill.candidates) == 5 for fill in result.fills)
    assert [(one.word, one.sentence) for one in result.neighbourhoods] == list(CONTEXTS)
    assert all(len(one.neighbours) == 5 for one in result.neighbourhoods)
    assert [record["step"] for record in result.log if "heldout" in record][-1] == 6


def test_the_comparison_is_fair(result: DemoResult, out: Path) -> None:
    comparison = result.comparison
    assert (comparison.train_size, comparison.test_size) == (40, 2000)
    assert len(comparison.pretrained) == len(comparison.not_pretrained) == 2
    assert comparison.majority == pytest.approx(0.5, abs=0.01) and comparison.majority < comparison.tfidf < 1
    labelled = (out / "labelled.tsv").read_text(encoding="utf-8")
    assert (DATA / "train.tsv").read_text(encoding="utf-8").startswith(labelled) and labelled.count("\n") == 41


def test_the_report_is_written_and_asks_nobody_for_anything(result: DemoResult, out: Path) -> None:
    assert DemoResult.from_json((out / "result.json").read_text(encoding="utf-8")).to_json() == result.to_json()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "From raw text to a BERT in" in page and "One word in two contexts" in page
    assert not re.findall(r"""(?:src|href|action|poster)\s*=\s*["']?(?!#|data:)[^"'>\s]""", page)
    assert not re.findall(r"url\((?!\s*[\"']?(?:#|data:))|@import|\bfetch\(|XMLHttpRequest|<link|<iframe", page)


def test_the_pretrained_model_fills_and_the_finetuned_one_predicts(result: DemoResult, out: Path) -> None:
    pretrained = bertsmith.load(out / "pretraining")
    filled = pretrained.fill(FILLS[0])
    assert [(one.token, pytest.approx(one.probability, abs=1e-5)) for one in filled] == list(result.fills[0].candidates)
    finetuned = bertsmith.load(out / "finetuned")
    scores = finetuned.predictor.evaluate(read_labelled(DATA / "test.tsv", Classify)).metrics
    assert scores["accuracy"] in [pytest.approx(score, abs=1e-3) for score in result.comparison.pretrained]
    assert finetuned.predict(["a quiet , moving film ."])[0].label in ("objective", "subjective")
    assert (result.model_folder / "config.json").is_file()


def test_an_earlier_demo_gives_way_only_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds an earlier demo\. Let it give way, or choose another folder"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="is not empty and not an earlier demo"):
        run(tmp_path, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("below", [".", "runs/demo"])
def test_a_file_is_no_place_for_a_demo(tmp_path: Path, below: str) -> None:
    file = tmp_path / "notes"
    file.write_text("a b", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"^{re.escape(str(file))} is a file\. The demo makes a folder"):
        run(file / below, replace=True)
    assert file.read_text(encoding="utf-8") == "a b"


def test_an_earlier_demo_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise InterruptedError

    (tmp_path / "demo.json").write_text("{}", encoding="utf-8")
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    monkeypatch.setattr("bertsmith.demo.chain.learn_tokenizer", stop)
    with pytest.raises(InterruptedError):
        run(tmp_path, settings=SMALL, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["recipe"] == "demo:reviews"
