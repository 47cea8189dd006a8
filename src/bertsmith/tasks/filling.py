"""Filling masks: the one task a pretrained encoder does without fine-tuning."""

from dataclasses import dataclass
from typing import cast

import torch

from bertsmith.embed import batch_encodings
from bertsmith.errors import UsageError
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.text import Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A token that may stand in place of a mask, and its probability among all tokens of the vocabulary."""

    token: str
    probability: float


@torch.inference_mode()
def fill(model: Model, tokenizer: Tokenizer, text: str, *, k: int = 5) -> list[list[Candidate]]:
    """For each `[MASK]` in `text`, from left to right, the `k` likeliest tokens, likeliest first.

    Several masks are filled independently of each other, as in pretraining.

    Raises:
        UsageError: the text has no `[MASK]`, or none within the model's length, or the model has no masked-LM head.
    """
    if "masked_lm" not in model.heads:
        raise UsageError(
            "This model has no masked-LM head, so it cannot fill masks. Use one that was pretrained for it."
        )
    if not 1 <= k <= len(tokenizer.vocabulary):
        raise UsageError(f"k: expected 1 to {len(tokenizer.vocabulary)} (the size of the vocabulary), got {k}")
    encoding = tokenizer.encode_masked(text, max_length=min(tokenizer.max_length, model.encoder.config.max_length))
    places = [i for i, token in enumerate(encoding.ids) if token == tokenizer.vocabulary.mask_id]
    if not places:
        cut = f" The text was cut at {tokenizer.max_length} tokens." if encoding.truncated else ""
        raise UsageError(f"There is no [MASK] in {text[:80]!r}.{cut} Write one where a word is to be filled in.")
    model.eval()
    inputs = batch_encodings([encoding], tokenizer)
    head = cast(MaskedLMHead, model.heads["masked_lm"])
    scores = head(model(inputs).at(inputs.starts[0] + torch.tensor(places)), model.encoder.token_table.weight)
    best = scores.float().softmax(-1).topk(k)
    return [
        [Candidate(tokenizer.vocabulary.tokens[i], p) for p, i in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
