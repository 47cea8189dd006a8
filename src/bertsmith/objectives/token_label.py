"""Fine-tuning objectives for the tokens of a text: a label for each word, and an answer from here to there."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from bertsmith.config import require
from bertsmith.data import Batch
from bertsmith.nn import Head, Model, Output, SpanHead, TokenHead
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.objective import Loss, Objective, View


@dataclass(frozen=True, kw_only=True)
class TokenLabel(Objective, kind="token_label"):
    """Choose one label for each word, by the hidden state of its first token (Devlin et al. 2018, §5.3).

    Labels: `labels` (rows, length), 0 to num_labels - 1 at the first token of each word and IGNORE_INDEX elsewhere.
    Loss: negative log-likelihood of the label, summed over words.
    """

    needs: ClassVar[tuple[str, ...]] = ("labels",)
    num_labels: int
    dropout: float = 0.1
    weight: float = 1.0
    view: View = View()

    def __post_init__(self) -> None:
        require(self.num_labels >= 2, "num_labels", f"expected at least 2, got {self.num_labels}")

    def head(self) -> Head.Config:
        return TokenHead.Config(num_labels=self.num_labels, dropout=self.dropout)

    def count(self, inputs: Batch) -> int:
        return len(inputs.label_positions)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        positions = inputs.label_positions
        scores = cast(TokenHead, model.heads[self.kind])(output.at(positions))
        return negative_log_likelihood(scores.float(), inputs["labels"].flatten()[positions])


@dataclass(frozen=True, kw_only=True)
class AnswerSpan(Objective, kind="answer_span"):
    """Say at which token of a sequence the answer begins and at which it ends (Devlin et al. 2018, §4.2, §4.3).

    Labels: `start` and `end` for each sequence, indices of tokens in it; both 0, which is [CLS], where there is no answer.
    Loss: half the negative log-likelihood of the start and half that of the end among the sequence's tokens, summed over
    sequences. `correct` counts those with both right.
    """

    needs: ClassVar[tuple[str, ...]] = ("start", "end")
    weight: float = 1.0
    view: View = View()

    def head(self) -> Head.Config:
        return SpanHead.Config()

    def count(self, inputs: Batch) -> int:
        return len(inputs.starts)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        scores = cast(SpanHead, model.heads[self.kind])(output.at(inputs.token_positions)).float()
        starts, ends = (self._table(scores[:, i], inputs) for i in (0, 1))
        begins = negative_log_likelihood(starts, inputs.targets["start"])
        stops = negative_log_likelihood(ends, inputs.targets["end"])
        both = (starts.argmax(1) == inputs.targets["start"]) & (ends.argmax(1) == inputs.targets["end"])
        return Loss((begins.total + stops.total) / 2, begins.count, both.sum())

    def _table(self, scores: Tensor, inputs: Batch) -> Tensor:
        """One row a sequence, -inf behind its end: (sequences, length of a packed row)."""
        count, row = inputs.num_sequences, inputs["position_ids"].shape[1]
        numbers = torch.arange(count, device=scores.device)
        sequence = numbers.repeat_interleave(inputs.lengths, output_size=inputs.num_tokens)
        place = inputs["position_ids"].flatten()[inputs.token_positions]
        return scores.new_full((count, row), float("-inf")).index_put((sequence, place), scores)
