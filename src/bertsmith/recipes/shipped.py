"""The recipe of the model that comes with bertsmith: a BERT in shape, so that every tool loads it."""

from dataclasses import replace

from bertsmith.data import Masking, Segments
from bertsmith.objectives import MaskedLM
from bertsmith.recipes.bert import encoder
from bertsmith.train import AdamW, NorMuon, Recipe, Stage, WarmupStableDecay

__all__ = ["small_english"]


def small_english() -> Recipe:
    """4 layers of 256 for 15 million words of free English; made to be trained on two CPU cores, in pieces.

    Blocks and positions are those of 2018. What is not: masked LM alone, on running text; more hidden at first than at the
    end; NorMuon for hidden matrices; no dropout, since the text is seen a few times only.
    """
    short = Stage(
        steps=24_000,
        length=128,
        batch_size=64,
        instances=Segments(),
        objectives=(MaskedLM(),),
        masking=Masking(rate=0.3, final_rate=0.15),
        optimizer=NorMuon(adamw=AdamW(beta2=0.98)),
        schedule=WarmupStableDecay(peak=2e-3, warmup=0.02, decay=0.2),
    )
    long = replace(
        short,
        steps=1_000,
        length=512,
        batch_size=16,
        masking=Masking(),
        schedule=WarmupStableDecay(peak=2e-4, warmup=0.0, decay=1.0),
    )
    small = replace(encoder(256, 4, 4, dropout=0.0), initializer_range=0.035)
    return Recipe(name="shipped:small_english", encoder=small, stages=(short, long))
