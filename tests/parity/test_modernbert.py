"""A pre-norm encoder of ours is a ModernBERT to transformers, and computes the same there."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

import bertsmith
from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, describe, load_model, modernbert, save_model
from bertsmith.config import override
from bertsmith.data import Batch, Example, pad
from bertsmith.errors import ConfigError
from bertsmith.folders import publish
from bertsmith.recipes import modern
from bertsmith.text import Tokenizer, Vocabulary

MASKED_LM = {"masked_lm": nn.MaskedLMHead.Config()}
BIASES = (
    "layer_norm_bias=true",
    "layers.*.block.residual.bias=true",
    "layers.*.block.attention.bias=true",
    "layers.*.block.feed_forward.bias=true",
    "layers.*.block.feed_forward.activation=silu",
)


@pytest.fixture(params=[(), BIASES], ids=["as in the recipe", "with biases"])
def saved(request: pytest.FixtureRequest, tmp_path: Path, minilm_path: Path) -> Callable[..., Checkpoint]:
    """Save a small random model with the given heads, and load it again."""
    tokenizer = Tokenizer.load(minilm_path)

    def make(heads: dict[str, nn.Head.Config]) -> Checkpoint:
        sizes = (f"vocab_size={len(tokenizer.vocabulary)}", "initializer_range=0.2", "layer_norm_eps=1e-6")
        eps = ("layers.*.block.residual.layer_norm_eps=1e-6",)
        encoder = override(modern.encoder(36, 3, 2), [*sizes, *eps, *request.param])
        model = nn.Model.Config(encoder=encoder, pooler=False, heads=heads).initialized(seed=1)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        path = save_model(tmp_path / "saved", Checkpoint(model=model, tokenizer=tokenizer, normalize=True))
        return load_model(path)

    return make


def load_strictly(name: str, path: Path | None) -> torch.nn.Module:
    """The model of a class of transformers, which must find exactly the tensors that it expects."""
    model, report = getattr(transformers, name).from_pretrained(path, output_loading_info=True)
    assert {key: list(value) for key, value in report.items() if value} == {}
    return model.eval()


@torch.inference_mode()
def test_hidden_states_and_scores_are_the_same(
    saved: Callable[..., Checkpoint],
    sequences: list[Example],
    lay_out: Callable[[list[Example]], list[Batch]],
    theirs: Callable[[list[Example]], dict[str, torch.Tensor]],
) -> None:
    ours = saved(MASKED_LM)
    inputs = theirs(sequences)
    del inputs["token_type_ids"]
    model = load_strictly("ModernBertForMaskedLM", ours.path)
    expected = model(**inputs, output_hidden_states=True)
    rows = []
    for batch in lay_out(sequences):
        encoder = ours.model.encoder
        states = torch.stack([s["tokens"] for s in encoder.layers(batch, encoder.apply_masks(batch))])
        flat = states.flatten(1, 2)
        rows += [
            flat[:, start : start + n] for start, n in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)
        ]
    head, table = ours.model.heads["masked_lm"], ours.model.encoder.token_table.weight
    for number, (found, example) in enumerate(zip(rows, sequences, strict=True)):
        wanted = torch.stack(expected.hidden_states)[:, number, : len(example)]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        scores = expected.logits[number, : len(example)]
        torch.testing.assert_close(head(found[-1], table), scores, atol=1e-5, rtol=0)


def test_sentence_transformers_gives_the_same_vectors(saved: Callable[..., Checkpoint], texts: tuple[str, ...]) -> None:
    path = saved({}).path
    assert path is not None
    assert set(transformers.AutoTokenizer.from_pretrained(path)("a b")) == {"input_ids", "attention_mask"}
    expected = SentenceTransformer(str(path), device="cpu").encode(list(texts), batch_size=3)
    np.testing.assert_allclose(bertsmith.load(path).embed(list(texts)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["ModernBertForMaskedLM", "ModernBertModel"])
def test_what_transformers_saves_again_is_read(saved: Callable[..., Checkpoint], tmp_path: Path, name: str) -> None:
    """Another vocabulary size is rounded up, as trainers do it; the rest comes back to the bit."""
    before = saved(MASKED_LM)
    theirs = getattr(transformers, name).from_pretrained(before.path)
    if name == "ModernBertForMaskedLM":
        theirs.resize_token_embeddings(pad_to_multiple_of=64)
    theirs.save_pretrained(tmp_path / "theirs")
    before.tokenizer.save(tmp_path / "theirs")
    after = load_model(tmp_path / "theirs")
    assert after.model.heads.keys() == (MASKED_LM if name == "ModernBertForMaskedLM" else {}).keys()
    weights = before.model.state_dict()
    assert len(after.model.state_dict()) >= 20
    for key, value in after.model.state_dict().items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": None, "global_attn_every_n_layers": 3}, "global_attn_every_n_layers: .*sliding windows"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types: .*sliding windows"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters: rope_type 'yarn'"),
        ({"architectures": ["ModernBertForPreTraining"]}, "architectures: .* is not supported"),
        ({"classifier_bias": False}, "classifier_bias: False is not supported; expected True"),
        ({"hidden_activation": "gelo"}, "hidden_activation: 'gelo' is not known. Did you mean 'gelu'"),
        ({"surprise": 1}, "surprise: no ModernBERT configuration has this key"),
    ],
)
def test_other_modernberts_are_refused(changes: dict[str, object], message: str) -> None:
    tokenizer = Tokenizer(Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a")))
    config = nn.Model.Config(
        encoder=replace(modern.encoder(36, 3, 2), vocab_size=6),
        pooler=False,
        heads={"masked_lm": nn.MaskedLMHead.Config()},
    )
    written = modernbert.write_config(config, tokenizer.vocabulary)
    assert modernbert.read_config(written).model_config(pooler=False, heads={"masked_lm"}) == replace(
        config, encoder=replace(config.encoder, output_initializer_range=None)
    )
    with pytest.raises(ConfigError, match=message):
        modernbert.read_config({**written, **changes})


def test_a_folder_that_is_older_than_the_form_is_read(saved: Callable[..., Checkpoint], tmp_path: Path) -> None:
    """As bertsmith wrote such models before they had names in transformers."""
    ours = saved(MASKED_LM)
    assert ours.path is not None
    with publish(tmp_path / "older") as folder:
        for file in ours.path.iterdir():
            if file.is_file() and file.name not in ("model.safetensors", "config.json", "integrity.json"):
                shutil.copy(file, folder)
        save_file({name: p.detach() for name, p in ours.model.named_parameters()}, folder / "model.safetensors")
    older = load_model(tmp_path / "older")
    assert all(torch.equal(value, ours.model.state_dict()[name]) for name, value in older.model.state_dict().items())


def test_what_a_folder_says_of_itself(saved: Callable[..., Checkpoint]) -> None:
    path = saved(MASKED_LM).path
    assert path is not None
    said = describe(path)
    assert said["architecture"] == "ModernBertForMaskedLM"
    assert not [line for line in said["missing"] if "transformers" in line]


HEADS = {
    "sequence_label": nn.SequenceHead.Config(num_labels=3, transform="gelu"),
    "token_label": nn.TokenHead.Config(num_labels=5, transform="gelu"),
    "answer_span": nn.SpanHead.Config(transform="gelu"),
    "multiple_choice": nn.SequenceHead.Config(num_labels=1, transform="gelu"),
}
CLASSES = {
    "sequence_label": "ModernBertForSequenceClassification",
    "token_label": "ModernBertForTokenClassification",
    "answer_span": "ModernBertForQuestionAnswering",
    "multiple_choice": "ModernBertForMultipleChoice",
}


@pytest.mark.parametrize("head", HEADS)
@torch.inference_mode()
def test_heads_of_fine_tuning_are_the_same(
    saved: Callable[..., Checkpoint],
    sequences: list[Example],
    theirs: Callable[[list[Example]], dict[str, torch.Tensor]],
    tmp_path: Path,
    head: str,
) -> None:
    ours = saved({head: HEADS[head]})
    model = load_strictly(CLASSES[head], ours.path)
    batch, inputs = pad(sequences, pad_id=0), theirs(sequences)
    del inputs["token_type_ids"]
    output = ours.model(batch)
    if head in ("sequence_label", "multiple_choice"):
        found = ours.model.heads[head](output.pooled)
        given = {name: value[None] for name, value in inputs.items()} if head == "multiple_choice" else inputs
        expected = model(**given).logits.reshape(found.shape)
    else:
        found = ours.model.heads[head](output.at(batch.token_positions))
        logits = model(**inputs)
        table = logits.logits if head == "token_label" else torch.stack([logits.start_logits, logits.end_logits], -1)
        expected = table[inputs["attention_mask"] == 1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "theirs")
    ours.tokenizer.save(tmp_path / "theirs")
    again = load_model(tmp_path / "theirs")
    assert again.model.config.heads.keys() == {head}
    weights = ours.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())
