"""How likely a masked language model finds a sentence: its tokens are hidden one at a time, and the model guesses each.

Salazar et al. 2020, "Masked Language Model Scoring" (arXiv 1910.14659), section 2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch

from bertsmith.data import IGNORE_INDEX, Example, pack
from bertsmith.embed.batches import ROW, TOKENS
from bertsmith.errors import UsageError, nearest
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.progress import Progress, silent
from bertsmith.tasks.scoring import for_prediction
from bertsmith.text import Encoding, Tokenizer

Variant = Literal["original", "within_word_l2r"]
VARIANTS = ("original", "within_word_l2r")


@dataclass(frozen=True)
class PseudoLikelihoods:
    """What `pseudo_likelihoods` finds for each text.

    `log_likelihoods` float64 (texts,) in nats, the sum over the text's own tokens, `tokens` how many these are, and
    `truncated` how many were cut because the model is too short for them.
    """

    log_likelihoods: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray


@torch.inference_mode()
def pseudo_likelihoods(
    model: Model,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    variant: Variant = "original",
    progress: Progress = silent,
) -> PseudoLikelihoods:
    """The pseudo-log-likelihood of each text: Σ log P(token | all the others), special tokens not counted.

    Args:
        model: with a masked-LM head.
        tokenizer: the model's.
        texts: sentences; an empty one has a likelihood of 0.
        variant: "original" hides one token at a time. "within_word_l2r" hides with it what follows in the same word, so
            that a word of many pieces is not given away by them (Kauf and Ivanova 2023, arXiv 2305.10588).
        progress: hears "scoring texts".

    Raises:
        UsageError: the model has no masked-LM head, or there is no such variant.
    """
    if variant not in VARIANTS:
        raise UsageError(f"There is no pseudo-likelihood called {variant!r}.{nearest(variant, VARIANTS)}")
    if "masked_lm" not in model.heads:
        raise UsageError(
            "This model has no masked-LM head, so it cannot score texts. Use one that was pretrained for it."
        )
    limit = min(tokenizer.max_length, model.encoder.config.max_length)
    encodings = tokenizer.encode_batch(texts, special_tokens=True, max_length=limit)
    sums = np.zeros(len(texts))
    head = cast(MaskedLMHead, model.heads["masked_lm"])
    device = next(model.parameters()).device
    done = 0
    with for_prediction(model):
        for group in _groups([len(encoding) for encoding in encodings]):
            examples = [example for i in group for example in _hidden_in_turn(encodings[i], tokenizer, variant)]
            if examples:
                longest = max(map(len, examples))
                batch = pack(examples, length=max(ROW, longest), pad_id=tokenizer.vocabulary.pad_id).to(device)
                labels = batch["labels"].flatten()[batch.label_positions]
                scores = head(model(batch).at(batch.label_positions), model.encoder.token_table.weight)
                found = scores.float().log_softmax(-1).gather(1, labels[:, None])[:, 0].cpu().numpy()
                # Predictions come in the order of the rows; each belongs to the sequence that starts last before it.
                starts = batch.starts.cpu().numpy()
                order = np.argsort(starts)
                places = np.searchsorted(starts[order], batch.label_positions.cpu().numpy(), side="right") - 1
                owners = np.repeat(group, [_own_tokens(encodings[i]) for i in group])
                np.add.at(sums, owners[order[places]], found.astype(np.float64))
            done += len(group)
            progress("scoring texts", done, len(texts))
    counts = np.array([_own_tokens(encoding) for encoding in encodings], np.int64)
    return PseudoLikelihoods(sums, counts, np.array([e.truncated for e in encodings], np.int64))


def _own_tokens(encoding: Encoding) -> int:
    return len(encoding) - 2


def _hidden_in_turn(encoding: Encoding, tokenizer: Tokenizer, variant: Variant) -> Iterator[Example]:
    """[CLS] text [SEP] once for each token of the text, with that token hidden and its id as the only label."""
    ids, types = np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64)
    for position in range(1, len(ids) - 1):
        end = position + 1
        while variant == "within_word_l2r" and encoding.word_ids[end] == encoding.word_ids[position]:
            end += 1
        seen, labels = ids.copy(), np.full(len(ids), IGNORE_INDEX, np.int64)
        seen[position:end] = tokenizer.vocabulary.mask_id
        labels[position] = ids[position]
        yield Example({"input_ids": seen, "token_type_ids": types, "labels": labels})


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Texts in order of length, in groups of which all copies together have `TOKENS` tokens or a little more."""
    group: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        group.append(index)
        tokens += lengths[index] * (lengths[index] - 2)
        if tokens >= TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group
