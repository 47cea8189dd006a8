"""What cannot work is found before a run begins."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from bertsmith.config import override
from bertsmith.data import Segments, Shards
from bertsmith.errors import BertsmithError, ConfigError
from bertsmith.train import Pretraining, Recipe
from bertsmith.train.trial import try_stages


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["encoder.channels.tokens.2.size=1"], r"^stages\.0: its parts do not go together \(IndexError: "),
        (["encoder.channels.tokens.0.field=letters"], r"no field 'letters'.*input_ids"),
        (["encoder.masks={}"], r"^stages\.0: its parts do not go together \(KeyError: 'tokens'\)\.$"),
        (["encoder.hidden_size=1180591620717411303424"], r"^encoder: its parts do not go together \(.*\)\.$"),
        (
            ["encoder.hidden_size=400000"],
            r"^encoder: its weights and their gradients take [\d,]+ GiB, and this machine has ",
        ),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)
def test_parts_that_do_not_go_together(
    small_recipe: Recipe, shard_folder: Path, tmp_path: Path, changes: Iterable[str], said: str
) -> None:
    run = Pretraining(recipe=override(small_recipe, changes), data=shard_folder, out=tmp_path / "run")
    for start in (run.plan, lambda: next(run.run())):
        with pytest.raises(BertsmithError, match=said):
            start()
    assert not (tmp_path / "run").exists()


def test_objectives_get_what_they_need(small_recipe: Recipe) -> None:
    stage = small_recipe.stages[0]
    with pytest.raises(ConfigError, match="objectives: masked_lm needs labels"):
        replace(stage, masking=None)
    with pytest.raises(ConfigError, match="objectives: next_sentence needs next_sentence_label"):
        replace(stage, instances=Segments())
    replace(stage, instances=Segments(), objectives=stage.objectives[:1])
    with pytest.raises(ConfigError, match="objectives: masked_lm is there twice"):
        replace(stage, objectives=stage.objectives[:1] * 2)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        (f"encoder.layers.0.count={2**70}", r"^encoder\.layers\.0\.count: expected 1 to 1000, got "),
        (f"stages.0.batch_size={2**70}", r"^stages\.0\.batch_size: expected 1 to 2147483647, got "),
    ],
)
def test_sizes_beyond_reason(small_recipe: Recipe, assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        override(small_recipe, [assignment])


def test_a_trial_leaves_no_trace(small_recipe: Recipe, shard_folder: Path) -> None:
    shards = Shards.load(shard_folder)
    model = small_recipe.model(len(shards.vocabulary)).initialized(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try_stages(small_recipe, shards, model)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
