"""Causal language modelling: what comes next (Radford et al. 2018, §3.1; Devlin et al. 2018, §5.1, "LTR")."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bertsmith.data import Batch
from bertsmith.nn import Causal, Head, MaskedLMHead, Model, Output
from bertsmith.nn.feed_forward import Activation
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.masked_lm import rounded_up
from bertsmith.objectives.objective import Loss, Objective, View


@dataclass(frozen=True, kw_only=True)
class CausalLM(Objective, kind="causal_lm"):
    """Predict each token from those before it, from the first after [CLS] to the last [SEP].

    Labels: none but the text, so it is for a stage without masking; a token that is hidden would be asked for as it is seen.
    Loss: negative log-likelihood of the next token, summed over all tokens that have one.
    Relations: the head is that of `MaskedLM`, so both models have equally many parameters. The view is causal whatever the
        encoder's own mask; give the encoder `masks.tokens` of that kind too, or it will read both ways when it is fine-tuned.
    """

    weight: float = 1.0
    view: View = View(masks=(("tokens", Causal()),))
    activation: Activation = "gelu"

    def head(self) -> Head.Config:
        return MaskedLMHead.Config(activation=self.activation)

    def count(self, inputs: Batch) -> int:
        return inputs.num_tokens - inputs.num_sequences

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        positions = _with_a_next(inputs)
        head = cast(MaskedLMHead, model.heads[self.kind])
        scores = head(output.at(rounded_up(positions)), model.encoder.token_table.weight)
        return negative_log_likelihood(scores, inputs["input_ids"].flatten()[positions + 1])


def _with_a_next(inputs: Batch) -> Tensor:
    """Flat positions of all tokens but the last of each sequence: (tokens - sequences,)."""
    keep = torch.ones(inputs.num_tokens, dtype=torch.bool, device=inputs.lengths.device)
    keep[inputs.lengths.cumsum(0) - 1] = False
    return inputs.token_positions[keep]
