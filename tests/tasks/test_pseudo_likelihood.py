from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from bertsmith.checkpoints import Checkpoint
from bertsmith.embed import batch_encodings
from bertsmith.errors import UsageError
from bertsmith.nn import MaskedLMHead
from bertsmith.tasks import pseudo_likelihoods
from bertsmith.tasks.pseudo_likelihood import VARIANTS, Variant

TEXTS = [
    "the bird sees a tree .",
    "",
    "houses",
    "the green birds walks .",
    "a stones trees joy",
    "the bird sees a tree .",
]


@pytest.fixture
def pretrained(checkpoint: Checkpoint) -> Checkpoint:
    config = replace(checkpoint.model.config, heads={"masked_lm": MaskedLMHead.Config()})
    return replace(checkpoint, model=config.initialized(3).eval())


@torch.inference_mode()
def definition(checkpoint: Checkpoint, text: str, variant: Variant) -> float:
    """One pass of the model for each token, with all positions scored."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    encoding, total = tokenizer.encode(text, special_tokens=True), 0.0
    head = cast(MaskedLMHead, model.heads["masked_lm"])
    for place in range(1, len(encoding) - 1):
        same_word = [i for i, word in enumerate(encoding.word_ids) if word == encoding.word_ids[place] and i > place]
        hidden = [place, *(same_word if variant == "within_word_l2r" else ())]
        ids = [tokenizer.vocabulary.mask_id if i in hidden else token for i, token in enumerate(encoding.ids)]
        states = model(batch_encodings([replace(encoding, ids=ids)], tokenizer)).streams["tokens"][0]
        scores = head(states, model.encoder.token_table.weight)
        total += float(scores[place].log_softmax(-1)[encoding.ids[place]])
    return total


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tokens", [8192, 1, 60])
def test_packed_and_batched_it_is_the_definition(
    pretrained: Checkpoint, variant: Variant, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsmith.tasks.pseudo_likelihood.TOKENS", tokens)
    found = pseudo_likelihoods(pretrained.model, pretrained.tokenizer, TEXTS, variant=variant)
    expected = [definition(pretrained, text, variant) for text in TEXTS]
    np.testing.assert_allclose(found.log_likelihoods, expected, rtol=1e-5)
    assert found.tokens.tolist() == [6, 0, 2, 6, 6, 6]
    assert found.truncated.tolist() == [0] * 6


def test_the_variants_differ_where_a_word_has_pieces_and_only_there(pretrained: Checkpoint) -> None:
    original, within = (
        pseudo_likelihoods(pretrained.model, pretrained.tokenizer, TEXTS, variant=variant).log_likelihoods
        for variant in VARIANTS
    )
    assert (np.abs(original - within) > 1e-5).tolist() == [False, False, True, True, True, False]


def test_nothing_of_training_is_left_in_it_and_it_says_how_far_it_is(pretrained: Checkpoint) -> None:
    said: list[tuple[str, int, int | None]] = []

    def note(phase: str, done: int, total: int | None, note: str = "") -> None:
        said.append((phase, done, total))

    pretrained.model.train()
    first, second = (
        pseudo_likelihoods(pretrained.model, pretrained.tokenizer, TEXTS, progress=note).log_likelihoods
        for _ in range(2)
    )
    assert (first == second).all() and pretrained.model.training
    assert said[-1] == ("scoring texts", 6, 6)


def test_what_is_too_long_is_cut_and_counted(pretrained: Checkpoint) -> None:
    found = pseudo_likelihoods(pretrained.model, pretrained.tokenizer, ["sun " * 50, "sun"])
    assert found.tokens.tolist() == [38, 1] and found.truncated.tolist() == [12, 0]


def test_what_cannot_be_done_is_said(checkpoint: Checkpoint, pretrained: Checkpoint) -> None:
    with pytest.raises(UsageError, match="no masked-LM head"):
        pseudo_likelihoods(checkpoint.model, checkpoint.tokenizer, TEXTS)
    with pytest.raises(UsageError, match="within_word_l2r"):
        pseudo_likelihoods(pretrained.model, pretrained.tokenizer, TEXTS, variant="whole_word")  # pyright: ignore[reportArgumentType]
