"""Encoded texts as packed batches of like length."""

from collections.abc import Iterator, Sequence

import numpy as np

from bertsmith.data import Batch, Example, pack
from bertsmith.text import Encoding, Tokenizer

TOKENS = 8192  # tokens a batch, at most (one text may be longer)
ROW = 128  # tokens a packed row, unless a text is longer


def batch_encodings(encodings: Sequence[Encoding], tokenizer: Tokenizer) -> Batch:
    """Encoded texts as one packed batch, whose field `special_tokens` says which tokens are none of a text's."""
    examples = [
        Example(
            {
                "input_ids": np.array(e.ids, np.int64),
                "token_type_ids": np.array(e.type_ids, np.int64),
                "special_tokens": np.array([word is None for word in e.word_ids]),
            }
        )
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
