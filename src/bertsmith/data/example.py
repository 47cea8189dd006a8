"""One training example: a sequence with its per-token fields, before it is packed with others into a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

IGNORE_INDEX = -100
"""The label of a position that is not predicted; losses skip it."""


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """A sequence of tokens.

    `tokens` holds one array per field, each `(seq,)`: at least `input_ids` and `token_type_ids` (int64), and `labels`
    once a masking policy has been applied. `targets` holds single values for the whole sequence, such as
    `next_sentence_label`.
    """

    tokens: Mapping[str, np.ndarray]
    targets: Mapping[str, int | float] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of tokens, special tokens included."""
        return len(self.tokens["input_ids"])
