"""A model stored in 16 bits: half the room, and the same float32 model for bertsmith and transformers."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import override
from bertsmith.embed import batch_encodings
from bertsmith.errors import CheckpointError
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.recipes import bert
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary


@pytest.fixture
def checkpoint() -> Checkpoint:
    tokenizer = Tokenizer(Vocabulary((*SPECIAL_TOKENS, *(f"w{i}" for i in range(32)))))
    config = Model.Config(encoder=bert.encoder(12, 2, 2), pooler=False, heads={"masked_lm": MaskedLMHead.Config()})
    config = override(config, ["encoder.vocab_size=37", "encoder.initializer_range=0.3"])
    return Checkpoint(model=config.initialized(3).eval(), tokenizer=tokenizer)


def test_everybody_loads_it_as_float32(checkpoint: Checkpoint, tmp_path: Path) -> None:
    full = save_model(tmp_path / "full", checkpoint) / "model.safetensors"
    half = save_model(tmp_path / "half", checkpoint, storage="float16") / "model.safetensors"
    assert half.stat().st_size < 0.65 * full.stat().st_size
    with safe_open(half, framework="pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}  # noqa: SIM118
    ours = load_model(tmp_path / "half")
    for name, weight in ours.model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, checkpoint.model.get_parameter(name).half().float())
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path / "half").eval()
    assert {weight.dtype for weight in theirs.parameters()} == {torch.float32}
    encoding = ours.tokenizer.encode("w1 w5 w9", special_tokens=True)
    with torch.inference_mode():
        expected = theirs.bert(torch.tensor([encoding.ids])).last_hidden_state
        found = ours.model(batch_encodings([encoding], ours.tokenizer)).streams["tokens"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    again = save_model(tmp_path / "again", ours, storage="float16") / "model.safetensors"
    assert again.read_bytes() == half.read_bytes()


def test_what_does_not_fit_is_not_saved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with torch.no_grad():
        checkpoint.model.get_parameter("encoder.blocks.0.attention.output.bias")[0] = 1e5
    with pytest.raises(CheckpointError, match=r"infinity in encoder\.blocks\.0\.attention\.output\.bias, as float16"):
        save_model(tmp_path / "half", checkpoint, storage="float16")
    assert not (tmp_path / "half").exists()
    save_model(tmp_path / "full", checkpoint)
