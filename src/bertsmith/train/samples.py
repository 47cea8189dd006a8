"""Guesses at a few fixed places of held-out text, so that a reader of the log sees what an encoder learns and when."""

from collections.abc import Sequence
from typing import Any

import torch

from bertsmith.data import Batch
from bertsmith.nn import Model
from bertsmith.objectives import Objective
from bertsmith.text import Tokenizer

_AROUND = 12  # tokens shown on each side of the place
_GUESSES = 5


@torch.inference_mode()
def sample_guesses(
    model: Model, objectives: Sequence[Objective], batch: Batch, tokenizer: Tokenizer, places: int
) -> list[dict[str, Any]]:
    """The likeliest tokens at one hidden place in each of the first `places` sequences of a batch.

    Each as `text` around the place as the encoder sees it, the `answer`, and `guesses`, (token, probability), likeliest
    first. Empty where no objective predicts tokens.
    """
    vocabulary = tokenizer.vocabulary
    ids, labels = batch["input_ids"].flatten(), batch["labels"].flatten() if "labels" in batch.fields else None
    if labels is None:
        return []
    spans: list[tuple[int, int, int]] = []
    hidden = batch.label_positions[ids[batch.label_positions] == vocabulary.mask_id].tolist()
    for start, length in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True):
        inside = [place for place in hidden if start <= place < start + length]
        if inside and len(spans) < places:
            place = inside[len(inside) // 2]
            spans.append((place, max(start + 1, place - _AROUND), min(start + length - 1, place + _AROUND + 1)))
    if not spans:
        return []
    model.eval()
    device = next(model.parameters()).device
    positions = torch.tensor([place for place, _, _ in spans], device=device)
    inputs = batch.to(device)
    for objective in objectives:
        output = model(inputs, dict(objective.view.masks))
        scores = objective.scores(model, output, positions)
        if scores is not None:
            best = scores.float().softmax(-1).topk(_GUESSES)
            return [
                {
                    "text": " ".join(vocabulary.tokens[i] for i in ids[begin:end].tolist()),
                    "position": place - begin,
                    "answer": vocabulary.tokens[int(labels[place])],
                    "guesses": [
                        [vocabulary.tokens[i], round(p, 4)]
                        for p, i in zip(shares.tolist(), tokens.tolist(), strict=True)
                    ],
                }
                for (place, begin, end), shares, tokens in zip(spans, best.values, best.indices, strict=True)
            ]
    return []
