import math

import pytest
import torch

from bertsmith.config import from_dict
from bertsmith.errors import ConfigError
from bertsmith.nn import FeedForward, FeedForwardPart, Sizes
from bertsmith.nn.feed_forward import ACTIVATIONS


def test_gelu_is_the_error_function_form() -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    exact = torch.tensor([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=torch.float64)
    tanh = torch.tensor(
        [v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.tolist()],
        dtype=torch.float64,
    )
    torch.testing.assert_close(ACTIVATIONS["gelu"](x), exact, atol=1e-12, rtol=0)
    torch.testing.assert_close(ACTIVATIONS["gelu_tanh"](x), tanh, atol=1e-12, rtol=0)
    assert 1e-4 < (exact - tanh).abs().max() < 1e-3  # near enough to be mixed up, far enough to matter
    assert torch.equal(ACTIVATIONS["relu"](x), x.clamp(min=0))


def test_feed_forward_is_the_formula(hidden: torch.Tensor) -> None:
    module = FeedForward.Config(intermediate_size=17, activation="relu").build(Sizes(hidden_size=12, vocab_size=37))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    up, down = module.up, module.down
    assert up.weight.shape == (17, 12)
    expected = (hidden @ up.weight.T + up.bias).clamp(min=0) @ down.weight.T + down.bias
    torch.testing.assert_close(module(hidden), expected)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ConfigError, match=r"activation: 'gelu_than' is not allowed\. Did you mean 'gelu_tanh'\?"):
        from_dict(FeedForwardPart.Config, {"kind": "feed_forward", "intermediate_size": 17, "activation": "gelu_than"})
