"""Predictions do not depend on what else is predicted, and models from elsewhere predict too."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint
from bertsmith.errors import DataError, UsageError
from bertsmith.tasks import Predictor

Sentences = Callable[[int, int], list[tuple[str, str]]]


@pytest.fixture
def predictor(checkpoint: Checkpoint) -> Predictor:
    """Untrained, so that its answers are of every kind."""
    head = nn.SequenceHead.Config(num_labels=3)
    config = nn.Model.Config(encoder=checkpoint.model.config.encoder, heads={"sequence_label": head})
    task = {"kind": "classify", "labels": ["x", "y", "z"], "columns": {"texts": ["title"], "label": "mood"}}
    return Predictor(replace(checkpoint, model=config.initialized(5), task=task))


def rows(predictions: object) -> np.ndarray:
    return np.array([list(p.probabilities.values()) for p in predictions])  # type: ignore[attr-defined]


def test_neighbours_and_order_do_not_matter(predictor: Predictor, sentences: Sentences) -> None:
    texts = [text for text, _ in sentences(50, 3)] + ["", "tree " * 100]
    together = rows(predictor.predict(texts))
    alone = np.concatenate([rows(predictor.predict([text])) for text in texts])
    backwards = rows(predictor.predict(texts[::-1]))[::-1]
    assert np.ptp(together[:, 0]) > 1e-3  # else nothing is shown
    assert together == pytest.approx(alone, abs=1e-5)
    assert together == pytest.approx(backwards, abs=1e-5)
    assert together.sum(1) == pytest.approx(np.ones(52))


def test_nothing_of_a_long_text_is_cut(predictor: Predictor) -> None:
    """The answer to a long text is the mean of what is said of its windows, of which the last shows its end."""
    found = predictor.predict(["tree", "tree " * 38, "tree " * 45, "tree " * 45 + "sun"])
    assert [(p.truncated, p.windows) for p in found] == [(0, 1), (0, 1), (0, 2), (0, 2)]
    assert found[2].probabilities != found[3].probabilities
    windows = predictor.predict(["tree " * 38, "tree " * 37 + "sun"])
    logs = np.mean([np.log(row) for row in rows(windows)], axis=0)
    assert rows(found[3:])[0] == pytest.approx(np.exp(logs) / np.exp(logs).sum(), abs=1e-6)


def test_streams_in_constant_memory(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertsmith.tasks.predictor.CHUNK", 4)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "tree"

    heard: list[int] = []
    stream = predictor.stream(endless(), progress=lambda phase, done, total: heard.append(done))
    assert [next(stream).label for _ in range(6)].count(next(stream).label) == 6
    assert taken == 8 and heard == [4, 8]


def test_nothing_gives_nothing(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_files(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,title,mood\nrain,sun,x\nrain,tree,y\n", encoding="utf-8")
    labelled = predictor.read_labelled(path)
    assert (labelled.texts, labelled.labels) == (["sun", "tree"], ["x", "y"])
    assert list(predictor.read_texts(path).texts) == ["sun", "tree"]
    evaluation = predictor.evaluate(labelled)
    assert evaluation.count == 2 and np.sum(evaluation.confusion or ()) == 2
    path.write_text("title,mood\nrain,x\nsun,w\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a.csv, line 3: the label 'w' .* Allowed: x, y, z"):
        predictor.evaluate(predictor.read_labelled(path))


def test_models_from_elsewhere_take_texts_and_pairs(predictor: Predictor, checkpoint: Checkpoint) -> None:
    task = {"kind": "classify", "labels": ["LABEL_0", "LABEL_1", "LABEL_2"]}
    foreign = Predictor(replace(checkpoint, model=predictor.running.model, task=task))
    assert [p.truncated for p in foreign.predict(["sun", ("rain", "tree")])] == [0, 0]


def test_models_that_cannot_predict(checkpoint: Checkpoint, predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="was not fine-tuned"):
        Predictor(checkpoint)
    with pytest.raises(UsageError, match="no task called 'rank'"):
        Predictor(replace(checkpoint, task={"kind": "rank", "labels": ["a"]}))
    with pytest.raises(UsageError, match="fine-tuned on single texts"):
        predictor.predict([("a", "b")])
