"""One graph from tokens to vectors or scores: onnxruntime computes what we compute, for texts of any length."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, convert
from bertsmith.checkpoints.onnx_folder import check, write
from bertsmith.checkpoints.onnx_graph import Graph, export, pool_rows
from bertsmith.data import Example, pad
from bertsmith.errors import CheckpointError, MissingExtra, UsageError

Make = Callable[..., Checkpoint]
WITHOUT_ROWS = ("pooler", "mean_text", "mean_max")
POOLINGS = [kind() for name, kind in nn.Pooling.kinds().items() if name not in WITHOUT_ROWS]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_are_pooled_as_sequences_are(pooling: nn.Pooling) -> None:
    examples = [Example({"input_ids": np.arange(n), "token_type_ids": np.zeros(n, np.int64)}) for n in (3, 7, 1)]
    batch = pad(examples, pad_id=0)
    hidden = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1))
    found = pool_rows(pooling, hidden, batch.attention_mask.long())
    torch.testing.assert_close(found, pooling(hidden, batch))


@pytest.mark.parametrize("name", WITHOUT_ROWS)
def test_a_pooling_without_rows_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"Pooling by '{name}' has no ONNX form"):
        pool_rows(nn.Pooling.kinds()[name](), torch.zeros(1, 1, 1), torch.ones(1, 1))  # pyright: ignore[reportArgumentType]


def test_a_tokenizer_gives_what_the_graph_takes(tmp_path: Path) -> None:
    """A graph without segments is not handed any."""
    convert("small-english", tmp_path / "onnx", to="onnx")
    settings = json.loads((tmp_path / "onnx" / "tokenizer_config.json").read_text(encoding="utf-8"))
    graph = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert settings["model_input_names"] == [given.name for given in graph.get_inputs()]


def test_vectors(tmp_path: Path, checkpoint: Make, config: Callable[..., nn.Model.Config]) -> None:
    (group,) = config().encoder.layers
    parts = {"pooling": nn.WeightedMeanPooling(), "normalize": True}
    ours = checkpoint(parts, layers=(nn.Layers(count=1, block=group.block),))
    checked = write(tmp_path, ours, None)
    assert checked.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert checked.outputs == ("sentence_embedding", "last_hidden_state")
    assert checked.texts == 10
    assert 0 < checked.max_difference < 1e-5
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes == {
        **{name: ["batch", "sequence"] for name in checked.inputs},
        "sentence_embedding": ["batch", 12],
        "last_hidden_state": ["batch", "sequence", 12],
    }
    assert {entry.key: entry.value for entry in graph.metadata_props} == {
        "pooling": "weightedmean",
        "normalize": "true",
    }
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    one = {"input_ids": np.full((2, 5), 7), "attention_mask": mask, "token_type_ids": np.zeros((2, 5), np.int64)}
    other = one | {"input_ids": np.where(mask, 7, 30)}  # the same texts, with other junk in the padding
    vectors, again = (session.run(["sentence_embedding"], inputs)[0] for inputs in (one, other))
    np.testing.assert_allclose(vectors, again, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert {file.name for file in tmp_path.iterdir()} >= {
        *("config.json", "modules.json", "vocab.txt", "tokenizer.json", "sentence_bert_config.json"),
    }

    with torch.no_grad():  # a graph that is not this model's is found out
        ours.model.get_parameter("encoder.blocks.0.attention.output.bias")[0] += 0.01
    with pytest.raises(CheckpointError, match=r"onnxruntime gives a sentence_embedding that is \S+ from ours"):
        check(tmp_path / "model.onnx", Graph(ours, None), ours)


HEADS = {
    "masked_lm": (nn.MaskedLMHead.Config(), ("logits",)),
    "answer_span": (nn.SpanHead.Config(), ("start_logits", "end_logits")),
    "token_label": (nn.TokenHead.Config(num_labels=3), ("logits",)),
    "sequence_label": (nn.SequenceHead.Config(num_labels=3), ("logits",)),
    "next_sentence": (nn.SequenceHead.Config(num_labels=2), ("logits",)),
}


@pytest.mark.slow  # of which the exporter takes some seconds for each
@pytest.mark.parametrize("head", list(HEADS))
def test_heads(tmp_path: Path, checkpoint: Make, head: str) -> None:
    config, outputs = HEADS[head]
    ours = checkpoint(heads={head: config}, pooler=head in ("sequence_label", "next_sentence"))
    checked = write(tmp_path, ours, head)
    assert checked.outputs == outputs
    assert 0 < checked.max_difference < 1e-5
    assert not (tmp_path / "modules.json").exists()


def test_what_cannot_be_exported(tmp_path: Path, checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no head 'sentiment'. Allowed: masked_lm, next_sentence"):
        export(checkpoint(), "sentiment", tmp_path / "model.onnx")
    for package in ("onnx", "onnxscript"):
        with monkeypatch.context() as context:
            context.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtra, match=rf"the package {package}.*pip install 'bertsmith\[onnx\]'"):
                export(checkpoint(), None, tmp_path / "model.onnx")
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtra, match="the package onnxruntime"):
            check(tmp_path / "model.onnx", Graph(checkpoint(), None), checkpoint())
    assert not list(tmp_path.iterdir())
