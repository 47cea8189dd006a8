import math

import numpy as np
import pytest
import torch

from bertsmith.config import from_dict
from bertsmith.errors import ConfigError
from bertsmith.nn import FeedForward, FeedForwardPart, GatedFeedForward, Sizes
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


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu_squared"])
def test_gated_feed_forward_is_the_formula(hidden: torch.Tensor, activation: str) -> None:
    config = from_dict(
        FeedForwardPart.Config, {"kind": "gated", "intermediate_size": 11, "activation": activation, "bias": False}
    )
    module = config.build(Sizes(hidden_size=12, vocab_size=37))
    assert isinstance(module, GatedFeedForward)
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert shapes == {"up.weight": (22, 12), "down.weight": (12, 11)}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    x = hidden.numpy()
    up, down = module.up.weight.detach().numpy(), module.down.weight.detach().numpy()
    gate, value = x @ up[:11].T, x @ up[11:].T
    by_hand = {
        "gelu": lambda v: v / 2 * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
        "silu": lambda v: v / (1 + np.exp(-v)),
        "relu_squared": lambda v: np.maximum(v, 0) ** 2,
    }
    expected = (by_hand[activation](gate) * value) @ down.T
    np.testing.assert_allclose(module(hidden).detach().numpy(), expected, atol=2e-4, rtol=2e-4)


def test_two_thirds_of_the_size_have_the_parameters_of_a_plain_layer() -> None:
    sizes = Sizes(hidden_size=12, vocab_size=37)
    plain = FeedForward.Config(intermediate_size=48, bias=False).build(sizes)
    gated = GatedFeedForward.Config(intermediate_size=32, bias=False).build(sizes)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in gated.parameters())


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ConfigError, match=r"activation: 'gelu_than' is not allowed\. Did you mean 'gelu_tanh'\?"):
        from_dict(FeedForwardPart.Config, {"kind": "feed_forward", "intermediate_size": 17, "activation": "gelu_than"})
