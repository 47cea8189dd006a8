"""Fine-tuning on data that can be learned, and what it leaves behind."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.errors import ConfigError, DataError, UsageError
from bertsmith.tasks import Columns, Finetuning, Predictor, default_learning_rate, random_twin
from bertsmith.train.log import read_log

Sentences = Callable[[int, int], list[tuple[str, str]]]
Write = Callable[[str, Iterable[Iterable[object]]], Path]


@pytest.fixture
def job(checkpoint: Checkpoint, sentences: Sentences, write: Write, tmp_path: Path) -> Finetuning:
    return Finetuning(
        task="classify",
        model=checkpoint,
        train=write("train.tsv", [("text", "label"), *sentences(150, 1)]),
        dev=write("dev.tsv", [("text", "label"), *sentences(61, 2)]),
        out=tmp_path / "run",
        epochs=4,
        batch_size=7,
        seeds=(0,),
        learning_rate=3e-3,
    )


def test_learns_reports_and_saves(job: Finetuning, sentences: Sentences, tmp_path: Path) -> None:
    reports = list(job.run())
    steps = 22 * 4  # 150 examples in batches of 7, the last one of 3
    assert [r.step for r in reports] == list(range(1, steps + 1))
    assert {r.steps for r in reports} == {steps}
    assert [r.step for r in reports if r.dev is not None] == [22, 44, 66, 88]
    assert [r.epoch for r in reports] == [1 + step // 22 for step in range(steps)]
    assert [r.update.measures["sequence_label"].count for r in reports[:22]] == [7] * 21 + [3]
    assert reports[0].note() == f"seed 0, epoch 1, loss {reports[0].update.measures['sequence_label'].loss:.3f}"
    assert reports[21].note().startswith("seed 0, epoch 1, dev accuracy 0.")
    assert reports[-1].seconds_left == 0 and reports[0].seconds_left > 0
    result = reports[-1].result
    assert result is not None and all(r.result is None for r in reports[:-1])
    assert result.best.dev.metrics["accuracy"] > 0.9 > (result.best.dev.majority or 1)
    assert result.best.dev.metrics["accuracy"] == max(r.dev.metrics["accuracy"] for r in reports if r.dev)
    assert result.collapsed == ()

    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["log.jsonl", "model", "run.json"]
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (run["kind"], run["task"]) == ("finetuning", {"kind": "classify", "labels": ["neg", "pos"]})
    log = list(read_log(tmp_path / "run"))
    assert [r["step"] for r in log if "dev" in r] == [22, 44, 66, 88]
    assert log[-1]["result"]["best"]["dev"]["metrics"] == result.best.dev.metrics

    loaded = Predictor(load_model(tmp_path / "run"))
    texts = [text for text, _ in sentences(20, 3)]
    assert loaded.predict(texts) == result.predictor().predict(texts)
    assert loaded.columns == Columns(("text",), "label")
    dev = loaded.evaluate(loaded.read_labelled(job.dev))
    assert dev == result.best.dev  # the best epoch was saved, and not the last


def test_is_a_pure_function_of_its_seed(job: Finetuning) -> None:
    job = replace(job, out=None, epochs=1)

    def weights(seed: int) -> dict[str, torch.Tensor]:
        return replace(job, seeds=(seed,)).finish().checkpoint.model.state_dict()

    first, again, other = weights(4), weights(4), weights(5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["heads.sequence_label.classifier.weight"], other["heads.sequence_label.classifier.weight"]
    )


def test_the_model_that_it_starts_from_stays_as_it_was(job: Finetuning, checkpoint: Checkpoint) -> None:
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    replace(job, out=None, epochs=1).finish()
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.model.state_dict().items())


def test_every_epoch_sees_every_example_once_in_an_order_of_its_own(job: Finetuning) -> None:
    from bertsmith.tasks.trainee import Trainee

    batches = Trainee(job._material, seed=1)._batches(7)
    epochs = [[next(batches).batches[0] for _ in range(22)] for _ in range(2)]
    seen = [[tuple(row) for b in epoch for row in _sequences(b)] for epoch in epochs]
    assert (
        sorted(seen[0])
        == sorted(seen[1])
        == sorted(tuple(e.tokens["input_ids"].tolist()) for ((e,),) in job._material.lessons)
    )
    assert seen[0] != seen[1]


def _sequences(batch: object) -> list[list[int]]:
    flat = batch["input_ids"].flatten()  # type: ignore[index]
    pairs = zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)  # type: ignore[attr-defined]
    return [flat[start : start + length].tolist() for start, length in pairs]


def test_several_seeds(job: Finetuning) -> None:
    reports = list(replace(job, seeds=(3, 1, 8), epochs=3).run())
    assert [r.step for r in reports] == list(range(1, 22 * 3 * 3 + 1))
    result = reports[-1].result
    assert result is not None and [run.seed for run in result.runs] == [3, 1, 8]
    scores = [run.dev.metrics["accuracy"] for run in result.runs]
    assert result.mean == pytest.approx(np.mean(scores)) and result.spread == pytest.approx(np.std(scores, ddof=1))
    assert result.best.dev.metrics["accuracy"] == max(scores)
    low, high = result.confidence or (0, 0)
    around = 4.3027 * result.spread / 3**0.5
    assert (low, high) == pytest.approx((result.mean - around, min(result.mean + around, 1.0)))
    assert f"over 3 of 3 seeds, 95 % confidence {low:.4f} to {high:.4f}" in "\n".join(result.lines())
    saved = Predictor(load_model(job.out))  # type: ignore[arg-type]
    assert saved.evaluate(saved.read_labelled(job.dev)) == result.best.dev


def test_few_examples_are_worth_several_seeds(job: Finetuning, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(job, seeds=None, out=None, epochs=1, most=14)
    assert [run.seed for run in job.finish().runs] == [0, 1, 2]
    monkeypatch.setattr("bertsmith.tasks.finetuning._MANY_EXAMPLES", 14)
    assert [run.seed for run in replace(job).finish().runs] == [0]


def test_small_files_are_gone_through_more_often(job: Finetuning) -> None:
    job = replace(job, out=None, epochs=None)  # 150 examples
    assert replace(job, batch_size=7).plan == "training: 1 run of 10 epochs, 220 steps, learning rate 3.0e-03"
    assert replace(job, batch_size=32).plan == "training: 1 run of 20 epochs, 100 steps, learning rate 3.0e-03"
    assert replace(job, batch_size=1).plan == "training: 1 run of 3 epochs, 450 steps, learning rate 3.0e-03"
    assert "3 runs of 2 epochs, 44 steps" in replace(job, epochs=2, seeds=None).plan
    assert replace(job, batch_size=32, seeds=(0,)).finish().best.epoch <= 20


def test_a_run_ends_when_it_gets_no_better(job: Finetuning) -> None:
    reports = list(replace(job, epochs=30, patience=2, out=None, seeds=(0, 1), most=70).run())
    for seed in (0, 1):
        scores = [r.dev.metrics["accuracy"] for r in reports if r.dev is not None and r.seed == seed]
        best = max(range(len(scores)), key=lambda i: (scores[i], -i))
        assert len(scores) == best + 3 < 30
    result = reports[-1].result
    assert result is not None and len(result.runs) == 2 and result.best.epoch <= reports[-1].epoch


def test_a_frozen_encoder_stays_as_it_was(job: Finetuning, checkpoint: Checkpoint, tmp_path: Path) -> None:
    result = replace(job, freeze=True, learning_rate=2e-2, epochs=1).finish()
    loaded = load_model(tmp_path / "run")
    assert loaded.model.mix is not None and not torch.equal(loaded.model.mix.weights, torch.zeros(3))
    before = checkpoint.model.encoder.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.encoder.state_dict().items())
    assert Predictor(loaded).evaluate(Predictor(loaded).read_labelled(job.dev)) == result.best.dev
    assert not (tmp_path / "run" / "model" / "config.json").exists()  # nobody else could read it
    assert replace(job, freeze=True).default_rate == 1e-3


def test_the_first_examples_of_few_are_those_of_more(job: Finetuning) -> None:
    few, more = (replace(job, most=most)._material.train.texts for most in (10, 20))
    assert few == more[:10] and len(set(more)) > 10
    assert len(replace(job, most=1000)._material.train.texts) == 150


def test_collapsed_runs_are_named_and_not_averaged_in(job: Finetuning) -> None:
    result = replace(job, seeds=(0, 1), out=None, learning_rate=1e-9, epochs=1).finish()
    assert result.collapsed == (0, 1)
    assert "seeds 0, 1 give one answer to everything" in result.lines()[-1]
    good = replace(job, out=None, epochs=3).finish()
    mixed = replace(good, runs=(*good.runs, result.runs[1]))
    assert (mixed.collapsed, mixed.mean, mixed.spread) == ((1,), good.mean, 0)


def test_pairs_are_read_as_pairs(checkpoint: Checkpoint, sentences: Sentences, write: Write, tmp_path: Path) -> None:
    """The label says whether the *second* text is a good one; the first is noise, so segments must be told apart."""

    def rows(count: int, seed: int) -> list[tuple[str, str, str]]:
        first, second = sentences(count, seed), sentences(count, seed + 100)
        return [
            ("sentence1", "sentence2", "label"),
            *((a, b, label) for (a, _), (b, label) in zip(first, second, strict=True)),
        ]

    job = Finetuning(
        task="pair",
        model=checkpoint,
        train=write("train.tsv", rows(300, 1)),
        dev=write("dev.tsv", rows(80, 2)),
        out=tmp_path / "run",
        epochs=6,
        batch_size=8,
        seeds=(0,),
        learning_rate=3e-3,
    )
    result = job.finish()
    assert result.best.dev.metrics["accuracy"] > 0.85
    predictor = Predictor(load_model(tmp_path / "run"))
    (prediction,) = predictor.predict([("the rain", "a sun joy")])
    assert prediction.label == "pos"
    with pytest.raises(UsageError, match="fine-tuned on pairs of texts"):
        predictor.predict(["a text"])


def test_numbers_of_any_size(checkpoint: Checkpoint, sentences: Sentences, write: Write, tmp_path: Path) -> None:
    """Labels around 5,000: without standard scores this would not learn."""

    def rows(count: int, seed: int) -> list[tuple[object, object]]:
        made = [(text, 5000 + 300 * (label == "pos") + len(text)) for text, label in sentences(count, seed)]
        return [("text", "score"), *made]

    job = Finetuning(
        task="regress",
        model=checkpoint,
        train=write("train.tsv", rows(150, 1)),
        dev=write("dev.tsv", rows(60, 2)),
        out=tmp_path / "run",
        epochs=4,
        batch_size=8,
        seeds=(0,),
        learning_rate=3e-3,
    )
    result = job.finish()
    assert result.metric == "spearman" and result.best.dev.metrics["pearson"] > 0.9
    saved = Predictor(load_model(tmp_path / "run"))
    assert saved.evaluate(saved.read_labelled(job.dev)).metrics == pytest.approx(result.best.dev.metrics, rel=1e-4)
    (prediction,) = saved.predict(["the sun joy house"])
    transformers = pytest.importorskip("transformers", reason="transformers is only there for development")
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    with torch.no_grad():
        logits = theirs(**tokenizer(["the sun joy house"], return_tensors="pt")).logits
    assert logits.tolist() == [[pytest.approx(prediction.score, rel=1e-5)]]
    assert prediction.score is not None and 5100 < prediction.score < 5500 and prediction.label is None


def test_the_folder_is_a_bert_for_sequence_classification(job: Finetuning, sentences: Sentences) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is only there for development")
    replace(job, epochs=1).finish()
    folder = Path(str(job.out)) / "model"
    theirs = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.config.id2label == {0: "neg", 1: "pos"}
    texts = [text for text, _ in sentences(9, 4)]
    with torch.no_grad():
        logits = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    ours = [list((p.probabilities or {}).values()) for p in Predictor(load_model(folder)).predict(texts)]
    assert np.array(ours) == pytest.approx(logits.softmax(-1).numpy(), abs=1e-5)


class TestBeforeAnythingIsWritten:
    @pytest.mark.parametrize("seeds", [(2**32,), (0, -1), (1, 2**40)])
    def test_seeds_are_checked(self, job: Finetuning, seeds: tuple[int, ...]) -> None:
        with pytest.raises(ConfigError, match=f"seeds.*expected 0 <= seed < 4294967296, got {seeds[-1]}"):
            replace(job, seeds=seeds).finish()
        assert not Path(str(job.out)).exists()

    def test_the_largest_seed_trains(self, job: Finetuning) -> None:
        assert replace(job, seeds=(2**32 - 1,), epochs=1, out=None).finish().best.seed == 2**32 - 1

    @pytest.mark.parametrize("device", ["cuda", "gpu", "cuda:77"])
    def test_the_device_is_checked(self, job: Finetuning, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(UsageError, match=device):
            replace(job, device=device).finish()
        assert not Path(str(job.out)).exists()

    def test_a_file_in_the_way_of_the_run_folder_is_named(self, job: Finetuning) -> None:
        with pytest.raises(UsageError, match=r"train\.tsv: this is a file"):
            replace(job, out=Path(job.train) / "run").finish()

    def test_the_survey(self, job: Finetuning, write: Write) -> None:
        rows = [("The  SUN sun", "pos"), ("rain", "neg"), ("", "neg"), ("tree " * 50, "pos")]
        dev = [("the sun sun", "neg"), ("RAIN", "neg"), ("mud", "neg")]
        job = replace(
            job, train=write("t.tsv", [("text", "label"), *rows]), dev=write("d.tsv", [("text", "label"), *dev])
        )
        survey = job.survey
        assert survey.train.labels == {"neg": 2, "pos": 2} and survey.train.majority == 0.5
        assert (survey.train.empty, survey.train.too_long, survey.train.tokens["longest"]) == (1, 1, 52)
        assert (survey.duplicates, survey.contradictions) == (2, 1)
        said = "\n".join(survey.lines())
        assert "text = column 'text', label = column 'label'" in said
        assert "Warning: 1 texts are over 40 tokens" in said
        assert "Warning: 2 of 3 dev texts are in the training file too, 1 of them with another label" in said
        assert not Path(str(job.out)).exists()

    @pytest.mark.parametrize(
        ("train", "dev", "message"),
        [
            ([("a", "pos"), ("b", "pos")], [("a", "pos")], "train.tsv: every example has the label 'pos'"),
            ([("a", "pos")], [("a", "pos")], "train.tsv: 1 example, and training needs at least 2"),
            ([("a", "pos"), ("b", "neg")], [("a", "pos"), ("b", "bad")], r"dev.tsv, line 3: the label 'bad' .*neg, pos"),
        ],
    )  # fmt: skip
    def test_bad_files(
        self, job: Finetuning, write: Write, train: list[tuple[str, str]], dev: list[tuple[str, str]], message: str
    ) -> None:
        write("train.tsv", [("text", "label"), *train])
        write("dev.tsv", [("text", "label"), *dev])
        with pytest.raises(DataError, match=message):
            next(iter(job.run()))
        assert not Path(str(job.out)).exists()

    def test_a_folder_that_holds_something(self, job: Finetuning, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.txt").write_text("years of work", encoding="utf-8")
        with pytest.raises(UsageError, match="exists and is not empty"):
            next(iter(job.run()))
        assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"epochs": 0},
            {"batch_size": 0},
            {"learning_rate": 0.0},
            {"warmup": 1.0},
            {"seeds": ()},
            {"seeds": (1, 1)},
            {"seeds": (-1,)},
            {"patience": 0},
            {"stride": 0},
            {"most": 0},
        ],
    )
    def test_settings_out_of_range(self, job: Finetuning, changes: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match=next(iter(changes))):
            replace(job, **changes)

    def test_settings_that_the_model_or_the_house_does_not_know(self, job: Finetuning) -> None:
        with pytest.raises(UsageError, match="this model reads 8 to 40 tokens, got 41"):
            _ = replace(job, max_length=41).survey
        with pytest.raises(UsageError, match="no task called 'classification'"):
            replace(job, task="classification")


def test_the_limit_is_kept_with_the_model(job: Finetuning) -> None:
    result = replace(job, max_length=9, epochs=1, out=None).finish()
    (prediction,) = result.predictor().predict(["tree tree tree tree tree tree tree tree tree"])
    assert (prediction.windows, prediction.truncated) == (2, 0)
    assert (result.best.dev.windowed, result.best.dev.truncated) == (32, 0)


def test_default_learning_rate() -> None:
    assert default_learning_rate(768) == pytest.approx(5e-5)
    assert default_learning_rate(128) == pytest.approx(3e-4)
    assert default_learning_rate(24) == pytest.approx(5e-4)


def test_random_twin(job: Finetuning, checkpoint: Checkpoint, tmp_path: Path) -> None:
    saved = save_model(tmp_path / "trained", replace(checkpoint, lineage={"corpus": "x"}))
    twin = random_twin(load_model(saved), seed=1)
    assert twin.model.config == checkpoint.model.config and twin.tokenizer.sha256 == checkpoint.tokenizer.sha256
    ours, theirs = twin.model.state_dict(), checkpoint.model.state_dict()
    matrices = [name for name in theirs if theirs[name].ndim == 2]
    assert not any(torch.equal(ours[name], theirs[name]) for name in matrices)
    again = random_twin(checkpoint, seed=1).model.state_dict()
    assert all(torch.equal(ours[name], again[name]) for name in again)
    assert replace(job, model=twin, out=None).finish().best.dev.metrics["accuracy"] > 0.9


def test_progress_is_told(job: Finetuning) -> None:
    heard: list[tuple[str, int, int | None]] = []
    replace(job, epochs=1, out=None).finish(lambda phase, done, total: heard.append((phase, done, total)))
    assert heard[0] == ("fine-tuning", 1, 22) and heard[-1] == ("fine-tuning", 22, 22)


def test_bfloat16_trains_too(job: Finetuning) -> None:
    result = replace(job, precision="bfloat16", out=None).finish()
    assert result.best.dev.metrics["accuracy"] > 0.85
    assert result.predictor().evaluate(result.predictor().read_labelled(job.dev)) == result.best.dev
