"""What the model's thread does with texts. `read` makes a text ready and costs little; `run` is for the thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.embed import Embedder, Text
from bertsmith.errors import UsageError
from bertsmith.model import LoadedModel
from bertsmith.serve.batching import Reading
from bertsmith.serve.errors import Invalid, ModelFailed
from bertsmith.tasks import Candidate, Prediction, Predictor, Texts, encode_masks, fill_encodings, score
from bertsmith.text import Encoding, Tokenizer, Window

Ids = tuple[int, ...]
"""A text as the ids of its tokens, with [CLS] and [SEP] around them or without."""

MOST_CANDIDATES = 100
"""Tokens that can be asked for in place of a mask."""

WHOLE = ("classify", "pair", "multilabel", "regress")
"""The tasks whose answer is about a whole text or pair."""


class Vectors:
    """One vector for each text, as the model's folder pools it, before it is cut or normalized: float32 (size,)."""

    name = "vectors"

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def read(self, text: Text | Ids) -> Reading:
        """A text, a pair, or ids."""
        embedder = self.embedder
        if isinstance(text, tuple) and not isinstance(text[0], str):
            encoding = encode_ids(embedder.tokenizer, text, embedder.max_length)  # pyright: ignore[reportArgumentType]
        else:
            first, second = text if isinstance(text, tuple) else (text, None)
            encoding = embedder.tokenizer.encode(first, second, special_tokens=True, max_length=embedder.max_length)  # pyright: ignore[reportArgumentType]
        return Reading(encoding, len(encoding), encoding.truncated)

    def run(self, values: Sequence[Encoding]) -> list[np.ndarray | ModelFailed]:
        return [_finite(vector) for vector in self.embedder.pooled(values)]


class Queries:
    """The vectors of queries to an index, made as those of its texts: float32 (size,), of length 1."""

    name = "queries"

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def read(self, text: str) -> Reading:
        """A text."""
        windows = self.embedder.windows(text)
        tokens = sum(len(window.encoding) for window in windows)
        return Reading(windows, tokens, windows[0].encoding.truncated)

    def run(self, values: Sequence[tuple[Window, ...]]) -> list[np.ndarray | ModelFailed]:
        return [_finite(vector) for vector in self.embedder.of_windows(values)]


class States(Vectors):
    """The vectors of each text's tokens, [CLS] and [SEP] among them: float32 (tokens, size)."""

    name = "token vectors"

    def run(self, values: Sequence[Encoding]) -> list[np.ndarray | ModelFailed]:
        return [_finite(vectors) for vectors in self.embedder.states(values)]


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction, and for tasks on whole texts the head's scores that it is made of, (scores,)."""

    prediction: Prediction
    raw: np.ndarray | None


class Predictions:
    """The fine-tuned head's predictions."""

    name = "predictions"

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def read(self, texts: Texts) -> Reading:
        """A text, or a pair of texts, or a beginning and its options, as the task takes it."""
        self.predictor.check(texts)
        windows = self.predictor.task.windows(texts, self.predictor.cutter)
        tokens = sum(len(window.encoding) for window in windows)
        return Reading((texts, windows), tokens, max(window.encoding.truncated for window in windows))

    def takes(self, texts: Texts) -> bool:
        """Whether the model predicts such: a text, a pair, a beginning and its options."""
        try:
            self.predictor.check(texts)
        except UsageError:
            return False
        return True

    def run(self, values: Sequence[tuple[Texts, tuple[Window, ...]]]) -> list[Predicted | ModelFailed]:
        p = self.predictor
        found = score(p.task, p.running, [windows for _, windows in values])
        made: list[Predicted | ModelFailed] = []
        for (texts, windows), scores in zip(values, found, strict=True):
            if all(np.isfinite(one).all() for one in scores):
                mean = np.mean(scores, axis=0) if p.task.kind in WHOLE else None
                made.append(Predicted(p.task.predict(texts, windows, scores), mean))
            else:
                made.append(_not_finite())
        return made


class Masks:
    """For each mask of each text, the likeliest tokens, `MOST_CANDIDATES` of them."""

    name = "masks"

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.tokenizer = model.checkpoint.model, model.tokenizer

    def read(self, text: str) -> Reading:
        """A text with at least one [MASK]."""
        encoding = encode_masks(self.model, self.tokenizer, text)
        return Reading(encoding, len(encoding), encoding.truncated)

    def run(self, values: Sequence[Encoding]) -> list[list[list[Candidate]]]:
        k = min(MOST_CANDIDATES, len(self.tokenizer.vocabulary))
        return fill_encodings(self.model, self.tokenizer, values, k=k)


def encode_ids(tokenizer: Tokenizer, ids: Sequence[int], max_length: int) -> Encoding:
    """The encoding of a text that comes as ids; what is over `max_length` is cut.

    Raises:
        Invalid: an id is not in the vocabulary.
    """
    vocabulary = tokenizer.vocabulary
    if min(ids, default=0) < 0 or max(ids, default=0) >= len(vocabulary):
        raise Invalid(f"The ids of tokens are 0 to {len(vocabulary) - 1}, and one is not.")
    inner = list(ids[1:] if ids[:1] == (vocabulary.cls_id,) else ids)
    if inner[-1:] == [vocabulary.sep_id]:
        inner.pop()
    kept = inner[: max_length - 2]
    all_ids = [vocabulary.cls_id, *kept, vocabulary.sep_id]
    return Encoding(
        ids=all_ids,
        tokens=[vocabulary.tokens[i] for i in all_ids],
        offsets=[(0, 0)] * len(all_ids),
        word_ids=[None, *range(len(kept)), None],
        type_ids=[0] * len(all_ids),
        truncated=len(inner) - len(kept),
    )


def _finite(vectors: Any) -> Any:
    return vectors if np.isfinite(vectors).all() else _not_finite()


def _not_finite() -> ModelFailed:
    return ModelFailed("The model gave numbers that are not finite.")
