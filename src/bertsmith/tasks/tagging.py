"""A tag for each word: names, drugs, parts of speech (Devlin et al. 2018, §5.3)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from bertsmith.config import require
from bertsmith.data import IGNORE_INDEX, Batch
from bertsmith.data.columns import Wanted
from bertsmith.data.records import Format
from bertsmith.errors import DataError, nearest
from bertsmith.nn import Model
from bertsmith.objectives import Objective, TokenLabel
from bertsmith.tasks import metrics
from bertsmith.tasks.classification import label_text, softmax
from bertsmith.tasks.prediction import Entity, Evaluation, Prediction, TaggedWord, reading_counts, scores_by_label
from bertsmith.tasks.schemes import OUTSIDE, Scheme, Span, best_path, scheme_of, scheme_of_labels
from bertsmith.tasks.schemes import Words as OfWords
from bertsmith.tasks.task import Label, Lesson, Task, Texts, cut_counts, example
from bertsmith.tasks.words import Words
from bertsmith.text.windows import Cutter, Window, most_context

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled


@dataclass(frozen=True)
class WantedTags(Wanted):
    """Words and tags. In a file with numbered columns, as CoNLL's, the first has the words and the last the tags."""

    texts: tuple[tuple[str, ...], ...] = (("tokens",), ("words",), ("form",), ("text",), ("1",))
    labels: tuple[str, ...] = ("tags", "ner_tags", "labels", "ner", "pos_tags", "upos", "chunk_tags", "pos", "label")
    endings: Mapping[str, Format] = field(default_factory=lambda: {".tsv": "conll", ".txt": "conll"})
    plain: Format = "conll"

    def usual_label(self, there: Mapping[str, str]) -> str | None:
        numbers = [name for name in there if name.isdecimal()]
        return super().usual_label(there) or (max(numbers, key=int) if numbers else None)


@dataclass(frozen=True)
class Tag(Task, kind="tag"):
    """One of `labels` for each word, from the hidden state of its first token; only legal rows of tags are given.

    A word of a long text is judged in the window that shows most of what is around it. The metric is the strict F1 of whole
    entities where the tags are of entities, else accuracy. Without a `scheme`, the labels tell it.
    """

    wanted: ClassVar[Wanted] = WantedTags()
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy")
    labels: tuple[str, ...]
    scheme: Scheme | None = None

    def __post_init__(self) -> None:
        require(len(self.labels) >= 2, "labels", f"expected at least 2, got {len(self.labels)}")
        require(len(set(self.labels)) == len(self.labels), "labels", "each must be there once")

    @property
    def metric(self) -> str:
        return "accuracy" if isinstance(self.found_scheme, OfWords) else "f1"

    @classmethod
    def read_texts(cls, cells: Sequence[Any]) -> Texts:
        """A list of words; a plain text is split into words first."""
        (words,) = cells
        if isinstance(words, str):
            return Words.found(words)
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{words!r:.60} is not a list of words")
        if not words:
            raise ValueError("there are no words")
        for number, word in enumerate(words, start=1):
            if not word.strip():
                raise ValueError(f"word {number} is empty")
        return Words.joined(words)

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        """As many tags as words."""
        assert isinstance(texts, Words)
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r:.60} is not a list of tags")
        if len(value) != len(texts):
            raise ValueError(f"{len(texts)} words and {len(value)} tags; each word needs one")
        return tuple(label_text(tag) for tag in value)

    @classmethod
    def names(cls, label: Label) -> Iterable[str]:
        return _tags(label)

    @classmethod
    def learn(cls, train: "Labelled") -> "Tag":
        """The tags that occur and those that belong to them (I-PER where there is B-PER), `O` first."""
        rows = [_tags(label) for label in train.labels]
        scheme = scheme_of(rows)
        tags = scheme.closed(tag for row in rows for tag in row)
        if len(tags) < 2:
            raise DataError(f"{train.path}: every word has the tag {tags.pop()!r}. There is nothing to tell apart.")
        return cls(
            tuple(sorted(tags, key=lambda tag: (tag != OUTSIDE, tag[2:] if tag[1:2] == "-" else tag, tag))), scheme
        )

    def check(self, labelled: "Labelled") -> None:
        known = set(self.labels)
        for one in labelled.examples:
            for number, tag in enumerate(_tags(one.label)):
                if tag not in known:
                    assert isinstance(one.texts, Words)
                    raise DataError(
                        f"{labelled.at(one.line)}: the tag {tag!r} of word {number + 1}, "
                        f"{one.texts.words[number]!r}, does not occur in the training data.{nearest(tag, self.labels)}"
                    )

    def objective(self) -> Objective:
        return TokenLabel(num_labels=len(self.labels))

    def windows(self, texts: Texts, cutter: Cutter) -> tuple[Window, ...]:
        words = Words.found(texts) if isinstance(texts, str) else texts
        assert isinstance(words, Words), "pairs are not for tagging"
        return cutter.words(words.words, words.spans)

    def lessons(self, windows: Sequence[Window], label: Label) -> list[Lesson]:
        """Each window is learned from, and each word once: in the window in which it will be judged."""
        number = {tag: index for index, tag in enumerate(self.labels)}
        targets = [np.full(len(window.encoding), IGNORE_INDEX, np.int64) for window in windows]
        for (window, place), tag in zip(_first_tokens(windows), _tags(label), strict=True):
            targets[window][place] = number[tag]
        pairs = zip(windows, targets, strict=True)
        return [((example(w, {}, labels),),) for w, labels in pairs if (labels != IGNORE_INDEX).any()]

    def scores(self, model: Model, inputs: Batch) -> Sequence[Tensor]:
        """For each window (tokens, labels)."""
        hidden = model(inputs).at(inputs.token_positions)
        return model.heads[self.objective().kind](hidden).float().cpu().split(inputs.lengths.tolist())

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        words = Words.found(texts) if isinstance(texts, str) else texts
        assert isinstance(words, Words)
        rows = [scores[window][place] for window, place in _first_tokens(windows)]
        table = np.stack(rows) if rows else np.zeros((0, len(self.labels)), np.float32)
        path = best_path(np.log(softmax(table)), *self._legal)
        tags = [self.labels[label] for label in path]
        shares = softmax(table)[np.arange(len(path)), path].tolist()
        spans = list(zip(words.words, words.spans, strict=True))
        return Prediction(
            words=tuple(
                TaggedWord(word, start, end, tag, share)
                for (word, (start, end)), tag, share in zip(spans, tags, shares, strict=True)
            ),
            entities=None
            if self.metric == "accuracy"
            else tuple(_entity(words, s, shares) for s in self.found_scheme.entities(tags)),
            **cut_counts(windows),
        )

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        rows = [
            (_tags(label), tuple(w.tag for w in p.words or ())) for label, p in zip(truth, predictions, strict=True)
        ]
        number = {tag: index for index, tag in enumerate(self.labels)}
        confusion = metrics.confusion_matrix(
            [number[tag] for true, _ in rows for tag in true],
            [number[tag] for _, said in rows for tag in said],
            len(number),
        )
        return Evaluation(
            **reading_counts(predictions),
            **(
                _of_words(self.labels, confusion)
                if self.metric == "accuracy"
                else _of_entities(self.found_scheme, rows, confusion)
            ),
            labels=self.labels,
            confusion=tuple(tuple(row) for row in confusion.tolist()),
        )

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        said = {word.tag for p in predictions for word in p.words or ()}
        return len(said) == 1 and len({tag for label in truth for tag in _tags(label)}) > 1

    @property
    def found_scheme(self) -> Scheme:
        """The scheme, by the labels if nothing else is known."""
        return self.scheme or scheme_of_labels(self.labels)

    @cached_property
    def _legal(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which label may follow which, begin a text and end it."""
        follows, edge = self.found_scheme.follows, OUTSIDE
        allowed = np.array([[follows(one, other) for other in self.labels] for one in self.labels])
        first = np.array([follows(edge, label) for label in self.labels])
        return allowed, first, np.array([follows(label, edge) for label in self.labels])


def _of_words(labels: Sequence[str], confusion: np.ndarray) -> dict[str, Any]:
    there = confusion.sum(1)
    return {
        "metrics": {"accuracy": metrics.accuracy(confusion), "macro_f1": metrics.macro_f1(confusion)},
        "label_scores": scores_by_label(labels, metrics.label_scores(confusion).tolist(), there.tolist()),
        "majority": float(there.max() / there.sum()),
    }


def _of_entities(
    scheme: Scheme, rows: Sequence[tuple[Sequence[str], Sequence[str]]], confusion: np.ndarray
) -> dict[str, Any]:
    """Precision, recall and F1 over all entities, which count as found if label, first and last word are right."""
    there, said, hits = Counter[str](), Counter[str](), Counter[str]()
    for true, predicted in rows:
        real, guessed = set(scheme.entities(true)), set(scheme.entities(predicted))
        for counter, spans in ((there, real), (said, guessed), (hits, real & guessed)):
            counter.update(label for label, _, _ in spans)
    labels = sorted({*there, *said})
    counts = [np.array([counter[label] for label in labels], np.int64) for counter in (hits, said, there)]
    ((precision, recall, f1),) = metrics.scores_of_counts(*(count.sum()[None] for count in counts)).tolist()
    return {
        "metrics": {"f1": f1, "precision": precision, "recall": recall, "accuracy": metrics.accuracy(confusion)},
        "label_scores": scores_by_label(labels, metrics.scores_of_counts(*counts).tolist(), counts[2].tolist()),
    }


def _first_tokens(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """Where to judge each word: (window, place) of its first token."""
    found: list[tuple[int, int]] = []
    last = None
    for window, place in most_context(windows):
        word = windows[window].encoding.word_ids[place]
        if word != last:
            found.append((window, place))
        last = word
    return found


def _entity(words: Words, span: Span, shares: Sequence[float]) -> Entity:
    label, first, last = span
    start, end = words.spans[first][0], words.spans[last][1]
    return Entity(label, words.text[start:end], start, end, first, last, min(shares[first : last + 1]))


def _tags(label: Label) -> tuple[str, ...]:
    assert isinstance(label, tuple)
    return label  # pyright: ignore[reportReturnType]
