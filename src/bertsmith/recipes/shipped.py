"""The recipe of the model that comes with bertsmith."""

from dataclasses import replace

from bertsmith.data import Masking
from bertsmith.recipes.modern import encoder, stages
from bertsmith.train import Recipe

__all__ = ["small_english"]


def small_english() -> Recipe:
    """`modern:mini` for 15 million words of free English: twice through them, in two hours on one CPU core."""
    short, long = stages(batch_size=64, peak=3e-3)
    short, long = replace(short, masking=Masking(rate=0.3, final_rate=0.15)), replace(long, masking=Masking(rate=0.15))
    return Recipe(
        name="shipped:small_english",
        encoder=encoder(256, 4, 4),
        stages=(replace(short, steps=7_000), replace(long, steps=1_500)),
    )
