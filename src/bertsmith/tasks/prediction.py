"""What a fine-tuned model says of texts, and how good that is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TaggedWord:
    """A word, where it stands in its text in characters, its tag and how probable that is."""

    text: str
    start: int
    end: int
    tag: str
    probability: float


@dataclass(frozen=True, slots=True)
class Entity:
    """Words that are one thing: `first` to `last` (both in it), from 0, and the characters `start` to `end` of the text.

    `probability` is that of the tag of its least sure word.
    """

    label: str
    text: str
    start: int
    end: int
    first: int
    last: int
    probability: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer: the characters `start` to `end` of the context. "" is that there is none."""

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one example. A task sets its own fields:

    classify, pair: `label`, and `probabilities` of every label, adding up to 1.
    multilabel: `labels` that apply, and `probabilities`, each for itself.
    regress: `score`.
    tag: `words`, and the `entities` they make up, where the tags are of entities.
    span: `candidates`, best first; `answer` is the one to give, and `no_answer` how much better none would be, in logits,
    for a model that may give none.
    choice: `option`, from 0, and `probabilities` of each.

    `windows` is in how many pieces a text was read that is longer than the model, and `truncated` how many tokens were not
    read at all: of a pair of long texts, the end of the shorter one.
    """

    label: str | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    option: int | None = None
    answer: Candidate | None = None
    candidates: tuple[Candidate, ...] | None = None
    no_answer: float | None = None
    words: tuple[TaggedWord, ...] | None = None
    entities: tuple[Entity, ...] | None = None
    probabilities: Mapping[str, float] | None = None
    windows: int = 1
    truncated: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only what is set, `windows` and `truncated`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """How one label fares. `count` is how many examples (of tags: words or entities) have it."""

    precision: float
    recall: float
    f1: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Predictions compared with the truth.

    `metrics` by name. Where there are labels, `label_scores` of each; where one excludes the other, also
    `confusion[true][predicted]` in the order of `labels`, and `majority`: the accuracy of always giving the most frequent
    one of these examples. `windowed` counts the texts that were read in several windows, `truncated` those of which a part
    was not read.
    """

    count: int
    metrics: dict[str, float]
    windowed: int = 0
    truncated: int = 0
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    label_scores: dict[str, LabelScores] | None = None
    majority: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ()}


def reading_counts(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """`count`, `windowed` and `truncated` of an evaluation."""
    return {
        "count": len(predictions),
        "windowed": sum(p.windows > 1 for p in predictions),
        "truncated": sum(p.truncated > 0 for p in predictions),
    }


def scores_by_label(labels: Sequence[str], scores: Iterable[Sequence[float]], counts: Iterable[int]) -> dict[str, Any]:
    """Precision, recall and F1 of each label, and how often it is true."""
    return {
        label: LabelScores(precision=p, recall=r, f1=f, count=n)
        for label, (p, r, f), n in zip(labels, scores, counts, strict=True)
    }
