"""A batch: several sequences laid out in rows, side by side where they fit, ready for an encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from bertsmith.data.statistics import MaskStatistics
from bertsmith.errors import UsageError, nearest


class Run(NamedTuple):
    """So many `sequences` of `length` tokens each, one after the other from column `start` of a row."""

    start: int
    sequences: int
    length: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences in rows of one length.

    `fields` maps names to tensors `(rows, length)`: always `input_ids`, `token_type_ids`, `position_ids` (from 0 in
    each sequence) and `sequence_ids` (1, 2, ... along a row, 0 where there is padding); `labels` if tokens are
    predicted.

    The other tensors are flat, so that nobody has to search a row for its sequences:
    `starts` (sequences,) index of each sequence's first token in a row-major (rows * length) layout, in the order in
    which the examples were given, whatever row they went to; `lengths` (sequences,); `label_positions` (predictions,)
    indices of all positions with a label; `targets` one value per sequence, in the same order.

    What decides on control flow is plain Python, so that no accelerator is asked: `one_sequence_per_row`,
    `has_padding`, `num_tokens` (real tokens), `statistics`, and `runs`: in a batch of one row, where sequences of one
    length lie side by side, and all of them do.
    """

    fields: Mapping[str, Tensor]
    starts: Tensor
    lengths: Tensor
    label_positions: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    one_sequence_per_row: bool = False
    has_padding: bool = True
    num_tokens: int = 0
    statistics: MaskStatistics = field(default_factory=MaskStatistics)
    runs: tuple[Run, ...] = ()

    def __getitem__(self, name: str) -> Tensor:
        """The per-token field `name`, `(rows, length)`.

        Raises:
            UsageError: there is no such field; a channel names it, or an objective.
        """
        try:
            return self.fields[name]
        except KeyError:
            raise UsageError(f"A batch has no field {name!r}.{nearest(name, self.fields)}") from None

    @property
    def attention_mask(self) -> Tensor:
        """Bool `(rows, length)`: True where there is a real token. It does not keep packed sequences apart."""
        return self.fields["sequence_ids"] > 0

    @property
    def num_sequences(self) -> int:
        """How many examples are in this batch."""
        return self.starts.shape[0]

    @property
    def token_positions(self) -> Tensor:
        """Flat indices (row * length + column) of all tokens, sequence by sequence in the order given: (tokens,)."""
        before = self.lengths.cumsum(0) - self.lengths
        shift = (self.starts - before).repeat_interleave(self.lengths, output_size=self.num_tokens)
        return shift + torch.arange(self.num_tokens, device=shift.device)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        # Copies towards an accelerator may overlap with its work; a copy back must have arrived before anyone reads it.
        asynchronous = torch.device(device).type != "cpu"

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=asynchronous)

        return replace(
            self,
            fields={name: move(tensor) for name, tensor in self.fields.items()},
            starts=move(self.starts),
            lengths=move(self.lengths),
            label_positions=move(self.label_positions),
            targets={name: move(tensor) for name, tensor in self.targets.items()},
        )
