"""Masked language modelling (Devlin et al. 2018, §3.1, task 1)."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from bertsmith.data import Batch
from bertsmith.nn import Head, MaskedLMHead, Model, Output
from bertsmith.nn.feed_forward import Activation
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.objective import Loss, Objective, View

_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class MaskedLM(Objective, kind="masked_lm"):
    """Predict the tokens that the masking policy chose.

    Labels: `labels` (rows, length), the original token id at each chosen position and IGNORE_INDEX elsewhere.
    Loss: the negative log-likelihood of the original token, summed over the chosen positions: the paper's L1.
    Relations: the same loss serves a causal or a permutation model, whose labels and views differ.
    """

    needs: ClassVar[tuple[str, ...]] = ("labels",)
    weight: float = 1.0
    view: View = View()
    stream: str = "tokens"
    activation: Activation = "gelu"

    def head(self) -> Head.Config:
        return MaskedLMHead.Config(activation=self.activation)

    def count(self, inputs: Batch) -> int:
        return len(inputs.label_positions)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        positions = inputs.label_positions
        scores = self.scores(model, output, rounded_up(positions))
        return negative_log_likelihood(scores, inputs["labels"].flatten()[positions])

    def scores(self, model: Model, output: Output, positions: Tensor) -> Tensor:
        head = cast(MaskedLMHead, model.heads[self.kind])
        return head(output.at(positions, self.stream), model.encoder.token_table.weight)


def rounded_up(positions: Tensor) -> Tensor:
    """The positions, and the last of them again until their number is a multiple of `_ROWS`.

    No two batches hide equally many tokens. On a CPU, oneDNN makes and keeps code for every shape of a product that it has not
    met: a new number of rows at every step costs a tenth of the head's time, and a megabyte and a half that never comes back.
    """
    return torch.cat([positions, positions[-1:].expand(-len(positions) % _ROWS)])
