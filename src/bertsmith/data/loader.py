"""The loader: from a position in the endless sequence of examples to batches, without any state to save.

Batch k is a pure function of (seed, position): a keyed permutation gives the order in each epoch, a generator keyed by
the example gives its mask. A run that resumes at a position sees what it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from bertsmith.data.batch import Batch
from bertsmith.data.example import Example
from bertsmith.data.instances import Instances, Plan
from bertsmith.data.masking import Masking
from bertsmith.data.packing import pack
from bertsmith.data.randomness import KeyedPermutation, generator
from bertsmith.data.shards import Shards
from bertsmith.data.statistics import MaskStatistics
from bertsmith.errors import DataError


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place in the sequence of examples: `index` examples of `epoch` have been taken."""

    epoch: int = 0
    index: int = 0


class Loader:
    """Draws batches of `batch_size` examples, each of at most `length` tokens, packed into rows.

    Without `masking` the batches have no `labels`. Rows hold `row_length` tokens, or `length` if that is not given.
    """

    def __init__(
        self,
        shards: Shards,
        instances: Instances,
        masking: Masking | None,
        *,
        length: int,
        batch_size: int,
        seed: int,
        row_length: int | None = None,
    ) -> None:
        self.shards = shards
        self.instances = instances
        self.masking = masking
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.row_length = row_length or length
        # Two plans: a batch may straddle two epochs.
        self._plan = lru_cache(maxsize=2)(self._draw_plan)

    def epoch_size(self, epoch: int = 0) -> int:
        """Number of examples in an epoch; it varies a little from one to the next, as the text is cut anew."""
        return len(self._plan(epoch)[0])

    def batches(self, start: Position = Position()) -> Iterator[tuple[Batch, Position]]:
        """Endless batches from `start`, each with the position after it: that is where a resumed run goes on.

        A batch crosses into the next epoch where one ends, so all have the same number of examples.
        """
        position = start
        while True:
            examples: list[Example] = []
            while len(examples) < self.batch_size:
                plan, order = self._plan(position.epoch)
                end = min(position.index + self.batch_size - len(examples), len(plan))
                for index in order(np.arange(position.index, end)).tolist():
                    examples.append(self._example(plan, position.epoch, index))
                position = Position(position.epoch, end) if end < len(plan) else Position(position.epoch + 1, 0)
            batch = pack(examples, length=self.row_length, pad_id=self.shards.vocabulary.pad_id)
            yield replace(batch, statistics=self._count(batch)), position

    def one_epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, the last one smaller if need be: for evaluation, where each example counts once."""
        plan, order = self._plan(epoch)
        for begin in range(0, len(plan), self.batch_size):
            indices = order(np.arange(begin, min(begin + self.batch_size, len(plan)))).tolist()
            examples = [self._example(plan, epoch, index) for index in indices]
            batch = pack(examples, length=self.row_length, pad_id=self.shards.vocabulary.pad_id)
            yield replace(batch, statistics=self._count(batch))

    def _draw_plan(self, epoch: int) -> tuple[Plan, KeyedPermutation]:
        plan = self.instances.plan(self.shards, self.length, self.seed, epoch)
        if not len(plan):
            raise DataError(f"{self.shards.path}: the {self.shards.split} text gives no example.")
        return plan, KeyedPermutation(len(plan), self.seed, epoch)

    def _example(self, plan: Plan, epoch: int, index: int) -> Example:
        example = plan.example(index)
        if self.masking is None:
            return example
        return self.masking(example, self.shards.vocabulary, generator(self.seed, "masking", epoch, index))

    def _count(self, batch: Batch) -> MaskStatistics:
        labels = batch.targets.get("next_sentence_label")
        pairs = {} if labels is None else {"pairs": len(labels), "random_next": int(labels.sum())}
        if self.masking is None:
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
