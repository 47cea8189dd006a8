"""From the vectors of a sequence's tokens to one vector for the sequence."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertsmith.config import Part
from bertsmith.data import Batch
from bertsmith.nn.linear import Linear


class Pooler(nn.Module):
    """BERT's pooler: tanh(W h[CLS] + b), trained by next-sentence prediction (google-research/bert modeling.py)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)

    def forward(self, hidden: Tensor, inputs: Batch) -> Tensor:
        """`hidden` (rows, length, hidden) -> one vector a sequence, (sequences, hidden)."""
        return torch.tanh(self.dense(hidden.flatten(0, 1).index_select(0, inputs.starts)))


class Pooling(Part):
    """A way without weights from token vectors to one vector a sequence."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        """`hidden` (rows, length, hidden) -> (sequences, hidden), float32, in the order of the batch's sequences."""
        raise NotImplementedError


@dataclass(frozen=True)
class MeanPooling(Pooling, kind="mean"):
    """The mean over all tokens of the sequence, [CLS] and [SEP] included, as sentence-transformers computes it."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        flat = hidden.flatten(0, 1).float()
        lengths = inputs.lengths
        sequence = torch.repeat_interleave(torch.arange(len(lengths), device=flat.device), lengths)
        within = torch.arange(len(sequence), device=flat.device) - (lengths.cumsum(0) - lengths)[sequence]
        tokens = flat[inputs.starts[sequence] + within]
        total = torch.zeros(len(lengths), flat.shape[1], device=flat.device).index_add_(0, sequence, tokens)
        return total / lengths[:, None]


@dataclass(frozen=True)
class ClsPooling(Pooling, kind="cls"):
    """The vector of the first token, [CLS]."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        return hidden.flatten(0, 1)[inputs.starts].float()
