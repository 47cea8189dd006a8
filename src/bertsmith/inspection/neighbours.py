"""Words in context, and the words in other sentences that a model takes for alike.

An encoder gives a word another vector in each sentence. Its nearest neighbours among words of other sentences show what
the model makes of it there (after the context atlas of Coenen et al. 2019, "Visualizing and Measuring the Geometry of
BERT").
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bertsmith.errors import DataError, UsageError
from bertsmith.inspection.reading import as_batch, still
from bertsmith.nn import Model
from bertsmith.progress import Progress, silent
from bertsmith.text import Encoding, Tokenizer

_SENTENCES_AT_A_TIME = 64


@dataclass(frozen=True)
class Neighbour:
    """A word where it stands.

    `position` is its first and last-plus-one character in `sentence`; `similarity` its cosine with the word asked about,
    -1 to 1, good for ranking: what counts as high differs between models and layers.
    """

    word: str
    sentence: str
    position: tuple[int, int]
    similarity: float


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words in context with their vectors.

    A word's vector is the mean of its tokens' hidden states after one layer. All hidden states of an encoder share a large
    common part, which makes any two of them look alike (Ethayarajh 2019; Mu and Viswanath 2018): the mean over the
    collected words is taken off, and what is left is brought to length 1.

    Attributes:
        sentences: the sentences that were read.
        sentence_ids: (words,) the sentence of each word.
        positions: (words, 2) where each word starts and ends in its sentence, in characters.
        vectors: float32 (words, hidden_size), each of length 1.
        mean: float32 (hidden_size,), what was taken off.
    """

    model: Model = field(repr=False)
    tokenizer: Tokenizer
    layer: int
    sentences: tuple[str, ...] = field(repr=False)
    sentence_ids: NDArray[np.int64] = field(repr=False)
    positions: NDArray[np.int64] = field(repr=False)
    vectors: NDArray[np.float32] = field(repr=False)
    mean: NDArray[np.float32] = field(repr=False)

    @classmethod
    def collect(
        cls,
        model: Model,
        tokenizer: Tokenizer,
        sentences: Iterable[str],
        *,
        layer: int = -1,
        max_words: int = 50_000,
        progress: Progress = silent,
    ) -> "WordVectors":
        """Read sentences until `max_words` words are collected. Each sentence counts once; marks and numbers do not.

        `layer` counts the hidden states: 0 is the embedding, 1 the first layer, -1 the last.

        Raises:
            UsageError: there is no such layer.
            DataError: the sentences hold no words.
        """
        _check_layer(model, layer)
        kept: list[str] = []
        ids, positions, vectors = [], [], []
        found = 0
        for group in _groups(sentences, _SENTENCES_AT_A_TIME):
            if found >= max_words:
                break
            for sentence, (spans, states) in zip(group, _read(model, tokenizer, group, layer), strict=True):
                room = max_words - found
                if not spans or not room:
                    continue
                ids.append(np.full(min(len(spans), room), len(kept), dtype=np.int64))
                positions.append(np.array(spans[:room], dtype=np.int64))
                vectors.append(states[:room])
                kept.append(sentence)
                found += len(ids[-1])
            progress("reading words in context", found, max_words)
        if not found:
            raise DataError("The sentences hold no words to compare with. Give sentences of running text.")
        progress("reading words in context", found, found)
        stacked = np.concatenate(vectors)
        mean = stacked.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(
            model=model,
            tokenizer=tokenizer,
            layer=layer,
            sentences=tuple(kept),
            sentence_ids=np.concatenate(ids),
            positions=np.concatenate(positions),
            vectors=_direction(stacked - mean),
            mean=mean,
        )

    def __len__(self) -> int:
        """How many words were collected."""
        return len(self.vectors)

    def word(self, index: int) -> str:
        """The word at `index`, as it is written in its sentence."""
        start, end = self.positions[index]
        return self.sentences[self.sentence_ids[index]][start:end]

    def nearest(self, word: str, sentence: str, k: int = 5) -> list[Neighbour]:
        """The `k` other words nearest to the first `word` in `sentence`, the nearest first, each in its nearest place.

        The word itself is left out wherever it stands: that it is like itself is the least that any encoder knows.

        Raises:
            UsageError: `word` is not a word of `sentence`, or `k` is not positive.
        """
        found: dict[str, Neighbour] = {}
        for neighbour in self._ranked(word, sentence, k):
            name = neighbour.word.casefold()
            if name != word.casefold():
                found.setdefault(name, neighbour)
            if len(found) == k:
                break
        return list(found.values())

    def _ranked(self, word: str, sentence: str, k: int) -> Iterator[Neighbour]:
        """Every word of other sentences, the nearest first."""
        if k < 1:
            raise UsageError(f"k is {k}; ask for at least one neighbour.")
        similarities = self.vectors @ self._vector(word, sentence)
        for index in np.argsort(-similarities, kind="stable"):
            where = self.sentences[self.sentence_ids[index]]
            if where != sentence:
                start, end = self.positions[index].tolist()
                yield Neighbour(where[start:end], where, (start, end), float(similarities[index]))

    def _vector(self, word: str, sentence: str) -> NDArray[np.float32]:
        """The direction of the first `word` in `sentence`, (hidden_size,)."""
        ((spans, states),) = _read(self.model, self.tokenizer, [sentence], self.layer)
        words = [sentence[start:end].casefold() for start, end in spans]
        if word.casefold() not in words:
            raise UsageError(f"{word!r} is not a word of {sentence!r}. Its words are: {', '.join(words)}.")
        return _direction(states[words.index(word.casefold())] - self.mean)


def _read(
    model: Model, tokenizer: Tokenizer, sentences: list[str], layer: int
) -> list[tuple[list[tuple[int, int]], NDArray[np.float32]]]:
    """For each sentence where its words stand, and their mean hidden states (words, hidden_size)."""
    encodings = [tokenizer.encode(text, special_tokens=True, max_length=tokenizer.max_length) for text in sentences]
    wanted = range(len(model.encoder.blocks) + 1)[layer]
    with still(model) as device:
        batch = as_batch(encodings, tokenizer).to(device)
        layers = model.encoder.layers(batch, model.encoder.apply_masks(batch))
        streams = next(islice(layers, wanted, None))  # the layers above are not computed
        states = streams["tokens"].flatten(0, 1).float().cpu().numpy()
        starts = batch.starts.tolist()
    return [
        _words(encoding, text, states[start : start + len(encoding)])
        for encoding, text, start in zip(encodings, sentences, starts, strict=True)
    ]


def _words(
    encoding: Encoding, text: str, states: NDArray[np.float32]
) -> tuple[list[tuple[int, int]], NDArray[np.float32]]:
    """Where the words stand, and their mean states. `states` is (tokens, hidden_size)."""
    tokens_of: dict[int, list[int]] = {}
    for index, word in enumerate(encoding.word_ids):
        if word is not None:
            tokens_of.setdefault(word, []).append(index)
    spans = {word: (encoding.offsets[at[0]][0], encoding.offsets[at[-1]][1]) for word, at in tokens_of.items()}
    kept = [word for word, (start, end) in spans.items() if any(map(str.isalpha, text[start:end]))]
    means = [states[tokens_of[word]].mean(axis=0) for word in kept]
    return [spans[word] for word in kept], np.array(means, dtype=np.float32).reshape(len(kept), states.shape[1])


def _direction(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1; a vector of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.float32(1e-12))


def _check_layer(model: Model, layer: int) -> None:
    states = len(model.encoder.blocks) + 1
    if not -states <= layer < states:
        raise UsageError(
            f"there is no layer {layer}: 0 is the embedding, 1 to {states - 1} are the layers, -1 is the last."
        )


def _groups(sentences: Iterable[str], size: int) -> Iterator[list[str]]:
    """Different sentences, `size` at a time."""
    seen: set[str] = set()
    group: list[str] = []
    for sentence in sentences:
        if sentence in seen:
            continue
        seen.add(sentence)
        group.append(sentence)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
