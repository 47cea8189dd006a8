import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.checkpoints.sentence_transformers import read_sentence_model, write_sentence_model
from bertsmith.errors import CheckpointError

Edit = Callable[..., None]
OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"
OURS_ALONE = ("mean_text", "mean_max")
# The pooler is a dense layer there.
POOLINGS = [kind() for name, kind in nn.Pooling.kinds().items() if name not in ("pooler", *OURS_ALONE)]


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def modules(folder: Path, *types: str, paths: tuple[str, ...] = ("", "1_Pooling", "2_Normalize")) -> None:
    listing = [
        {"idx": i, "name": str(i), "path": p, "type": t} for i, (t, p) in enumerate(zip(types, paths, strict=False))
    ]
    write(folder / "modules.json", listing)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
def test_round_trip(
    tmp_path: Path, checkpoint: Callable[..., Checkpoint], pooling: nn.Pooling, normalize: bool
) -> None:
    write_sentence_model(tmp_path, pooling, normalize=normalize, model=checkpoint().model, max_length=19)
    found = read_sentence_model(tmp_path)
    assert found is not None
    assert (found.transformer, found.pooling, found.normalize, found.max_length) == (tmp_path, pooling, normalize, 19)
    config = json.loads((tmp_path / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    assert sum(value is True for key, value in config.items() if key.startswith("pooling_mode")) == 1
    assert config["word_embedding_dimension"] == 12


@pytest.mark.parametrize("name", OURS_ALONE)
def test_what_has_no_form_there_is_refused(tmp_path: Path, checkpoint: Callable[..., Checkpoint], name: str) -> None:
    pooling = nn.Pooling.kinds()[name]()
    with pytest.raises(CheckpointError, match=f"sentence-transformers has no pooling '{name}'"):
        write_sentence_model(tmp_path, pooling, normalize=False, model=checkpoint().model, max_length=19)


def test_settings_come_back(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    """Prompts and the kind of similarity decide nothing here, and are kept for those who use them."""
    settings = {"prompts": {"query": "query: ", "passage": ""}, "similarity_fn_name": "dot", "include_prompt": False}
    path = save_model(tmp_path / "one", checkpoint({"sentence": settings}))
    found = read_sentence_model(path)
    assert found is not None
    assert found.settings == settings
    assert load_model(path).sentence == settings
    for name in ("bertsmith.json", "integrity.json"):
        (path / name).unlink()
    again = save_model(tmp_path / "two", load_model(path))
    for name in ("config_sentence_transformers.json", "1_Pooling/config.json"):
        assert (again / name).read_bytes() == (path / name).read_bytes()


def test_a_folder_without_modules_is_none(tmp_path: Path) -> None:
    assert read_sentence_model(tmp_path) is None


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"embedding_dimension": 12, "pooling_mode": "cls", "include_prompt": True}, nn.ClsPooling()),
        ({"embedding_dimension": 12, "pooling_mode": ["mean"]}, nn.MeanPooling()),
        (
            {"word_embedding_dimension": 12, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
            nn.ClsPooling(),
        ),
        ({"word_embedding_dimension": 12, "pooling_mode_mean_tokens": True}, nn.MeanPooling()),
        ({"word_embedding_dimension": 12}, nn.MeanPooling()),
    ],
)
@pytest.mark.parametrize("types", [OLD, NEW])
def test_both_layouts_are_read(tmp_path: Path, config: dict[str, Any], pooling: nn.Pooling, types: str) -> None:
    modules(tmp_path, f"{types}.transformer.Transformer", f"{types}.pooling.Pooling")
    write(tmp_path / "1_Pooling" / "config.json", config)
    found = read_sentence_model(tmp_path)
    assert found is not None
    assert (found.pooling, found.normalize, found.max_length) == (pooling, False, None)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"pooling_mode": "median"}, "median"),
        ({"pooling_mode": ["mean", "cls"]}, "'mean', 'cls'"),
        ({"pooling_mode": None}, "None"),
        ({"pooling_mode": ["max"] * 2}, "'max', 'max'"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "'mean', 'max'"),
    ],
)
def test_other_poolings_are_named(tmp_path: Path, config: dict[str, Any], named: str) -> None:
    modules(tmp_path, f"{OLD}.Transformer", f"{OLD}.Pooling")
    write(tmp_path / "1_Pooling" / "config.json", config)
    with pytest.raises(CheckpointError, match=named) as error:
        read_sentence_model(tmp_path)
    assert "supported is one of cls, mean, max, mean_sqrt_len_tokens, weightedmean, lasttoken" in str(error.value)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((f"{OLD}.Transformer", f"{OLD}.Pooling", f"{OLD}.CNN"), "runs Transformer, Pooling, CNN; supported are"),
        ((f"{OLD}.Transformer",), "runs Transformer; supported are"),
        ((f"{OLD}.Pooling", f"{OLD}.Transformer"), "runs Pooling, Transformer; supported are"),
        ((), "runs nothing"),
        (("evil.Transformer", f"{OLD}.Pooling"), "'evil.Transformer' is a module with code of its own"),
    ],
)
def test_other_modules_are_named(tmp_path: Path, types: tuple[str, ...], message: str) -> None:
    modules(tmp_path, *types)
    with pytest.raises(CheckpointError, match=message):
        read_sentence_model(tmp_path)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    modules(tmp_path, f"{OLD}.Transformer", f"{OLD}.Pooling", paths=("", path))
    with pytest.raises(CheckpointError, match="lies outside the folder"):
        read_sentence_model(tmp_path)


@pytest.mark.parametrize("listing", [{}, [1], [{"type": 1, "path": ""}], [{"type": f"{OLD}.Transformer"}]])
def test_broken_listings(tmp_path: Path, listing: Any) -> None:
    write(tmp_path / "modules.json", listing)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        read_sentence_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is True"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length is 'long'"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task is 'fill-mask'"),
        ("config_sentence_transformers.json", {"truncate_dim": 64}, "truncate_dim is 64"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type is 'SparseEncoder'"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
            "puts the prompt 'query' before every text",
        ),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "prompts must be texts by name"),
    ],
)
def test_what_would_change_the_vectors_is_refused(
    saved: Path, edit: Edit, file: str, changes: dict[str, Any], message: str
) -> None:
    edit(saved / file, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_sentence_model(saved)


def test_encoder_in_a_folder_of_its_own(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    """The layout of the first versions: 0_Transformer beside 1_Pooling."""
    inner = save_model(tmp_path / "model" / "0_Transformer", checkpoint())
    modules(
        tmp_path / "model",
        f"{OLD}.Transformer",
        f"{OLD}.Pooling",
        f"{OLD}.Normalize",
        paths=("0_Transformer", "1_Pooling", "2_Normalize"),
    )
    (inner / "1_Pooling").rename(tmp_path / "model" / "1_Pooling")
    found = load_model(tmp_path / "model")
    assert (found.normalize, found.tokenizer.max_length, found.path) == (True, 19, tmp_path / "model")


def test_what_cannot_be_written(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    without = checkpoint(pooler=False, heads={}).model
    with pytest.raises(CheckpointError, match="its vectors are to come from a pooler, and it has none"):
        write_sentence_model(tmp_path, nn.PoolerPooling(), normalize=False, model=without, max_length=19)
    with pytest.raises(CheckpointError, match="sentence-transformers has no pooling ''"):
        write_sentence_model(tmp_path, nn.Pooling(), normalize=False, model=without, max_length=19)
