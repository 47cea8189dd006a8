"""Entities by tags, against seqeval; legal rows of tags."""

import warnings
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB2, IOBES, Entities

from bertsmith.tasks import Prediction, Tag, TaggedWord
from bertsmith.tasks.schemes import Bio, Bioes, Loose, Scheme, Words, best_path, scheme_of, scheme_of_labels

TAGS = {
    letters: st.lists(
        st.sampled_from(["O", *(f"{x}-{label}" for x in letters for label in ("PER", "LOC-1"))]), max_size=9
    )
    for letters in ("BI", "BIES", "BILU")
}


@pytest.mark.parametrize(
    ("scheme", "theirs", "letters"), [(Bio(), IOB2, "BI"), (Bioes(), IOBES, "BIES"), (Bioes(), BILOU, "BILU")]
)
@given(data=st.data())
def test_strict_entities_are_seqevals(scheme: Scheme, theirs: type, letters: str, data: st.DataObject) -> None:
    tags = data.draw(TAGS[letters])
    expected = [(e.tag, e.start, e.end - 1) for e in Entities([tags], theirs).entities[0]]
    assert scheme.entities(tags) == expected


@given(TAGS["BIES"])
def test_loose_entities_are_seqevals(tags: list[str]) -> None:
    assert Loose().entities(tags) == get_entities(tags)


@pytest.mark.parametrize(("labels", "mode"), [("BI", {"mode": "strict", "scheme": IOB2}), ("I", {})])
def test_scores_are_seqevals(labels: str, mode: dict[str, object]) -> None:
    """Random rows, right and wrong alike; a third of the tags agree."""
    random = np.random.default_rng(4)
    names = ("O", *(f"{x}-{label}" for x in labels for label in ("drug", "gene", "cell")))
    truth = [[str(tag) for tag in random.choice(names, random.integers(1, 9))] for _ in range(200)]
    said = [[tag if random.random() < 0.6 else str(random.choice(names)) for tag in row] for row in truth]
    task = Tag(names, scheme_of(truth) if labels == "I" else Bio())
    predictions = [Prediction(words=tuple(TaggedWord("w", 0, 1, tag, 1.0) for tag in row)) for row in said]
    found = task.evaluate([tuple(row) for row in truth], predictions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "precision": precision_score(truth, said, **mode),
            "recall": recall_score(truth, said, **mode),
            "f1": f1_score(truth, said, **mode),
        }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert 0.2 < found.metrics["f1"] < 0.8
    pairs = [(a, b) for row, other in zip(truth, said, strict=True) for a, b in zip(row, other, strict=True)]
    assert found.metrics["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([["O", "B-x", "I-x"]], Bio()),
        ([["O", "I-x", "I-x"]], Loose()),
        ([["B-x", "I-y"]], Loose()),
        ([["S-x", "O", "B-y", "E-y"]], Bioes()),
        ([["U-x", "O", "B-y", "L-y"]], Bioes()),
        ([["B-x", "O", "E-y"]], Loose()),
        ([["NOUN", "VERB"]], Words()),
        ([["B", "O"]], Words()),
        ([["O", "O"]], Words()),
        ([["I-x", "E-"]], Words()),
    ],
)
def test_the_scheme_is_found_in_the_tags(rows: list[list[str]], scheme: Scheme) -> None:
    assert scheme_of(rows) == scheme


def test_the_scheme_of_a_model_from_elsewhere() -> None:
    assert scheme_of_labels(["O", "B-x", "I-x"]) == Bio()
    assert scheme_of_labels(["O", "I-x"]) == Loose()
    assert scheme_of_labels(["LABEL_0", "LABEL_1"]) == Words()
    assert scheme_of_labels(["O", "B-x", "S-x"]) == Bioes()


def test_tags_of_one_entity_belong_together() -> None:
    assert Bio().closed(["O", "B-x"]) == {"O", "B-x", "I-x"}
    assert Bioes().closed(["B-x", "L-x"]) == {"O", "B-x", "I-x", "L-x", "U-x"}
    assert Words().closed(["DET"]) == {"DET"}


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_best_legal_row_is_found(length: int, seed: int) -> None:
    """Against every row there is."""
    labels = ["O", "B-x", "I-x", "E-x", "S-x"]
    follows = Bioes().follows
    allowed = np.array([[follows(a, b) for b in labels] for a in labels])
    first, last = np.array([follows("O", b) for b in labels]), np.array([follows(a, "O") for a in labels])
    scores = np.random.default_rng(seed).normal(size=(length, 5))

    def legal(row: tuple[int, ...]) -> bool:
        return first[row[0]] and last[row[-1]] and all(allowed[a, b] for a, b in pairwise(row))

    rows = [row for row in product(range(5), repeat=length) if legal(row)] if length < 6 else []
    path = best_path(scores, allowed, first, last)
    assert legal(tuple(path))
    if rows:
        totals = [scores[np.arange(length), row].sum() for row in rows]
        assert scores[np.arange(length), path].sum() == pytest.approx(max(totals))


def test_nothing_has_no_tags() -> None:
    assert best_path(np.zeros((0, 2)), np.ones((2, 2), bool), np.ones(2, bool), np.ones(2, bool)) == []
