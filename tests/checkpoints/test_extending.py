"""More tokens for a model: what changes, and what must not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, extend_model, load_model, save_model
from bertsmith.checkpoints.extending import extend_weights
from bertsmith.data import pad
from bertsmith.data.example import Example
from bertsmith.errors import CheckpointError, UsageError, VocabularyError
from bertsmith.text import SPECIAL_TOKENS, Extension, Tokenizer, Vocabulary, extend_vocabulary

LINES = ["deaf bead", "a deaf fad", "bead face", "a bead", "cafe facade", "a cab", "o mg", "p pod"]


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    """Sixty documents about beads."""
    file = tmp_path / "domain.txt"
    file.write_text("\n\n".join(LINES[i % 7] + " " + LINES[i % 5] for i in range(60)), encoding="utf-8")
    return file


@pytest.fixture
def parent(checkpoint: Callable[..., Checkpoint], tokenizer: Tokenizer) -> Callable[..., Checkpoint]:
    """The small model with two unused tokens among its 37."""

    def make(**changes: Any) -> Checkpoint:
        tokens = list(tokenizer.vocabulary.tokens)
        tokens[tokens.index("n")], tokens[tokens.index("##n")] = "[unused0]", "[unused1]"
        heads = {
            "masked_lm": nn.MaskedLMHead.Config(),
            "sequence_label": nn.SequenceHead.Config(num_labels=3),
        }
        found = checkpoint({"lineage": {"recipe": "bert:tiny"}, "task": {"kind": "classify"}}, heads=heads, **changes)
        return replace(found, tokenizer=tokenizer.with_vocabulary(Vocabulary(tuple(tokens))))

    return make


def scores(checkpoint: Checkpoint, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states (tokens, hidden) and masked-LM scores (tokens, vocab) of one text."""
    ids = checkpoint.tokenizer.encode(text, special_tokens=True).ids
    with torch.no_grad():
        model = checkpoint.model.eval()
        fields = {"input_ids": np.array(ids), "token_type_ids": np.zeros(len(ids), np.int64)}
        hidden = model(pad([Example(fields)], pad_id=0)).streams["tokens"][0]
        return hidden, model.heads["masked_lm"](hidden, model.encoder.token_table.weight)


def test_only_the_new_rows_are_new(parent: Callable[..., Checkpoint], domain: Path) -> None:
    before = parent()
    copy = {name: parameter.clone() for name, parameter in before.model.named_parameters()}
    extended = extend_model(before, domain, 4)
    after, pieces = extended.checkpoint, extended.tokenizer.extension.pieces
    old, new = before.tokenizer.vocabulary, after.tokenizer.vocabulary
    places = [old.ids["[unused0]"], old.ids["[unused1]"], 37, 38]
    assert list(pieces) == places and len(new) == 39
    assert after.model.config.encoder.vocab_size == 39
    for name, parameter in after.model.named_parameters():
        assert torch.equal(dict(before.model.named_parameters())[name], copy[name])  # the parent is left alone
        if name in ("encoder.channels.tokens.0.table.weight", "heads.masked_lm.bias"):
            kept = [index for index in range(37) if index not in pieces]
            assert torch.equal(parameter[kept], copy[name][kept])
            for index, parts in pieces.items():
                assert len(parts) > 1
                torch.testing.assert_close(parameter[index], copy[name][list(parts)].mean(0))
        else:
            assert torch.equal(parameter, copy[name]), name
    assert (after.pooling, after.normalize, after.task) == (before.pooling, before.normalize, before.task)


def test_a_text_without_new_tokens_has_the_outputs_it_had(parent: Callable[..., Checkpoint], domain: Path) -> None:
    before = parent()
    extended = extend_model(before, domain, 4)
    text = "kilo jim."
    hidden, old = scores(before, text)
    same, new = scores(extended.checkpoint, text)
    assert torch.equal(hidden, same)
    kept = [index for index in range(37) if index not in extended.tokenizer.extension.pieces]
    torch.testing.assert_close(new[:, kept], old[:, kept])
    for index, parts in extended.tokenizer.extension.pieces.items():
        # Wherever it stands, a new token is as likely as the geometric mean of its pieces, and never the likeliest.
        torch.testing.assert_close(new[:, index], old[:, list(parts)].mean(1), rtol=1e-4, atol=1e-4)
        assert (new[:, index] <= old[:, list(parts)].amax(1) + 1e-5).all()


def test_fertility_falls_and_is_measured_on_held_out_text(parent: Callable[..., Checkpoint], domain: Path) -> None:
    learned = extend_model(parent(), domain, 4).tokenizer
    assert learned.heldout and learned.before.texts == learned.statistics.texts == 1
    assert learned.before.words == learned.statistics.words
    assert learned.statistics.fertility < learned.before.fertility
    assert learned.statistics.unknown_rate <= learned.before.unknown_rate


def test_the_new_folder_is_everybodys_and_names_its_parent(
    parent: Callable[..., Checkpoint], domain: Path, tmp_path: Path
) -> None:
    path = save_model(tmp_path / "parent", parent())
    extended = extend_model(load_model(path), domain, 4)
    out = save_model(tmp_path / "extended", extended.checkpoint)
    found = load_model(out)
    assert found.tokenizer.sha256 == extended.tokenizer.tokenizer.sha256
    lineage = dict(found.lineage)
    assert lineage["extended_from"]["path"] == str(path)
    assert lineage["extended_from"]["lineage"] == {"recipe": "bert:tiny"}
    assert len(lineage["extended_from"]["weights"]) == len(lineage["extended_from"]["tokenizer"]) == 64
    (source,) = lineage["extension"].pop("corpus")
    assert source["path"] == domain.as_posix() and source["sha256"]
    assert lineage["extension"] == {"tokens": 4, "at_unused_places": 2, "appended": 2}
    tokens = AutoTokenizer.from_pretrained(out).tokenize("a deaf bead")
    assert tokens == found.tokenizer.encode("a deaf bead").tokens
    assert set(tokens) & set(extended.tokenizer.extension.tokens)


def test_transformers_gives_the_same_scores(parent: Callable[..., Checkpoint], domain: Path, tmp_path: Path) -> None:
    before = parent()
    config = replace(before.model.config, heads={"masked_lm": nn.MaskedLMHead.Config()}, pooler=False)
    model = config.initialized(seed=7)
    extended = extend_model(replace(before, model=model, task=None), domain, 4).checkpoint
    theirs = AutoModelForMaskedLM.from_pretrained(save_model(tmp_path / "m", extended)).eval()
    ids = torch.tensor([extended.tokenizer.encode("a deaf bead", special_tokens=True).ids])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits[0], scores(extended, "a deaf bead")[1], rtol=1e-4, atol=1e-5)


def test_an_encoder_of_another_kind(checkpoint: Callable[..., Checkpoint], tokenizer: Tokenizer) -> None:
    block = nn.AttentionBlock.Config(
        attention=nn.Attention.Config(num_attention_heads=2, bias=False, query_key=(nn.Rotary.Config(),)),
        feed_forward=nn.GatedFeedForward.Config(intermediate_size=11, bias=False),
        residual=nn.PreNorm.Config(bias=False),
    )
    channels = {"tokens": (nn.Lookup.Config(field="input_ids"),)}
    before = checkpoint(channels=channels, layers=(nn.Layers(count=2, block=block),), layer_norm_bias=False)
    extension = extend_vocabulary({"deaf": 3, "bead": 2}, tokenizer.vocabulary, 2)
    model = extend_weights(before.model, extension)
    after = replace(before, model=model, tokenizer=tokenizer.with_vocabulary(extension.vocabulary))
    assert torch.equal(scores(before, "kilo jim")[0], scores(after, "kilo jim")[0])
    assert scores(after, "deaf")[1].shape == (3, 39)


def test_rows_beyond_the_vocabulary_are_left_out(checkpoint: Callable[..., Checkpoint], tokenizer: Tokenizer) -> None:
    padded = checkpoint(vocab_size=48).model
    extension = extend_vocabulary({"deaf": 3, "bead": 2}, tokenizer.vocabulary, 2)
    table = extend_weights(padded, extension).encoder.token_table.weight
    assert table.shape == (39, 12)
    assert torch.equal(table[:37], padded.encoder.token_table.weight[:37])


def test_an_unknown_character_starts_as_unk(checkpoint: Callable[..., Checkpoint], tokenizer: Tokenizer) -> None:
    model, unk = checkpoint().model, tokenizer.vocabulary.unk_id
    extension = extend_vocabulary({"ß": 5}, tokenizer.vocabulary, 1)
    assert extension.pieces == {37: (unk,)}
    table = extend_weights(model, extension).encoder.token_table.weight
    assert torch.equal(table[37], table[unk])


def test_other_parts_with_a_row_for_each_token_are_refused(checkpoint: Callable[..., Checkpoint]) -> None:
    channels = (nn.Lookup.Config(field="input_ids"), nn.Lookup.Config(field="token_type_ids"))
    model = checkpoint(channels={"tokens": channels}).model
    extension = Extension(Vocabulary((*SPECIAL_TOKENS, *(f"w{i}" for i in range(33)))), {37: (3, 4)}, 1)
    with pytest.raises(CheckpointError, match=r"channels\.tokens\.1\.table\.weight depends on the number of tokens"):
        extend_weights(model, extension)


@pytest.mark.parametrize(
    ("add", "heldout", "error", "message"),
    [
        (0, 0.1, UsageError, "add is 0"),
        (3, 0.9, UsageError, "heldout 0.9"),
        (999, 0.1, VocabularyError, "Ask for .* at most"),
    ],
)
def test_what_cannot_be_done(
    parent: Callable[..., Checkpoint], domain: Path, add: int, heldout: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        extend_model(parent(), domain, add, heldout=heldout)
