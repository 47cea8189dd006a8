"""A model as one ONNX graph: token ids in, and out comes what the model is for.

What is traced is the model's own encoder and heads, over rows with one sequence each. Only pooling is written a second time,
for rows of one length: what `bertsmith.nn.pooling` does for packed rows has no fixed shape. Batch size and length are free.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.data import Batch
from bertsmith.errors import CheckpointError, MissingExtra, UsageError, nearest
from bertsmith.nn import (
    ClsPooling,
    LastTokenPooling,
    Lookup,
    MaskedLMHead,
    MaxPooling,
    MeanPooling,
    Output,
    PoolerPooling,
    Pooling,
    RootMeanPooling,
    SpanHead,
    TokenHead,
    WeightedMeanPooling,
)

# Protocol buffers hold 2 GiB; larger weights lie in a file beside the graph.
_MOST_BYTES_IN_ONE_FILE = 2**31 - 2**24


class Graph(nn.Module):
    """What is exported: `forward` takes int64 (batch, sequence) tensors in the order of `inputs`, and gives `outputs`.

    With the name of a `head`, its scores: `logits`, (batch, labels) or (batch, sequence, labels or vocab), or for answer
    spans `start_logits` and `end_logits`, (batch, sequence). Without, `sentence_embedding` (batch, hidden), pooled and
    normalized as the checkpoint says, and `last_hidden_state` (batch, sequence, hidden).
    """

    def __init__(self, checkpoint: Checkpoint, head: str | None) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.pooling, self.normalize = checkpoint.pooling, checkpoint.normalize
        self.head = head
        if head is not None and head not in self.model.heads:
            raise UsageError(f"This model has no head {head!r:.80}.{nearest(head, self.model.heads)}")
        channels = self.model.config.encoder.channels["tokens"]
        segments = any(isinstance(c, Lookup.Config) and c.field == "token_type_ids" for c in channels)
        self.inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if segments else []))
        self.outputs = self._outputs()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.inputs, inputs, strict=True))
        batch = _one_a_row(given["input_ids"], given["attention_mask"], given.get("token_type_ids"))
        output = self.model(batch)
        if self.head is not None:
            return self._scores(output, self.model.heads[self.head])
        hidden = output.streams["tokens"]
        pooled = isinstance(self.pooling, PoolerPooling)
        vectors = output.pooled if pooled else pool_rows(self.pooling, hidden, given["attention_mask"])
        return F.normalize(vectors) if self.normalize else vectors, hidden

    def _outputs(self) -> tuple[str, ...]:
        if self.head is None:
            return "sentence_embedding", "last_hidden_state"
        return ("start_logits", "end_logits") if isinstance(self.model.heads[self.head], SpanHead) else ("logits",)

    def _scores(self, output: Output, head: nn.Module) -> tuple[Tensor, ...]:
        hidden = output.streams["tokens"]
        if isinstance(head, MaskedLMHead):
            return (head(hidden, self.model.encoder.token_table.weight),)
        if isinstance(head, SpanHead):
            return head(hidden).unbind(-1)
        return (head(hidden if isinstance(head, TokenHead) else output.pooled),)


def pool_rows(pooling: Pooling, hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """What `pooling` does, for one sequence a row: `hidden` (batch, sequence, hidden) -> (batch, hidden).

    Raises:
        CheckpointError: this pooling has no form for rows.
    """
    if isinstance(pooling, ClsPooling):
        return hidden[:, 0]
    lengths = attention_mask.sum(1, keepdim=True).clamp(min=1).to(hidden.dtype)
    if isinstance(pooling, LastTokenPooling):
        last = (attention_mask.sum(1) - 1).clamp(min=0)
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]
    mask = attention_mask[..., None].to(hidden.dtype)
    if isinstance(pooling, MeanPooling):
        return (hidden * mask).sum(1) / lengths
    if isinstance(pooling, RootMeanPooling):
        return (hidden * mask).sum(1) / lengths.sqrt()
    if isinstance(pooling, WeightedMeanPooling):
        return (hidden * mask * mask.cumsum(1)).sum(1) / (lengths * (lengths + 1) / 2)
    if isinstance(pooling, MaxPooling):
        return hidden.masked_fill(attention_mask[..., None] == 0, float("-inf")).amax(1)
    raise CheckpointError(f"Pooling by {pooling.kind!r} has no ONNX form.")


def export(checkpoint: Checkpoint, head: str | None, file: Path) -> Graph:
    """Write the graph of `checkpoint` and say what it takes and gives. It stays on the CPU, in float32.

    Raises:
        MissingExtra: onnx or onnxscript is not installed.
        UsageError: the model has no such head.
        CheckpointError: a part of the model has no ONNX form.
    """
    for package in ("onnx", "onnxscript"):
        _require(package)
    graph = Graph(checkpoint, head).eval()
    longest = min(graph.model.config.encoder.max_length, 1 << 20)
    # The traced batch is ragged, and neither of its sizes is 0 or 1, which would be taken for constants.
    rows, length = 2, min(5, longest)
    inputs = [torch.ones(rows, length, dtype=torch.int64) for _ in graph.inputs]
    inputs[1][1, length - 1 :] = 0
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("sequence", min=1, max=longest)}
    weights = sum(parameter.numel() * 4 for parameter in graph.parameters())
    with _quietly():
        program = torch.onnx.export(
            graph,
            tuple(inputs),
            dynamo=True,
            dynamic_shapes=(tuple(axes for _ in inputs),),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(_metadata(checkpoint, graph))
        program.save(file, external_data=weights > _MOST_BYTES_IN_ONE_FILE)
    return graph


def _metadata(checkpoint: Checkpoint, graph: Graph) -> Mapping[str, str]:
    if graph.head is not None:
        return {"head": graph.head}
    return {"pooling": checkpoint.pooling.kind, "normalize": str(checkpoint.normalize).lower()}


def _one_a_row(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Batch:
    """Rows of one sequence each as a batch. It always says that it has padding: the mask is an input of the graph."""
    rows, length = input_ids.shape
    position_ids = torch.arange(length, device=input_ids.device).expand(rows, length)
    fields = {"input_ids": input_ids, "position_ids": position_ids, "sequence_ids": attention_mask}
    return Batch(
        fields=fields if token_type_ids is None else fields | {"token_type_ids": token_type_ids},
        starts=torch.arange(rows, device=input_ids.device) * length,
        lengths=attention_mask.sum(1),
        label_positions=input_ids.new_empty(0),
        one_sequence_per_row=True,
        has_padding=True,
    )


def _require(package: str) -> None:
    try:
        __import__(package)
    except ImportError:
        raise MissingExtra(package, "onnx") from None


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter talks of its own affairs: of torchvision, of names of axes, of what it will deprecate."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
