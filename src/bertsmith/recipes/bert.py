"""BERT (Devlin et al. 2018, arXiv 1810.04805), in the published sizes.

base and large are the paper's (§3); tiny to medium are those of "Well-Read Students Learn Better" (Turc et al. 2019,
arXiv 1908.08962). Training follows §A.2: masked LM and next sentence together, batches of 256 sequences, 1,000,000 steps of
which the first 90 % at 128 tokens and the rest at 512, Adam at 1e-4 with 10,000 steps of warm-up and a straight line to 0.
"""

from dataclasses import replace

from bertsmith.data import Masking, SentencePairs
from bertsmith.nn import Attention, AttentionBlock, Encoder, FeedForward, Full, Layers, Lookup, Position, PostNorm
from bertsmith.objectives import MaskedLM, NextSentence
from bertsmith.train import BertAdamW, Recipe, Stage, WarmupLinear

__all__ = ["tiny", "mini", "small", "medium", "base", "large"]  # noqa: RUF022 - by size


def tiny() -> Recipe:
    """2 layers of 128."""
    return Recipe(name="bert:tiny", encoder=encoder(128, 2, 2), stages=stages())


def mini() -> Recipe:
    """4 layers of 256."""
    return Recipe(name="bert:mini", encoder=encoder(256, 4, 4), stages=stages())


def small() -> Recipe:
    """4 layers of 512."""
    return Recipe(name="bert:small", encoder=encoder(512, 4, 8), stages=stages())


def medium() -> Recipe:
    """8 layers of 512."""
    return Recipe(name="bert:medium", encoder=encoder(512, 8, 8), stages=stages())


def base() -> Recipe:
    """12 layers of 768: 110 M parameters with the published vocabulary of 30,522."""
    return Recipe(name="bert:base", encoder=encoder(768, 12, 12), stages=stages())


def large() -> Recipe:
    """24 layers of 1024: 340 M parameters in the paper's count."""
    return Recipe(name="bert:large", encoder=encoder(1024, 24, 16), stages=stages())


def encoder(hidden_size: int, num_hidden_layers: int, num_attention_heads: int, dropout: float = 0.1) -> Encoder.Config:
    """Token + position + segment, through bidirectional post-norm blocks with GELU and a fourfold feed-forward layer."""
    block = AttentionBlock.Config(
        attention=Attention.Config(num_attention_heads=num_attention_heads, dropout=dropout),
        feed_forward=FeedForward.Config(intermediate_size=4 * hidden_size),
        residual=PostNorm.Config(dropout=dropout),
    )
    return Encoder.Config(
        hidden_size=hidden_size,
        channels={
            "tokens": (
                Lookup.Config(field="input_ids"),
                Position.Config(max_position_embeddings=512),
                Lookup.Config(field="token_type_ids", size=2),
            )
        },
        layers=(Layers(count=num_hidden_layers, block=block),),
        masks={"tokens": Full()},
        embedding_dropout=dropout,
    )


def stages() -> tuple[Stage, ...]:
    """90 % of the steps at 128 tokens, 10 % at 512; the learning rate is one line over both."""
    short = Stage(
        steps=900_000,
        length=128,
        batch_size=256,
        instances=SentencePairs(),
        masking=Masking(),
        objectives=(MaskedLM(), NextSentence()),
        optimizer=BertAdamW(),
        schedule=WarmupLinear(peak=1e-4, warmup_steps=10_000, final=1e-5),
    )
    return short, replace(short, steps=100_000, length=512, schedule=WarmupLinear(peak=1e-5))
