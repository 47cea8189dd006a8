"""Vectors of tokens and of words, with the places in the text that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertsmith.embed.options import Text
from bertsmith.text import Window
from bertsmith.text.windows import most_context


@dataclass(frozen=True)
class TokenVectors:
    """The vectors of one text's tokens, or of its words; [CLS] and [SEP] are none of them.

    Attributes:
        pieces: tokens as they stand in the vocabulary ("##s"), or words as they stand in the text.
        offsets: int32 (pieces, 2): start and end in the text, in characters.
        parts: int8 (pieces,): 1 for those of the second text of a pair, else 0.
        vectors: float32 (pieces, size); of a word, the mean of its tokens'.
        truncated: how many tokens of the text have no vector because it was cut.
        windows: in how many windows it was read. A token's vector is from the one that shows most of what is around it.
    """

    pieces: tuple[str, ...]
    offsets: np.ndarray
    parts: np.ndarray
    vectors: np.ndarray
    truncated: int
    windows: int


def of_tokens(windows: Sequence[Window], states: Sequence[np.ndarray]) -> TokenVectors:
    """The vectors of a text's tokens, where `states` are those of each window, float32 (tokens, size)."""
    places = _places(windows)
    encodings = [window.encoding for window in windows]
    return TokenVectors(
        pieces=tuple(encodings[w].tokens[i] for w, i in places),
        offsets=np.array([encodings[w].offsets[i] for w, i in places], np.int32).reshape(-1, 2),
        parts=np.array([encodings[w].type_ids[i] for w, i in places], np.int8),
        vectors=np.stack([states[w][i] for w, i in places]) if places else states[0][:0],
        truncated=encodings[0].truncated,
        windows=len(windows),
    )


def of_words(text: Text, windows: Sequence[Window], states: Sequence[np.ndarray]) -> TokenVectors:
    """The same for its words."""
    tokens = of_tokens(windows, states)
    words = [(int(windows[w].encoding.type_ids[i]), windows[w].encoding.word_ids[i]) for w, i in _places(windows)]
    firsts = [i for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
    lasts = [*(i - 1 for i in firsts[1:]), len(words) - 1] if firsts else []
    offsets = np.stack([tokens.offsets[firsts, 0], tokens.offsets[lasts, 1]], axis=1)
    parts = tokens.parts[firsts]
    texts = text if isinstance(text, tuple) else (text,)
    means = [tokens.vectors[a : b + 1].mean(0) for a, b in zip(firsts, lasts, strict=True)]
    return TokenVectors(
        pieces=tuple(texts[part][start:end] for part, (start, end) in zip(parts, offsets, strict=True)),
        offsets=offsets,
        parts=parts,
        vectors=np.stack(means) if means else tokens.vectors,
        truncated=tokens.truncated,
        windows=tokens.windows,
    )


def _places(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """Where each token of the text, or of both texts in their order, is read: (window, place in its encoding)."""
    first = windows[0].encoding
    kinds = [
        [(0, i) for i, word in enumerate(first.word_ids) if word is not None and first.type_ids[i] == k] for k in (0, 1)
    ]
    if len(windows) > 1:
        kinds[first.type_ids[windows[0].begin]] = most_context(windows)
    return [*kinds[0], *kinds[1]]
