"""The loader: from a position in the endless sequence of examples to batches, without any state to save.

Batch k is a pure function of (seed, position): a keyed permutation gives the order in each epoch, a generator keyed by
the example gives its mask. A run that resumes at a position sees what it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import TypeVar

import numpy as np

from bertsmith.data.batch import Batch
from bertsmith.data.draws import Draws, Share
from bertsmith.data.example import Example
from bertsmith.data.instances import Instances, Plan
from bertsmith.data.masking import Masking
from bertsmith.data.packing import pack
from bertsmith.data.randomness import KeyedPermutation, generator
from bertsmith.data.shards import Shards
from bertsmith.data.statistics import MaskStatistics
from bertsmith.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place in the sequence of examples: `index` examples of `epoch` have been taken."""

    epoch: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one process trains on in one step, and the position after all examples of the step, its own and others'."""

    batches: tuple[Batch, ...]
    position: Position


class Loader:
    """Draws examples of at most `length` tokens and packs them into rows of `row_length`, or `length` if that is not given.

    Without a masking policy the batches have no `labels`.
    """

    def __init__(
        self, shards: Shards, instances: Instances, *, length: int, seed: int, row_length: int | None = None
    ) -> None:
        self.shards = shards
        self.instances = instances
        self.length = length
        self.seed = seed
        self.row_length = row_length or length
        # Two plans: a batch may straddle two epochs.
        self._plan = lru_cache(maxsize=2)(self._draw_plan)

    def epoch_size(self, epoch: int = 0) -> int:
        """Number of examples in an epoch; it varies a little from one to the next, as the text is cut anew."""
        return len(self._plan(epoch)[0])

    def steps(
        self,
        draws: Draws,
        start: Position = Position(),
        *,
        first: int = 0,
        share: Share = Share(),
        turn: tuple[int, int] = (0, 1),
    ) -> Iterator[Drawn]:
        """Endless steps from `start`, the first of them draw number `first`, each with the position to go on from.

        A step crosses into the next epoch where one ends, so its size is always what the draw says. With `turn` (i, n) only
        every n-th step is made, beginning with the i-th: n loaders that take turns make all.
        """
        position = start
        for number in count():
            draw = draws.at(first + number)
            places, position = self._places(position, draw.size)
            if number % turn[1] == turn[0]:
                mine = _part(places, share.rank, share.world)
                examples = [self._example(epoch, index, draw.masking) for epoch, index in mine]
                yield Drawn(tuple(self._pack(part) for part in _parts(examples, share.tokens_at_once)), position)

    def one_epoch(
        self, batch_size: int, masking: Masking | None, epoch: int = 0, *, most: int | None = None
    ) -> Iterator[Batch]:
        """The batches of one epoch, or of its first `most` examples, the last one smaller if need be.

        For evaluation, where each example counts once.
        """
        plan, order = self._plan(epoch)
        end = len(plan) if most is None else min(most, len(plan))
        for begin in range(0, end, batch_size):
            indices = order(np.arange(begin, min(begin + batch_size, end))).tolist()
            yield self._pack([self._example(epoch, index, masking) for index in indices])

    def _places(self, position: Position, size: int) -> tuple[list[tuple[int, int]], Position]:
        """The next `size` examples, each by its epoch and its index in the epoch's plan, and the position after them."""
        places: list[tuple[int, int]] = []
        while len(places) < size:
            plan, order = self._plan(position.epoch)
            end = min(position.index + size - len(places), len(plan))
            places += [(position.epoch, index) for index in order(np.arange(position.index, end)).tolist()]
            position = Position(position.epoch, end) if end < len(plan) else Position(position.epoch + 1, 0)
        return places, position

    def _draw_plan(self, epoch: int) -> tuple[Plan, KeyedPermutation]:
        plan = self.instances.plan(self.shards, self.length, self.seed, epoch)
        if not len(plan):
            raise DataError(f"{self.shards.path}: the {self.shards.split} text gives no example.")
        return plan, KeyedPermutation(len(plan), self.seed, epoch)

    def _example(self, epoch: int, index: int, masking: Masking | None) -> Example:
        example = self._plan(epoch)[0].example(index)
        if masking is None:
            return example
        return masking(example, self.shards.vocabulary, generator(self.seed, "masking", epoch, index))

    def _pack(self, examples: Sequence[Example]) -> Batch:
        batch = pack(examples, length=self.row_length, pad_id=self.shards.vocabulary.pad_id)
        return replace(batch, statistics=self._count(batch))

    def _count(self, batch: Batch) -> MaskStatistics:
        labels = batch.targets.get("next_sentence_label")
        pairs = {} if labels is None else {"pairs": len(labels), "random_next": int(labels.sum())}
        if "labels" not in batch.fields:
            return MaskStatistics(sequences=batch.num_sequences, tokens=batch.num_tokens, **pairs)
        positions = batch.label_positions.numpy()
        seen = batch["input_ids"].numpy().reshape(-1)[positions]
        truth = batch["labels"].numpy().reshape(-1)[positions]
        masked = int((seen == self.shards.vocabulary.mask_id).sum())
        kept = int((seen == truth).sum())  # with the rare random token that happens to be the right one
        return MaskStatistics(
            sequences=batch.num_sequences,
            tokens=batch.num_tokens,
            chosen=len(positions),
            masked=masked,
            random=len(positions) - masked - kept,
            kept=kept,
            **pairs,
        )


def _part(items: Sequence[T], number: int, of: int) -> Sequence[T]:
    """Part `number` of `of` parts, contiguous and as equal as can be."""
    return items[len(items) * number // of : len(items) * (number + 1) // of]


def _parts(examples: Sequence[Example], tokens_at_once: int | None) -> list[Sequence[Example]]:
    tokens = sum(map(len, examples))
    wanted = 1 if tokens_at_once is None else min(len(examples), -(-tokens // tokens_at_once))
    return [_part(examples, number, wanted) for number in range(wanted)]
