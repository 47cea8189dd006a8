"""What is done to queries and keys before they meet, head by head."""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.data import Batch
from bertsmith.nn.linear import RMSNorm
from bertsmith.nn.masks import AppliedMask

# Shapes in comments: B rows of the batch, N heads, L positions of a row, D head size.


class QueriesKeys(nn.Module):
    """A change of queries and keys, both (B, N, L, D), that leaves their shape alone."""

    @dataclass(frozen=True)
    class Config(Part):
        @property
        def max_length(self) -> int:
            """The longest sequence it is made for, in tokens."""
            return sys.maxsize

        def build(self, head_size: int) -> "QueriesKeys":
            raise NotImplementedError

    def forward(self, query: Tensor, key: Tensor, mask: AppliedMask) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Rotary(QueriesKeys):
    """Rotary positions: a query and a key meet at an angle that is their distance (Su et al. 2021, RoFormer, §3.2).

    Component i and component i + D/2 are a plane, turned by position / theta^(2i/D). Positions are those of the batch,
    counted from the start of each sequence, so that sequences may share a row. An encoder with it needs no channel for
    positions; `max_position_embeddings` is the longest sequence it is meant for, and costs nothing.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(QueriesKeys.Config, kind="rotary"):
        max_position_embeddings: int = 512
        theta: float = 10_000.0

        def __post_init__(self) -> None:
            require(self.max_position_embeddings > 0, "max_position_embeddings", "expected at least 1")
            require(self.theta > 1, "theta", f"expected more than 1, got {self.theta}")

        @property
        def max_length(self) -> int:
            return self.max_position_embeddings

        def build(self, head_size: int) -> "Rotary":
            require(head_size % 2 == 0, "query_key", f"rotary positions need an even head size, got {head_size}")
            return Rotary(self, head_size)

    def __init__(self, config: Config, head_size: int) -> None:
        super().__init__()
        self.config = config
        self.head_size = head_size

    def forward(self, query: Tensor, key: Tensor, mask: AppliedMask) -> tuple[Tensor, Tensor]:
        cosine, sine = self.angles(mask, query.dtype)
        return _turn(query, cosine, sine), _turn(key, cosine, sine)

    def angles(self, mask: AppliedMask, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position's angles, (B, 1, L, D/2). All layers share them as they share the mask."""
        return mask.once((self.config, self.head_size, dtype), lambda inputs: self._angles(inputs, dtype))

    def table(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine for the first positions of a sequence, float32 (length, D/2), on the CPU."""
        angles = self._turns(torch.arange(length, device="cpu")[:, None])
        return angles.cos(), angles.sin()

    def _angles(self, inputs: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = self._turns(inputs["position_ids"][:, None, :, None])
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _turns(self, positions: Tensor) -> Tensor:
        planes = torch.arange(0, self.head_size, 2, device=positions.device, dtype=torch.float32)
        return positions * self.config.theta ** (-planes / self.head_size)


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


class QueryKeyNorm(QueriesKeys):
    """Queries and keys brought to a length that is learned, so that attention scores stay bounded.

    RMS normalization over each head's components, with one gain for queries and one for keys (Henry et al. 2020, arXiv
    2010.04245; with this normalization Dehghani et al. 2023, arXiv 2302.05442, §2).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(QueriesKeys.Config, kind="query_key_norm"):
        eps: float = 1e-6

        def build(self, head_size: int) -> "QueryKeyNorm":
            return QueryKeyNorm(head_size, self.eps)

    def __init__(self, head_size: int, eps: float) -> None:
        super().__init__()
        self.query = RMSNorm(head_size, eps)
        self.key = RMSNorm(head_size, eps)

    def forward(self, query: Tensor, key: Tensor, mask: AppliedMask) -> tuple[Tensor, Tensor]:
        return self.query(query), self.key(key)
