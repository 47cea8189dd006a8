"""The demo's recipe: a BERT small enough to be pretrained while you watch."""

from bertsmith.data import Masking, SentencePairs
from bertsmith.objectives import MaskedLM, NextSentence
from bertsmith.recipes.bert import encoder
from bertsmith.train import AdamW, Recipe, Stage, WarmupLinear

__all__ = ["reviews"]


def reviews() -> Recipe:
    """2 layers of 128, for 1.4 million words of film reviews: some minutes on two CPU cores."""
    stage = Stage(
        steps=4000,
        length=64,
        batch_size=32,
        instances=SentencePairs(),
        masking=Masking(),
        objectives=(MaskedLM(), NextSentence()),
        optimizer=AdamW(),
        schedule=WarmupLinear(peak=2e-3, warmup_steps=200),
    )
    return Recipe(name="demo:reviews", encoder=encoder(128, 2, 2, dropout=0.0), stages=(stage,))
