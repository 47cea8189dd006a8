"""Heads: hidden states to scores. No head computes a loss; objectives and tasks do."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.nn.dropout import Dropout
from bertsmith.nn.encoder import Encoder
from bertsmith.nn.feed_forward import ACTIVATIONS, Activation
from bertsmith.nn.linear import LayerNorm, Linear


class Head(nn.Module):
    """What sits on an encoder and scores something."""

    @dataclass(frozen=True)
    class Config(Part):
        def build(self, encoder: Encoder.Config) -> "Head":
            raise NotImplementedError


class _Transforming(nn.Module):
    """A dense layer, activation and normalization: what masked LM does with a state before it scores it."""

    def __init__(self, encoder: Encoder.Config, activation: Activation) -> None:
        super().__init__()
        self.dense = Linear(encoder.hidden_size, encoder.hidden_size)
        self.activation = ACTIVATIONS[activation]
        self.norm = LayerNorm(encoder.hidden_size, encoder.layer_norm_eps, bias=encoder.layer_norm_bias)

    def transformed(self, hidden: Tensor) -> Tensor:
        """(..., hidden) -> (..., hidden)."""
        return self.norm(self.activation(self.dense(hidden)))


class Transform(_Transforming):
    """The same for other heads: (..., hidden) -> (..., hidden)."""

    def forward(self, hidden: Tensor) -> Tensor:
        return self.transformed(hidden)


class MaskedLMHead(_Transforming, Head):
    """Scores over the vocabulary (Devlin et al. 2018, §3.1; google-research/bert `get_masked_lm_output`).

    A dense layer, activation and normalization, then the product with the token vectors plus a bias for each token. The
    product's matrix *is* the encoder's token table (tied), so it is an argument and not a parameter of the head.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config, kind="masked_lm"):
        activation: Activation = "gelu"

        def build(self, encoder: Encoder.Config) -> "MaskedLMHead":
            return MaskedLMHead(encoder, self.activation)

    def __init__(self, encoder: Encoder.Config, activation: Activation) -> None:
        super().__init__(encoder, activation)
        self.bias = nn.Parameter(torch.empty(encoder.known_vocab_size))

    def forward(self, hidden: Tensor, token_table: Tensor) -> Tensor:
        """`hidden` (positions, hidden), `token_table` (vocab, hidden) -> scores (positions, vocab).

        Give only the positions to be predicted: at 15 % of them this is most of a small model's work saved.
        """
        x = self.transformed(hidden)
        return F.linear(x, token_table.to(x.dtype), self.bias.to(x.dtype))


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """How a head with labels is made; `transform` is the activation of a transform before it, if it has one."""

    num_labels: int
    dropout: float = 0.1
    transform: Activation | None = None

    def __post_init__(self) -> None:
        require(self.num_labels > 0, "num_labels", f"expected at least 1, got {self.num_labels}")
        require(0 <= self.dropout < 1, "dropout", f"expected 0 <= dropout < 1, got {self.dropout}")


class _LabelHead(Head):
    """A classifier behind dropout, and perhaps behind a transform, as all heads of a ModernBERT are."""

    def __init__(self, encoder: Encoder.Config, config: _Labels) -> None:
        super().__init__()
        self.transform = _transform(encoder, config.transform)
        self.dropout = Dropout(config.dropout)
        self.classifier = Linear(encoder.hidden_size, config.num_labels)

    def forward(self, states: Tensor) -> Tensor:
        """`states` (any number, hidden) -> (as many, num_labels)."""
        return self.classifier(self.dropout(self.transform(states)))


class SequenceHead(_LabelHead):
    """Scores for a whole sequence from its pooled vector: C Wᵀ + b (Devlin et al. 2018, §3.2 and §4.1).

    Next-sentence prediction is this head with 2 scores and no dropout; classification has one score a label, regression
    has one score. With a transform, it needs no pooler: [CLS]'s own state is its vector.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(_Labels, Head.Config, kind="sequence"):
        def build(self, encoder: Encoder.Config) -> "SequenceHead":
            return SequenceHead(encoder, self)


class TokenHead(_LabelHead):
    """Scores for each token from its own hidden state (Devlin et al. 2018, §5.3: named entity recognition)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(_Labels, Head.Config, kind="token"):
        def build(self, encoder: Encoder.Config) -> "TokenHead":
            return TokenHead(encoder, self)


class SpanHead(Head):
    """How well each token begins an answer, and how well it ends one: S·T and E·T (Devlin et al. 2018, §4.2)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config, kind="span"):
        transform: Activation | None = None

        def build(self, encoder: Encoder.Config) -> "SpanHead":
            return SpanHead(encoder, self.transform)

    def __init__(self, encoder: Encoder.Config, transform: Activation | None) -> None:
        super().__init__()
        self.transform = _transform(encoder, transform)
        self.outputs = Linear(encoder.hidden_size, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` (tokens, hidden) -> (tokens, 2): start and end."""
        return self.outputs(self.transform(hidden))


def _transform(encoder: Encoder.Config, activation: Activation | None) -> nn.Module:
    return nn.Identity() if activation is None else Transform(encoder, activation)
