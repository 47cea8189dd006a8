"""Several labels for a text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.errors import DataError
from bertsmith.tasks import Columns, Finetuning, Multilabel, Prediction, Predictor, find_task, read_labelled

Write = Callable[..., Path]


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """A text has the label of each telling word that is in it."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        there = [word for word in ("sun", "rain", "gold") if random.random() < 0.3]
        words = [*there, *random.choice(("tree", "road", "house"), random.integers(2, 6))]
        random.shuffle(words)
        made.append((" ".join(map(str, words)), "; ".join(there)))
    return made


@pytest.fixture
def job(checkpoint: Checkpoint, write: Write, tmp_path: Path) -> Finetuning:
    return Finetuning(
        task="multilabel",
        model=checkpoint,
        train=write("train.tsv", [("text", "labels"), *rows(200, 1)]),
        dev=write("dev.tsv", [("text", "labels"), *rows(60, 2)]),
        out=tmp_path / "run",
        epochs=8,
        batch_size=8,
        seeds=(0,),
        learning_rate=4e-3,
    )


def test_learns_predicts_and_is_a_bert_for_sequence_classification(job: Finetuning, tmp_path: Path) -> None:
    assert "(none)" in "\n".join(job.survey.lines())
    result = job.finish()
    assert result.metric == "micro_f1" and result.best.dev.metrics["micro_f1"] > 0.9
    saved = Predictor(load_model(tmp_path / "run"))
    assert saved.evaluate(saved.read_labelled(job.dev)) == result.best.dev
    both, none = saved.predict(["tree sun road rain", "tree road"])
    assert (both.labels, none.labels) == (("rain", "sun"), ())
    transformers = pytest.importorskip("transformers", reason="transformers is only there for development")
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert theirs.config.problem_type == "multi_label_classification"
    with torch.no_grad():
        shares = theirs(**tokenizer(["tree sun road rain"], return_tensors="pt")).logits[0].sigmoid().tolist()
    assert list((both.probabilities or {}).values()) == pytest.approx(shares, abs=1e-5)


def test_scores_are_scikit_learns() -> None:
    random = np.random.default_rng(3)
    there, said = random.random((2, 80, 4)) < 0.4
    task = Multilabel(("a", "b", "c", "d"))

    def names(table: np.ndarray) -> list[tuple[str, ...]]:
        return [tuple(label for label, on in zip(task.labels, row, strict=True) if on) for row in table]

    found = task.evaluate(names(there), [Prediction(labels=labels) for labels in names(said)])
    assert found.metrics["micro_f1"] == pytest.approx(f1_score(there, said, average="micro"))
    assert found.metrics["macro_f1"] == pytest.approx(f1_score(there, said, average="macro"))
    assert found.metrics["exact_match"] == pytest.approx((there == said).all(1).mean())


def test_the_threshold_is_chosen_for_the_best_score() -> None:
    task = Multilabel(("a", "b"))
    predictions = [Prediction(probabilities={"a": a, "b": b}) for a, b in ((0.3, 0.1), (0.25, 0.32), (0.05, 0.2))]
    assert task.tuned([("a",), ("a", "b"), ()], predictions) == replace(task, threshold=0.25)


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("a.jsonl", '{"text": "t", "labels": ["b, c", "a"]}\n{"text": "t", "labels": []}\n', [("a", "b, c"), ()]),
        ("a.csv", 'text,labels\nt,"b, a"\nt,\n', [("a", "b"), ()]),
        ("a.tsv", "text\tlabels\nt\t10|9\nu\t9\n", [("9", "10"), ("9",)]),
    ],
)
def test_files(tmp_path: Path, name: str, content: str, labels: list[tuple[str, ...]]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_labelled(tmp_path / name, find_task("multilabel")).labels == labels


def test_bad_files_say_where(job: Finetuning, write: Write) -> None:
    dev = write("d.tsv", [("text", "labels"), ("a", "sun"), ("b", "sun,snow")])
    with pytest.raises(DataError, match=r"d.tsv, line 3: the label 'snow' does not occur in the training data"):
        _ = replace(job, dev=dev).survey
    train = write("t.tsv", [("text", "labels"), ("a", "sun"), ("b", "sun")])
    with pytest.raises(DataError, match=r"t.tsv: every example has the same labels .sun."):
        _ = replace(job, train=train).survey


def indicators(count: int, seed: int) -> list[tuple[str, ...]]:
    """The same rows as people have them for competitions: a number, the text, a column for each label."""
    header = ("id", "comment_text", "sun", "rain", "gold")
    return [
        header,
        *(
            (str(n), text, *(str(int(name in there)) for name in header[2:]))
            for n, (text, there) in enumerate(rows(count, seed))
        ),
    ]


def test_columns_of_0_and_1_are_labels_too(job: Finetuning, write: Write, tmp_path: Path) -> None:
    train, dev = write("train.tsv", indicators(200, 1)), write("dev.tsv", indicators(60, 2))
    found, same = read_labelled(train, Multilabel), read_labelled(job.train, Multilabel)
    assert found.layout.columns == Columns(("comment_text",), None, ("sun", "rain", "gold"))
    assert str(found.layout).endswith("labels = the columns of 0 and 1 'sun', 'rain', 'gold'")
    assert found.texts == same.texts and list(map(set, found.labels)) == list(map(set, same.labels))
    some = read_labelled(train, Multilabel, columns=Columns(indicators=("gold", "3")))
    assert {name for label in some.labels for name in label} == {"gold", "sun"}
    result = replace(job, train=train, dev=dev, epochs=1).finish()
    saved = Predictor(result.checkpoint)
    assert saved.read_labelled(dev).layout.columns.indicators == ("sun", "rain", "gold")
    texts = saved.read_texts(dev)
    assert list(texts) == found_texts(dev)


def found_texts(path: Path) -> list[str]:
    return [line.split("\t")[1] for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def test_what_is_neither_0_nor_1(write: Write) -> None:
    lines = indicators(300, 1)
    lines[250] = (*lines[250][:3], "2", "0")
    with pytest.raises(DataError, match=r"train.tsv, line 251: '2' is neither 0 nor 1 \(column 'rain'\)"):
        read_labelled(write("train.tsv", lines), Multilabel)
    two = Columns(indicators=("sun", "rain"))
    with pytest.raises(DataError, match="2 label columns are given, and this task takes one"):
        read_labelled(write("train.tsv", indicators(9, 1)), find_task("classify"), columns=two)
