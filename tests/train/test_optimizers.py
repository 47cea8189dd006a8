"""Optimizers against slow NumPy transcriptions of their formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from bertsmith.errors import ConfigError
from bertsmith.train import AdamW, BertAdamW
from bertsmith.train.optimizers import decay_groups


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.matrix = nn.Parameter(torch.randn(3, 7, generator=generator))
        self.bias = nn.Parameter(torch.randn(7, generator=generator))


def gradients(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {"matrix": rng.normal(size=(3, 7)), "bias": rng.normal(size=7) * 1e-4}


@pytest.mark.parametrize(("config", "corrected"), [(AdamW(), True), (BertAdamW(), False)])
def test_a_hundred_steps_equal_the_formula(config: AdamW | BertAdamW, corrected: bool) -> None:
    """Kingma & Ba 2015 with decoupled decay; BERT's own variant leaves the correction out (optimization.py)."""
    model = Small()
    optimizer = config.build(model)
    values = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
    mean = {name: np.zeros_like(v) for name, v in values.items()}
    square = {name: np.zeros_like(v) for name, v in values.items()}
    for step in range(100):
        rate = 0.01 * (step + 1) / 100
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, p in model.named_parameters():
            g = gradients(step)[name]
            p.grad = torch.tensor(g, dtype=torch.float32)
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.999 * square[name] + 0.001 * g * g
            m = mean[name] / (1 - 0.9 ** (step + 1)) if corrected else mean[name]
            v = square[name] / (1 - 0.999 ** (step + 1)) if corrected else square[name]
            decay = 0.01 * values[name] if values[name].ndim == 2 else 0.0
            values[name] = values[name] - rate * (m / (np.sqrt(v) + 1e-6) + decay)
        optimizer.step()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), values[name], rtol=2e-5, atol=2e-6)


def test_only_matrices_decay() -> None:
    model = Small()
    matrices, vectors = decay_groups(model.parameters(), 0.01)
    assert matrices["params"] == [model.matrix] and matrices["weight_decay"] == 0.01
    assert vectors["params"] == [model.bias] and vectors["weight_decay"] == 0.0


@pytest.mark.parametrize("make", [lambda: AdamW(beta1=1.0), lambda: BertAdamW(eps=0.0)])
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="expected"):
        make()  # pyright: ignore[reportCallIssue]
