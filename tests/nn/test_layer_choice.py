"""Layers by number, joined or averaged: the encoder's own, and no more of them than needed."""

from collections.abc import Callable

import pytest
import torch

from bertsmith import nn
from bertsmith.config import from_dict, to_dict
from bertsmith.data import Batch, Example, pack
from bertsmith.errors import ConfigError
from bertsmith.nn.layer_choice import Averaged, Concatenated, LayerChoice, OutputLayer


@pytest.fixture
def batch(examples: list[Example]) -> Batch:
    return pack(examples, length=11, pad_id=0)


@pytest.fixture
def model(encoder_config: Callable[..., nn.Encoder.Config]) -> nn.Model:
    return nn.Model.Config(encoder=encoder_config()).initialized(5).eval()


@torch.inference_mode()
def test_layers_are_those_of_the_encoder(model: nn.Model, batch: Batch) -> None:
    layers = [s["tokens"] for s in model.encoder.layers(batch, model.encoder.apply_masks(batch))]
    assert len(layers) == 4

    def of(choice: LayerChoice) -> torch.Tensor:
        found = choice.of(model, batch).streams["tokens"]
        assert found.shape[-1] == choice.size(12)
        return found

    assert torch.equal(of(OutputLayer()), layers[-1])
    assert torch.equal(of(Concatenated((-2,))), layers[2])
    assert torch.equal(of(Concatenated((0,))), of(Concatenated((-4,))))
    assert torch.equal(of(Concatenated((-1, 1))), torch.cat([layers[3], layers[1]], -1))
    torch.testing.assert_close(of(Averaged((1, -1, -2))), (layers[1] + layers[2] + layers[3]) / 3)


@torch.inference_mode()
def test_layers_that_are_not_needed_do_not_run(model: nn.Model, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the last block ran")

    expected = Concatenated((-2,)).of(model, batch).streams["tokens"]
    monkeypatch.setattr(model.encoder.blocks[-1], "forward", refuse)
    assert torch.equal(Concatenated((2,)).of(model, batch).streams["tokens"], expected)
    with pytest.raises(AssertionError, match="the last block ran"):
        OutputLayer().of(model, batch)


@torch.inference_mode()
def test_the_output_of_a_model_with_a_mix_is_the_mix(
    encoder_config: Callable[..., nn.Encoder.Config], batch: Batch
) -> None:
    model = nn.Model.Config(encoder=encoder_config(), mix=nn.ScalarMix.Config()).initialized(5).eval()
    mean = Averaged((0, 1, 2, 3)).of(model, batch).streams["tokens"]
    torch.testing.assert_close(OutputLayer().of(model, batch).streams["tokens"], mean)  # a new mix is the mean


@pytest.mark.parametrize("number", [4, -5])
def test_a_layer_that_is_not_there(number: int) -> None:
    Concatenated((3, -4)).check(3)
    with pytest.raises(ConfigError, match=rf"layers: there is no layer {number}: .* 0 \(the embedding\) to 3"):
        Averaged((-1, number)).check(3)


def test_no_layer_at_all() -> None:
    with pytest.raises(ConfigError, match="expected at least one layer"):
        Concatenated(())


@pytest.mark.parametrize("choice", [OutputLayer(), Concatenated((-2,)), Averaged((0, 1))])
def test_round_trip(choice: LayerChoice) -> None:
    assert from_dict(LayerChoice, to_dict(choice)) == choice
