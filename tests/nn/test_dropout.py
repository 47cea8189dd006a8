"""Dropout: the rate, the scale, and a draw that torch's generator alone decides."""

import pytest
import torch

from bertsmith.nn.dropout import Dropout, dropout

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_rate_and_the_scale(dtype: torch.dtype, rate: float) -> None:
    torch.manual_seed(3)
    x = torch.ones(601, 1009, dtype=dtype)
    y = dropout(x, rate)
    assert y.dtype == dtype and y.shape == x.shape
    values = y.unique().tolist()
    assert values == [0, pytest.approx(1 / (1 - rate), rel=0.01)]
    sigma = (rate * (1 - rate) / x.numel()) ** 0.5
    dropped = y == 0
    assert abs(dropped.double().mean().item() - rate) < 4 * sigma
    # Neighbours in a row and in a column, and numbers drawn from the same 64 bits, are dropped independently.
    for distance in (1, 2, 3, 1009):
        both = (dropped.flatten()[distance:] & dropped.flatten()[:-distance]).double().mean().item()
        assert abs(both - rate**2) < 0.003


def test_the_draw_is_decided_by_torchs_generator() -> None:
    x = torch.randn(7, 12)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append((dropout(x, 0.5), dropout(x, 0.5)))
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[2][0]) and not torch.equal(draws[0][0], draws[0][1])


def test_the_gradient_is_dropped_where_the_value_is() -> None:
    x = torch.randn(3, 7, 12, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, 1 / 0.7))


def test_outside_of_training_nothing_is_dropped() -> None:
    x = torch.randn(3, 7)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    assert dropout(x.expand(2, 3, 7).transpose(0, 1), 0.5).shape == (3, 2, 7)  # any strides
