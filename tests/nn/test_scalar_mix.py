"""ELMo's mix of layers."""

import torch

from bertsmith import nn
from bertsmith.data import Example, pack


def test_it_is_the_formula() -> None:
    mix = nn.ScalarMix.Config().build(2)
    layers = [torch.full((3, 7, 12), value) for value in (1.0, 2.0, 6.0)]
    torch.testing.assert_close(mix(layers), torch.full((3, 7, 12), 3.0))
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([1.0, 2.0, 5.0]).log())
        mix.scale.fill_(4.0)
    torch.testing.assert_close(mix(layers), torch.full((3, 7, 12), 4 * (1 + 4 + 30) / 8))


def test_a_model_reads_the_mix_of_an_encoder_without_dropout(encoder_config: object, examples: list[Example]) -> None:
    encoder = encoder_config(nn.Full())  # type: ignore[operator]
    plain = nn.Model.Config(encoder=encoder).initialized(2)
    mixed = nn.Model.Config(encoder=encoder, mix=nn.ScalarMix.Config()).initialized(2)
    mixed.encoder.load_state_dict(plain.encoder.state_dict())
    batch = pack(examples, length=15, pad_id=0)
    masks = plain.eval().encoder.apply_masks(batch)
    layers = [streams["tokens"] for streams in plain.encoder.layers(batch, masks)]
    assert len(layers) == encoder.num_hidden_layers + 1
    first = mixed.train()(batch)
    torch.testing.assert_close(first.streams["tokens"], torch.stack(layers).mean(0))
    assert torch.equal(mixed.train()(batch).streams["tokens"], first.streams["tokens"])
