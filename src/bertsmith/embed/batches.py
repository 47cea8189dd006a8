"""Encoded texts as batches: packed rows, or one row without padding in which those of like length lie together."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

import numpy as np
import torch

from bertsmith.data import Batch, Example, Run, pack
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


def in_one_row(encodings: Sequence[Encoding], tokenizer: Tokenizer, *, multiple: int = 1) -> Batch:
    """The same in a single row, in order of length, so that attention can take those of one length together and masks
    nothing. Only the row's end is filled, up to a `multiple` of so many tokens."""
    lengths = np.array([len(e.ids) for e in encodings])
    order = np.argsort(lengths, kind="stable")
    placed = lengths[order]
    ends = placed.cumsum()
    tokens = int(ends[-1])
    row = (1, tokens + -tokens % multiple)
    fields: dict[str, np.ndarray] = {
        "input_ids": np.full(row, tokenizer.vocabulary.pad_id, np.int64),
        **{name: np.zeros(row, np.int64) for name in ("token_type_ids", "position_ids", "sequence_ids")},
        "special_tokens": np.zeros(row, np.bool_),
    }
    texts = [encodings[i] for i in order]
    fields["input_ids"][0, :tokens] = [index for e in texts for index in e.ids]
    fields["token_type_ids"][0, :tokens] = [kind for e in texts for kind in e.type_ids]
    fields["special_tokens"][0, :tokens] = [word is None for e in texts for word in e.word_ids]
    fields["position_ids"][0, :tokens] = np.arange(tokens) - (ends - placed).repeat(placed)
    fields["sequence_ids"][0, :tokens] = np.arange(1, len(texts) + 1).repeat(placed)
    counts = [(length, len(list(same))) for length, same in groupby(placed.tolist())]
    starts = np.empty_like(lengths)
    starts[order] = ends - placed
    return Batch(
        fields={name: torch.from_numpy(array) for name, array in fields.items()},
        starts=torch.from_numpy(starts),
        lengths=torch.from_numpy(lengths),
        label_positions=torch.empty(0, dtype=torch.int64),
        one_sequence_per_row=len(texts) == 1,
        has_padding=row[1] > tokens,
        num_tokens=tokens,
        runs=tuple(
            Run(start, count, length)
            for start, (length, count) in zip(accumulate((n * k for n, k in counts), initial=0), counts, strict=False)
        ),
    )


def groups_by_length(lengths: Sequence[int], tokens: int = TOKENS) -> Iterator[list[int]]:
    """Indices in order of length, in groups of at most so many tokens."""
    group: list[int] = []
    held = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and held + lengths[index] > tokens:
            yield group
            group, held = [], 0
        group.append(index)
        held += lengths[index]
    if group:
        yield group
