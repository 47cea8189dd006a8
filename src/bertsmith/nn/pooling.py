"""From the vectors of a sequence's tokens to one vector for the sequence."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.data import Batch
from bertsmith.nn.linear import Linear

if TYPE_CHECKING:
    from bertsmith.nn.model import Output


class Pooler(nn.Module):
    """BERT's pooler: tanh(W h + b) of a sequence's own state h, [CLS]'s (google-research/bert modeling.py)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        """(sequences, hidden) -> (sequences, hidden)."""
        return torch.tanh(self.dense(states))


class Pooling(Part):
    """A way without weights from token vectors to one vector a sequence."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        """`hidden` (rows, length, hidden) -> (sequences, hidden), float32, in the order of the batch's sequences."""
        raise NotImplementedError

    def of(self, output: "Output", inputs: Batch) -> Tensor:
        """The same, from all that a model gives."""
        return self(output.streams["tokens"], inputs)

    def size(self, hidden_size: int) -> int:
        """How many numbers the vector has."""
        return hidden_size


@dataclass(frozen=True)
class MeanPooling(Pooling, kind="mean"):
    """The mean over all tokens of the sequence, [CLS] and [SEP] included, as sentence-transformers computes it."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        if inputs.runs:
            flat = hidden.flatten(0, 1).float()
            means = torch.cat(
                [flat[s : s + n * length].unflatten(0, (n, length)).mean(1) for s, n, length in inputs.runs]
            )
            return means if len(means) == 1 else means[inputs.starts.argsort().argsort()]  # from their order in the row
        tokens, sequence, _ = _tokens(hidden, inputs)
        return _sums(tokens, sequence, inputs) / inputs.lengths[:, None]


@dataclass(frozen=True)
class TextMeanPooling(Pooling, kind="mean_text"):
    """The mean over the tokens of the text, without [CLS] and [SEP] (bert-as-service's -mask_cls_sep); 0 where it has none.

    The batch's field `special_tokens` says by True which tokens do not count.
    """

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        tokens, sequence, _ = _tokens(hidden, inputs)
        counted = ~inputs["special_tokens"].flatten()[inputs.token_positions]
        counts = torch.zeros(inputs.num_sequences, device=tokens.device).index_add_(0, sequence, counted.float())
        return _sums(tokens * counted[:, None], sequence, inputs) / counts.clamp(min=1)[:, None]


@dataclass(frozen=True)
class RootMeanPooling(Pooling, kind="mean_sqrt_len_tokens"):
    """The sum over all tokens, divided by the root of their number."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        tokens, sequence, _ = _tokens(hidden, inputs)
        return _sums(tokens, sequence, inputs) / inputs.lengths[:, None].sqrt()


@dataclass(frozen=True)
class WeightedMeanPooling(Pooling, kind="weightedmean"):
    """The mean in which the n-th token of the sequence counts n times (Muennighoff 2022, arXiv 2202.08904, §3)."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        tokens, sequence, place = _tokens(hidden, inputs)
        total = _sums(tokens * (place + 1)[:, None], sequence, inputs)
        return total / (inputs.lengths * (inputs.lengths + 1) / 2)[:, None]


@dataclass(frozen=True)
class MaxPooling(Pooling, kind="max"):
    """The largest value of any token of the sequence, for each number of the vector by itself."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        tokens, sequence, _ = _tokens(hidden, inputs)
        lowest = tokens.new_full((inputs.num_sequences, tokens.shape[1]), float("-inf"))
        return lowest.scatter_reduce(0, sequence[:, None].expand_as(tokens), tokens, "amax")


@dataclass(frozen=True)
class MeanMaxPooling(Pooling, kind="mean_max"):
    """The mean and the largest values side by side, twice as long (bert-as-service's REDUCE_MEAN_MAX)."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        return torch.cat([MeanPooling()(hidden, inputs), MaxPooling()(hidden, inputs)], -1)

    def size(self, hidden_size: int) -> int:
        return 2 * hidden_size


@dataclass(frozen=True)
class ClsPooling(Pooling, kind="cls"):
    """The vector of the first token, [CLS]."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        return hidden.flatten(0, 1)[inputs.starts].float()


@dataclass(frozen=True)
class LastTokenPooling(Pooling, kind="lasttoken"):
    """The vector of the last token, [SEP]."""

    def __call__(self, hidden: Tensor, inputs: Batch) -> Tensor:
        return hidden.flatten(0, 1)[inputs.starts + inputs.lengths - 1].float()


@dataclass(frozen=True)
class PoolerPooling(Pooling, kind="pooler"):
    """What the model's own pooler makes of [CLS]. It has weights, so there is nothing to be had from token vectors alone."""

    def of(self, output: "Output", inputs: Batch) -> Tensor:
        require(output.pooled is not None, "pooling", "the model has no pooler, whose vector is asked for")
        return cast(Tensor, output.pooled).float()


def _tokens(hidden: Tensor, inputs: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """All tokens, sequence by sequence: vectors in float32 (tokens, hidden), number of the sequence, place in it from 0."""
    flat, lengths = hidden.flatten(0, 1).float(), inputs.lengths
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=flat.device), lengths)
    place = torch.arange(len(sequence), device=flat.device) - (lengths.cumsum(0) - lengths)[sequence]
    return flat[inputs.starts[sequence] + place], sequence, place


def _sums(tokens: Tensor, sequence: Tensor, inputs: Batch) -> Tensor:
    """(sequences, hidden)."""
    return torch.zeros(inputs.num_sequences, tokens.shape[1], device=tokens.device).index_add_(0, sequence, tokens)
