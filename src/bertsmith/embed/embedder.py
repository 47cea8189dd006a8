"""Text in, vectors out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import torch

from bertsmith.checkpoints import Checkpoint
from bertsmith.checkpoints.sentence_transformers import MODULES
from bertsmith.config import require
from bertsmith.embed.batches import groups_by_length, in_one_row
from bertsmith.embed.options import Cut, EmbedOptions, Text
from bertsmith.embed.running import Running
from bertsmith.embed.token_vectors import TokenVectors, of_tokens, of_words
from bertsmith.nn import OutputLayer, PoolerPooling
from bertsmith.progress import Progress, silent
from bertsmith.text import Encoding, Window

CHUNK = 4096  # windows read ahead, so that those of like length can share a batch
TOKENS = 2048  # tokens a batch, at most (one text may be longer)
STATES = 1 << 15  # tokens read ahead where each of them has a vector


@dataclass(frozen=True)
class Vectors:
    """Vectors of texts, in their order.

    Attributes:
        vectors: float32 (texts, size).
        truncated: how many tokens were cut from each text, (texts,).
        windows: in how many windows each was read, (texts,).
    """

    vectors: np.ndarray
    truncated: np.ndarray
    windows: np.ndarray


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
    """A model and how its vectors are made: everything between a text and its vector.

    Texts are packed without padding, and a text's vector does not depend on its neighbours in a batch beyond the rounding
    of float32: less than 1e-6 in vectors of length 1. The same texts in the same order give the same bytes on the same machine.

    Attributes:
        options: as given.
        pooling, normalize: what is done, be it by the options or by the model's folder.
        lane: in which numbers vectors are computed.
        max_length: the longest text, in tokens, that is read at once.
        token_size, size: how many numbers the vector of a token has, and of a text.
    """

    def __init__(self, checkpoint: Checkpoint, options: EmbedOptions | None = None) -> None:
        """Make ready.

        Raises:
            ConfigError: the options do not fit the model.
        """
        options = options or EmbedOptions()
        self.checkpoint = checkpoint
        self.model = checkpoint.model.eval()
        self.tokenizer = checkpoint.tokenizer
        self.max_length = min(self.tokenizer.max_length, self.model.encoder.config.max_length)
        self._running = Running(self.model, self.tokenizer, options.lane)
        self.lane = self._running.lane
        self._choose(options)

    def with_options(self, options: EmbedOptions) -> "Embedder":
        """One of the same model with these options. In the same lane, both run the same matrices.

        Raises:
            ConfigError: the options do not fit the model.
        """
        if options.lane != self.options.lane:
            return Embedder(self.checkpoint, options)
        other = Embedder.__new__(Embedder)  # copy.copy would travel, as to another process
        other.__dict__.update(self.__dict__)
        other._choose(options)
        return other

    def _choose(self, options: EmbedOptions) -> None:
        self.options = options
        self.pooling = options.pooling or self.checkpoint.pooling
        self.normalize = self.checkpoint.normalize if options.normalize is None else options.normalize
        encoder = self.model.encoder.config
        options.layers.check(encoder.num_hidden_layers)
        self._widths = [options.layers.size(encoder.hidden_size)]
        self._widths.append(self.pooling.size(self._widths[0]))
        self.token_size, self.size = (min(width, options.dimensions or width) for width in self._widths)
        if isinstance(self.pooling, PoolerPooling):
            own = isinstance(options.layers, OutputLayer)
            require(own, "pooling", "the pooler reads the last layer, and others are asked for. Choose a pooling too")
            require(self.model.pooler is not None, "pooling", "the model has no pooler, whose vector is asked for")
        require(
            (options.dimensions or 1) <= self._widths[1],
            "dimensions",
            f"{options.dimensions} are asked for, and the vectors have {self._widths[1]}",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed matrices cannot travel to other processes, which make their own.
        return Embedder, (self.checkpoint, self.options)

    @cached_property
    def weights_sha256(self) -> str:
        """Fingerprint of the weights that make vectors: encoder, pooler and mix of layers; hexadecimal."""
        digest = sha256()
        for name, tensor in self.model.state_dict().items():
            if not name.startswith("heads."):
                digest.update(f"{name} {tuple(tensor.shape)}\0".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def about(self) -> str:
        """How vectors are made and who says so, in a sentence for people."""
        options, path = self.options, self.checkpoint.path
        if options.pooling is not None:
            said = "as asked for"
        elif path is not None and (path / MODULES).is_file():
            said = f"as {MODULES} of the model says"
        else:
            said = "the usual one: the model names none"
        normalized = "normalized" if self.normalize else "not normalized"
        return (
            f"Pooling: {self.pooling.kind} ({said}){self._layers}; vectors of {self.size}, {normalized}. {self._long}"
        )

    @property
    def about_tokens(self) -> str:
        """The same for the vectors of tokens and words."""
        normalized = "normalized" if self.options.normalize else "not normalized"
        return (
            f"No pooling{self._layers or ', the last layer'}; vectors of {self.token_size}, {normalized}. {self._long}"
        )

    @property
    def _layers(self) -> str:
        numbers = getattr(self.options.layers, "numbers", ())
        return f", layers {', '.join(map(str, numbers))} {self.options.layers.kind}" if numbers else ""

    @property
    def _long(self) -> str:
        long = "cut" if isinstance(self.options.long, Cut) else "read in windows"
        return f"Texts over {self.max_length} tokens are {long}. {self._running.about}".rstrip()

    def embed(self, texts: Sequence[Text], *, progress: Progress = silent) -> Vectors:
        """One vector for each text or pair of texts."""
        parts = list(self.stream(texts, total=len(texts), progress=progress))
        if not parts:
            return Vectors(np.zeros((0, self.size), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
        if len(parts) == 1:
            return parts[0]
        return Vectors(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.truncated for part in parts]),
            np.concatenate([part.windows for part in parts]),
        )

    def stream(
        self, texts: Iterable[Text], *, total: int | None = None, progress: Progress = silent
    ) -> Iterator[Vectors]:
        """Vectors for any number of texts, a few thousand at a time, in constant memory."""
        done = 0
        for chunk in self._chunks(texts, lambda _: 1, CHUNK):
            windows = [shown for _, shown in chunk]
            counts = np.array([len(shown) for shown in windows], np.int64)
            truncated = np.array([shown[0].encoding.truncated for shown in windows], np.int64)

            def tell(share: float, before: int = done, texts: int = len(chunk)) -> None:
                progress("embedding texts", before + int(share * texts), total)

            yield Vectors(self.of_windows(windows, tell), truncated, counts)
            done += len(chunk)

    def windows(self, text: Text) -> tuple[Window, ...]:
        """What is read of a text."""
        return self.options.long.windows(text, self.tokenizer, self.max_length)

    def of_windows(
        self, windows: Sequence[Sequence[Window]], tell: Callable[[float], None] = lambda share: None
    ) -> np.ndarray:
        """The vectors of texts of which this is read, float32 (texts, size). `tell` is told which share is done."""
        encodings = [window.encoding for window in chain.from_iterable(windows)]
        groups = list(groups_by_length([len(e.ids) for e in encodings], TOKENS))
        if len(groups) == 1:
            pooled = self.pooled(encodings)
            tell(1.0)
        else:
            pooled, ready = np.empty((len(encodings), self._widths[1]), np.float32), 0
            for group in groups:
                pooled[group] = self.pooled([encodings[i] for i in group])
                ready += len(group)
                tell(ready / len(encodings))
        means = _means(pooled, windows) if len(pooled) > len(windows) else pooled
        return finished(means, self.options.dimensions, normalize=self.normalize)

    def token_vectors(self, texts: Iterable[Text], *, progress: Progress = silent) -> Iterator[TokenVectors]:
        """The vectors of each text's tokens, text by text, in constant memory."""
        return self._token_vectors(texts, lambda _, windows, states: of_tokens(windows, states), progress)

    def word_vectors(self, texts: Iterable[Text], *, progress: Progress = silent) -> Iterator[TokenVectors]:
        """The vectors of each text's words, text by text, in constant memory. A word is a basic token: letters and digits
        between white space and punctuation, or one punctuation mark."""
        return self._token_vectors(texts, of_words, progress)

    @torch.inference_mode()
    def hidden_states(self, text: str) -> HiddenStates:
        """Every layer's state of every word of `text`; a text without words has no states, and is no error."""
        encoding = self.tokenizer.encode(text, special_tokens=True, max_length=self.max_length)
        inputs = in_one_row([encoding], self.tokenizer)
        masks = self.model.encoder.apply_masks(inputs)
        layers = [streams["tokens"][0].float().numpy() for streams in self.model.encoder.layers(inputs, masks)]
        window = Window(encoding, 0, len(encoding))
        found = [of_words(text, [window], [layer]) for layer in layers]
        return HiddenStates(found[0].pieces, np.stack([words.vectors for words in found]), encoding.truncated)

    def _chunks(
        self, texts: Iterable[Text], weight: Callable[[Window], int], limit: int
    ) -> Iterator[list[tuple[Text, tuple[Window, ...]]]]:
        """Texts with what is read of them, until their windows weigh `limit`."""
        chunk: list[tuple[Text, tuple[Window, ...]]] = []
        weighed = 0
        for text in texts:
            chunk.append((text, self.windows(text)))
            weighed += sum(map(weight, chunk[-1][1]))
            if weighed >= limit:
                yield chunk
                chunk, weighed = [], 0
        if chunk:
            yield chunk

    def _token_vectors(
        self, texts: Iterable[Text], make: Callable[[Text, Any, Any], TokenVectors], progress: Progress
    ) -> Iterator[TokenVectors]:
        done = 0
        for chunk in self._chunks(texts, lambda window: len(window.encoding), STATES):
            encodings = [window.encoding for _, windows in chunk for window in windows]
            states: dict[int, np.ndarray] = {}
            for group in groups_by_length([len(e.ids) for e in encodings], TOKENS):
                states.update(zip(group, self.states([encodings[i] for i in group]), strict=True))
            bounds = pairwise(accumulate((len(windows) for _, windows in chunk), initial=0))
            for (text, windows), bound in zip(chunk, bounds, strict=True):
                yield make(text, windows, [states[i] for i in range(*bound)])
            done += len(chunk)
            progress("embedding texts", done, None)

    def pooled(self, encodings: Sequence[Encoding]) -> np.ndarray:
        """The vectors of encoded texts, float32 (texts, size of the pooling), before they are cut or normalized: all in one
        batch, for callers that make batches themselves."""
        if isinstance(self.options.layers, OutputLayer):
            vectors = self._running.vectors(encodings, self.pooling)
            if vectors is not None:
                return vectors
        with torch.inference_mode():
            model, inputs = self._running.model, self._running.batch(encodings)
            with_pooler = isinstance(self.pooling, PoolerPooling)
            output = model(inputs) if with_pooler else self.options.layers.of(model, inputs)
            return self.pooling.of(output, inputs).numpy()

    @torch.inference_mode()
    def states(self, encodings: Sequence[Encoding]) -> list[np.ndarray]:
        """The vectors of all tokens of encoded texts, special ones too, float32 (tokens, size) each: all in one batch."""
        inputs = self._running.batch(encodings)
        hidden = self.options.layers.of(self._running.model, inputs).streams["tokens"].flatten(0, 1)
        states, options = hidden[inputs.token_positions].float().numpy(), self.options
        vectors = finished(states, options.dimensions, normalize=bool(options.normalize))
        return np.split(vectors, np.cumsum([len(e.ids) for e in encodings])[:-1])


def finished(vectors: np.ndarray, dimensions: int | None, *, normalize: bool) -> np.ndarray:
    """Cut to the dimensions asked for, then brought to length 1, if at all."""
    kept = np.ascontiguousarray(vectors[:, :dimensions])
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12) if normalize else kept


def _means(pooled: np.ndarray, windows: Sequence[Sequence[Window]]) -> np.ndarray:
    """The mean of each text's windows, weighted by how many tokens each shows of it; of a single one, itself."""
    means = np.empty((len(windows), pooled.shape[1]), np.float32)
    bounds = pairwise(accumulate(map(len, windows), initial=0))
    for number, (shown, (first, end)) in enumerate(zip(windows, bounds, strict=True)):
        weights = np.array([window.count for window in shown], np.float32)
        means[number] = pooled[first] if len(shown) == 1 else weights @ pooled[first:end] / weights.sum()
    return means
