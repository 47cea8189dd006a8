"""The best encoder we know for the time it takes to train, in BERT's sizes: the same widths, depths and heads.

Against 2018 (each choice is a line below, with where it comes from): the blocks are pre-norm, gated, without biases and
dropout; positions are rotary; one objective, masked LM, on running text, of which twice as much is hidden; hidden matrices are
trained by NorMuon; the learning rate stays high at 128 tokens and falls at 512, in shares of whatever the run lasts
(`--budget`). What each choice was worth in a few minutes: benchmarks/records/2026-11-21-modern-recipe.
"""

from dataclasses import replace

from bertsmith.data import Masking, Segments
from bertsmith.nn import (
    Attention,
    AttentionBlock,
    Encoder,
    Full,
    GatedFeedForward,
    Layers,
    Lookup,
    Plain,
    PreNorm,
    Rotary,
)
from bertsmith.objectives import MaskedLM
from bertsmith.train import AdamW, NorMuon, Recipe, Stage, WarmupStableDecay

__all__ = ["tiny", "mini", "small", "medium", "base", "large"]  # noqa: RUF022 - by size


def tiny() -> Recipe:
    """2 layers of 128."""
    return Recipe(name="modern:tiny", encoder=encoder(128, 2, 2), stages=stages(batch_size=64, peak=4e-3))


def mini() -> Recipe:
    """4 layers of 256."""
    return Recipe(name="modern:mini", encoder=encoder(256, 4, 4), stages=stages(batch_size=32, peak=4e-3))


def small() -> Recipe:
    """4 layers of 512."""
    return Recipe(name="modern:small", encoder=encoder(512, 4, 8), stages=stages(batch_size=128, peak=3e-3))


def medium() -> Recipe:
    """8 layers of 512."""
    return Recipe(name="modern:medium", encoder=encoder(512, 8, 8), stages=stages(batch_size=256, peak=3e-3))


def base() -> Recipe:
    """12 layers of 768."""
    return Recipe(name="modern:base", encoder=encoder(768, 12, 12), stages=stages(batch_size=1024, peak=2e-3))


def large() -> Recipe:
    """24 layers of 1024."""
    return Recipe(name="modern:large", encoder=encoder(1024, 24, 16), stages=stages(batch_size=2048, peak=1e-3))


def encoder(hidden_size: int, num_hidden_layers: int, num_attention_heads: int) -> Encoder.Config:
    """Tokens alone, through bidirectional pre-norm blocks with rotary positions and a gated feed-forward layer."""
    block = AttentionBlock.Config(
        attention=Attention.Config(
            num_attention_heads=num_attention_heads,
            # No dropout: a short run sees hardly any text twice (Geiping & Goldstein 2022, "Cramming", §4.3).
            dropout=0.0,
            # No biases in blocks: cheaper, no worse (Cramming, §4.2).
            bias=False,
            # No vectors for positions that 128 tokens never train; relative order is in every layer (ModernBERT, §2.1.1).
            query_key=(Rotary.Config(max_position_embeddings=512),),
        ),
        # GeGLU (Shazeer 2020; Cramming, §4.2), two thirds as wide as 2018's for the same parameters. In minutes a plain layer
        # is a tenth of a nat better; but this is what a ModernBERT has, so that transformers loads the folder.
        feed_forward=GatedFeedForward.Config(intermediate_size=32 * round(8 / 3 * hidden_size / 32), bias=False),
        # Pre-norm: stable at large learning rates (Xiong et al. 2020; Cramming, §4.2).
        residual=PreNorm.Config(dropout=0.0, bias=False),
    )
    # The first attention comes right behind the embedding's own normalization (ModernBERT, §2.1.1).
    first = replace(block, attention_residual=Plain.Config(dropout=0.0))
    # BERT's 0.02 at 768, as one over the root of the width at other sizes; what writes into the stream starts smaller by
    # the root of the number of writers (Radford et al. 2019, §2.3).
    initializer_range = round(0.02 * (768 / hidden_size) ** 0.5, 4)
    return Encoder.Config(
        hidden_size=hidden_size,
        # No segments: there are no pairs in pretraining, and [SEP] tells the texts of a task apart (RoBERTa, §4.2).
        channels={"tokens": (Lookup.Config(field="input_ids"),)},
        layers=(Layers(count=1, block=first), Layers(count=num_hidden_layers - 1, block=block)),
        masks={"tokens": Full()},
        embedding_dropout=0.0,
        layer_norm_bias=False,
        initializer_range=initializer_range,
        output_initializer_range=round(initializer_range / (2 * num_hidden_layers) ** 0.5, 5),
    )


def stages(*, batch_size: int, peak: float) -> tuple[Stage, ...]:
    """Four fifths of the steps at 128 tokens and a stable rate, the rest at 512 while the rate falls.

    In all about a third of the tokens that BERT saw (2018: 1,000,000 steps of 256 sequences). A step has as many tokens in
    both stages. What a batch and a rate should be depends on the size of the model, so these are given.
    """
    # As in ModernBERT, §2.2.2: more to learn from. Better here than 15 %, and than falling from 30 to 15 % as in GPT-BERT.
    masking = Masking(rate=0.3)
    optimizer = NorMuon(adamw=AdamW(beta2=0.98))  # Li et al. 2025; β2 for large rates as in RoBERTa (§3.1)
    steps = 70_000_000 // batch_size
    short = Stage(
        steps=steps,
        length=128,
        # Small batches suffice at first: as many updates for half the tokens (GPT-BERT, Charpentier & Samuel 2024).
        batch_size=batch_size,
        initial_batch_size=batch_size // 4,
        ramp=0.6,
        instances=Segments(),  # no next sentence: it costs more than it gives (RoBERTa, §4.2)
        objectives=(MaskedLM(),),
        masking=masking,
        optimizer=optimizer,
        # Stable, then down by 1 - √x over a fifth of the run (Hägele et al. 2024).
        schedule=WarmupStableDecay(peak=peak, warmup=0.02, decay=0.0),
    )
    long = Stage(
        steps=steps // 4,
        length=512,
        batch_size=batch_size // 4,
        instances=Segments(),
        objectives=(MaskedLM(),),
        masking=masking,
        optimizer=optimizer,
        schedule=WarmupStableDecay(peak=peak, warmup=0.0, decay=1.0),
    )
    return short, long
