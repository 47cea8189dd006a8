"""The BERT-shaped folders that people hold, each with its own oddities: the same hidden states as transformers, within 1e-5.

Small random models of the shapes of MiniLM, BioBERT, SciBERT, ClinicalBERT, BGE, E5 and others.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from bertsmith import load, nn
from bertsmith.checkpoints import convert, describe, load_model
from bertsmith.data import Example, pad
from bertsmith.errors import CheckpointError

Theirs = Callable[[list[Example]], dict[str, torch.Tensor]]
Tensors = dict[str, torch.Tensor]
TYPES = "sentence_transformers.models"


@dataclass(frozen=True)
class Relative:
    """How a folder differs from what transformers writes today."""

    model: str = "BertModel"
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)  # None takes a key away
    tensors: Callable[[Tensors], Tensors] = dict
    dtype: torch.dtype = torch.float32
    weights: str = "model.safetensors"  # or pytorch_model.bin
    tokenizer: tuple[str, ...] = ("vocab.txt",)
    sentence: tuple[str, ...] = ()  # modules behind the transformer
    pooling: str = "mean_tokens"


def old_names(tensors: Tensors) -> Tensors:
    """What was written before 2019: gamma and beta, a buffer, the decoder a second time."""
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    return renamed | {"bert.embeddings.position_ids": torch.arange(61)[None]}


def decoder_twice(tensors: Tensors) -> Tensors:
    table, bias = tensors["bert.embeddings.word_embeddings.weight"], tensors["cls.predictions.bias"]
    return old_names(tensors) | {
        "cls.predictions.decoder.weight": table,
        "cls.predictions.decoder.bias": bias,
    }


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}


OLD_KEYS = {
    "architectures": None,
    "model_type": None,
    "transformers_version": None,
    "layer_norm_eps": None,
    "pad_token_id": None,
    "finetuning_task": None,
    "output_attentions": False,
    "torchscript": False,
    "output_past": True,
    "pruned_heads": {},
    "num_labels": 2,
}
NEW_KEYS = {"_name_or_path": "/home/me/model", "gradient_checkpointing": False, "position_embedding_type": "absolute"}

RELATIVES = {
    "minilm": Relative(config=NEW_KEYS, sentence=("Pooling", "Normalize")),
    "biobert": Relative("BertForPreTraining", config=OLD_KEYS, tensors=decoder_twice, weights="pytorch_model.bin"),
    "scibert": Relative(
        "BertForMaskedLM", {"vocab_size": 30600}, OLD_KEYS, tensors=old_names, weights="pytorch_model.bin"
    ),
    "clinicalbert": Relative("BertForMaskedLM", config={**OLD_KEYS, "model_type": "bert"}, weights="pytorch_model.bin"),
    "bge": Relative(
        config={**NEW_KEYS, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
        dtype=torch.float16,
        tokenizer=("tokenizer.json", "tokenizer_config.json"),
        sentence=("Pooling", "Normalize"),
        pooling="cls_token",
    ),
    "e5": Relative(config=NEW_KEYS, dtype=torch.bfloat16, sentence=("Pooling", "Normalize")),
    "padded": Relative("BertForPreTraining", {"vocab_size": 30528}),
    "decoder": Relative("BertLMHeadModel", {"is_decoder": True}),
    "without a pooler": Relative(tensors=lambda t: {k: v for k, v in t.items() if "pooler" not in k}),
    "without a prefix": Relative("BertForMaskedLM", tensors=without_prefix),
    "wrapped": Relative("BertForMaskedLM", tensors=lambda t: {f"module.{k}": v for k, v in t.items()}),
}


@pytest.fixture
def make(
    tmp_path: Path, minilm_path: Path, random_model: Callable[..., torch.nn.Module]
) -> Callable[[Relative], tuple[Path, torch.nn.Module]]:
    """The folder of a relative, and the model that transformers made it from."""

    def build(relative: Relative) -> tuple[Path, torch.nn.Module]:
        model = random_model(relative.model, **relative.settings)
        folder = tmp_path / "theirs"
        model.to(relative.dtype).save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        tensors = relative.tensors(tensors)
        if relative.weights.endswith(".bin"):
            torch.save(tensors, folder / relative.weights)
        else:
            save_file(tensors, folder / relative.weights)
        for name in relative.tokenizer:
            shutil.copy(minilm_path / name, folder)
        edit(folder / "config.json", relative.config)
        if relative.sentence:
            write_modules(folder, relative)
        return folder, model.float()

    return build


def edit(file: Path, changes: Mapping[str, Any]) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def write_modules(folder: Path, relative: Relative) -> None:
    modules = [("Transformer", ""), *((name, f"{i}_{name}") for i, name in enumerate(relative.sentence, 1))]
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 24, f"pooling_mode_{relative.pooling}": True}
    if relative.pooling != "mean_tokens":
        pooling["pooling_mode_mean_tokens"] = False
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    listing = [
        {"idx": i, "name": str(i), "path": path, "type": f"{TYPES}.{name}"} for i, (name, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listing), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text(
        '{"max_seq_length": 50, "do_lower_case": false}', encoding="utf-8"
    )


def assert_same_states(folder: Path, reference: torch.nn.Module, sequences: list[Example], theirs: Theirs) -> None:
    ours = load_model(folder).model
    batch = pad(sequences, pad_id=0)
    with torch.inference_mode():
        expected = getattr(reference, "bert", reference)(**theirs(sequences), output_hidden_states=True).hidden_states
        found = [streams["tokens"] for streams in ours.encoder.layers(batch, ours.encoder.apply_masks(batch))]
    assert len(found) == len(expected) == 3
    mask = batch.attention_mask
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[mask], other[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RELATIVES)
def test_hidden_states(make: Any, tmp_path: Path, sequences: list[Example], theirs: Theirs, name: str) -> None:
    relative = RELATIVES[name]
    folder, reference = make(relative)
    if relative.weights.endswith(".bin"):
        convert(folder, tmp_path / "ours", to="hf")
        folder = tmp_path / "ours"
    assert_same_states(folder, reference, sequences, theirs)


@pytest.mark.parametrize(
    ("name", "settings", "head", "task"),
    [
        ("BertForTokenClassification", {"num_labels": 5}, "token_label", "tag"),
        ("BertForQuestionAnswering", {}, "answer_span", "span"),
        ("BertForMultipleChoice", {}, "multiple_choice", "choice"),
        ("BertLMHeadModel", {"is_decoder": True}, "masked_lm", None),
    ],
)
def test_scores_of_further_classes(
    make: Any,
    sequences: list[Example],
    theirs: Theirs,
    name: str,
    settings: dict[str, Any],
    head: str,
    task: str | None,
) -> None:
    folder, reference = make(Relative(name, settings))
    ours = load_model(folder)
    assert list(ours.model.heads) == [head]
    assert (ours.task or {}).get("kind") == task
    batch, inputs = pad(sequences, pad_id=0), theirs(sequences)
    mask = batch.attention_mask
    with torch.inference_mode():
        output = ours.model(batch)
        hidden = output.streams["tokens"][mask]
        scores: Any = ours.model.heads[head]
        if head == "multiple_choice":
            expected = reference(**{key: value[None] for key, value in inputs.items()}).logits[0]
            found = scores(output.pooled)[:, 0]
        elif head == "answer_span":
            answer = reference(**inputs)
            expected = torch.stack([answer.start_logits[mask], answer.end_logits[mask]], 1)
            found = scores(hidden)
        else:
            expected = reference(**inputs).logits[mask]
            found = scores(hidden, ours.model.encoder.token_table.weight) if head == "masked_lm" else scores(hidden)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_weights_in_several_files(make: Any, tmp_path: Path, sequences: list[Example], theirs: Theirs) -> None:
    folder, reference = make(Relative())
    (folder / "model.safetensors").unlink()
    reference.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert not (folder / "model.safetensors").exists()
    assert_same_states(folder, reference, sequences, theirs)


MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


@pytest.mark.parametrize("mode", MODES)
def test_every_pooling_of_sentence_transformers(make: Any, tmp_path: Path, texts: tuple[str, ...], mode: str) -> None:
    """Both layouts of sentence-transformers are read, and what we write is read by it: one vector, three ways."""
    old, _ = make(Relative(sentence=("Pooling", "Normalize"), pooling=mode))
    reference = SentenceTransformer(str(old), device="cpu")
    expected = reference.encode(list(texts))
    reference.save(str(tmp_path / "new"))
    assert "pooling_mode" in json.loads((tmp_path / "new/1_Pooling/config.json").read_text(encoding="utf-8"))
    for folder in (old, tmp_path / "new"):
        np.testing.assert_allclose(vectors(folder, texts), expected, atol=1e-5)
    convert(tmp_path / "new", tmp_path / "ours", to="st")
    assert describe(tmp_path / "ours")["tokenizer"]["max_length"] == 50
    again = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert again.max_seq_length == 50
    np.testing.assert_allclose(again.encode(list(texts)), expected, atol=1e-5)


DENSE = {"in_features": 24, "out_features": 24, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}


@pytest.fixture
def labse(make: Any) -> Path:
    """A dense layer behind [CLS], as LaBSE has it: BERT's pooler, in a folder of its own. The other pooler is not used."""
    folder, _ = make(Relative(sentence=("Pooling", "Dense", "Normalize"), pooling="cls_token"))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(json.dumps(DENSE), encoding="utf-8")
    generator = torch.Generator().manual_seed(8)
    layer = {
        "linear.weight": torch.randn(24, 24, generator=generator),
        "linear.bias": torch.randn(24, generator=generator),
    }
    save_file(layer, folder / "2_Dense" / "model.safetensors")
    return folder


def test_labse(labse: Path, tmp_path: Path, texts: tuple[str, ...]) -> None:
    reference = SentenceTransformer(str(labse), device="cpu")
    assert [type(module).__name__ for module in reference] == ["Transformer", "Pooling", "Dense", "Normalize"]
    expected = reference.encode(list(texts))
    assert load_model(labse).pooling == nn.PoolerPooling()
    np.testing.assert_allclose(load(labse).embed(texts), expected, atol=1e-5)
    reference.save(str(tmp_path / "new"))
    np.testing.assert_allclose(load(tmp_path / "new").embed(texts), expected, atol=1e-5)
    done = convert(labse, tmp_path / "ours", to="st")
    assert "tensors that the model does not use: pooler.dense.bias, pooler.dense.weight" in done.left_out
    np.testing.assert_allclose(load(tmp_path / "ours").embed(texts), expected, atol=1e-5)
    written = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(written.encode(list(texts)), expected, atol=1e-5)
    weights = labse / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"2_Dense: it has only pytorch_model\.bin"):
        load_model(labse)
    convert(labse, tmp_path / "again", to="st")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "ours" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_features": 12}, "is no pooler of BERT"),
        ({"bias": False}, "bias is False"),
        ({"use_residual": True}, "use_residual is True"),
        (
            {"activation_function": "torch.nn.modules.linear.Identity"},
            "activation_function is 'torch.nn.modules.linear",
        ),
        ({"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings'"),
    ],
)
def test_other_dense_layers_are_refused(labse: Path, changes: dict[str, Any], message: str) -> None:
    edit(labse / "2_Dense" / "config.json", changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(labse)


def test_one_pooler_cannot_be_two(labse: Path) -> None:
    edit(labse / "config.json", {"architectures": ["BertForNextSentencePrediction"]})
    with pytest.raises(CheckpointError, match="its heads and its dense layer need a pooler each"):
        load_model(labse)


def vectors(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    ours = load_model(folder)
    examples = []
    for text in texts:
        encoding = ours.tokenizer.encode(text, special_tokens=True, max_length=ours.tokenizer.max_length)
        examples.append(Example({"input_ids": np.array(encoding.ids), "token_type_ids": np.array(encoding.type_ids)}))
    batch = pad(examples, pad_id=0)
    with torch.inference_mode():
        found = ours.pooling.of(ours.model(batch), batch)
    assert ours.normalize
    return torch.nn.functional.normalize(found).numpy()
