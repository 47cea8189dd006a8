"""Text in, vectors out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from bertsmith.data import Batch, Example, pack
from bertsmith.nn import Model, Pooling
from bertsmith.progress import Progress, silent
from bertsmith.text import Encoding, Tokenizer

CHUNK = 4096  # texts read ahead, so that texts of like length can share a batch
TOKENS = 8192  # tokens a batch, at most (one text may be longer)
ROW = 128  # tokens a packed row, unless a text is longer


@dataclass(frozen=True)
class Vectors:
    """Vectors (texts, hidden_size), float32, in the order of the texts, and how many tokens were cut from each text."""

    vectors: np.ndarray
    truncated: np.ndarray


@dataclass(frozen=True)
class HiddenStates:
    """What the encoder makes of each word, layer by layer.

    `words` are the words of the text as they stand in it. `states` is float32 (layers + 1, words, hidden_size): index 0 is
    the embedding, -1 the last layer. A word's state is the mean of its tokens' states. `truncated` is how many tokens of the
    text were cut because the model is too short for them.
    """

    words: tuple[str, ...]
    states: np.ndarray
    truncated: int


class Embedder:
    """An encoder, its tokenizer and a pooling: everything between a text and its vector.

    Texts are packed without padding, and a text's vector does not depend on its neighbours in a batch (beyond the rounding
    of float32).
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, pooling: Pooling, *, normalize: bool = False) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = min(tokenizer.max_length, model.encoder.config.max_length)

    def embed(self, texts: Sequence[str], *, progress: Progress = silent) -> Vectors:
        """One vector for each text.

        Texts longer than the model's limit are cut, and `truncated` says by how many tokens.
        """
        parts = list(self.stream(texts, total=len(texts), progress=progress))
        if not parts:
            size = self.model.encoder.config.hidden_size
            return Vectors(np.zeros((0, size), np.float32), np.zeros(0, np.int64))
        return Vectors(np.concatenate([p.vectors for p in parts]), np.concatenate([p.truncated for p in parts]))

    def stream(
        self, texts: Iterable[str], *, total: int | None = None, progress: Progress = silent
    ) -> Iterator[Vectors]:
        """Vectors for any number of texts, a chunk at a time, in constant memory."""
        done, remaining = 0, iter(texts)
        while chunk := list(islice(remaining, CHUNK)):
            encodings = self.tokenizer.encode_batch(chunk, special_tokens=True, max_length=self.max_length)
            vectors = np.empty((len(chunk), self.model.encoder.config.hidden_size), np.float32)
            for group in groups_by_length([len(e.ids) for e in encodings]):
                vectors[group] = self._vectors([encodings[i] for i in group])
                done += len(group)
                progress("embedding texts", done, total)
            yield Vectors(vectors, np.array([e.truncated for e in encodings], np.int64))

    @torch.inference_mode()
    def hidden_states(self, text: str) -> HiddenStates:
        """Every layer's state of every word of `text`; a text without words has no states, and is no error."""
        encoding = self.tokenizer.encode(text, special_tokens=True, max_length=self.max_length)
        inputs = batch_encodings([encoding], self.tokenizer)
        masks = self.model.encoder.apply_masks(inputs)
        layers = [streams["tokens"][0].float() for streams in self.model.encoder.layers(inputs, masks)]
        spans: dict[int, list[int]] = {}
        for position, word in enumerate(encoding.word_ids):
            if word is not None:
                spans.setdefault(word, []).append(position)
        words = tuple(text[encoding.offsets[p[0]][0] : encoding.offsets[p[-1]][1]] for p in spans.values())
        means = [torch.stack([layer[p].mean(0) for p in spans.values()]) if spans else layer[:0] for layer in layers]
        return HiddenStates(words, torch.stack(means).numpy(), encoding.truncated)

    @torch.inference_mode()
    def _vectors(self, encodings: Sequence[Encoding]) -> np.ndarray:
        inputs = batch_encodings(encodings, self.tokenizer)
        vectors = self.pooling.of(self.model(inputs), inputs)
        if self.normalize:
            vectors = torch.nn.functional.normalize(vectors)
        return vectors.numpy()


def batch_encodings(encodings: Sequence[Encoding], tokenizer: Tokenizer) -> Batch:
    """Encoded texts as one packed batch."""
    examples = [
        Example({"input_ids": np.array(e.ids, np.int64), "token_type_ids": np.array(e.type_ids, np.int64)})
        for e in encodings
    ]
    longest = max(len(example) for example in examples)
    return pack(examples, length=max(ROW, longest), pad_id=tokenizer.vocabulary.pad_id)


def groups_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in order of length, in groups of at most `TOKENS` tokens."""
    group: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and tokens + lengths[index] > TOKENS:
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += lengths[index]
    if group:
        yield group
