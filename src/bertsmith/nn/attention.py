"""Multi-head self-attention (Vaswani et al. 2017, §3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertsmith.config import Part, require
from bertsmith.data import Run
from bertsmith.nn.channels import Sizes
from bertsmith.nn.dropout import dropout
from bertsmith.nn.linear import Linear
from bertsmith.nn.masks import AppliedMask
from bertsmith.nn.queries_keys import QueriesKeys

_SCORES = 1 << 24  # that plain products may hold at once; longer texts go through the fused kernel, which holds none

# Shapes in comments: B rows of the batch, Q queries, K keys, N heads, D head size, H = N·D hidden size.


class Gate(nn.Module):
    """How much of what each head found is passed on: `forward(x)` (B, Q, H) -> a factor that broadcasts to (B, N, Q, D)."""

    @dataclass(frozen=True)
    class Config(Part):
        def build(self, hidden_size: int, num_attention_heads: int) -> "Gate":
            raise NotImplementedError


class HeadGate(Gate):
    """Each position opens and shuts each head: 2 σ(x Wᵀ), one number a head (Qiu et al. 2025, arXiv 2505.06708).

    A head that finds nothing need not look at some [SEP] to say so. The factor 2, which is ours, makes small weights start
    near the attention without a gate.
    """

    @dataclass(frozen=True)
    class Config(Gate.Config, kind="head"):
        def build(self, hidden_size: int, num_attention_heads: int) -> "HeadGate":
            return HeadGate(hidden_size, num_attention_heads)

    def __init__(self, hidden_size: int, num_attention_heads: int) -> None:
        super().__init__()
        self.opening = Linear(hidden_size, num_attention_heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.opening(x).sigmoid().transpose(1, 2)[..., None]


class Attention(nn.Module):
    """softmax(Q Kᵀ / √D + mask) V for each head, heads concatenated and projected.

    Queries and context are separate arguments because some encoders need them apart (XLNet's query stream reads the
    content stream). Where they are the same tensor, queries, keys and values come from one matrix product. The parts in
    `query_key` change queries and keys before they meet, in their order.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        num_attention_heads: int
        dropout: float = 0.1
        bias: bool = True
        query_key: tuple[QueriesKeys.Config, ...] = ()
        gate: Gate.Config | None = None

        def __post_init__(self) -> None:
            require(self.num_attention_heads > 0, "num_attention_heads", "expected at least 1")
            require(0 <= self.dropout < 1, "dropout", f"expected 0 <= dropout < 1, got {self.dropout}")

        def build(self, sizes: Sizes) -> "Attention":
            require(
                sizes.hidden_size % self.num_attention_heads == 0,
                "num_attention_heads",
                f"hidden_size {sizes.hidden_size} is not a multiple of {self.num_attention_heads} heads",
            )
            return Attention(sizes.hidden_size, self)

    def __init__(self, hidden_size: int, config: Config) -> None:
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.head_size = hidden_size // config.num_attention_heads
        self.dropout = config.dropout
        self.query_key_value = Linear(hidden_size, 3 * hidden_size, bias=config.bias, stacked=3)
        self.query_key = nn.ModuleList(part.build(self.head_size) for part in config.query_key)
        self.gate = None if config.gate is None else config.gate.build(hidden_size, config.num_attention_heads)
        self.output = Linear(hidden_size, hidden_size, bias=config.bias, role="output")

    def forward(self, x: Tensor, context: Tensor, mask: AppliedMask) -> Tensor:
        """`x` (B, Q, H) attends to `context` (B, K, H) where `mask` allows it; returns (B, Q, H)."""
        query, key, value = self._heads(x, context, mask)
        rate = self.dropout if self.training else 0.0
        on_cpu = x.device.type == "cpu"
        if mask.runs and on_cpu and not rate:
            mixed = _by_runs(query, key, value, mask.runs)
        else:
            in_plain = on_cpu and (rate > 0 or query.dtype == torch.bfloat16)
            attend = _in_plain_products if in_plain else F.scaled_dot_product_attention
            mixed = attend(query, key, value, mask.bias(query.dtype), rate)  # (B, N, Q, D)
        if self.gate is not None:
            mixed = mixed * self.gate(x)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def probabilities(self, x: Tensor, context: Tensor, mask: AppliedMask) -> Tensor:
        """How much each query looks at each key, in float32: (B, N, Q, K), rows sum to 1. For looking, not for speed."""
        query, key, _ = self._heads(x, context, mask)
        scores = (query @ key.transpose(-1, -2)).float() / self.head_size**0.5
        bias = mask.bias(torch.float32)
        return (scores if bias is None else scores + bias).softmax(-1)

    def _heads(self, x: Tensor, context: Tensor, mask: AppliedMask) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, N, length, D)."""
        if x is context:
            parts = self.query_key_value(x).chunk(3, -1)
        else:
            weight, bias = self.query_key_value.weight, self.query_key_value.bias
            weights = weight.to(x.dtype).chunk(3)
            biases = [None] * 3 if bias is None else bias.to(x.dtype).chunk(3)
            sources = (x, context, context)
            parts = [F.linear(s, w, b) for s, w, b in zip(sources, weights, biases, strict=True)]
        query, key, value = (p.unflatten(-1, (self.num_attention_heads, self.head_size)).transpose(1, 2) for p in parts)
        for part in self.query_key:
            query, key = part(query, key, mask)
        return query, key, value


def _in_plain_products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, rate: float) -> Tensor:
    """What `scaled_dot_product_attention` computes, as two plain products.

    On a CPU, torch's fused kernel multiplies bfloat16 head by head and converts on the way; the plain products run where
    the processor's bfloat16 units are. In training they take a quarter of the kernel's time at 64 and 128 tokens, and two
    thirds at 512, where they also keep the weights of all heads, (B, N, Q, K), for the backward pass. With dropout the
    fused kernel gives way to plain products in any type, and to a slow draw.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (B, N, Q, K)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    return dropout(weights, rate) @ value


def _by_runs(query: Tensor, key: Tensor, value: Tensor, runs: Sequence[Run]) -> Tensor:
    """The same in one row, (1, N, Q, D), where each sequence attends to itself: nothing is masked, so nothing is wasted."""
    _, heads, length, size = query.shape
    mixed = query.new_zeros(length, heads, size)  # what is behind the last sequence is padding
    for start, count, tokens in runs:
        end = start + count * tokens
        q, k, v = (
            x[0, :, start:end].unflatten(1, (count, tokens)) for x in (query, key, value)
        )  # (N, count, tokens, D)
        small = heads * count * tokens**2 <= _SCORES
        attend = _in_bfloat16 if small and query.dtype == torch.bfloat16 else F.scaled_dot_product_attention
        mixed[start:end].unflatten(0, (count, tokens)).copy_(attend(q, k, v).permute(1, 2, 0, 3))
    return mixed.transpose(0, 1)[None]


def _in_bfloat16(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √D) V for inference: products in bfloat16, the softmax in float32, which is also the faster one."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
