"""A model at work: in a lane, and in batches of the form that it reads best."""

from collections.abc import Sequence

from bertsmith.data import Batch
from bertsmith.embed.batches import batch_encodings, in_one_row
from bertsmith.embed.lanes import Float32, Lane, slowed
from bertsmith.nn import Model
from bertsmith.nn.packed import DirectLinear, PackedLinear
from bertsmith.text import Encoding, Tokenizer

ROUND = 64, 16  # rows are filled up to a multiple of the first, short ones of the second: see `bertsmith.nn.packed`


class Running:
    """What stands for `model` where it is only read: `running.model(running.batch(encodings))`.

    Attributes:
        model: the one that runs. It shares its parameters with the one given, and is that one where no lane can help.
        lane: the numbers that it computes in.
        instead: why that is another lane than was asked for; empty if it is not.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, lane: Lane | None = None) -> None:
        """By default exact, as float32 is."""
        self.tokenizer = tokenizer
        self.lane, self.instead = _possible(lane or Float32(), model)
        self._device = next(model.parameters()).device
        self.model = self.lane.of(model) if self._device.type == "cpu" else model
        masks = model.config.encoder.masks.values()
        self._in_one_row = self._device.type == "cpu" and all(mask.only_parts_sequences for mask in masks)
        self._rounds = any(isinstance(part, DirectLinear | PackedLinear) for part in self.model.modules())
        self.slowed = slowed(model, self.lane)
        """Why kernels of our own do not compute blocks that they know; None if they do, or know none."""

    def batch(self, encodings: Sequence[Encoding]) -> Batch:
        """Encoded texts as one batch, where the model is."""
        if not self._in_one_row:
            return batch_encodings(encodings, self.tokenizer).to(self._device)
        short = sum(len(e.ids) for e in encodings) <= ROUND[0]
        return in_one_row(encodings, self.tokenizer, multiple=ROUND[short] if self._rounds else 1)


def _possible(wanted: Lane, model: Model) -> tuple[Lane, str]:
    """The lane that is taken, and why it is another one than wanted."""
    if isinstance(wanted, Float32):
        return wanted, ""
    if next(model.parameters()).device.type != "cpu":
        return Float32(), "the model is not on a CPU"
    if reason := wanted.missing():
        return Float32(), reason
    if not wanted.knows(model):
        return Float32(), "the encoder has no attention or feed-forward layers of a known kind"
    return wanted, ""
