"""Which of an encoder's layers vectors are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from bertsmith.config import Part, require
from bertsmith.data import Batch
from bertsmith.nn.model import Model, Output


class LayerChoice(Part):
    """A choice of hidden states.

    Layers are numbered as everywhere: 0 is the embedding, `num_hidden_layers` or -1 the last layer, -2 the one before it.
    """

    def of(self, model: Model, inputs: Batch) -> Output:
        """One pass of the encoder, no further than needed: stream "tokens" (rows, length, `size`), and nothing pooled."""
        raise NotImplementedError

    def size(self, hidden_size: int) -> int:
        """How many numbers a token's vector has."""
        return hidden_size

    def check(self, num_hidden_layers: int) -> None:
        """Raise ConfigError for a layer that an encoder of so many does not have."""


@dataclass(frozen=True)
class OutputLayer(LayerChoice, kind="output"):
    """What the model itself gives: its last layer, or its learned mix of all. The only one that a pooler reads."""

    def of(self, model: Model, inputs: Batch) -> Output:
        return Output(model.streams(inputs), None)


@dataclass(frozen=True)
class Concatenated(LayerChoice, kind="concatenated"):
    """One layer, or several side by side, in the order given: BERT's best features for a tagger are its last four (Devlin
    et al. 2018, §5.3). bert-as-service's default is -2."""

    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        require(bool(self.numbers), "numbers", "expected at least one layer")

    def check(self, num_hidden_layers: int) -> None:
        _check(self.numbers, num_hidden_layers)

    def of(self, model: Model, inputs: Batch) -> Output:
        return Output({"tokens": torch.cat(_layers(self.numbers, model, inputs), -1)}, None)

    def size(self, hidden_size: int) -> int:
        return hidden_size * len(self.numbers)


@dataclass(frozen=True)
class Averaged(LayerChoice, kind="averaged"):
    """The mean of several layers."""

    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        require(bool(self.numbers), "numbers", "expected at least one layer")

    def check(self, num_hidden_layers: int) -> None:
        _check(self.numbers, num_hidden_layers)

    def of(self, model: Model, inputs: Batch) -> Output:
        return Output({"tokens": torch.stack(_layers(self.numbers, model, inputs)).mean(0)}, None)


def _check(numbers: Sequence[int], num_hidden_layers: int) -> None:
    for number in numbers:
        require(
            -num_hidden_layers - 1 <= number <= num_hidden_layers,
            "layers",
            f"there is no layer {number}: the model has 0 (the embedding) to {num_hidden_layers}, or -1 (the last) to "
            f"{-num_hidden_layers - 1}",
        )


def _layers(numbers: Sequence[int], model: Model, inputs: Batch) -> list[Tensor]:
    """The hidden states of these layers, float32 (rows, length, hidden) each."""
    places = [number % (model.config.encoder.num_hidden_layers + 1) for number in numbers]
    layers = model.encoder.layers(inputs, model.encoder.apply_masks(inputs))
    found = {place: s["tokens"] for place, s in enumerate(islice(layers, max(places) + 1)) if place in places}
    return [found[place].float() for place in places]
