"""A model and a text, read together: batches for looking, and a model that is held still meanwhile."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from bertsmith.data import Batch, Example, pack
from bertsmith.errors import UsageError
from bertsmith.nn import Model
from bertsmith.text import Encoding, Tokenizer


@contextmanager
def still(model: Model) -> Iterator[torch.device]:
    """The model without dropout and without gradients, on its device; afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def encode(tokenizer: Tokenizer, text: str, pair: str | None = None) -> Encoding:
    """The text as the model reads it: special tokens added, cut at the model's length (counted in `truncated`).

    In a single text a typed "[MASK]" is that token.

    Raises:
        UsageError: there is nothing to read in the text.
    """
    if pair is None and "[MASK]" in text:
        encoding = tokenizer.encode_masked(text, max_length=tokenizer.max_length)
    else:
        encoding = tokenizer.encode(text, pair, special_tokens=True, max_length=tokenizer.max_length)
    if all(word is None for word in encoding.word_ids):
        raise UsageError(f"the text {text[:40]!r} holds no words. Give a sentence to look at.")
    return encoding


def as_batch(encodings: Sequence[Encoding], tokenizer: Tokenizer) -> Batch:
    """Encodings packed into rows no longer than the model reads, in the order given."""
    examples = [
        Example(
            {
                "input_ids": np.array(encoding.ids, dtype=np.int64),
                "token_type_ids": np.array(encoding.type_ids, dtype=np.int64),
            }
        )
        for encoding in encodings
    ]
    return pack(examples, length=tokenizer.max_length, pad_id=tokenizer.vocabulary.pad_id)
