"""How a sublayer is added to the stream, and where the normalization stands.

Post-norm and pre-norm are two parts, not a flag: a block asks its residual to run a sublayer and knows no more. What a
stack of residuals leaves undone at its end, the residual names too, and the encoder does it after the last block.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.nn.channels import Sizes
from bertsmith.nn.dropout import Dropout
from bertsmith.nn.linear import LayerNorm


class Residual(nn.Module):
    """Run `sublayer` on the stream and add what it says."""

    @dataclass(frozen=True)
    class Config(Part):
        def build(self, sizes: Sizes) -> "Residual":
            raise NotImplementedError

        def build_end(self, sizes: Sizes) -> nn.Module:
            """What the stream goes through after the last block."""
            raise NotImplementedError

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        raise NotImplementedError


class PostNorm(Residual):
    """`norm(x + dropout(sublayer(x)))`: the 2018 BERT and the 2017 transformer."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Residual.Config, kind="post_norm"):
        dropout: float = 0.1
        layer_norm_eps: float = 1e-12

        def __post_init__(self) -> None:
            require(0 <= self.dropout < 1, "dropout", f"expected 0 <= dropout < 1, got {self.dropout}")

        def build(self, sizes: Sizes) -> "PostNorm":
            return PostNorm(sizes.hidden_size, self.dropout, self.layer_norm_eps)

        def build_end(self, sizes: Sizes) -> nn.Module:
            return nn.Identity()  # the last thing that happened was a normalization

    def __init__(self, hidden_size: int, dropout: float, layer_norm_eps: float) -> None:
        super().__init__()
        self.norm = LayerNorm(hidden_size, layer_norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return self.norm(x + self.dropout(sublayer(x)))


class Plain(Residual):
    """`x + dropout(sublayer(x))`: for a stream that was normalized a moment ago, as behind the embedding."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Residual.Config, kind="plain"):
        dropout: float = 0.1

        def __post_init__(self) -> None:
            require(0 <= self.dropout < 1, "dropout", f"expected 0 <= dropout < 1, got {self.dropout}")

        def build(self, sizes: Sizes) -> "Plain":
            return Plain(self.dropout)

        def build_end(self, sizes: Sizes) -> nn.Module:
            return nn.Identity()

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + self.dropout(sublayer(x))


class PreNorm(Residual):
    """`x + dropout(sublayer(norm(x)))`, and one normalization at the end of the stack.

    The stream itself is never rescaled, so gradients reach the first block undiminished and large learning rates are
    stable without a long warm-up (Xiong et al. 2020, arXiv 2002.04745, §3).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Residual.Config, kind="pre_norm"):
        dropout: float = 0.1
        layer_norm_eps: float = 1e-12
        bias: bool = True  # of the normalizations

        def __post_init__(self) -> None:
            require(0 <= self.dropout < 1, "dropout", f"expected 0 <= dropout < 1, got {self.dropout}")

        def build(self, sizes: Sizes) -> "PreNorm":
            return PreNorm(self._norm(sizes), self.dropout)

        def build_end(self, sizes: Sizes) -> nn.Module:
            return self._norm(sizes)

        def _norm(self, sizes: Sizes) -> LayerNorm:
            return LayerNorm(sizes.hidden_size, self.layer_norm_eps, bias=self.bias)

    def __init__(self, norm: LayerNorm, dropout: float) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + self.dropout(sublayer(self.norm(x)))
