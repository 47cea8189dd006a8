"""A small model of odd sizes with every head of pretraining: hidden 12, heads 2, vocabulary 37."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

LETTERS = "abcdefghijklmnop"


@pytest.fixture
def tokenizer() -> Tokenizer:
    tokens = (*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS))
    assert len(tokens) == 37
    return Tokenizer(Vocabulary(tokens), max_length=64)


@pytest.fixture
def config() -> Callable[..., nn.Model.Config]:
    def make(**changes: Any) -> nn.Model.Config:
        block = nn.AttentionBlock.Config(
            attention=nn.Attention.Config(num_attention_heads=2, dropout=0.2),
            feed_forward=nn.FeedForward.Config(intermediate_size=17),
            residual=nn.PostNorm.Config(dropout=0.05, layer_norm_eps=1e-7),
        )
        encoder: dict[str, Any] = {
            "hidden_size": 12,
            "vocab_size": 37,
            "channels": {
                "tokens": (
                    nn.Lookup.Config(field="input_ids"),
                    nn.Position.Config(max_position_embeddings=19),
                    nn.Lookup.Config(field="token_type_ids", size=3),
                )
            },
            "layers": (nn.Layers(count=2, block=block),),
            "masks": {"tokens": nn.Full()},
            "embedding_dropout": 0.05,
            "layer_norm_eps": 1e-7,
            "initializer_range": 0.3,
        }
        model: dict[str, Any] = {
            "heads": {
                "masked_lm": nn.MaskedLMHead.Config(),
                "next_sentence": nn.SequenceHead.Config(num_labels=2, dropout=0.0),
            }
        }
        for name, value in changes.items():
            (model if name in {"pooler", "heads"} else encoder)[name] = value
        return nn.Model.Config(encoder=nn.Encoder.Config(**encoder), **model)

    return make


@pytest.fixture
def checkpoint(config: Callable[..., nn.Model.Config], tokenizer: Tokenizer) -> Callable[..., Checkpoint]:
    """A random checkpoint, with parts and configuration as wanted."""

    def make(parts: dict[str, Any] | None = None, **changes: Any) -> Checkpoint:
        model = config(**changes).initialized(seed=4)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        return Checkpoint(model=model, tokenizer=tokenizer, **(parts or {}))

    return make


@pytest.fixture
def saved(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> Path:
    """A folder of ours."""
    lineage = {"corpus": {"sha256": "c0ffee"}, "recipe": "bert:tiny"}
    return save_model(tmp_path / "ours", checkpoint({"lineage": lineage}))


@pytest.fixture
def foreign(saved: Path) -> Path:
    """The same folder as transformers would have written it: nothing of ours in it."""
    for name in ("bertsmith.json", "integrity.json", "modules.json", "sentence_bert_config.json"):
        (saved / name).unlink()
    return saved


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change keys of a JSON file; None removes one."""

    def change(file: Path, **changes: Any) -> None:
        content = json.loads(file.read_text(encoding="utf-8"))
        content |= changes
        content = {key: value for key, value in content.items() if value is not None}
        file.write_text(json.dumps(content), encoding="utf-8")

    return change


@pytest.fixture
def reseal() -> Callable[[Path], None]:
    """Write integrity.json anew, as somebody would who edits a folder of ours by hand and knows how."""

    def make(folder: Path) -> None:
        file = folder / "integrity.json"
        listing = json.loads(file.read_text(encoding="utf-8"))
        for name, entry in listing["files"].items():
            content = (folder / name).read_bytes()
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        file.write_text(json.dumps(listing) + "\n", encoding="utf-8")

    return make
