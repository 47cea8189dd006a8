"""What a new head starts from."""

from dataclasses import replace

import pytest
import torch

from bertsmith.checkpoints import Checkpoint
from bertsmith.checkpoints.forms import form_of
from bertsmith.nn import Encoder, MaskedLMHead, Model
from bertsmith.recipes import bert, modern
from bertsmith.tasks import Classify, Task
from bertsmith.tasks.starting import with_new_head
from bertsmith.tasks.tagging import Tag
from bertsmith.text import Tokenizer, Vocabulary

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")


def checkpoint(encoder: Encoder.Config, *, pooler: bool) -> Checkpoint:
    config = Model.Config(
        encoder=replace(encoder, vocab_size=len(TOKENS)), pooler=pooler, heads={"masked_lm": MaskedLMHead.Config()}
    )
    return Checkpoint(model=config.initialized(3), tokenizer=Tokenizer(Vocabulary(TOKENS)))


@pytest.mark.parametrize(
    ("task", "architecture"),
    [
        (Classify(labels=("no", "yes", "perhaps")), "ModernBertForSequenceClassification"),
        (Tag(labels=("O", "B-x", "I-x")), "ModernBertForTokenClassification"),
    ],
)
def test_a_modern_encoder_keeps_what_masked_lm_has_learned(task: Task, architecture: str) -> None:
    before = checkpoint(modern.encoder(24, 2, 2), pooler=False)
    model = with_new_head(before, task, seed=1)
    form = form_of(model.config)
    assert form is not None and form.architecture(model.config) == architecture
    weights, (name,) = model.state_dict(), model.heads.keys()
    for part in ("dense.weight", "dense.bias", "norm.weight"):
        learned = before.model.state_dict()[f"heads.masked_lm.{part}"]
        assert torch.equal(weights[f"heads.{name}.transform.{part}"], learned)
    assert torch.equal(model.encoder.token_table.weight, before.model.encoder.token_table.weight)


def test_a_bert_keeps_its_pooler() -> None:
    before = checkpoint(bert.encoder(24, 2, 2), pooler=True)
    model = with_new_head(before, Classify(labels=("no", "yes")), seed=1)
    assert model.pooler is not None and before.model.pooler is not None
    assert torch.equal(model.pooler.dense.weight, before.model.pooler.dense.weight)
    assert not any("transform" in name for name in model.state_dict())
    form = form_of(model.config)
    assert form is not None and form.architecture(model.config) == "BertForSequenceClassification"
