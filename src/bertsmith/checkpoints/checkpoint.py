"""What one model folder holds, in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertsmith import nn
from bertsmith.text import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A model with everything that it needs to be used.

    Attributes:
        model: the encoder, its pooler and its heads.
        tokenizer: the tokenizer that the model was trained with.
        pooling: how the vectors of a text's tokens become its embedding.
        normalize: whether embeddings are brought to length 1.
        task: what a fine-tuned head does, as plain JSON; a sequence head's `labels` are a list of names, in the order
            of its scores. None for a model that was only pretrained.
        lineage: where the model comes from, as plain JSON: hashes of corpus, vocabulary and shards, the recipe.
        sentence: what sentence-transformers keeps beside pooling and normalization, as plain JSON: `prompts` by name,
            `similarity_fn_name`, `include_prompt`. Nothing here puts a prompt before a text.
        path: the folder that it was loaded from.
    """

    model: nn.Model
    tokenizer: Tokenizer
    pooling: nn.Pooling = nn.MeanPooling()
    normalize: bool = False
    task: Mapping[str, Any] | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    sentence: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
