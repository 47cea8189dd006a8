"""The loop: exact accumulation, clipping, and a step that must not be taken."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertsmith.data import Drawn, Draws, Loader, Masking, SentencePairs, Shards, Share
from bertsmith.errors import TrainingError
from bertsmith.nn import Model
from bertsmith.recipes import bert
from bertsmith.train import AdamW, Constant, Loop, Recipe, evaluate


def setting(shard_folder, small_recipe: Recipe, dropout: float = 0.0) -> tuple[Shards, Model, Recipe]:
    shards = Shards.load(shard_folder)
    recipe = replace(small_recipe, encoder=bert.encoder(12, 2, 2, dropout=dropout))
    return shards, recipe.model(len(shards.vocabulary)).initialized(1), recipe


def run(model: Model, recipe: Recipe, drawn: Iterator[Drawn], steps: int = 3) -> list:
    loop = Loop(
        model=model,
        objectives=recipe.objectives,
        optimizer=AdamW().build(model),
        schedule=Constant(peak=1e-3),
        steps=steps,
    )
    return list(loop.run(drawn))


def draw(shards: Shards, batch_size: int, tokens_at_once: int | None = None) -> Iterator[Drawn]:
    draws = Draws(batch_size=batch_size, masking=Masking())
    return Loader(shards, SentencePairs(), length=24, seed=3).steps(draws, share=Share(tokens_at_once=tokens_at_once))


@pytest.mark.parametrize("tokens_at_once", [60, 40, 1])
def test_accumulation_changes_nothing(shard_folder, small_recipe: Recipe, tokens_at_once: int) -> None:
    """Micro-batches hold unequal numbers of masked tokens, and still give the gradient of the whole batch."""
    shards, whole, recipe = setting(shard_folder, small_recipe)
    _, parts, _ = setting(shard_folder, small_recipe)
    one = run(whole, recipe, draw(shards, 6))
    many = run(parts, recipe, draw(shards, 6, tokens_at_once))
    for a, b in zip(one, many, strict=True):
        assert a.position == b.position and a.tokens == b.tokens and a.statistics == b.statistics
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-4)
        for name, measure in a.measures.items():
            assert measure.loss == pytest.approx(b.measures[name].loss, rel=1e-5)
            assert (measure.count, measure.accuracy) == (b.measures[name].count, b.measures[name].accuracy)
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(value, parts.state_dict()[name], rtol=1e-3, atol=2e-5, err_msg=name)


def test_it_learns(shard_folder, small_recipe: Recipe) -> None:
    shards, model, recipe = setting(shard_folder, small_recipe)
    batches = next(draw(shards, 16)).batches
    before = evaluate(model, recipe.objectives, batches)["masked_lm"].loss
    run(model, recipe, draw(shards, 16), steps=60)
    after = evaluate(model, recipe.objectives, batches)["masked_lm"].loss
    assert after < before - 0.5


@pytest.mark.parametrize("where", ["masked_lm", "next_sentence"])
def test_a_loss_that_is_not_finite_changes_no_weight(shard_folder, small_recipe: Recipe, where: str) -> None:
    shards, model, recipe = setting(shard_folder, small_recipe)
    with torch.no_grad():
        list(model.heads[where].parameters())[-1].fill_(float("nan"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TrainingError, match=f"Step 1: the loss of {where} is not finite"):
        run(model, recipe, draw(shards, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) or value.isnan().any()


def test_dropout_is_a_function_of_the_step(shard_folder, small_recipe: Recipe) -> None:
    """Whatever the global generator holds, the same step gives the same weights; and that generator is left alone."""
    results = []
    for noise in (0, 99):
        shards, model, recipe = setting(shard_folder, small_recipe, dropout=0.3)
        torch.manual_seed(noise)
        expected = torch.get_rng_state()
        run(model, recipe, draw(shards, 4))
        assert torch.equal(torch.get_rng_state(), expected)
        results.append(model.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_bfloat16_follows_float32(shard_folder, small_recipe: Recipe) -> None:
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        shards, model, recipe = setting(shard_folder, small_recipe)
        model.encoder.stream_dtype = dtype
        losses.append([step.measures["masked_lm"].loss for step in run(model, recipe, draw(shards, 6), steps=8)])
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
