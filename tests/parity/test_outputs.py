"""All outputs equal those of transformers within 1e-5 in float32, padded, packed or alone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.data import Batch, Example, pack

LayOut = Callable[[list[Example]], list[Batch]]
Theirs = Callable[[list[Example]], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def minilm(minilm_path: Path) -> Checkpoint:
    return load_model(minilm_path)


@pytest.fixture(scope="module")
def ours(base: Any) -> Checkpoint:
    return load_model(base.folder)


@torch.inference_mode()
def hidden_states(checkpoint: Checkpoint, batches: list[Batch]) -> list[torch.Tensor]:
    """For each sequence (layers + 1, seq, hidden), in the order of the examples."""
    found = []
    for batch in batches:
        encoder = checkpoint.model.encoder
        layers = torch.stack([s["tokens"].flatten(0, 1) for s in encoder.layers(batch, encoder.apply_masks(batch))])
        found += [
            layers[:, start : start + n] for start, n in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)
        ]
    return found


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_real_weights(
    minilm: Checkpoint, minilm_path: Path, texts: tuple[str, ...], lay_out: LayOut, theirs: Theirs
) -> None:
    encodings = [minilm.tokenizer.encode(text, special_tokens=True) for text in texts]
    encodings.append(minilm.tokenizer.encode(texts[0], texts[1], special_tokens=True))
    examples = [
        Example({"input_ids": torch.tensor(e.ids).numpy(), "token_type_ids": torch.tensor(e.type_ids).numpy()})
        for e in encodings
    ]
    reference = transformers.BertModel.from_pretrained(minilm_path).eval()
    with torch.inference_mode():
        expected = reference(**theirs(examples), output_hidden_states=True)
        pooled = torch.cat([minilm.model(batch).pooled for batch in lay_out(examples)])
    assert len(expected.hidden_states) == 7
    for i, found in enumerate(hidden_states(minilm, lay_out(examples))):
        assert_near(found, torch.stack(expected.hidden_states)[:, i, : len(examples[i])])
    assert_near(pooled, expected.pooler_output)


def test_random_base_weights(ours: Checkpoint, base: Any, sequences: list[Example], lay_out: LayOut) -> None:
    """12 layers of 768: every hidden state, the pooler, and the scores of both heads."""
    model = ours.model
    assert set(model.heads) == {"masked_lm", "next_sentence"}
    batches = lay_out(sequences)
    for i, found in enumerate(hidden_states(ours, batches)):
        assert len(found) == 13
        assert_near(found, base.hidden_states[:, i, : len(sequences[i])])
    i = 0
    with torch.inference_mode():
        for batch in batches:
            output = model(batch)
            assert_near(output.pooled, base.pooled[i : i + batch.num_sequences])
            assert_near(model.heads["next_sentence"](output.pooled), base.pair_scores[i : i + batch.num_sequences])
            table = model.encoder.token_table.weight
            for start, length in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True):
                scores = model.heads["masked_lm"](output.at(torch.arange(start, start + length)), table)
                assert scores.shape == (length, 30522)
                assert_near(scores, base.lm_scores[i, :length])
                i += 1
    assert i == len(sequences)


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize(
    ("settings", "head", "task"),
    [
        ({"num_labels": 5}, "sequence_label", {"kind": "classify", "labels": [f"LABEL_{i}" for i in range(5)]}),
        ({"num_labels": 1}, "sequence_score", {"kind": "regress"}),
        (
            {"id2label": {0: "sad", 1: "glad", 2: "mad"}, "problem_type": "multi_label_classification"},
            "multi_label",
            {"kind": "multilabel", "labels": ["sad", "glad", "mad"]},
        ),
    ],
)
def test_sequence_classification(
    minilm_path: Path,
    tmp_path: Path,
    sequences: list[Example],
    lay_out: LayOut,
    theirs: Theirs,
    random_model: Callable[..., torch.nn.Module],
    act: str,
    settings: dict[str, Any],
    head: str,
    task: dict[str, Any],
) -> None:
    reference = random_model("BertForSequenceClassification", hidden_act=act, layer_norm_eps=1e-5, **settings)
    reference.save_pretrained(tmp_path)
    shutil.copy(minilm_path / "vocab.txt", tmp_path)
    ours = load_model(tmp_path)
    assert list(ours.model.heads) == [head]
    assert ours.task == task
    with torch.inference_mode():
        expected = reference(**theirs(sequences)).logits
        scores = [ours.model.heads[head](ours.model(batch).pooled) for batch in lay_out(sequences)]
    assert_near(torch.cat(scores), expected)


@pytest.mark.parametrize(
    ("name", "heads", "pooler"),
    [
        ("BertModel", set(), True),
        ("BertForMaskedLM", {"masked_lm"}, False),
        ("BertForNextSentencePrediction", {"next_sentence"}, True),
        ("BertForPreTraining", {"masked_lm", "next_sentence"}, True),
    ],
)
def test_every_class_that_is_read(
    minilm_path: Path,
    tmp_path: Path,
    sequences: list[Example],
    theirs: Theirs,
    random_model: Callable[..., torch.nn.Module],
    name: str,
    heads: set[str],
    pooler: bool,
) -> None:
    reference = random_model(name)
    reference.save_pretrained(tmp_path)
    shutil.copy(minilm_path / "vocab.txt", tmp_path)
    ours = load_model(tmp_path).model
    assert set(ours.heads) == heads
    assert (ours.pooler is not None) == pooler
    batch = pack(sequences, length=50, pad_id=0)
    encoder = getattr(reference, "bert", reference)
    with torch.inference_mode():
        expected = encoder(**theirs(sequences)).last_hidden_state
        found = ours.encoder(batch)["tokens"].flatten(0, 1)
    for i, start in enumerate(batch.starts.tolist()):
        assert_near(found[start : start + len(sequences[i])], expected[i, : len(sequences[i])])
