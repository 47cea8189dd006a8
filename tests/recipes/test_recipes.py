"""Every recipe, found by looking: complete, shrinkable, and of the published size."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bertsmith import recipes
from bertsmith.config import from_dict, to_dict
from bertsmith.data import Shards
from bertsmith.errors import UsageError
from bertsmith.recipes import bert, modern
from bertsmith.train import Measured, Pretraining, Recipe
from bertsmith.train.measuring import Pace


def shrunk(recipe: Recipe) -> Recipe:
    """The same parts with small numbers, so that any recipe takes a second."""
    stages = tuple(
        replace(s, steps=2, length=min(s.length, 24), batch_size=2, initial_batch_size=s.initial_batch_size and 1)
        for s in recipe.stages
    )
    groups = tuple(replace(group, count=1) for group in recipe.encoder.layers)
    return replace(recipe, encoder=replace(recipe.encoder, hidden_size=96, layers=groups), stages=stages)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_survives_being_written_down(name: str) -> None:
    recipe = recipes.find(name)
    assert recipe.name == name
    assert from_dict(Recipe, to_dict(recipe)) == recipe


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_builds_and_trains(name: str, shard_folder: Path, tmp_path: Path) -> None:
    run = Pretraining(recipe=shrunk(recipes.find(name)), data=shard_folder, out=tmp_path / "run", heldout_sequences=8)
    reports = list(run.run())
    assert reports[-1].step == sum(stage.steps for stage in run.recipe.stages)
    assert all(m.loss < 20 for r in reports for m in r.update.measures.values())
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


# google-research/bert README (11 March 2020) gives the sizes in millions for the vocabulary of 30,522, pooler included.
PUBLISHED = {"tiny": 4.4, "mini": 11.3, "small": 29.1, "medium": 41.7, "base": 110.1, "large": 340}


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_sizes(size: str) -> None:
    with torch.device("meta"):
        model = getattr(bert, size)().model(30_522).build()
    # The published count of the larger two includes the masked-LM head of 0.6 and 1.1 million, and rounds.
    encoder = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.heads.parameters())
    assert encoder / 1e6 == pytest.approx(PUBLISHED[size], rel=0.016)


def test_base_is_exactly_the_released_model() -> None:
    """109,482,240 is the size of the released bert-base-uncased with its pooler, as transformers counts it."""
    with torch.device("meta"):
        model = bert.base().model(30_522).build()
    assert sum(p.numel() for n, p in model.named_parameters() if not n.startswith("heads")) == 109_482_240


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_modern_encoder_has_the_size_of_its_bert(size: str) -> None:
    """The blocks, that is; embeddings have neither positions nor segments, and there is no pooler."""
    with torch.device("meta"):
        theirs, ours = (getattr(family, size)().model(30_522).build() for family in (bert, modern))
    theirs, ours = (sum(p.numel() for p in model.encoder.blocks.parameters()) for model in (theirs, ours))
    assert ours / theirs == pytest.approx(1, rel=0.015)


@pytest.mark.parametrize("factor", [1.0, 0.01, 0.0001])
def test_the_modern_stages_are_one_schedule_at_any_length(factor: float) -> None:
    short, long = modern.mini().lasting(factor).stages
    rates = [stage.schedule.rate(step, stage.steps) for stage in (short, long) for step in range(stage.steps)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.05 * max(rates)
    assert short.schedule.rate(short.steps - 1, short.steps) == long.schedule.rate(0, long.steps) == max(rates)
    assert long.steps == pytest.approx(0.2 * len(rates), abs=1)
    masked = [stage.draws.at(step) for stage in (short, long) for step in (0, stage.steps - 1)]
    assert [draw.masking.rate for draw in masked if draw.masking] == [0.3] * 4
    assert [draw.size for draw in masked] == [8, 32, 8, 8]


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no recipe called 'bert:bas'\. Did you mean 'bert:base'\?"):
        recipes.find("bert:bas")


def test_shards_fit_the_recipe(shard_folder: Path) -> None:
    assert len(Shards.load(shard_folder).vocabulary) == 150


class TestTheLargestRecipe:
    """Said by a dry run: as large as the time can feed, and not larger than the machine."""

    GIB = 1 << 30

    def said(self, shard_folder: Path, *, seconds_an_example: float, memory: int, room: int) -> str:
        run = Pretraining(recipe=recipes.find("bert:base"), data=shard_folder, out=Path("never"))
        pace = Pace(example=seconds_an_example, update=0.0, evaluation=0.0, tokens=128.0)
        return recipes.largest_within("bert:base", run, Measured((pace, pace), memory, room))

    def test_where_all_fit(self, shard_folder: Path) -> None:
        said = self.said(shard_folder, seconds_an_example=0.1, memory=4 * self.GIB, room=640 * self.GIB)
        assert said.startswith("bert:large: it would see ")
        assert "does not fit" not in said

    def test_where_the_largest_does_not(self, shard_folder: Path) -> None:
        # Its weights, gradients and moments alone are 16 bytes for each of more than 300 million parameters.
        said = self.said(shard_folder, seconds_an_example=0.1, memory=2 * self.GIB, room=4 * self.GIB)
        assert said.startswith("bert:base: it would see ")
        assert said.endswith("; bert:large does not fit into 4 GiB")

    def test_where_none_does(self, shard_folder: Path) -> None:
        said = self.said(shard_folder, seconds_an_example=0.1, memory=9 * self.GIB, room=self.GIB // 16)
        assert re.fullmatch(r"none: bert:\w+ needs about \d+ GiB, and there are 0 GiB", said)
