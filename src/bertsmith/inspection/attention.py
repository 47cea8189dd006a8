"""Where a model looks: the attention weights of all its heads on one text."""

import base64
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bertsmith.errors import DataError, UsageError
from bertsmith.inspection.reading import as_batch, encode, still
from bertsmith.nn import AttentionBlock, Model
from bertsmith.text import SPECIAL_TOKENS, Tokenizer


@dataclass(frozen=True)
class Habit:
    """What a head mostly does: the fixed target that gets most of its weight, and its share of it, 0 to 1."""

    target: str
    share: float


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The attention weights of one text or pair of texts.

    Attributes:
        tokens: what was read, special tokens included.
        type_ids: 0 for a token of the first text, 1 for one of the second.
        weights: float32 (layers, heads, query, key); how much each query looks at each key, rows sum to 1.
        truncated: how many tokens of the text the model was too short for.
    """

    tokens: tuple[str, ...]
    type_ids: tuple[int, ...]
    weights: NDArray[np.float32]
    truncated: int = 0

    def __post_init__(self) -> None:
        length = len(self.tokens)
        if self.weights.ndim != 4 or self.weights.shape[2:] != (length, length) or len(self.type_ids) != length:
            raise DataError(
                f"{length} tokens and {len(self.type_ids)} types with weights of the shape {self.weights.shape}; "
                f"expected (layers, heads, {length}, {length})."
            )

    def habit(self, layer: int, head: int) -> Habit:
        """The likeliest of: itself, the previous or next token, [CLS], [SEP], punctuation (after Clark et al. 2019, §3).

        Averaged over all tokens that are not special. Layers and heads count from 0.
        """
        weights = self.weights[layer, head]
        queries = np.flatnonzero([token not in SPECIAL_TOKENS or token == "[MASK]" for token in self.tokens])
        shares = {
            target: float((weights[queries] * mask[queries]).sum(axis=1).mean()) if len(queries) else 0.0
            for target, mask in self._targets().items()
        }
        target = max(shares, key=shares.__getitem__)
        return Habit(target, shares[target])

    def most_telling(self) -> tuple[int, int]:
        """Layer and head whose single looks at content are the strongest: a good picture to begin with.

        Content is what no `habit` names: not the token itself, its direct neighbours, special tokens or punctuation.
        """
        content = ~np.any(list(self._targets().values()), axis=0)
        strongest = np.where(content, self.weights, 0).max(axis=3).mean(axis=2)  # (layers, heads)
        layer, head = np.unravel_index(int(strongest.argmax()), strongest.shape)
        return int(layer), int(head)

    def to_dict(self) -> dict[str, Any]:
        """JSON values. Weights take one byte each before compression, and are off by 1/510 at most."""
        levels = np.rint(self.weights * 255).clip(0, 255).astype(np.uint8)
        return {
            "tokens": list(self.tokens),
            "type_ids": list(self.type_ids),
            "shape": list(self.weights.shape),
            "weights": base64.b64encode(zlib.compress(levels.tobytes())).decode("ascii"),
            "truncated": self.truncated,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AttentionMap":
        """The map that `to_dict` wrote, with its rounded weights."""
        levels = np.frombuffer(zlib.decompress(base64.b64decode(data["weights"])), dtype=np.uint8)
        weights = levels.reshape(data["shape"]).astype(np.float32) / np.float32(255)
        return cls(tuple(data["tokens"]), tuple(data["type_ids"]), weights, data["truncated"])

    def _targets(self) -> dict[str, NDArray[np.bool_]]:
        """Bool (query, key) for each fixed target."""
        length = len(self.tokens)
        targets = {
            "itself": np.eye(length, dtype=np.bool_),
            "the previous token": np.eye(length, k=-1, dtype=np.bool_),
            "the next token": np.eye(length, k=1, dtype=np.bool_),
        }
        keys = {
            "[CLS]": [token == "[CLS]" for token in self.tokens],
            "[SEP]": [token == "[SEP]" for token in self.tokens],
            "punctuation": [_is_punctuation(token) for token in self.tokens],
        }
        return targets | {name: np.broadcast_to(np.array(row), (length, length)) for name, row in keys.items()}


def attention(model: Model, tokenizer: Tokenizer, text: str, pair: str | None = None) -> AttentionMap:
    """The attention weights of every layer and head while `model` reads `text`, or `text` and `pair`.

    They are computed again from what enters each layer, so they come out whichever attention kernel the model runs on.
    In a single text a typed "[MASK]" is that token. The model is not changed.

    Raises:
        UsageError: the text holds no words, or the model has a layer that does not attend from tokens to tokens.
    """
    encoding = encode(tokenizer, text, pair)
    with still(model) as device:
        batch = as_batch([encoding], tokenizer).to(device)
        masks = model.encoder.apply_masks(batch)
        layers = []
        # The last layer's output enters no block, so the shorter list ends the pairing.
        for number, (block, streams) in enumerate(
            zip(model.encoder.blocks, model.encoder.layers(batch, masks), strict=False)
        ):
            if not isinstance(block, AttentionBlock):
                raise UsageError(
                    f"layer {number + 1} is a {type(block).__name__}, whose attention cannot be shown yet."
                )
            layers.append(block.attention_probabilities(streams, masks)[0].float())
        weights = torch.stack(layers).cpu().numpy()
    return AttentionMap(tuple(encoding.tokens), tuple(encoding.type_ids), weights, encoding.truncated)


def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(character)[0] in "PS" for character in token) and bool(token)
