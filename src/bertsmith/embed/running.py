"""A model at work: in a lane, and in batches of the form that it reads best."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from bertsmith.data import Batch, Run
from bertsmith.embed.batches import batch_encodings, in_one_row
from bertsmith.embed.lanes import Float32, Lane, slowed
from bertsmith.nn import Model, Pooling
from bertsmith.nn.kernels import FusedEncoder
from bertsmith.nn.packed import DirectLinear, PackedLinear
from bertsmith.text import Encoding, Tokenizer

ROUND = 64, 16  # rows are filled up to a multiple of the first, short ones of the second: see `bertsmith.nn.packed`


class Running:
    """What stands for `model` where it is only read: `running.model(running.batch(encodings))`.

    Attributes:
        model: the one that runs. It shares its parameters with the one given, and is that one where no lane can help.
        lane: the numbers that it computes in.
        about: which they are and why, in a sentence for people; empty if all is as usual.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, lane: Lane | None = None) -> None:
        """By default exact, as float32 is."""
        self.tokenizer = tokenizer
        wanted = lane or Float32()
        self.lane, instead = _possible(wanted, model)
        self._device = next(model.parameters()).device
        self.model = self.lane.of(model) if self._device.type == "cpu" else model
        masks = model.config.encoder.masks.values()
        self._in_one_row = self._device.type == "cpu" and all(mask.only_parts_sequences for mask in masks)
        self._rounds = any(isinstance(part, DirectLinear | PackedLinear) for part in self.model.modules())
        self.about = ""
        if instead:
            self.about = f"Computed in {self.lane.kind}, and not in {wanted.kind}: {instead}."
        elif reason := slowed(model, self.lane):
            self.about = f"Computed in {self.lane.kind}, by torch's operators: {reason}."
        elif not isinstance(wanted, Float32):
            self.about = f"Computed in {self.lane.kind}."

    def batch(self, encodings: Sequence[Encoding]) -> Batch:
        """Encoded texts as one batch, where the model is."""
        if not self._in_one_row:
            return batch_encodings(encodings, self.tokenizer).to(self._device)
        short = sum(len(e.ids) for e in encodings) <= ROUND[0]
        return in_one_row(encodings, self.tokenizer, multiple=ROUND[short] if self._rounds else 1)

    def vectors(self, encodings: Sequence[Encoding], pooling: Pooling) -> np.ndarray | None:
        """The vectors of encoded texts in one call, float32 (texts, hidden); None if the model or the pooling asks for more."""
        encoder = self.model.encoder
        if not isinstance(encoder, FusedEncoder) or self.model.mix is not None or not encoder.can_pool(pooling):
            return None
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        texts = [encodings[i] for i in order]
        fields = {
            "input_ids": [index for e in texts for index in e.ids],
            "token_type_ids": [kind for e in texts for kind in e.type_ids],
            "position_ids": [place for e in texts for place in range(len(e.ids))],
        }
        if not fields.keys() >= set(encoder.fields):
            return None
        runs: list[Run] = []
        start = 0
        for length, same in groupby(texts, key=len):
            runs.append(Run(start, len(list(same)), length))
            start += runs[-1].sequences * length
        numbers = np.array([fields[name] for name in encoder.fields], np.int64)
        vectors = encoder.vectors(numbers, np.array(runs, np.int32), pooling)
        if len(order) == 1:
            return vectors
        in_order = np.empty_like(vectors)
        in_order[order] = vectors
        return in_order


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
