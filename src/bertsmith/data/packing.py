"""Packing: several sequences share a row, so that an encoder hardly ever works on padding.

`pack` fills rows up to a length; `pad` gives every sequence its own row, for tasks that want it so. Both make the same
`Batch`, whose `sequence_ids` keep attention inside each sequence.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import torch

from bertsmith.data.batch import Batch
from bertsmith.data.example import IGNORE_INDEX, Example
from bertsmith.errors import DataError


def pack(examples: Sequence[Example], *, length: int, pad_id: int) -> Batch:
    """Pack `examples` into as few rows of at most `length` tokens as best-fit decreasing finds.

    Rows are cut to the longest one in use. The result depends on the examples and their order alone, and `starts`,
    `lengths` and `targets` are in the order given. Fields other than `input_ids` and `labels` are padded with 0.

    Raises:
        DataError: a sequence is longer than a row.
    """
    lengths = [len(example) for example in examples]
    if not lengths:
        raise DataError("A batch needs at least one example.")
    if max(lengths) > length:
        raise DataError(
            f"Example {lengths.index(max(lengths))} has {max(lengths)} tokens and a row holds {length}. "
            "Truncate it first or choose longer rows."
        )
    return _lay_out(examples, lengths, _best_fit(lengths, length), pad_id)


def pad(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """One sequence per row, in the order given, each filled up to the longest."""
    if not examples:
        raise DataError("A batch needs at least one example.")
    return _lay_out(examples, [len(e) for e in examples], [[i] for i in range(len(examples))], pad_id)


def _best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: the longest first, each into the fullest row that still has room.

    Needs at most 11/9 of the fewest possible rows, plus one (Johnson 1974); in practice hardly one more.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), ascending
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        need = lengths[number]
        place = bisect_left(room, (need, -1))
        if place < len(room):
            free, row = room.pop(place)
            rows[row].append(number)
        else:
            free, row = capacity, len(rows)
            rows.append([number])
        if free > need:
            insort(room, (free - need, row))
    return rows


def _lay_out(examples: Sequence[Example], lengths: list[int], rows: list[list[int]], pad_id: int) -> Batch:
    width = max(sum(lengths[i] for i in row) for row in rows)
    shape = (len(rows), width)
    names = examples[0].tokens.keys()
    paddings = {"input_ids": pad_id, "labels": IGNORE_INDEX}
    fields = {name: np.full(shape, paddings.get(name, 0), examples[0].tokens[name].dtype) for name in names}
    flat = {name: array.reshape(-1) for name, array in fields.items()}
    positions, sequences = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    count = np.arange(max(lengths))
    starts = np.empty(len(examples), np.int64)

    for row_number, row in enumerate(rows):
        begin = row_number * width
        for order, number in enumerate(row, start=1):
            tokens, end = examples[number].tokens, begin + lengths[number]
            if tokens.keys() != names:
                raise DataError(f"Example {number} has the fields {sorted(tokens)}, the first one {sorted(names)}.")
            for name, array in flat.items():
                array[begin:end] = tokens[name]
            positions.reshape(-1)[begin:end] = count[: end - begin]
            sequences.reshape(-1)[begin:end] = order
            starts[number] = begin
            begin = end

    fields |= {"position_ids": positions, "sequence_ids": sequences}
    labelled = np.flatnonzero(flat["labels"] != IGNORE_INDEX) if "labels" in flat else np.empty(0, np.int64)
    num_tokens = sum(lengths)
    return Batch(
        fields={name: torch.from_numpy(array) for name, array in fields.items()},
        starts=torch.from_numpy(starts),
        lengths=torch.tensor(lengths, dtype=torch.int64),
        label_positions=torch.from_numpy(labelled),
        targets={name: torch.tensor([e.targets[name] for e in examples]) for name in examples[0].targets},
        one_sequence_per_row=len(rows) == len(examples),
        has_padding=num_tokens < len(rows) * width,
        num_tokens=num_tokens,
    )
