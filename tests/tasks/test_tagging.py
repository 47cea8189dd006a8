"""Tagging from files in, to spans out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.data import IGNORE_INDEX
from bertsmith.errors import DataError
from bertsmith.tasks import Columns, Cutter, Finetuning, Predictor, Tag, Words, find_task, read_labelled
from bertsmith.tasks.schemes import Bio

Sentence = list[tuple[str, str]]


def sentences(count: int, seed: int) -> list[Sentence]:
    """`sun gold` is a GOOD thing, `rain mud` a BAD one: the first word begins it, and the others go on with it."""
    random = np.random.default_rng(seed)
    made: list[Sentence] = []
    for _ in range(count):
        row: Sentence = []
        for _ in range(int(random.integers(1, 4))):
            row += [
                (str(word), "O") for word in random.choice(("house", "tree", "road", "walks"), random.integers(1, 4))
            ]
            if random.random() < 0.7:
                good = random.random() < 0.5
                first, others = ("sun", ("joys", "gold")) if good else ("rain", ("fears", "mud"))
                row.append((first, f"B-{'GOOD' if good else 'BAD'}"))
                row += [(str(w), f"I-{'GOOD' if good else 'BAD'}") for w in random.choice(others, random.integers(3))]
        made.append(row)
    return made


def conll(rows: list[Sentence]) -> str:
    return "\n".join("".join(f"{word}\t{tag}\n" for word, tag in row) for row in rows)


@pytest.fixture
def job(checkpoint: Checkpoint, tmp_path: Path) -> Finetuning:
    for name, count, seed in (("train", 120, 1), ("dev", 40, 2)):
        (tmp_path / f"{name}.conll").write_text(conll(sentences(count, seed)), encoding="utf-8")
    return Finetuning(
        task="tag",
        model=checkpoint,
        train=tmp_path / "train.conll",
        dev=tmp_path / "dev.conll",
        out=tmp_path / "run",
        epochs=3,
        batch_size=8,
        seeds=(0,),
        learning_rate=4e-3,
    )


def test_learns_predicts_and_is_a_bert_for_token_classification(job: Finetuning, tmp_path: Path) -> None:
    said = "\n".join(job.survey.lines())
    assert "text = column '1', label = column '2'" in said and "labels: O" in said
    result = job.finish()
    assert result.metric == "f1" and result.best.dev.metrics["f1"] > 0.9
    assert set(result.best.dev.label_scores or ()) == {"GOOD", "BAD"}
    saved = Predictor(load_model(tmp_path / "run"))
    assert saved.task == Tag(("O", "B-BAD", "I-BAD", "B-GOOD", "I-GOOD"), Bio())
    assert saved.evaluate(saved.read_labelled(job.dev)) == result.best.dev

    (prediction,) = saved.predict(["tree walks, sun gold. tree"])
    assert [(e.label, e.text, e.start, e.end, e.first, e.last) for e in prediction.entities or ()] == [
        ("GOOD", "sun gold", 12, 20, 3, 4)
    ]
    assert prediction.words is not None and prediction.words[3].text == "sun"
    assert all(word.probability > 0.2 for word in prediction.words)

    transformers = pytest.importorskip("transformers", reason="transformers is only there for development")
    theirs = transformers.BertForTokenClassification.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    words = ["tree", "sun", "joys", "rain"]
    inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        shares = theirs(**inputs).logits[0].softmax(-1)
    first = [inputs.word_ids().index(i) for i in range(4)]
    (ours,) = saved.predict([Words.joined(words)])
    label = theirs.config.label2id
    assert [word.probability for word in ours.words or ()] == pytest.approx(
        [shares[place, label[word.tag]].item() for place, word in zip(first, ours.words or (), strict=True)], abs=1e-5
    )


def test_long_texts_are_tagged_as_a_whole(job: Finetuning) -> None:
    result = replace(job, out=None, max_length=12, stride=3).finish()
    assert result.best.dev.windowed > 10 and result.best.dev.truncated == 0
    assert result.best.dev.metrics["f1"] > 0.8
    words = Words.joined(["tree", "gold"] * 30)
    (prediction,) = result.predictor().predict([words])
    assert [word.text for word in prediction.words or ()] == list(words.words)
    assert prediction.windows > 10


def test_the_first_token_of_a_word_has_its_label_once(checkpoint: Checkpoint) -> None:
    task = Tag(("O", "B-x", "I-x"), Bio())
    words = Words.joined(["sun", "trees", "suns"] * 9)
    for limit in (40, 12):
        windows = task.windows(words, Cutter(checkpoint.tokenizer, limit))
        lessons = task.lessons(windows, ("O", "B-x", "I-x") * 9)
        arrays = [example.tokens["labels"] for ((example,),) in lessons]
        flat = np.concatenate(arrays)
        assert flat[flat != IGNORE_INDEX].tolist() == [0, 1, 2] * 9
        for ((example,),), labels in zip(lessons, arrays, strict=True):
            texts = [checkpoint.tokenizer.vocabulary.tokens[i] for i in example.tokens["input_ids"]]
            assert all(
                text in ("sun", "tree") for text, label in zip(texts, labels, strict=True) if label != IGNORE_INDEX
            )


CONLLU = """# text = suns walk
1-2\tsuns\t_\t_\t_\t_\t_\t_\t_\t_
1\tsun\tsun\tNOUN\tNN\t_\t0\troot\t_\t_
2\ts\ts\tPART\tPOS\t_\t1\tcase\t_\t_
2.1\tx\tx\tVERB\tV\t_\t1\tx\t_\t_

1\ttree\ttree\tNOUN\tNN\t_\t0\troot\t_\t_
"""


NOTHING = [("#", "O"), ("tree", "O")]


@pytest.mark.parametrize(
    ("name", "content", "columns", "rows"),
    [
        ("a.conll", "-DOCSTART- -X- O\n\nsun NN B-x\n# NN O\n\n\ntree NN O\n", Columns(), [("sun", "B-x"), *NOTHING]),
        ("a.conll", "sun NN B-x\ntree VB O\n", Columns(label="2"), [("sun", "NN"), ("tree", "VB")]),
        ("a.txt", "# id 4\nsun\tB-x\n#sun\tO\n", Columns(), [("sun", "B-x"), ("#sun", "O")]),
        ("a.tsv", "sun\tB-x\n \ntree\tO\n", Columns(), [("sun", "B-x"), ("tree", "O")]),
        ("a.conllu", CONLLU, Columns(), [("sun", "NOUN"), ("s", "PART"), ("tree", "NOUN")]),
        ("a.conllu", CONLLU, Columns(label="xpos"), [("sun", "NN"), ("s", "POS"), ("tree", "NN")]),
        ("a.jsonl", '{"tokens": ["sun", "tree"], "ner_tags": [1, 0]}\n', Columns(), [("sun", "1"), ("tree", "0")]),
        ("a.json", '[{"words": ["sun"],\n "tags": ["O"]}]', Columns(), [("sun", "O")]),
    ],
)  # fmt: skip
def test_files(tmp_path: Path, name: str, content: str, columns: Columns, rows: list[tuple[str, str]]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = read_labelled(tmp_path / name, find_task("tag"), columns=columns)
    pairs = [(e.texts.words, e.label) for e in found.examples]  # type: ignore[union-attr]
    assert [pair for words, tags in pairs for pair in zip(words, tags, strict=True)] == rows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.conll", "sun\tO\n\ntree\n", "line 3: found 1 column, and the first word has 2"),
        ("a.conll", "sun O\ntree O O\n", "line 2: found 3 columns, and the first word has 2"),
        ("a.conllu", "1\tsun\tNOUN\n", "line 1: found 3 columns, and CoNLL-U has 10"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a", "b"], "tags": ["O"]}\n', "line 2: 2 words and 1 tags"),
        ("a.jsonl", '{"tokens": ["a", " "], "tags": ["O", "O"]}\n', "line 1: word 2 is empty"),
        ("a.jsonl", '{"tokens": [], "tags": []}\n', "line 1: there are no words"),
        ("a.jsonl", '{"tokens": 5, "tags": []}\n', "line 1: 5 is not a list of words"),
        ("a.jsonl", '{"tokens": ["a"], "tags": "O"}\n', "line 1: 'O' is not a list of tags"),
        ("a.jsonl", '{"tokens": ["a"], "tags": [null]}\n', "line 1: there is no label"),
        ("a.jsonl", '{"tokens": ["a"], "mood": ["O"], "n": 1}\n', "it is not clear which column holds the label"),
    ],
)  # fmt: skip
def test_bad_files_say_where(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path / name, find_task("tag"))


def test_unknown_tags_and_single_tags(job: Finetuning, tmp_path: Path) -> None:
    (tmp_path / "dev.conll").write_text("sun\tB-GOOD\n\ntree\tO\nmud\tB-BED\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: the tag 'B-BED' of word 2, 'mud', does not .*Did you mean 'B-BAD'"):
        _ = job.survey
    (tmp_path / "train.conll").write_text("sun\tO\n\ntree\tO\n", encoding="utf-8")
    with pytest.raises(DataError, match="every word has the tag 'O'"):
        _ = replace(job).survey


def test_parts_of_speech_are_counted_by_word(job: Finetuning, write: Callable[..., Path]) -> None:
    rows = [[("the", "DET"), ("sun", "NOUN"), ("walks", "VERB")], [("a", "DET"), ("tree", "NOUN")]] * 10
    paths = [write(f"{name}.conll", [[conll(rows)]]) for name in ("pos", "posdev")]
    result = replace(job, train=paths[0], dev=paths[1], out=None, epochs=4).finish()
    assert result.metric == "accuracy" and result.best.dev.metrics["accuracy"] > 0.9
    assert result.best.dev.majority == pytest.approx(0.4)
    (prediction,) = result.predictor().predict(["the tree"])
    assert prediction.entities is None and [w.tag for w in prediction.words or ()] == ["DET", "NOUN"]
    assert result.predictor().predict([""])[0].words == ()
