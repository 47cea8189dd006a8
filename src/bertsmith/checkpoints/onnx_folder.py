"""A folder for onnxruntime: the graph, the tokenizer, and the settings that readers of such folders look for.

Written, then run: nothing is published before onnxruntime has given our own numbers for ragged batches.
"""

from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.forms import form_of
from bertsmith.checkpoints.json_objects import write_object
from bertsmith.checkpoints.onnx_graph import Graph, export
from bertsmith.checkpoints.sentence_transformers import write_sentence_model
from bertsmith.checkpoints.source import most_positions
from bertsmith.data import Example, pack
from bertsmith.errors import CheckpointError, MissingExtra
from bertsmith.nn import MaskedLMHead, SpanHead, TokenHead

FILE_NAME = "model.onnx"

TOLERANCE = 1e-4
"""How far a number of onnxruntime's may be from ours; times the largest of a text's numbers where that is above 1."""

# Lengths of the texts with which a graph is tried, in batches of 1, 2, 3 and 4; those beyond the model are cut.
_LENGTHS = ((2,), (1, 7), (3, 130, 4), (33, 2, 64, 17))


@dataclass(frozen=True)
class Checked:
    """What came of running a graph: the largest difference from our own numbers, and of how many texts."""

    max_difference: float
    texts: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def write(folder: Path, checkpoint: Checkpoint, head: str | None) -> Checked:
    """Write the graph for `head`, or for vectors, and what belongs to it, into `folder`, which is empty; and run it.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        UsageError: the model has no such head.
        CheckpointError: the model has no ONNX form, or onnxruntime gives other numbers.
    """
    graph = export(checkpoint, head, folder / FILE_NAME)
    checked = check(folder / FILE_NAME, graph, checkpoint)
    config = checkpoint.model.config
    tokenizer = copy(checkpoint.tokenizer)
    tokenizer.max_length = min(tokenizer.max_length, most_positions(config.encoder) or tokenizer.max_length)
    form = form_of(config)
    tokenizer.save(folder, inputs=form and form.inputs)
    if form is not None:
        labels = (checkpoint.task or {}).get("labels")
        names = tuple(labels) if labels else None
        write_object(folder / "config.json", form.write_config(config, names, tokenizer.vocabulary))
    if head is None:
        write_sentence_model(
            folder,
            checkpoint.pooling,
            normalize=checkpoint.normalize,
            model=checkpoint.model,
            max_length=tokenizer.max_length,
            settings=checkpoint.sentence,
        )
    return checked


@torch.inference_mode()
def check(file: Path, graph: Graph, checkpoint: Checkpoint) -> Checked:
    """Run `file` with onnxruntime on ragged batches, and compare with what the model computes for the same texts packed.

    Raises:
        MissingExtra: onnxruntime is not installed.
        CheckpointError: a number differs by more than `TOLERANCE`.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(2018)
    longest = min(checkpoint.tokenizer.max_length, checkpoint.model.config.encoder.max_length)
    worst, texts = 0.0, 0
    for lengths in _LENGTHS:
        examples = [_example(random, checkpoint, min(length, longest)) for length in lengths]
        found = session.run(list(graph.outputs), _padded(examples, graph.inputs))
        expected = _ours(graph, checkpoint, examples)
        for name, theirs, ours in zip(graph.outputs, found, expected, strict=True):
            for row, wanted in zip(np.asarray(theirs), ours, strict=True):
                difference = float(np.abs(row[: len(wanted)] - wanted).max())
                if not difference <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):  # NaN is no agreement
                    raise CheckpointError(
                        f"{file}: onnxruntime gives a {name} that is {difference:.2g} from ours, more than {TOLERANCE}. "
                        "Nothing is written; another version of onnxruntime or torch may agree."
                    )
                worst = max(worst, difference)
        texts += len(lengths)
    return Checked(worst, texts, graph.inputs, graph.outputs)


def _example(random: np.random.Generator, checkpoint: Checkpoint, length: int) -> Example:
    ids = random.integers(0, len(checkpoint.tokenizer.vocabulary), length)
    return Example({"input_ids": ids, "token_type_ids": (np.arange(length) >= (length + 1) // 2).astype(np.int64)})


def _padded(examples: list[Example], inputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What onnxruntime is given: rows of one length, and junk where the mask says that nothing is."""
    shape = (len(examples), max(map(len, examples)))
    padded = {name: np.ones(shape, np.int64) for name in inputs}
    padded["attention_mask"][:] = 0
    for row, example in enumerate(examples):
        padded["attention_mask"][row, : len(example)] = 1
        for name in set(inputs) - {"attention_mask"}:
            padded[name][row, : len(example)] = example.tokens[name]
    return padded


def _ours(graph: Graph, checkpoint: Checkpoint, examples: list[Example]) -> list[list[np.ndarray]]:
    """For each output of the graph, what the model itself gives for each example: packed, without its own padding."""
    model = checkpoint.model.eval()
    batch = pack(examples, length=sum(map(len, examples)) + 3, pad_id=checkpoint.tokenizer.vocabulary.pad_id)
    output = model(batch)
    tokens = torch.cat([torch.arange(len(e)) + start for e, start in zip(examples, batch.starts.tolist(), strict=True)])
    bounds = [0, *np.cumsum([len(example) for example in examples]).tolist()]

    def by_example(values: torch.Tensor) -> list[np.ndarray]:
        return [values[start:end].numpy() for start, end in pairwise(bounds)]

    hidden = output.at(tokens)
    if graph.head is None:
        vectors = checkpoint.pooling.of(output, batch)
        vectors = torch.nn.functional.normalize(vectors) if checkpoint.normalize else vectors
        return [list(vectors.numpy()), by_example(hidden)]
    head: Any = model.heads[graph.head]
    if isinstance(head, MaskedLMHead):
        return [by_example(head(hidden, model.encoder.token_table.weight))]
    if isinstance(head, SpanHead):
        return [by_example(scores) for scores in head(hidden).unbind(-1)]
    return [by_example(head(hidden))] if isinstance(head, TokenHead) else [list(head(output.pooled).numpy())]
