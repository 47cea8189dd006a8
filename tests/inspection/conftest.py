"""A model of odd small sizes with a tokenizer that spells everything, and an attention map of known habits."""

import numpy as np
import pytest

from bertsmith import nn
from bertsmith.inspection import AttentionMap
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("river", "bank", "money", "the", "by", "in")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS), ".", ",", "'", *WORDS]
    return Tokenizer(Vocabulary((*SPECIAL_TOKENS, *pieces)), max_length=19)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> nn.Model:
    block = nn.AttentionBlock.Config(
        attention=nn.Attention.Config(num_attention_heads=2, dropout=0.5),
        feed_forward=nn.FeedForward.Config(intermediate_size=17),
    )
    encoder = nn.Encoder.Config(
        hidden_size=12,
        vocab_size=len(tokenizer.vocabulary),
        channels={
            "tokens": (
                nn.Lookup.Config(field="input_ids"),
                nn.Position.Config(max_position_embeddings=19),
                nn.Lookup.Config(field="token_type_ids", size=2),
            )
        },
        layers=(nn.Layers(count=3, block=block),),
        masks={"tokens": nn.Full()},
        embedding_dropout=0.5,
        initializer_range=0.3,
    )
    return nn.Model.Config(encoder=encoder).initialized(seed=5)


@pytest.fixture
def habits() -> AttentionMap:
    """One layer of three heads over six tokens: previous token, [SEP], and one that looks at "bank" from afar."""
    tokens = ("[CLS]", "the", "bank", "was", "closed", "[SEP]")
    weights = np.zeros((1, 3, 6, 6), dtype=np.float32)
    for query in range(6):
        weights[0, 0, query, max(query - 1, 0)] = 1
        weights[0, 1, query, [5, 1]] = 0.75, 0.25
        weights[0, 2, query, 2] = 1
    return AttentionMap(tokens, (0,) * 6, weights)
