"""Masked language modelling (Devlin et al. 2018, §3.1, task 1)."""

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from bertsmith.data import Batch
from bertsmith.nn import Head, MaskedLMHead, Model, Output
from bertsmith.nn.feed_forward import Activation
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.objective import Loss, Objective, View


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
        return negative_log_likelihood(self.scores(model, output, positions), inputs["labels"].flatten()[positions])

    def scores(self, model: Model, output: Output, positions: Tensor) -> Tensor:
        head = cast(MaskedLMHead, model.heads[self.kind])
        return head(output.at(positions, self.stream), model.encoder.token_table.weight)
