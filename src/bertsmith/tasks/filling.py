"""Filling masks: the one task a pretrained encoder does without fine-tuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch

from bertsmith.embed import batch_encodings
from bertsmith.errors import UsageError
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.text import Encoding, Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A token that may stand in place of a mask, and its probability among all tokens of the vocabulary."""

    token: str
    probability: float


def fill(model: Model, tokenizer: Tokenizer, text: str, *, k: int = 5) -> list[list[Candidate]]:
    """For each `[MASK]` in `text`, from left to right, the `k` likeliest tokens, likeliest first.

    Several masks are filled independently of each other, as in pretraining.

    Raises:
        UsageError: the text has no `[MASK]`, or none within the model's length, or the model has no masked-LM head.
    """
    if not 1 <= k <= len(tokenizer.vocabulary):
        raise UsageError(f"k: expected 1 to {len(tokenizer.vocabulary)} (the size of the vocabulary), got {k}")
    return fill_encodings(model, tokenizer, [encode_masks(model, tokenizer, text)], k=k)[0]


def encode_masks(model: Model, tokenizer: Tokenizer, text: str) -> Encoding:
    """`text` as the model reads it, with at least one mask.

    Raises:
        UsageError: as `fill`.
    """
    if "masked_lm" not in model.heads:
        raise UsageError(
            "This model has no masked-LM head, so it cannot fill masks. Use one that was pretrained for it."
        )
    encoding = tokenizer.encode_masked(text, max_length=min(tokenizer.max_length, model.encoder.config.max_length))
    if tokenizer.vocabulary.mask_id not in encoding.ids:
        cut = f" The text was cut at {tokenizer.max_length} tokens." if encoding.truncated else ""
        raise UsageError(f"There is no [MASK] in {text[:80]!r}.{cut} Write one where a word is to be filled in.")
    return encoding


@torch.inference_mode()
def fill_encodings(
    model: Model, tokenizer: Tokenizer, encodings: Sequence[Encoding], *, k: int
) -> list[list[list[Candidate]]]:
    """`fill` of several encoded texts in one packed batch."""
    model.eval()
    inputs = batch_encodings(encodings, tokenizer)
    masks = [[i for i, token in enumerate(e.ids) if token == tokenizer.vocabulary.mask_id] for e in encodings]
    places = torch.cat([start + torch.tensor(found) for start, found in zip(inputs.starts, masks, strict=True)])
    head = cast(MaskedLMHead, model.heads["masked_lm"])
    best = head(model(inputs).at(places), model.encoder.token_table.weight).float().softmax(-1).topk(k)
    filled = iter(zip(best.values.tolist(), best.indices.tolist(), strict=True))
    tokens = tokenizer.vocabulary.tokens
    return [
        [[Candidate(tokens[i], p) for p, i in zip(*values, strict=True)] for values in islice(filled, len(found))]
        for found in masks
    ]
